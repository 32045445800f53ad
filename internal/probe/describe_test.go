package probe

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"vedette/internal/uptime"
)

var update = flag.Bool("update", false, "rewrite golden files")

// examplesRun are the examples that runExample ran, by type and title.
var examplesRun sync.Map

// TestMain fails a full run in which an example of a type was not run: docs/checks.md
// promises that each was.
func TestMain(m *testing.M) {
	code := m.Run()
	partial := flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" ||
		flag.Lookup("test.list").Value.String() != "" || flag.Lookup("test.fuzz").Value.String() != "" || flag.Lookup("test.bench").Value.String() != ""
	if code == 0 && !partial {
		for _, typ := range New(testEnv()).Describe() {
			for _, e := range typ.Examples {
				if _, ok := examplesRun.Load(typ.Name + "/" + e.Title); !ok {
					fmt.Fprintf(os.Stderr, "the example %q of type %s was not run by any test: call runExample\n", e.Title, typ.Name)
					code = 1
				}
			}
		}
	}
	os.Exit(code)
}

// runExample runs example n of a type against a server of the test's: target stands
// in for the example's, and edit, if not nil, puts what only the test knows into the
// config (the CA of its server, a port). It fails unless the outcome is up.
func runExample(t *testing.T, typ string, n int, target string, edit func(config map[string]any)) {
	t.Helper()
	s := New(testEnv())
	e := s.types[typ].Describe().Examples[n]
	m := uptime.Monitor{Type: typ, Target: target, Timeout: uptime.DefaultTimeout, Config: json.RawMessage(e.Config)}
	if e.Assertions != "" {
		if err := json.Unmarshal([]byte(e.Assertions), &m.Assertions); err != nil {
			t.Fatalf("assertions of the example %q: %v", e.Title, err)
		}
	}
	if edit != nil {
		config := map[string]any{}
		if e.Config != "" {
			if err := json.Unmarshal(m.Config, &config); err != nil {
				t.Fatalf("config of the example %q: %v", e.Title, err)
			}
		}
		edit(config)
		m.Config, _ = json.Marshal(config)
	}
	c, err := s.Compile(m)
	if err != nil {
		t.Fatalf("example %q: %v", e.Title, err)
	}
	if out := c.Run(t.Context(), Attempt{}); out.Verdict != uptime.VerdictUp {
		t.Errorf("example %q: %s %s: %s", e.Title, out.Verdict, out.Reason, out.Message)
	}
	examplesRun.Store(typ+"/"+e.Title, true)
}

const checksHead = `# Check types

A monitor's ` + "`type`" + ` says how it is checked, ` + "`target`" + ` whom, ` + "`config`" + ` with which options, and ` + "`assertions`" + ` what must hold. Every example
below was run by a test. Made by ` + "`make golden`" + ` from the same structs that validate a monitor when it is saved; the same
description is served under ` + "`/api/v1/check-types`" + `.

An assertion is ` + "`{\"source\":…, \"property\":…, \"op\":…, \"value\":…, \"severity\":\"down\"|\"degraded\"}`" + `; severity is down if left out. The first
cause wins: assertions are judged only when the target could be talked to.
`

// TestDocsOfTheCheckTypesAreTheGolden makes docs/checks.md.
func TestDocsOfTheCheckTypesAreTheGolden(t *testing.T) {
	t.Parallel()
	b := &strings.Builder{}
	b.WriteString(checksHead)
	all := New(testEnv()).Describe()
	common := timeSources()
	b.WriteString("\nEvery type that dials measures times; an assertion compares them with a span such as `\"800ms\"` (reason `slow`):\n\n")
	for _, s := range all[slices.IndexFunc(all, func(t uptime.CheckType) bool { return t.Name == "http" })].Sources {
		if _, ok := common[s.Name]; ok {
			fmt.Fprintf(b, "- `%s`: %s (`%s`)\n", s.Name, s.About, strings.Join(s.Ops, "`, `"))
		}
	}
	for _, typ := range all {
		writeType(t, b, typ)
	}
	golden(t, "../../docs/checks.md", b.String())
}

func writeType(t *testing.T, b *strings.Builder, typ uptime.CheckType) {
	if typ.About == "" || len(typ.Examples) == 0 {
		t.Errorf("type %s has no about or no example", typ.Name)
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\nTarget: %s.\n", typ.Name, typ.About, typ.Target)
	if len(typ.Options) > 0 {
		b.WriteString("\n| option | type | default | meaning |\n|---|---|---|---|\n")
	}
	for _, o := range typ.Options {
		if o.About == "" {
			t.Errorf("option %s of type %s has no doc", o.Path, typ.Name)
		}
		kind := o.Type
		if o.Values != nil {
			kind = "`" + strings.Join(o.Values, "`, `") + "`"
		}
		if o.Secret {
			kind += ", secret"
		}
		if o.Required {
			kind += ", required"
		}
		fmt.Fprintf(b, "| `%s` | %s%s | %s | %s |\n", o.Path, kind, bounds(o), o.Default, o.About)
	}
	common := timeSources()
	var own []uptime.CheckSource
	for _, s := range typ.Sources {
		if _, ok := common[s.Name]; !ok {
			own = append(own, s)
		}
	}
	if len(own) > 0 {
		b.WriteString("\n| source | property | operators | looks at |\n|---|---|---|---|\n")
	}
	for _, s := range own {
		fmt.Fprintf(b, "| `%s` | %s | `%s` | %s |\n", s.Name, s.Property, strings.Join(s.Ops, "` `"), s.About)
	}
	for _, e := range typ.Examples {
		fmt.Fprintf(b, "\n%s:\n\n```json\n%s\n```\n", e.Title, exampleJSON(t, typ.Name, e))
	}
}

func bounds(o uptime.CheckOption) string {
	if o.Type == "duration" || o.Min == nil && o.Max == nil {
		return ""
	}
	low, high := "", ""
	if o.Min != nil {
		low = fmt.Sprint(*o.Min)
	}
	if o.Max != nil {
		high = fmt.Sprint(*o.Max)
	}
	return " (" + low + "–" + high + ")"
}

// exampleJSON is a monitor as the API takes it.
func exampleJSON(t *testing.T, typ string, e uptime.CheckExample) string {
	lines := []string{fmt.Sprintf(`{"name": %q, "type": %q`, e.Title, typ)}
	if e.Target != "" {
		lines[0] += fmt.Sprintf(`, "target": %q`, e.Target)
	}
	for _, part := range []struct{ key, value string }{{"config", e.Config}, {"assertions", e.Assertions}} {
		if part.value == "" {
			continue
		}
		var v any
		if err := json.Unmarshal([]byte(part.value), &v); err != nil {
			t.Fatalf("%s of the example %q of type %s: %v", part.key, e.Title, typ, err)
		}
		lines = append(lines, fmt.Sprintf("%q: %s", part.key, compactJSON(v)))
	}
	return strings.Join(lines, ",\n ") + "}"
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("%s is not what the code says (%v): run make golden and look at git diff", file, err)
	}
}

func TestTheTypesAreSorted(t *testing.T) {
	t.Parallel()
	if types := New(testEnv()).Types(); !slices.IsSorted(types) {
		t.Errorf("Types() = %v, want them sorted", types)
	}
}
