package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the product, built once per test run.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vedette-e2e")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vedette")
	cmd := exec.Command("go", "build", "-o", path, "vedette/cmd/vedette")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// process is one running vedette.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	started chan string // receives the address it listens on
	done    chan struct{}
	mu      sync.Mutex
	log     strings.Builder // guarded by mu
}

var listening = regexp.MustCompile(`http://(127\.0\.0\.1:\d+)`)

// start runs the binary with args and extra environment. It is killed at the
// test's end, whose failure prints its log.
func start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, started: make(chan string, 1), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go p.read(r)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s\n%s", filepath.Base(path), strings.Join(args, " "), p.output())
		}
	})
	return p
}

func (p *process) read(r io.ReadCloser) {
	defer r.Close()
	defer close(p.done)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case p.started <- m[1]:
			default:
			}
		}
	}
	_ = p.cmd.Wait()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop is SIGTERM; it returns how long the process took to end.
func (p *process) stop() time.Duration {
	begin := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
	return time.Since(begin)
}

// pause is SIGSTOP, as when a machine swaps or a virtual one is moved; resume ends it.
func (p *process) pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

func (p *process) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// addr waits for the address that the process says it listens on.
func (p *process) addr(ctx context.Context) string {
	p.t.Helper()
	select {
	case a := <-p.started:
		p.started <- a
		return a
	case <-p.done:
		p.t.Fatalf("vedette ended before it listened:\n%s", p.output())
	case <-ctx.Done():
		p.t.Fatalf("vedette did not listen in time:\n%s", p.output())
	}
	return ""
}

// command runs a subcommand to its end and returns its standard output.
func command(t testing.TB, env []string, stdin string, args ...string) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("vedette %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
