package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// AdminURL is the environment variable that names a server for the whole run.
const AdminURL = "VEDETTE_TEST_POSTGRES"

// Server is a private PostgreSQL.
type Server struct {
	URL  string // of the database "postgres"
	dir  *folder
	port *Port
	d    *daemon
}

// StartPostgres makes a cluster in a folder of its own and starts it. Commits are
// durable as in production; only the size of its memory is small.
func StartPostgres() (*Server, error) {
	initdb, err := Require("initdb", "postgresql")
	if err != nil {
		return nil, err
	}
	dir, err := newFolder("vpg")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := s.init(initdb); err != nil {
		s.Close()
		return nil, err
	}
	if s.port, err = Reserve("127.0.0.1", 0); err == nil {
		s.URL = "postgres://postgres@" + s.port.Addr + "/postgres?sslmode=disable"
		err = s.Start()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// init makes the cluster, in a folder that the user it runs as owns.
func (s *Server) init(initdb string) error {
	c, err := credential()
	if err != nil {
		return err
	}
	if c != nil {
		if err := os.Chown(s.dir.path, int(c.Uid), int(c.Gid)); err != nil {
			return err
		}
	}
	cmd := s.command(initdb, "-D", s.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir.path, "data") }

// credential is user postgres when we are root: PostgreSQL refuses to run as root.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func (s *Server) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir.path
	c, err := credential()
	if err == nil && c != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	}
	return cmd
}

// Start starts the server after Stop. It returns when it answers.
func (s *Server) Start() error {
	postgres, err := Require("postgres", "postgresql")
	if err != nil {
		return err
	}
	cmd := s.command(postgres, "-D", s.data(), "-p", strconv.Itoa(s.port.Number), "-k", s.dir.path,
		"-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=128MB", "-c", "max_connections=200", "-c", "max_wal_size=1GB")
	if s.d, err = startDaemon(cmd); err != nil {
		return err
	}
	return s.d.await(startTimeout, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		c, err := pgx.Connect(ctx, s.URL)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
}

// Stop ends the server at once, as a power cut would: no checkpoint, connections cut.
func (s *Server) Stop() { s.d.stop(syscall.SIGQUIT) }

// Restart is Stop and Start: a recovery from the log.
func (s *Server) Restart() error {
	s.Stop()
	return s.Start()
}

// PID is the server's process; its workers are its children.
func (s *Server) PID() int { return s.d.cmd.Process.Pid }

// Close stops the server and removes its folder.
func (s *Server) Close() {
	if s.d != nil {
		s.d.stop(syscall.SIGQUIT)
	}
	s.dir.remove()
	if s.port != nil {
		_ = s.port.Close()
	}
}

// PostgresServer is a server for one test, which may stop and start it.
func PostgresServer(tb testing.TB) *Server {
	tb.Helper()
	s, err := StartPostgres()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// shared is this test binary's own server, when the run has none.
var shared = sync.OnceValues(StartPostgres)

// Postgres is the URL of a fresh, empty database on the run's server. It is dropped
// at the test's end.
func Postgres(tb testing.TB) string {
	tb.Helper()
	admin := os.Getenv(AdminURL)
	if admin == "" {
		s, err := shared()
		if err != nil {
			tb.Fatal(err)
		}
		admin = s.URL
	}
	name := "t_" + strings.ToLower(rand.Text())
	run := func(ctx context.Context, q string) error {
		c, err := pgx.Connect(ctx, admin)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		_, err = c.Exec(ctx, q)
		return err
	}
	if err := run(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := run(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Error(err)
		}
	})
	return strings.Replace(admin, "/postgres?", "/"+name+"?", 1)
}
