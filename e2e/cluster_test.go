package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

const (
	adminEmail    = "admin@example.org"
	adminPassword = "correct horse battery"
)

// cluster is a running installation in one of the two modes.
type cluster struct {
	*client
	env   []string
	procs map[string]*process // by role and number: "all", "worker1"
	args  map[string][]string
	redis *testenv.RedisServer // nil when embedded
	wire  *testenv.Proxy       // to Redis; nil when embedded
	pg    *testenv.Server      // nil when embedded
	entry atomic.Pointer[string]
}

// restart starts the named process again, with the arguments it had, and extra
// environment if there is any.
func (c *cluster) restart(name string, env ...string) {
	c.t.Helper()
	c.procs[name] = start(c.t, append(slices.Clone(c.env), env...), c.args[name]...)
}

func (c *cluster) run(name string, args ...string) *process {
	c.args[name] = append([]string{"serve"}, args...)
	c.restart(name)
	return c.procs[name]
}

// ready waits until the entry answers /readyz with 200.
func (c *cluster) ready() {
	c.t.Helper()
	eventually(c.t, 60*time.Second, "the installation is ready", func() bool {
		return c.do("GET", "/readyz", nil, nil) == http.StatusOK
	})
}

func newCluster(t testing.TB, env ...string) *cluster {
	c := &cluster{procs: map[string]*process{}, args: map[string][]string{}}
	c.env = append([]string{"VEDETTE_ADMIN_EMAIL=" + adminEmail, "VEDETTE_ADMIN_PASSWORD=" + adminPassword}, env...)
	c.client = &client{t: t, base: func() string { return *c.entry.Load() }}
	return c
}

func (c *cluster) setEntry(addr string) {
	url := "http://" + addr
	c.entry.Store(&url)
}

// login makes the API key that the client uses, on the command line, as an
// administrator would.
func (c *cluster) login(storage ...string) {
	c.key = command(c.t, c.env, "", append([]string{"api-key", "create", "--user", adminEmail}, storage...)...)
}

// embedded starts one process with everything in it.
func embedded(t testing.TB, smtp string, env ...string) *cluster {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	c := newCluster(t, append(env, "VEDETTE_DATA="+data, "VEDETTE_SMTP="+smtp)...)
	addr := testenv.Addr(t)
	p := c.run("all", "--listen", addr)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c.setEntry(p.addr(ctx))
	c.ready()
	c.login()
	return c
}

// scaled starts two of every role on PostgreSQL and Redis, the APIs behind the
// HAProxy configuration that we ship.
func scaled(t testing.TB, smtp string) *cluster { return scaledBy(t, smtp, 2) }

// scaledBy is scaled with another number of each role.
func scaledBy(t testing.TB, smtp string, each int) *cluster {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	pg, redis := testenv.PostgresServer(t), testenv.Redis(t)
	wire := testenv.NewProxy(t, redis.Addr)
	c := newCluster(t, "VEDETTE_DATABASE="+pg.URL, "VEDETTE_QUEUE=redis://"+wire.Addr+"/0", "VEDETTE_SMTP="+smtp,
		"VEDETTE_KEY="+base64.StdEncoding.EncodeToString(key), "VEDETTE_TRUSTED_PROXIES=127.0.0.1/32")
	c.pg, c.redis, c.wire = pg, redis, wire
	var apis []string
	for i := 1; i <= each; i++ {
		for _, role := range []string{"scheduler", "worker", "notifier"} {
			c.run(fmt.Sprintf("%s%d", role, i), "--roles", role, "--listen", testenv.Addr(t))
		}
		addr := testenv.Addr(t)
		c.run(fmt.Sprintf("api%d", i), "--roles", "api", "--listen", addr)
		apis = append(apis, addr)
	}
	c.setEntry(apis[0])
	if each > 1 {
		c.setEntry(balance(t, apis))
	}
	c.ready()
	c.login()
	return c
}

// balance starts HAProxy with deploy/haproxy.cfg in front of two APIs and returns
// where it listens.
func balance(t testing.TB, apis []string) string {
	t.Helper()
	testenv.Install(t, "haproxy", "haproxy")
	listen := testenv.Addr(t)
	cmd := exec.Command("haproxy", "-db", "-f", filepath.Join("..", "deploy", "haproxy.cfg"))
	cmd.Env = append(os.Environ(), "LISTEN="+listen, "API_1="+apis[0], "API_2="+apis[1], "PATH="+os.Getenv("PATH")+":/usr/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy:\n%s", out.String())
		}
	})
	return listen
}

// watch creates a mail channel, a webhook channel and a monitor of tg that uses
// both, and returns the monitor's id. It waits for the first verdict.
func (c *cluster) watch(tg *target, hook *receiver) int64 {
	c.t.Helper()
	var mail, web struct {
		ID     int64             `json:"id"`
		Secret map[string]string `json:"reveal"`
	}
	c.must("POST", "/api/v1/channels", object{"name": "Mail", "type": "email", "config": object{"to": []string{"ops@example.org"}}}, &mail)
	c.must("POST", "/api/v1/channels", object{"name": "Hook", "type": "webhook", "config": object{"url": hook.URL}}, &web)
	hook.mu.Lock()
	hook.secret = uptime.Secret(web.Secret["secret"])
	hook.mu.Unlock()
	var m struct {
		ID int64 `json:"id"`
	}
	c.must("POST", "/api/v1/monitors", object{"name": "Shop", "type": "http", "target": tg.URL, "interval": "1s", "timeout": "900ms",
		"confirm": object{"failures": 1, "interval": "200ms", "successes": 1}, "channels": []int64{mail.ID, web.ID}, "enabled": true}, &m)
	c.until(m.ID, "up")
	return m.ID
}

// until waits for the monitor's verdict.
func (c *cluster) until(id int64, verdict string) {
	c.t.Helper()
	eventually(c.t, 30*time.Second, fmt.Sprintf("monitor %d is %s", id, verdict), func() bool {
		return c.verdict(id) == verdict
	})
}

func (c *cluster) verdict(id int64) string {
	var m struct {
		State struct {
			Verdict string `json:"verdict"`
		} `json:"state"`
	}
	c.do("GET", fmt.Sprintf("/api/v1/monitors/%d", id), nil, &m)
	return m.State.Verdict
}
