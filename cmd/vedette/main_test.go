package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// vedette runs one command as the shell would.
func vedette(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// A target cannot have a library write to our standard error. The program itself is
// run, as main sets up what belongs to the whole process.
func TestATargetCannotFillTheLog(t *testing.T) {
	const childFile = "VEDETTE_TEST_CHECK_FILE"
	if file := os.Getenv(childFile); file != "" {
		os.Args = []string{"vedette", "check", "--private-targets", "allow", "--file", file}
		main()
	}
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	testenv.Serve(l, func(c net.Conn) { // settings, a frame of a type that is none, and a goodbye (RFC 9113 §6)
		_, _ = io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00"+"\x00\x00\x00\x5f\x00\x00\x00\x00\x00"+
			"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		_, _ = io.Copy(io.Discard, c)
	})
	file := filepath.Join(t.TempDir(), "monitor.json")
	if err := os.WriteFile(file, []byte(`{"name":"a","type":"http","target":"http://`+l.Addr().String()+`","config":{"http_version":"h2c"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestATargetCannotFillTheLog$")
	cmd.Env = append(os.Environ(), childFile+"="+file)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // 1, of a target that is down
	if !strings.HasPrefix(stdout.String(), "DOWN ") || stderr.Len() > 0 {
		t.Errorf("standard output %q, standard error %q: want a target that is down, and nothing", stdout.String(), stderr.String())
	}
}

func TestExitCodesAndOutputAreAsDocumented(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(target.Close)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	slow := file("slow.json", `{"name":"a","type":"http","target":"`+target.URL+`","assertions":[{"source":"duration","op":"lt","value":"1ns","severity":"degraded"}]}`)
	wrong := file("wrong.json", `{"name":"a","type":"http","target":"`+target.URL+`","intervall":"5s"}`)
	beat := file("beat.json", `{"name":"a","type":"heartbeat"}`)
	data := "--data=" + filepath.Join(dir, "data")
	for _, c := range []struct {
		name, stdin string
		args        []string
		code        int
		stdout      string // a regular expression; what a program reads
		stderr      string
	}{
		{"check of what is up", "", []string{"check", target.URL}, 0, `^UP `, `^$`},
		{"check of what is degraded", "", []string{"check", "--file", slow}, 0, `^DEGRADED `, `^$`},
		{"check of what is down", "", []string{"check", target.URL + "/down"}, 1, `^DOWN .* http_status`, `^$`},
		{"check as JSON", "", []string{"check", "--json", target.URL + "/down"}, 1, `(?s)^\{.*"verdict": "down".*"reason": "http_status"`, `^$`},
		{"check of what may not be dialled", "", []string{"check", "--private-targets", "deny", target.URL}, 3, `^UNKNOWN .* blocked_address`, `^$`},
		{"check of no target", "", []string{"check"}, 2, `^$`, `name one target`},
		{"check of what is no URL", "", []string{"check", "ftp://x"}, 2, `^$`, `only https and http`},
		{"check of a file with an unknown field", "", []string{"check", "--file", wrong}, 2, `^$`, `intervall`},
		{"check under a policy that is none", "", []string{"check", "--private-targets", "zz", target.URL}, 2, `^$`, `10\.0\.0\.0/8`},
		{"check of a type and its target", "", []string{"check", "--type", "http", target.URL}, 0, `^UP `, `^$`},
		{"check of a type that is none", "", []string{"check", "--type", "htpp", target.URL}, 2, `^$`, `htpp.*http`},
		{"check of what dials nobody", "", []string{"check", "--file", beat}, 2, `^$`, `type heartbeat cannot be checked so`},
		{"check of a type without a file's", "", []string{"check", "--type", "http", "--file", slow}, 2, `^$`, `--type goes with a target`},
		{"check of a curl line", "", []string{"check", "--curl", "curl -sS -d a=1 " + target.URL}, 0, `(?s)^UP .*request +POST `, `^$`},
		{"check of a curl line from standard input", "curl -u me:canary -sS " + target.URL + "/down\n", []string{"check", "--curl", "-"}, 1, `^DOWN `, `^$`},
		{"check of a curl line with an option that cannot be", "", []string{"check", "--curl", "curl --resolve a:1:b " + target.URL}, 2, `^$`, `--resolve cannot be honoured`},
		{"the monitor of a curl line", "", []string{"check", "--print-monitor", "--curl", "curl -L -H 'X-A: b' " + target.URL}, 0, `(?s)^\{.*"type": "http".*"X-A": "b".*"follow_redirects": true`, `^$`},
		{"the monitor of a target", "", []string{"check", "--print-monitor", target.URL + "/down"}, 0, `(?s)^\{.*"target": "http://.*/down"`, `^$`},
		{"version", "", []string{"version"}, 0, `^\S+\n$`, `^$`},
		{"an unknown command", "", []string{"frob"}, 2, `^$`, `frob`},
		{"migrate", "", []string{"migrate", data}, 0, `up to date`, `^$`},
		{"migrate of what is no database", "", []string{"migrate", "--database", "mysql://x/y"}, 2, `^$`, `--database sqlite`},
		{"a user", "correct horse battery\n", []string{"user", "create", data, "--email=a@example.org", "--password-stdin"}, 0, `^user 1: a@example.org, editor\n$`, `^$`},
		{"the same user", "correct horse battery\n", []string{"user", "create", data, "--email=A@example.org", "--password-stdin"}, 1, `^$`, `email`},
		{"a user with a short password", "short\n", []string{"user", "create", data, "--email=b@example.org", "--password-stdin"}, 1, `^$`, `password: use 12`},
		{"a user without a password", "", []string{"user", "create", data, "--email=b@example.org"}, 2, `^$`, `--password-stdin`},
		{"a key, alone", "", []string{"api-key", "create", data, "--user=a@example.org"}, 0, `^vdt_\S+\n$`, `^$`},
		{"a key of nobody", "", []string{"api-key", "create", data, "--user=x@example.org"}, 1, `^$`, `no user x@example.org: make one`},
		{"a key of no scope", "", []string{"api-key", "create", data, "--user=a@example.org", "--scope=all"}, 2, `^$`, `read`},
		{"doctor", "", []string{"doctor", data, "--concurrency=1", "--smtp=smtp://127.0.0.1:1?from=a@b.example&tls=none"}, 1, `(?s)ok    options.*ok    sealing key and database.*WRONG mail server`, `must be mended`},
		{"serve with a mail server that is none", "", []string{"serve", data, "--listen=127.0.0.1:0", "--smtp=nonsense"}, 2, `^$`, `smtp://`},
		{"serve under a policy that is none", "", []string{"serve", data, "--listen=127.0.0.1:0", "--private-targets=zz"}, 2, `^$`, `10\.0\.0\.0/8`},
		{"serve with a duration that is none", "", []string{"serve", data, "--keep-results=abc"}, 2, `^$`, `--keep-results`},
		{"serve with a database that can never answer", "", []string{"serve", data, "--listen=127.0.0.1:0", "--database=postgres://h:99999/x"}, 1, `listens`, `write postgres://`},
	} {
		code, stdout, stderr := vedette(t, c.stdin, c.args...) // in order: later rows use what earlier ones made
		if code != c.code || !regexp.MustCompile(c.stdout).MatchString(stdout) || !regexp.MustCompile(c.stderr).MatchString(stderr) {
			t.Errorf("%s: got exit %d, want %d\nstandard output, want %s:\n%s\nstandard error, want %s:\n%s", c.name, code, c.code, c.stdout, stdout, c.stderr, stderr)
		}
	}
}

// lines is a writer that tells what matches, once.
type lines struct {
	mu    sync.Mutex // guards text
	text  bytes.Buffer
	match *regexp.Regexp
	found chan []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(p)
	if m := l.match.FindStringSubmatch(l.text.String()); m != nil && len(l.found) == 0 {
		l.found <- m
	}
	return n, err
}

// The line that serve prints makes the administrator and a key when it is pasted, and
// the other commands work on the same data meanwhile.
func TestTheSetUpLineWorksAndCommandsRunBesideServe(t *testing.T) {
	t.Parallel()
	data := "--data=" + filepath.Join(t.TempDir(), "data")
	out := &lines{match: regexp.MustCompile(`curl -sS (\S+) .*\\\n +-d '(.+)'`), found: make(chan []string, 1)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var logged bytes.Buffer
	go func() {
		ended <- run(ctx, []string{"serve", data, "--listen=127.0.0.1:0"}, strings.NewReader(""), out, &logged)
	}()
	var paste []string
	select {
	case paste = <-out.found:
	case code := <-ended:
		t.Fatalf("serve ended with %d: %s", code, logged.String())
	case <-time.After(time.Minute):
		t.Fatal("serve prints no set-up line")
	}
	for try := time.Now(); ; {
		res, err := http.Post(paste[1], "application/json", strings.NewReader(paste[2]))
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable && time.Since(try) < time.Minute {
			continue // printed a moment before the API opens; Retry-After says so
		}
		if res.StatusCode != http.StatusCreated || !strings.Contains(body.String(), `"api_key":"vdt_`) {
			t.Errorf("the pasted line: got %d %s, want 201 with a key", res.StatusCode, body.String())
		}
		break
	}
	for _, args := range [][]string{{"migrate", data}, {"user", "create", data, "--email=b@example.org", "--password-stdin"}, {"api-key", "create", data, "--user=b@example.org"}} {
		if code, stdout, stderr := vedette(t, "correct horse battery\n", args...); code != 0 {
			t.Errorf("%v beside serve: got exit %d, %s %s", args, code, stdout, stderr)
		}
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("serve ends with %d: %s", code, logged.String())
	}
}
