package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 30 * time.Second

// folder is a temporary folder that is removed when this process ends, even if it
// is killed: a shell waits for the end of a pipe whose other end only we hold.
type folder struct {
	path   string
	alive  *os.File
	reaper *exec.Cmd
}

// reap waits for the pipe's end and removes $0; a server that was killed with us may
// still write for a moment.
const reap = `cat; for i in 1 2 3 4 5 6 7 8 9 10; do [ -e "$0" ] || exit 0; rm -rf "$0" || sleep 0.5; done`

func newFolder(prefix string) (*folder, error) {
	path, err := os.MkdirTemp("/tmp", prefix) // short, for the path of a socket
	if err != nil {
		return nil, err
	}
	end, alive, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	defer end.Close()
	f := &folder{path: path, alive: alive, reaper: exec.Command("sh", "-c", reap, path)}
	f.reaper.Stdin = end
	f.reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not ended by ^C
	if err := f.reaper.Start(); err != nil {
		return nil, errors.Join(err, alive.Close(), os.Remove(path))
	}
	return f, nil
}

// remove is for the end of the servers in it.
func (f *folder) remove() {
	_ = os.RemoveAll(f.path)
	_ = f.alive.Close()
	_ = f.reaper.Wait()
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
	cmd.WaitDelay = time.Second // what a helper of its own still holds open is not waited for
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
	if err := <-started; err != nil {
		return nil, err
	}
	return d, nil
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
func (d *daemon) await(within time.Duration, ready func() error) error {
	deadline := time.Now().Add(within)
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
