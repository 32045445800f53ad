package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the figures are read straight from the tables
	_ "modernc.org/sqlite"

	"vedette/internal/seal"
	"vedette/internal/store"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// installation is a running Vedette, with what it takes to count its work.
type installation struct {
	dir      string
	database string
	env      []string
	queue    string // Redis' URL, when scaled
	base     string
	key      []byte            // seals secrets
	pprof    map[string]string // profilers, by role
	pids     []int             // Vedette's own processes
	deps     []int             // PostgreSQL and Redis
	db       *sql.DB
	stops    []func()
	http     http.Client
}

const (
	email    = "bench@example.org"
	password = "a long enough password"
)

// install starts Vedette in a mode: "embedded" is one process, "scaled" one
// process per role on its own PostgreSQL and Redis. seed fills the database before
// anything runs on it.
func install(ctx context.Context, bin, mode string, seed func(*store.Store, int64) error) (*installation, error) {
	in := &installation{}
	if err := in.start(ctx, bin, mode, seed); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// begin makes the folder, the key and, when scaled, the servers.
func (in *installation) begin(mode string) (err error) {
	if in.dir, err = os.MkdirTemp("", "vedette-bench"); err != nil {
		return err
	}
	in.stops = append(in.stops, func() { _ = os.RemoveAll(in.dir) })
	in.http.Timeout, in.pprof = 30*time.Second, map[string]string{}
	in.database = "sqlite:" + filepath.Join(in.dir, "data", "vedette.db")
	in.key = make([]byte, seal.KeySize)
	_, _ = rand.Read(in.key)
	in.env = append(os.Environ(), "VEDETTE_DATA="+filepath.Join(in.dir, "data"), "VEDETTE_LOG_LEVEL=warn", "VEDETTE_KEY="+base64.StdEncoding.EncodeToString(in.key))
	if mode == "scaled" {
		in.database, err = in.servers()
	}
	return err
}

func (in *installation) start(ctx context.Context, bin, mode string, seed func(*store.Store, int64) error) error {
	if err := in.begin(mode); err != nil {
		return err
	}
	roles := []string{"all"}
	driver, dsn := "sqlite", "file:"+filepath.Join(in.dir, "data", "vedette.db")+"?_pragma=query_only(1)&_pragma=busy_timeout(5000)"
	if mode == "scaled" {
		roles = []string{"api", "scheduler", "worker", "notifier"}
		driver, dsn = "pgx", in.database
	}
	if err := in.populate(ctx, bin, seed); err != nil {
		return err
	}
	for _, role := range roles {
		if err := in.serve(bin, role); err != nil {
			return err
		}
	}
	if err := in.await(ctx); err != nil {
		return err
	}
	return in.openDB(driver, dsn)
}

// openDB opens the database beside Vedette, to look into it.
func (in *installation) openDB(driver, dsn string) (err error) {
	in.db, err = sql.Open(driver, dsn)
	return err
}

// populate makes the schema, an administrator, and what seed wants.
func (in *installation) populate(ctx context.Context, bin string, seed func(*store.Store, int64) error) error {
	if _, err := in.command(bin, password+"\n", "user", "create", "--email", email, "--role", "admin", "--password-stdin"); err != nil {
		return err
	}
	sealer, err := seal.New(in.key)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{Database: in.database, Sealer: sealer})
	if err != nil {
		return err
	}
	defer s.Close()
	owner, err := s.UserByEmail(ctx, email)
	if err != nil {
		return err
	}
	return seed(s, owner.ID)
}

// servers starts PostgreSQL and Redis and returns the database's URL.
func (in *installation) servers() (string, error) {
	pg, err := testenv.StartPostgres()
	if err != nil {
		return "", err
	}
	in.stops = append(in.stops, pg.Close)
	redis, err := testenv.StartRedis()
	if err != nil {
		return "", err
	}
	in.stops = append(in.stops, redis.Close)
	in.deps, in.queue = []int{pg.PID(), redis.PID()}, redis.URL
	in.env = append(in.env, "VEDETTE_DATABASE="+pg.URL, "VEDETTE_QUEUE="+redis.URL)
	return pg.URL, nil
}

func (in *installation) serve(bin, role string) error {
	addr, err := in.addr()
	if err != nil {
		return err
	}
	if in.pprof[role], err = in.addr(); err != nil {
		return err
	}
	cmd := exec.Command(bin, "serve", "--roles", role, "--listen", addr, "--pprof", in.pprof[role])
	cmd.Env = in.env
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	in.pids = append(in.pids, cmd.Process.Pid)
	if role == "all" || role == "api" {
		in.base = "http://" + addr
	}
	in.stops = append(in.stops, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return nil
}

// addr is a loopback address that is the installation's own.
func (in *installation) addr() (string, error) {
	port, err := testenv.Reserve("127.0.0.1", 0)
	if err != nil {
		return "", err
	}
	in.stops = append(in.stops, func() { _ = port.Close() })
	return port.Addr, nil
}

func (in *installation) await(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		resp, err := in.http.Get(in.base + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("vedette is not ready after a minute")
}

func (in *installation) command(bin, stdin string, args ...string) (string, error) {
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Stderr, cmd.Stdin = in.env, os.Stderr, strings.NewReader(stdin)
	out, err := cmd.Output()
	return string(out), err
}

// close stops everything, the last started first.
func (in *installation) close() {
	if in.db != nil {
		_ = in.db.Close()
	}
	for i := len(in.stops) - 1; i >= 0; i-- {
		in.stops[i]()
	}
}

// pages seeds n monitors of pages below base, each visited every interval.
func pages(ctx context.Context, n int, base string, interval time.Duration, confirm int, config string, channels []int64) func(*store.Store, int64) error {
	return func(s *store.Store, owner int64) error {
		for i := range n {
			m := uptime.Monitor{OwnerID: owner, Name: fmt.Sprintf("m%d", i), Type: "http", Target: fmt.Sprintf("%s/%d/%d", base, interval.Microseconds(), i),
				Interval: interval, Timeout: min(interval, 10*time.Second), Confirm: uptime.Confirm{Failures: confirm, Interval: time.Second, Successes: 1},
				Config: json.RawMessage(config), Regions: []string{uptime.DefaultRegion}, ChannelIDs: channels, Enabled: true}
			if _, err := s.CreateMonitor(ctx, m); err != nil {
				return err
			}
		}
		return nil
	}
}

// size is how many bytes the database holds, in use or not.
func (in *installation) size(ctx context.Context) (n int64, err error) {
	q := `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`
	if in.queue != "" {
		q = `SELECT pg_database_size(current_database())`
	}
	err = in.db.QueryRowContext(ctx, q).Scan(&n)
	return n, err
}

// counts are the stored first attempts of a span of slots, by verdict.
type counts struct{ up, unknown, down int64 }

func (in *installation) count(from, to time.Time) (counts, error) {
	rows, err := in.db.Query(`SELECT verdict, count(*) FROM check_results WHERE scheduled_at >= $1 AND scheduled_at < $2 AND attempt = 0 AND kind = 0 GROUP BY verdict`, from.UnixMicro(), to.UnixMicro())
	if err != nil {
		return counts{}, err
	}
	defer rows.Close()
	var c counts
	for rows.Next() {
		var verdict int
		var n int64
		if err := rows.Scan(&verdict, &n); err != nil {
			return c, err
		}
		switch verdict {
		case 0:
			c.unknown += n
		case 3:
			c.down += n
		default:
			c.up += n
		}
	}
	return c, rows.Err()
}
