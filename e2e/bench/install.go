package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the figures are read straight from the tables
	_ "modernc.org/sqlite"

	"vedette/internal/testenv"
)

// installation is a running Vedette, with what it takes to count its work.
type installation struct {
	dir   string
	env   []string
	base  string
	key   string
	pids  []int // Vedette's own processes
	deps  []int // PostgreSQL and Redis
	db    *sql.DB
	stops []func()
	http  http.Client
}

const (
	email    = "bench@example.org"
	password = "a long enough password"
)

// install starts Vedette in a mode: "embedded" is one process, "scaled" one
// process per role on its own PostgreSQL and Redis.
func install(ctx context.Context, bin, mode string) (*installation, error) {
	dir, err := os.MkdirTemp("", "vedette-bench")
	if err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	in := &installation{dir: dir, http: http.Client{Timeout: 30 * time.Second}}
	in.stops = append(in.stops, func() { _ = os.RemoveAll(dir) })
	in.env = append(os.Environ(), "VEDETTE_DATA="+filepath.Join(dir, "data"), "VEDETTE_ADMIN_EMAIL="+email,
		"VEDETTE_ADMIN_PASSWORD="+password, "VEDETTE_LOG_LEVEL=warn", "VEDETTE_KEY="+base64.StdEncoding.EncodeToString(key))
	roles := []string{"all"}
	driver, dsn := "sqlite", "file:"+filepath.Join(dir, "data", "vedette.db")+"?_pragma=query_only(1)&_pragma=busy_timeout(5000)"
	if mode == "scaled" {
		roles = []string{"api", "scheduler", "worker", "notifier"}
		if dsn, err = in.servers(); err != nil {
			in.close()
			return nil, err
		}
		driver = "pgx"
	}
	for _, role := range roles {
		if err := in.serve(bin, role); err != nil {
			in.close()
			return nil, err
		}
	}
	if err := in.await(ctx); err != nil {
		in.close()
		return nil, err
	}
	out, err := in.command(bin, "api-key", "create", "--user", email)
	if err != nil {
		in.close()
		return nil, err
	}
	in.key = strings.TrimSpace(out)
	in.db, err = sql.Open(driver, dsn)
	return in, err
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
	in.deps = []int{pg.PID(), redis.PID()}
	in.env = append(in.env, "VEDETTE_DATABASE="+pg.URL, "VEDETTE_QUEUE="+redis.URL)
	return pg.URL, nil
}

func (in *installation) serve(bin, role string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cmd := exec.Command(bin, "serve", "--roles", role, "--listen", addr)
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

func (in *installation) command(bin string, args ...string) (string, error) {
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Stderr = in.env, os.Stderr
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

// post creates something and returns its id.
func (in *installation) post(path string, body any) (int64, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequest("POST", in.base+path, bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+in.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := in.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode > 299 {
		return 0, fmt.Errorf("POST %s: %s: %s", path, resp.Status, answer)
	}
	var id struct{ ID int64 }
	return id.ID, json.Unmarshal(answer, &id)
}

type object = map[string]any

// populate creates n monitors of pages below base, each visited every interval.
func (in *installation) populate(n int, base string, interval time.Duration, extra object) error {
	errs := make(chan error, 1)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				m := object{"name": fmt.Sprintf("m%d", i), "type": "http", "target": fmt.Sprintf("%s/%d/%d", base, interval.Microseconds(), i),
					"interval": interval.String(), "timeout": "10s", "confirm": object{"failures": 2, "interval": "1s", "successes": 1}}
				if interval < 10*time.Second {
					m["timeout"] = interval.String()
				}
				for k, v := range extra {
					m[k] = v
				}
				if _, err := in.post("/api/v1/monitors", m); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
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
