package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// hook makes a default webhook channel to r, and returns its id.
func (c *cluster) hook(r *receiver, config object) int64 {
	c.t.Helper()
	if config == nil {
		config = object{"url": r.URL}
	}
	var web struct {
		ID     int64             `json:"id"`
		Secret map[string]string `json:"reveal"`
	}
	c.must("POST", "/api/v1/channels", object{"name": "Hook", "type": "webhook", "config": config, "default": true}, &web)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = uptime.Secret(web.Secret["secret"])
	return web.ID
}

// TestARestartTellsWhatChangedMeanwhileAndNothingElse is FAULTS 38, its four
// combinations at once: what was up or down before, and is so after.
func TestARestartTellsWhatChangedMeanwhileAndNothingElse(t *testing.T) {
	modes := map[string]func(testing.TB, string) *cluster{
		"embedded": func(t testing.TB, smtp string) *cluster { return embedded(t, smtp) },
		"scaled":   func(t testing.TB, smtp string) *cluster { return scaledBy(t, smtp, 1) },
	}
	for mode, begin := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := begin(t, testenv.SMTP(t).URL())
			hook := newReceiver(t)
			c.hook(hook, nil)
			status := map[bool]int64{true: http.StatusOK, false: http.StatusServiceUnavailable}
			verdict := map[bool]string{true: "up", false: "down"}
			type watched struct {
				*target
				id            int64
				before, after bool
			}
			var all []watched
			for _, w := range []watched{{before: true, after: true}, {before: true}, {after: true}, {}} {
				w.target = newTarget(t)
				w.id = c.monitor(fmt.Sprintf("%s, then %s", verdict[w.before], verdict[w.after]), w.URL)
				c.until(w.id, "up")
				w.status.Store(status[w.before])
				all = append(all, w)
			}
			for _, w := range all {
				c.until(w.id, verdict[w.before])
			}
			told := func(opened, resolved int) {
				t.Helper()
				eventually(t, 60*time.Second, fmt.Sprintf("%d openings and %d ends are told", opened, resolved), func() bool {
					return hook.count("incident.opened") >= opened && hook.count("incident.resolved") >= resolved
				})
			}
			told(2, 0)

			for _, p := range c.procs {
				p.kill()
			}
			for _, w := range all {
				w.status.Store(status[w.after])
				w.hits.Store(0)
			}
			for name := range c.procs {
				c.restart(name)
			}
			c.ready()
			told(3, 1)
			for _, w := range all { // time for one message too many
				eventually(t, 60*time.Second, "it is checked five times more", func() bool { return w.hits.Load() >= 5 })
				c.until(w.id, verdict[w.after])
			}
			told(3, 1)
			if o, r := hook.count("incident.opened"), hook.count("incident.resolved"); o != 3 || r != 1 {
				t.Errorf("told %d openings and %d ends, want 3 and 1", o, r)
			}
		})
	}
}

// TestTheEndWaitsForAnOpeningThatIsRefused is FAULTS 48 and 50: the receiver takes
// nothing until the outage is over.
func TestTheEndWaitsForAnOpeningThatIsRefused(t *testing.T) {
	t.Parallel()
	c := embedded(t, testenv.SMTP(t).URL())
	hook, tg := newReceiver(t), newTarget(t)
	c.hook(hook, nil)
	id := c.monitor("Shop", tg.URL)
	c.until(id, "up")
	before := hook.refuse(http.StatusBadGateway)
	tg.status.Store(http.StatusServiceUnavailable)
	eventually(t, 60*time.Second, "the opening is refused", func() bool { return hook.refuse(http.StatusBadGateway) > before })
	tg.status.Store(http.StatusOK)
	c.until(id, "up")
	eventually(t, 60*time.Second, "both are owed", func() bool { return len(c.list("/api/v1/deliveries")) == 2 })
	hook.refuse(0)
	eventually(t, 90*time.Second, "both are told", func() bool { return len(hook.told()) == 2 })
	if got := hook.told(); !slices.Equal(got, []string{"incident.opened", "incident.resolved"}) {
		t.Errorf("told %v, want the opening first", got)
	}
	if hook.repeats() == 0 {
		t.Error("the opening came once, want its repeat under the same id")
	}
}

// TestWhatCannotBeDeliveredIsSeen is FAULTS 51, 52, 56 and 57: one alert has no
// channel at all, then one is refused for good by a receiver that echoes what it was
// sent. The user sees it; no secret of theirs is seen anywhere.
func TestWhatCannotBeDeliveredIsSeen(t *testing.T) {
	t.Parallel()
	mail, hook := testenv.SMTP(t), newReceiver(t)
	c := embedded(t, mail.URL())
	secrets := map[string]string{"url": "canary-in-the-url", "query": "canary-in-the-query", "header": "canary-in-a-header", "mail": "canary-of-the-mail-server",
		"basic": "canary-of-the-target"}
	tg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	t.Cleanup(tg.Close)

	// Nobody to tell.
	lonely := c.monitor("Lonely", tg.URL)
	c.until(lonely, "down")
	own := func() (out []object) {
		for _, i := range c.list("/api/v1/incidents") {
			if i["kind"] == "self" {
				out = append(out, i)
			}
		}
		return out
	}
	eventually(t, 60*time.Second, "an incident of our own says that nobody was told", func() bool {
		in := own()
		return len(in) == 1 && in[0]["reason"] == string(uptime.Undelivered)
	})
	if !strings.Contains(c.text("/metrics"), `vedette_notify_alerts_total{result="nobody"}`) {
		t.Error("/metrics does not count it")
	}
	if home := c.text("/"); !strings.Contains(home, "Alerts do not reach everybody") {
		t.Errorf("the page at / says nothing of it:\n%s", home)
	}

	// Refused for good.
	hook.refuse(http.StatusForbidden)
	web := c.hook(hook, object{"url": hook.URL + "/" + secrets["url"] + "?token=" + secrets["query"], "headers": object{"X-Token": secrets["header"]}})
	var letters struct {
		ID int64 `json:"id"`
	}
	c.must("POST", "/api/v1/channels", object{"name": "Mail", "type": "email", "default": true, "config": object{"to": []string{"ops@example.org"},
		"server": object{"host": "127.0.0.1", "port": 1, "username": "u", "password": secrets["mail"], "from": "v@example.org", "tls": "starttls"}}}, &letters)
	var m struct {
		ID int64 `json:"id"`
	}
	c.must("POST", "/api/v1/monitors", object{"name": "Guarded", "type": "http", "target": tg.URL, "interval": "1s", "timeout": "900ms",
		"confirm": object{"failures": 0, "interval": "200ms", "successes": 1}, "enabled": true,
		"config": object{"auth": object{"kind": "basic", "username": "u", "password": secrets["basic"]}}}, &m)
	eventually(t, 60*time.Second, "a delivery is dead", func() bool {
		return len(c.list(fmt.Sprintf("/api/v1/deliveries?status=dead&channel_id=%d", web))) > 0
	})
	dead := c.list(fmt.Sprintf("/api/v1/deliveries?status=dead&channel_id=%d", web))[0]
	if raw := c.text(fmt.Sprintf("/api/v1/deliveries/%v", dead["id"])); !strings.Contains(raw, `"permanent"`) || !strings.Contains(raw, "403") {
		t.Errorf("the dead delivery: got %s, want its permanent attempt", raw)
	}
	if raw := c.text(fmt.Sprintf("/api/v1/channels/%d", web)); !strings.Contains(raw, `"problem":"HTTP 403`) {
		t.Errorf("the channel: got %s, want its problem", raw)
	}
	eventually(t, 60*time.Second, "the mail was tried", func() bool {
		for _, d := range c.list(fmt.Sprintf("/api/v1/deliveries?channel_id=%d", letters.ID)) {
			if d["attempts"].(float64) > 0 {
				return true
			}
		}
		return false
	})

	// What is shown may be sent back: the secrets behind it stay.
	var shown object
	c.must("GET", fmt.Sprintf("/api/v1/channels/%d", web), nil, &shown)
	if url := shown["config"].(object)["url"]; url != hook.URL+"/***" {
		t.Errorf("the channel shows the URL %v, want its host alone", url)
	}
	hook.refuse(0)
	c.must("PUT", fmt.Sprintf("/api/v1/channels/%d", web), object{"name": "Renamed", "type": "webhook", "config": shown["config"], "default": true}, nil)
	c.must("POST", fmt.Sprintf("/api/v1/deliveries/%v/resend", dead["id"]), nil, nil)
	eventually(t, 60*time.Second, "the same URL takes it when it is sent again", func() bool { return hook.count("incident.opened") == 1 })

	// Nothing of it in clear: not in the API, the log or the database.
	seen := map[string]string{"log": c.procs["all"].output(), "metrics": c.text("/metrics")}
	for _, path := range []string{"/monitors", "/channels", "/deliveries", "/incidents"} {
		seen[path] = c.text("/api/v1" + path)
		for _, x := range c.list("/api/v1" + path) {
			one := fmt.Sprintf("%s/%v", path, x["id"])
			seen[one] = c.text("/api/v1" + one)
		}
	}
	seen["results"] = c.text(fmt.Sprintf("/api/v1/monitors/%d/results", m.ID))
	data, _ := strings.CutPrefix(c.env[len(c.env)-2], "VEDETTE_DATA=")
	for _, name := range []string{"vedette.db", "vedette.db-wal"} {
		b, err := os.ReadFile(filepath.Join(data, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		seen[name] = string(b)
	}
	hook.mu.Lock()
	secrets["signing"] = strings.TrimPrefix(hook.secret.Reveal(), "whsec_")
	hook.mu.Unlock()
	for name, secret := range secrets {
		for place, text := range seen {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the secret %q is in clear in %s: …%s…", name, place, text[max(0, at-80):min(len(text), at+80)])
			}
		}
	}
}

// text is the answer to a GET as it came.
func (c *cluster) text(path string) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.base()+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("GET %s: %s %v", path, resp.Status, err)
	}
	return string(b)
}
