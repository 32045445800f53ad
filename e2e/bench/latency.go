package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	if err := l.stages(ctx, mode, in); err != nil {
		return err
	}
	slices.Sort(l.took)
	row(mode+", failing answer → webhook received", "p50 %.1f ms, p99 %.1f ms (%d outages)", quantile(l.took, 0.5), quantile(l.took, 0.99), len(l.took))
	return nil
}

// stages tells which step the time went to, from what is on record.
func (o *outage) stages(ctx context.Context, mode string, in *installation) error {
	const q = `SELECT m.target, a.created_at, d.created_at, t.started_at, t.finished_at, d.done_at FROM deliveries d JOIN alerts a ON a.id = d.alert_id
 JOIN monitors m ON m.id = a.monitor_id JOIN delivery_attempts t ON t.delivery_id = d.id AND t.number = 1`
	rows, err := in.db.QueryContext(ctx, q)
	if err != nil {
		return err
	}
	defer rows.Close()
	names := []string{"answered to decided", "decided to routed", "routed to sent", "sent to answered", "answered to on record"}
	took := make([][]float64, len(names))
	for rows.Next() {
		var target string
		var at [6]int64
		if err := rows.Scan(&target, &at[1], &at[2], &at[3], &at[4], &at[5]); err != nil {
			return err
		}
		page, err := url.Parse(target)
		if err != nil {
			return err
		}
		at[0] = o.failed[page.Path].UnixMicro()
		for i := range names {
			took[i] = append(took[i], float64(at[i+1]-at[i])/1000)
		}
	}
	for i, name := range names {
		slices.Sort(took[i])
		row(mode+", of which "+name, "p50 %.1f ms, p99 %.1f ms", quantile(took[i], 0.5), quantile(took[i], 0.99))
	}
	return rows.Err()
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
