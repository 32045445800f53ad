package testenv

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// child makes the test binary start servers and wait to be killed.
const child = "VEDETTE_TESTENV_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	pg, err := StartPostgres()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	redis, err := StartRedis()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(pg.PID(), redis.PID(), pg.dir.path, redis.dir.path)
	select {}
}

func TestNothingSurvivesAKilledRun(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) != 4 {
		_ = cmd.Process.Kill()
		t.Fatalf("the child says %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range f[:2] {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "server "+pid+" still runs", func() bool { return !running(n) })
	}
	for _, dir := range f[2:] {
		until(t, "folder "+dir+" is still there", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
	}
}

// running is false for a process that ended, also while nobody has asked how.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func until(t *testing.T, complaint string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(complaint)
		}
	}
}

func TestPostgresGivesEmptyDatabasesOfTheirOwn(t *testing.T) {
	t.Parallel()
	urls := []string{Postgres(t), Postgres(t)}
	if urls[0] == urls[1] {
		t.Fatalf("both are %s", urls[0])
	}
	for _, url := range urls {
		execute(t, url, "CREATE TABLE t (n int)")
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestPostgresKeepsWhatWasCommittedOverARestart(t *testing.T) {
	t.Parallel()
	s := PostgresServer(t)
	execute(t, s.URL, "CREATE TABLE t (n int)")
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	execute(t, s.URL, "INSERT INTO t VALUES (1)")
}

func TestRedisForgetsEverythingOverARestart(t *testing.T) {
	t.Parallel()
	r := Redis(t)
	for name, forget := range map[string]func() error{"flush": r.FlushAll, "restart": r.Restart} {
		if err := r.c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		if n, err := r.c.DBSize(t.Context()).Result(); err != nil || n != 0 {
			t.Errorf("%d keys after a %s, %v", n, name, err)
		}
	}
}

// echo answers every byte with itself and counts what it got.
func echo(t *testing.T) (addr string, got chan byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	got = make(chan byte, 100)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 1); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					got <- b[0]
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), got
}

// TestProxy asks through the proxy in each of its moods whether a request arrives
// and whether its answer comes back, and again when it is healed.
func TestProxy(t *testing.T) {
	t.Parallel()
	moods := []struct {
		name              string
		set               func(*Proxy)
		arrives, answered bool
	}{
		{"passes", func(*Proxy) {}, true, true},
		{"delays", func(p *Proxy) { p.Delay(20 * time.Millisecond) }, true, true},
		{"delays for long", func(p *Proxy) { p.Delay(time.Hour) }, true, false},
		{"swallows replies", (*Proxy).SwallowReplies, true, false},
		{"loses a reply", func(p *Proxy) { p.LoseReplyTo("\x01") }, true, false},
		{"is a black hole", (*Proxy).BlackHole, false, false},
		{"cuts", (*Proxy).Cut, false, false},
	}
	for _, m := range moods {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			target, got := echo(t)
			p := NewProxy(t, target)
			c := dial(t, p)
			if !ask(c, time.Minute) {
				t.Fatal("no answer at first")
			}
			<-got
			m.set(p)
			if answered := ask(c, 200*time.Millisecond); answered != m.answered {
				t.Errorf("answered %v, want %v", answered, m.answered)
			}
			if arrived := len(got) == 1; arrived != m.arrives {
				t.Errorf("arrived %v, want %v", arrived, m.arrives)
			}
			p.Heal()
			if !ask(dial(t, p), time.Minute) {
				t.Error("no answer when healed")
			}
		})
	}
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ask(c net.Conn, patience time.Duration) bool {
	if _, err := c.Write([]byte{1}); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}
