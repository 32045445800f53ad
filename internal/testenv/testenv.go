// Package testenv gives tests the real thing: PostgreSQL and Redis on private
// folders and ports, an SMTP server that can be told how to answer, and a proxy
// that cuts, delays and swallows. It is imported by tests and benchmarks only.
//
// Nothing is skipped: what is missing is installed from Debian's packages when
// this user may, and otherwise the test fails with the command to run. Every server
// dies with the process that started it, however that ends.
package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 30 * time.Second

// find is the path of a program, also where Debian keeps servers.
func find(binary string) string {
	if path, err := exec.LookPath(binary); err == nil {
		return path
	}
	matches, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + binary)
	slices.Sort(matches)
	for _, path := range append(matches, "/usr/sbin/"+binary) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Require returns the path of a program, installing its Debian package if need be.
func Require(binary, pkg string) (string, error) {
	if path := find(binary); path != "" {
		return path, nil
	}
	install := "apt-get update && apt-get install -y --no-install-recommends " + pkg
	if os.Getuid() != 0 {
		return "", fmt.Errorf("%s is missing; run: sudo sh -c '%s'", binary, install)
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "vedette-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if path := find(binary); path != "" { // another process was quicker
		return path, nil
	}
	cmd := exec.Command("sh", "-c", install)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", install, err, out)
	}
	if path := find(binary); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%s is not in Debian's package %s", binary, pkg)
}

// Install is Require for tests.
func Install(tb testing.TB, binary, pkg string) string {
	tb.Helper()
	path, err := Require(binary, pkg)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// freePort is a loopback port that was free a moment ago.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// daemon is a child process that dies with us.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	out  lockedBuffer
}

// startDaemon starts cmd from a thread that lives as long as the child does: the
// kernel sends the death signal when the thread that started it ends, not the process.
func startDaemon(cmd *exec.Cmd) (*daemon, error) {
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &d.out, &d.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(d.done)
		}
	}()
	return d, <-started
}

// stop sends sig and waits for the end.
func (d *daemon) stop(sig syscall.Signal) {
	_ = d.cmd.Process.Signal(sig)
	select {
	case <-d.done:
	case <-time.After(startTimeout):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
}

// await calls ready until it succeeds, the daemon ends, or time is up.
func (d *daemon) await(ready func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("%s ended: %s", d.cmd.Path, d.out.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not answer: %s", d.cmd.Path, d.out.String()), err)
		}
	}
}

// lockedBuffer keeps the last output of a daemon.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

// Write appends, up to 64 KiB.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() < 64<<10 {
		l.b.Write(p)
	}
	return len(p), nil
}

// String is what was written.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
