package arch

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowed lists, per package, the packages of ours it may import in code that
// ships; "internal/" is left out. Stages (schedule, worker, evaluate, incident,
// notify) never import one another, SQL, Redis or HTTP-server code; api and web
// see service, never store; only app sees everything.
var allowed = map[string]string{
	"uptime":                  "",
	"failpoint":               "",
	"seal":                    "",
	"guard":                   "uptime",
	"obs":                     "uptime",
	"config":                  "",
	"curl":                    "uptime service",
	"queue":                   "",
	"queue/memqueue":          "queue uptime",
	"queue/redisqueue":        "queue uptime",
	"queue/queuetest":         "queue uptime testenv",
	"store/storetest":         "uptime seal store testenv",
	"probe":                   "uptime guard",
	"evaluate":                "uptime",
	"incident":                "uptime evaluate failpoint",
	"schedule":                "uptime queue failpoint",
	"worker":                  "uptime queue probe failpoint",
	"notify":                  "uptime queue failpoint",
	"store":                   "uptime seal",
	"service":                 "uptime",
	"middleware":              "uptime service",
	"api":                     "uptime service middleware",
	"web":                     "uptime service",
	"app":                     "*",
	"arch":                    "",
	"testenv":                 "",
	"testenv/cmd/withservers": "testenv",
}

// forbidden are imports from outside that give a box of the diagram away to a
// technology it must not know.
var forbidden = map[string][]string{
	"database/sql":             {"store", "app", "probe"},     // probe: the drivers' interface
	"github.com/jackc/pgx":     {"store", "testenv", "probe"}, // probe: the protocol, of a target
	"modernc.org/sqlite":       {"store"},
	"github.com/redis":         {"queue/redisqueue", "testenv", "queue/queuetest"},
	"github.com/danielgtaylor": {"api"},
}

func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "vedette/internal/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pkgs := map[string][]string{}
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		pkgs[strings.TrimPrefix(f[0], "vedette/internal/")] = f[1:]
	}
	return pkgs
}

func TestEveryPackageImportsOnlyWhatItsRowAllows(t *testing.T) {
	pkgs := packages(t)
	for name, imports := range pkgs {
		row, listed := allowed[name]
		if !listed {
			t.Errorf("internal/%s is not in the table: give it a row and an owner sentence in docs/architecture.md", name)
			continue
		}
		for _, imp := range imports {
			ours, ok := strings.CutPrefix(imp, "vedette/internal/")
			if ok && row != "*" && !slices.Contains(strings.Fields(row), ours) {
				t.Errorf("internal/%s may not import internal/%s", name, ours)
			}
			for lib, owners := range forbidden {
				if strings.HasPrefix(imp, lib) && !slices.Contains(owners, name) {
					t.Errorf("internal/%s may not import %s, only %v may", name, imp, owners)
				}
			}
		}
	}
	for name := range allowed {
		if _, ok := pkgs[name]; !ok {
			t.Errorf("the table lists internal/%s, which does not exist", name)
		}
	}
}

func TestEveryPackageOpensWithItsOwnersSentence(t *testing.T) {
	for name := range packages(t) {
		files, err := filepath.Glob(filepath.Join("..", name, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := slices.ContainsFunc(files, func(file string) bool {
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			return strings.HasPrefix(tree.Doc.Text(), "Package "+tree.Name.Name+" ") || strings.HasPrefix(tree.Doc.Text(), "Command ")
		})
		if !documented {
			t.Errorf("internal/%s has no comment that begins with \"Package …\"", name)
		}
	}
}

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

// A page that names a test which is gone would promise what nobody checks.
func TestEveryTestThatTheDocsNameExists(t *testing.T) {
	page, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []byte
	for _, root := range []string{"..", "../../e2e", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			files = append(files, b...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	names := testName.FindAllSubmatch(page, -1)
	if len(names) == 0 {
		t.Error("docs/faults.md names no test")
	}
	for _, m := range names {
		if !bytes.Contains(files, append([]byte("func "), append(m[1], '(')...)) {
			t.Errorf("docs/faults.md names %s, which does not exist", m[1])
		}
	}
}
