package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"vedette/internal/notify"
	"vedette/internal/store"
	"vedette/internal/uptime"
)

// outages is how many monitors break, one after the other, in the latency step.
const outages = 100

// latency: from the failing answer of a target to the webhook about it.
func (b *bench) latency(ctx context.Context, mode string) error {
	l := &outage{broken: map[string]bool{}, failed: map[string]time.Time{}, told: make(chan string, outages)}
	site := httptest.NewServer(http.HandlerFunc(l.page))
	defer site.Close()
	hook := httptest.NewServer(http.HandlerFunc(l.hook))
	defer hook.Close()
	in, err := install(ctx, b.bin, mode, func(s *store.Store, owner int64) error {
		config, _, err := notify.NewWebhook(notify.WebhookOptions{}).Check([]byte(`{"url":"` + hook.URL + `"}`))
		if err != nil {
			return err
		}
		c, err := s.CreateChannel(ctx, uptime.Channel{OwnerID: owner, Name: "bench", Type: "webhook", Config: config, Enabled: true})
		if err != nil {
			return err
		}
		return pages(ctx, outages, site.URL, time.Second, 0, `{}`, []int64{c.ID})(s, owner)
	})
	if err != nil {
		return err
	}
	defer in.close()
	pause(ctx, 5*time.Second)
	for i := range outages {
		l.breakPage(fmt.Sprintf("/%d/%d", time.Second.Microseconds(), i))
		select {
		case <-l.told:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("no webhook about page %d within 10 s", i)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.took)
	row(mode+", failing answer → webhook received", "p50 %.1f ms, p99 %.1f ms (%d outages)", quantile(l.took, 0.5), quantile(l.took, 0.99), len(l.took))
	return nil
}

// outage is a site whose pages break on demand and a receiver that notes how long
// the news took.
type outage struct {
	mu     sync.Mutex
	broken map[string]bool      // guarded by mu
	failed map[string]time.Time // guarded by mu: when a page first answered 500
	last   string               // guarded by mu: the page that was broken last
	took   []float64            // guarded by mu: milliseconds
	told   chan string
}

func (o *outage) breakPage(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken[path], o.last = true, path
}

func (o *outage) page(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.broken[r.URL.Path] {
		return
	}
	if _, ok := o.failed[r.URL.Path]; !ok {
		o.failed[r.URL.Path] = time.Now()
	}
	w.WriteHeader(http.StatusInternalServerError)
}

func (o *outage) hook(_ http.ResponseWriter, r *http.Request) {
	at := time.Now()
	b := make([]byte, 64<<10)
	n, _ := r.Body.Read(b)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !strings.Contains(string(b[:n]), o.last+`"`) {
		return
	}
	o.took = append(o.took, float64(at.Sub(o.failed[o.last]).Microseconds())/1000)
	o.told <- o.last
}
