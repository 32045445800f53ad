package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"vedette/internal/testenv"
)

const adminPassword = "a long enough password"

// buildProduct builds the binary that users get.
func buildProduct(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "vedette")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "vedette/cmd/vedette")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the product: %w\n%s", err, out)
	}
	return path, nil
}

// product is a running installation.
type product struct {
	dir   string
	env   []string
	base  string // of its API
	users []user
	turn  atomic.Uint64
	pids  map[string]int
	log   *os.File
	stops []func()
	http  http.Client
}

// user is one of several administrators that the lab is by turns, each at an address
// of its own: the API serves one user, and one address, 1,200 times a minute.
type user struct {
	key  string
	http *http.Client
}

const users = 8

// install starts the product in a mode: "embedded" is one process on SQLite,
// "scaled" one process per role on PostgreSQL and Redis of its own: the lab's
// network has no other.
func install(ctx context.Context, bin, mode string) (p *product, err error) {
	p = &product{pids: map[string]int{}, http: http.Client{Timeout: 30 * time.Second}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	roles := []string{"all"}
	if err := p.prepare(mode); err != nil {
		return p, err
	}
	if mode == "scaled" {
		roles = []string{"api", "scheduler", "worker", "notifier"}
	} else if mode != "embedded" {
		return p, fmt.Errorf("there is no mode %q", mode)
	}
	for _, role := range roles {
		if err := p.start(bin, role); err != nil {
			return p, err
		}
	}
	if err := p.ready(ctx); err != nil {
		return p, err
	}
	return p, p.admit(ctx, bin)
}

// admit makes the users.
func (p *product) admit(ctx context.Context, bin string) error {
	for i := range users {
		email := fmt.Sprintf("lab%d@example.org", i)
		if _, err := p.command(ctx, bin, adminPassword+"\n", "user", "create", "--email", email, "--role", "admin", "--password-stdin"); err != nil {
			return err
		}
		key, err := p.command(ctx, bin, "", "api-key", "create", "--user", email)
		if err != nil {
			return err
		}
		dial := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i))}}
		p.users = append(p.users, user{strings.TrimSpace(key), &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dial.DialContext}}})
	}
	return nil
}

func (p *product) command(ctx context.Context, bin, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env, cmd.Stderr, cmd.Stdin = p.env, os.Stderr, strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("vedette %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// prepare makes the folder, the key and, when scaled, the servers.
func (p *product) prepare(mode string) (err error) {
	if p.dir, err = os.MkdirTemp("", "vedette-lab"); err != nil {
		return err
	}
	p.stops = append(p.stops, func() { _ = os.RemoveAll(p.dir) })
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		return err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	p.env = append(os.Environ(), "VEDETTE_DATA="+filepath.Join(p.dir, "data"), "VEDETTE_LOG_LEVEL=warn", "VEDETTE_KEY="+base64.StdEncoding.EncodeToString(key))
	if mode != "scaled" {
		return nil
	}
	pg, err := testenv.StartPostgres()
	if err != nil {
		return err
	}
	p.stops = append(p.stops, pg.Close)
	redis, err := testenv.StartRedis()
	if err != nil {
		return err
	}
	p.stops = append(p.stops, redis.Close)
	p.env = append(p.env, "VEDETTE_DATABASE="+pg.URL, "VEDETTE_QUEUE="+redis.URL)
	return nil
}

func (p *product) start(bin, role string) error {
	port, err := testenv.Reserve("127.0.0.1", 0)
	if err != nil {
		return err
	}
	p.stops = append(p.stops, func() { _ = port.Close() })
	cmd := exec.Command(bin, "serve", "--roles", role, "--listen", port.Addr)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.pids[role] = cmd.Process.Pid
	if role == "all" || role == "api" {
		p.base = "http://" + port.Addr
	}
	p.stops = append(p.stops, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return nil
}

func (p *product) ready(ctx context.Context) error {
	return until(ctx, time.Minute, "the product is ready", func() (bool, error) {
		resp, err := p.http.Get(p.base + "/readyz")
		if err != nil {
			return false, nil
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// until asks ok again and again; an error of it, or the end of the time, ends that.
func until(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("after %s still not so: %s", limit, what))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// close stops everything, the last started first.
func (p *product) close() {
	for i := len(p.stops) - 1; i >= 0; i-- {
		p.stops[i]()
	}
}

// call makes one request of the API, by one user or another, and reads the answer
// into into.
func (p *product) call(ctx context.Context, method, path string, body []byte, into any) error {
	return p.callAs(ctx, p.users[p.turn.Add(1)%users], method, path, body, into)
}

func (p *product) callAs(ctx context.Context, u user, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+u.key)
	resp, err := u.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(b, into)
}

// list reads every page of a collection.
func list[T any](ctx context.Context, p *product, path string) ([]T, error) {
	var all []T
	for next := ""; ; {
		var page struct {
			Items []T
			Next  string
		}
		if err := p.call(ctx, http.MethodGet, path+"&limit=200&cursor="+next, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if next = page.Next; next == "" {
			return all, nil
		}
	}
}

// peaks is the most memory that each process has had resident, in bytes.
func (p *product) peaks() (map[string]int64, error) {
	out := map[string]int64{}
	for role, pid := range p.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return nil, fmt.Errorf("%s has ended: %w", role, err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[0] == "VmHWM:" {
				kib, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					return nil, err
				}
				out[role] = kib << 10
			}
		}
	}
	return out, nil
}
