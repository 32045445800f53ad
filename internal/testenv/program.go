package testenv

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Program is a real server of a Debian package, in a folder and on a loopback port
// of its own.
type Program struct {
	Dir  string // its folder, owned by the user it runs as
	Port int
	Addr string // its loopback address and port
}

// DatagramHost is where real servers of datagrams listen. The ports of Start are ours for
// TCP only: at 127.0.0.1, where the fakes of other tests ask for any port, one of them
// may have the same number for datagrams, and answer in the server's place.
const DatagramHost = "127.0.0.2"

// ProgramSpec says how a server is started.
type ProgramSpec struct {
	Binary  string // found in PATH, /usr/sbin and the like, or a path
	Package string // Debian packages that hold it, installed when it is missing
	User    string // runs as this user when we are root; "" is us
	Host    string // the loopback address it listens at; "" is 127.0.0.1
	// Prepare writes configuration into s.Dir. It may be nil.
	Prepare func(s *Program) error
	Args    func(s *Program) []string
	Env     func(s *Program) []string // beside ours; nil is nothing more
	Within  time.Duration             // how long it may take until it answers; 0 is 30 s
	// Ready is nil until the server answers; without it a TCP connection suffices.
	Ready func(s *Program) error
}

// Start starts a server and waits until it answers. It ends with the test, or with
// this process. Its TCP port is its own, and at DatagramHost the UDP port of that number
// too; a server that needs it at 127.0.0.1 tries again when another process has it.
func Start(tb testing.TB, spec ProgramSpec) *Program {
	tb.Helper()
	binary := Install(tb, spec.Binary, spec.Package)
	var err error
	for range 3 {
		var s *Program
		if s, err = start(tb, binary, spec); err == nil {
			return s
		}
	}
	tb.Fatal(err)
	return nil
}

func start(tb testing.TB, binary string, spec ProgramSpec) (*Program, error) {
	port, err := Reserve(cmp.Or(spec.Host, "127.0.0.1"), 0)
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { _ = port.Close() })
	f, err := newFolder("vd-" + filepath.Base(spec.Binary) + "-")
	if err != nil {
		return nil, err
	}
	s := &Program{Dir: f.path, Port: port.Number, Addr: port.Addr}
	d, err := spec.run(binary, s)
	if err != nil {
		f.remove()
		return nil, err
	}
	tb.Cleanup(func() {
		d.stop(syscall.SIGKILL)
		f.remove()
	})
	return s, nil
}

func (spec ProgramSpec) run(binary string, s *Program) (*daemon, error) {
	if spec.Prepare != nil {
		if err := spec.Prepare(s); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", spec.Binary, err)
		}
	}
	cmd := exec.Command(binary, spec.Args(s)...)
	cmd.Dir, cmd.Env = s.Dir, os.Environ()
	if spec.Env != nil {
		cmd.Env = append(cmd.Env, spec.Env(s)...)
	}
	if spec.User != "" && os.Getuid() == 0 {
		if err := giveTo(cmd, spec.User, s.Dir); err != nil {
			return nil, err
		}
	}
	d, err := startDaemon(cmd)
	if err != nil {
		return nil, err
	}
	ready := spec.Ready
	if ready == nil {
		ready = accepts
	}
	if err := d.await(cmp.Or(spec.Within, startTimeout), func() error { return ready(s) }); err != nil {
		d.stop(syscall.SIGKILL)
		return nil, err
	}
	return d, nil
}

// giveTo makes cmd run as a user to whom its folder belongs.
func giveTo(cmd *exec.Cmd, name, dir string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("user %s has no numeric id", name)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if out, err := exec.Command("chown", "-R", u.Uid+":"+u.Gid, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("chown %s: %w: %s", dir, err, out)
	}
	return nil
}

func accepts(s *Program) error {
	c, err := net.Dial("tcp", s.Addr)
	if err == nil {
		err = c.Close()
	}
	return err
}
