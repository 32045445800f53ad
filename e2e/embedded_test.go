package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// rudeTarget answers each connection with what answer does to it.
func rudeTarget(t testing.TB, answer func(net.Conn)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	testenv.Serve(ln, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096)) // the request, or a part of it
		answer(c)
	})
	return "http://" + ln.Addr().String()
}

func writes(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// hangs keeps a connection until the other side leaves.
func hangs(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// failing are targets that fail, each in its way.
func failing(t testing.TB) map[string]string {
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	cert, _, err := testenv.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	tlsServer.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	notFound := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(notFound.Close)
	return map[string]string{
		"refused":       "http://" + testenv.Addr(t),
		"no such name":  "http://nothing.invalid/",
		"hangs":         rudeTarget(t, hangs),
		"reset":         rudeTarget(t, testenv.Reset),
		"closes":        rudeTarget(t, func(net.Conn) {}),
		"untrusted":     tlsServer.URL,
		"no TLS":        "https" + notFound.URL[len("http"):],
		"garbage":       rudeTarget(t, writes("SSH-2.0-OpenSSH_9.6\r\n")),
		"truncated":     rudeTarget(t, writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")),
		"stalls":        rudeTarget(t, func(c net.Conn) { writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")(c); hangs(c) }),
		"status":        notFound.URL,
		"corrupt":       rudeTarget(t, writes("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")),
		"redirects off": rudeTarget(t, writes("HTTP/1.1 302 Found\r\nLocation: gopher://x/\r\nContent-Length: 0\r\n\r\n")),
	}
}

// TestTheEmbeddedModeGoesOnWhateverHappensToIt has one process go through failing and
// hanging targets and through standing still.
func TestTheEmbeddedModeGoesOnWhateverHappensToIt(t *testing.T) {
	t.Parallel()
	mail := testenv.SMTP(t)
	c := embedded(t, mail.URL(), "VEDETTE_CONCURRENCY=100")
	healthy := newTarget(t)
	ids := append(c.every(5, newSlow(t), nil), c.every(1, healthy.URL, nil)...)

	t.Run("every slot of every kind of failure has one verdict", func(t *testing.T) {
		made := map[string]int64{}
		for name, target := range failing(t) {
			made[name] = c.every(1, target, nil)[0]
		}
		begin := time.Now()
		elapse(t, begin, 25*time.Second)
		for name, id := range made {
			h := c.history(id)
			if wrong := h.wrong(begin.Add(10 * time.Second)); wrong != "" {
				t.Errorf("%s: %s", name, wrong)
			}
			// The resolver of the machine that runs this may itself be out of reach.
			if down := h.count(begin, "down", ""); down < 3 && name != "no such name" {
				t.Errorf("%s: %d slots are down, want nearly all", name, down)
			}
			c.must("DELETE", fmt.Sprintf("/api/v1/monitors/%d", id), nil, nil)
		}
	})
	t.Run("hanging targets fill the queue and nothing else", func(t *testing.T) {
		hung := c.every(200, rudeTarget(t, hangs), nil)
		eventually(t, 60*time.Second, "more is asked for than can be done", func() bool {
			return c.history(hung[0]).count(time.Time{}, "unknown", uptime.Starved)+c.history(hung[0]).count(time.Time{}, "unknown", uptime.Missed) > 0
		})
		var took []time.Duration
		for range 50 {
			begin := time.Now()
			c.must("GET", "/api/v1/monitors?limit=20", nil, nil)
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		if median := took[len(took)/2]; median > 100*time.Millisecond {
			t.Errorf("half of the requests took longer than %s, want 100 ms at most", median)
		}
		if took := c.procs["all"].stop(); took > 10*time.Second {
			t.Errorf("stopping took %s, want at most 10 s", took)
		}
		c.restart("all")
		c.ready()
		for _, id := range hung {
			c.must("DELETE", fmt.Sprintf("/api/v1/monitors/%d", id), nil, nil)
		}
	})
	t.Run("a process that stands still for a moment blames no target", func(t *testing.T) {
		for range 3 {
			for _, id := range ids {
				c.until(id, "up")
			}
			c.procs["all"].pause()
			elapse(t, time.Now(), 2*time.Second)
			c.procs["all"].resume()
		}
	})
	t.Run("a process that stands still for long leaves a gap and no burst", func(t *testing.T) {
		for _, id := range ids {
			c.until(id, "up")
		}
		c.procs["all"].pause()
		begin := time.Now()
		elapse(t, begin, 20*time.Second)
		end := time.Now()
		c.procs["all"].resume()
		elapse(t, end, 5*time.Second)
		for _, id := range ids {
			h := c.history(id)
			late := 0
			for _, r := range h.rows {
				if r.Verdict == "up" && r.ScheduledAt.After(begin) && r.ScheduledAt.Before(end) {
					late++
				}
			}
			if late > 1 {
				t.Errorf("monitor %d caught up %d checks, want 1 at most", id, late)
			}
			if !h.inGap(begin.Add(end.Sub(begin) / 2)) {
				t.Errorf("monitor %d has no gap from %s to %s: %v", id, begin, end, h.gaps)
			}
		}
	})
	c.account(ids...)
	c.neverDown(ids...)
}
