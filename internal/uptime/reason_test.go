package uptime

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

const reasonsHead = `# Reasons

Every result that is not up, every incident and every webhook says why with one of these codes. The set is closed: a code is never
reused for something else. Made from ` + "`internal/uptime/reason.go`" + ` by ` + "`make golden`" + `.

| code | meaning | verdict |
|---|---|---|
`

// TestDocsOfReasonsAreTheGolden makes docs/reasons.md from the constants and the
// comments beside them, and fails on a code without its sentence or given twice.
func TestDocsOfReasonsAreTheGolden(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got, seen := reasonsHead, map[string]bool{"": true}
	for _, d := range f.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST || !group.Lparen.IsValid() {
			continue
		}
		verdict := "down or degraded"
		if strings.HasPrefix(group.Doc.Text(), "Reasons of unknown") {
			verdict = "unknown"
		}
		for _, s := range group.Specs {
			spec := s.(*ast.ValueSpec)
			code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			sentence := strings.TrimSpace(spec.Comment.Text())
			if err != nil || seen[code] || sentence == "" {
				t.Errorf("%s: code %q is empty, given twice, or has no sentence beside it (%v)", spec.Names[0], code, err)
			}
			seen[code] = true
			got += fmt.Sprintf("| `%s` | %s | %s |\n", code, sentence, verdict)
		}
	}
	const file = "../../docs/reasons.md"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("%s is not what reason.go says (%v): run make golden and look at git diff", file, err)
	}
}
