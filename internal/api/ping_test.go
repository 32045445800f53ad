package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"vedette/internal/api"
	"vedette/internal/middleware"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

// pinged is a store of one heartbeat, monitor 1, that keeps what it is sent.
type pinged struct {
	*memory
	mu    sync.Mutex // guards what follows
	token uptime.Secret
	asked int
	pings []uptime.Ping
	fails error
	state uptime.ManualState
}

func (p *pinged) CreateMonitor(ctx context.Context, m uptime.Monitor) (uptime.Monitor, error) {
	p.mu.Lock()
	p.token = m.PingToken
	p.mu.Unlock()
	return p.memory.CreateMonitor(ctx, m)
}

func (p *pinged) PingToken(context.Context, int64, int64) (uptime.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token, nil
}

func (p *pinged) ReplacePingToken(_ context.Context, _, _ int64, token uptime.Secret) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token = token
	return nil
}

func (p *pinged) RecordPing(_ context.Context, token string, x uptime.Ping) (uptime.Pinged, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if token != p.token.Reveal() {
		return uptime.Pinged{}, missing()
	}
	if p.fails == nil {
		p.pings = append(p.pings, x)
	}
	return uptime.Pinged{Enabled: true, Changes: x.Kind.Ends(), Monitor: uptime.ScheduleEntry{MonitorID: 1, Regions: []string{uptime.DefaultRegion}}}, p.fails
}

func (p *pinged) ListPings(context.Context, int64, int64, int64, int) ([]uptime.Ping, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]uptime.Ping(nil), p.pings...), nil
}

func (p *pinged) SetManualState(_ context.Context, _, _ int64, st uptime.ManualState) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = st
	return nil
}

// last is the newest ping, and how many there are.
func (p *pinged) last() (uptime.Ping, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pings) == 0 {
		return uptime.Ping{}, 0
	}
	return p.pings[len(p.pings)-1], len(p.pings)
}

// pingWorld is a running API with a heartbeat, its URL, and the jobs it asked for.
type pingWorld struct {
	*world
	store *pinged
	ping  string // the path of the heartbeat's URL
	jobs  func() int
}

func newPingWorld(t *testing.T) *pingWorld {
	t.Helper()
	var mu sync.Mutex
	jobs := 0
	store := &pinged{memory: newMemory()}
	log := &bytes.Buffer{}
	svc := service.New(service.Options{Store: store, Probes: probes{}, CheckNow: func(context.Context, uptime.Job) error {
		mu.Lock()
		defer mu.Unlock()
		jobs++
		return nil
	}})
	h, err := api.New(api.Options{Service: svc, Limiter: &middleware.MemoryLimiter{}, PublicURL: "https://vedette.example",
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	w := &pingWorld{world: &world{t: t, url: srv.URL, store: store.memory, log: log, key: map[string]string{}}, store: store,
		jobs: func() int { mu.Lock(); defer mu.Unlock(); return jobs }}
	if _, err := svc.Bootstrap(t.Context(), "admin@example.org", password); err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]uptime.Role{"editor": uptime.RoleEditor, "viewer": uptime.RoleViewer} {
		if _, err := svc.CreateUser(t.Context(), service.Local(), name+"@example.org", password, role); err != nil {
			t.Fatal(err)
		}
		if _, w.key[name], err = svc.CreateAPIKeyFor(t.Context(), service.Local(), name+"@example.org", service.NewKey{Name: name, Scope: "write"}); err != nil {
			t.Fatal(err)
		}
	}
	res, body := w.do("editor", "POST", "/api/v1/monitors", `{"name":"Backup","type":"heartbeat"}`, "Idempotency-Key", "once")
	var m struct {
		URL     string `json:"ping_url"`
		Confirm struct{ Failures int }
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil || res.StatusCode != 201 || m.Confirm.Failures != 0 {
		t.Fatalf("create: %d %v %s, want no confirmations", res.StatusCode, err, body)
	}
	path, ok := strings.CutPrefix(m.URL, "https://vedette.example")
	if w.ping = path; !ok || len(path) < len("/ping/")+22 {
		t.Fatalf("the URL is %q, want 128 bits or more of the public URL", m.URL)
	}
	return w
}

func TestAPingSaysWhatItsPathSays(t *testing.T) {
	t.Parallel()
	w := newPingWorld(t)
	const id = "123e4567-e89b-12d3-a456-426614174000"
	push := strings.Replace(w.ping, "/ping/", "/api/push/", 1)
	for _, tt := range []struct {
		method, path, body string
		want               uptime.Ping
		jobs               int
	}{
		{"GET", w.ping, "", uptime.Ping{}, 1},
		{"HEAD", w.ping + "/", "", uptime.Ping{}, 1},
		{"POST", w.ping, "done\x00\xff", uptime.Ping{Body: "done\uFFFD\uFFFD"}, 1},
		{"POST", w.ping, strings.Repeat("ä", 2<<20), uptime.Ping{Body: strings.Repeat("ä", 5<<10)}, 1},
		{"GET", w.ping + "/start?rid=" + strings.ToUpper(id), "", uptime.Ping{Kind: uptime.PingStart, Run: id}, 0},
		{"POST", w.ping + "/fail?rid=" + id, "x", uptime.Ping{Kind: uptime.PingFail, Run: id, Body: "x"}, 1},
		{"POST", w.ping + "/log", "x", uptime.Ping{Kind: uptime.PingLog, Body: "x"}, 0},
		{"GET", w.ping + "/0", "", uptime.Ping{}, 1},
		{"GET", w.ping + "/255", "", uptime.Ping{Kind: uptime.PingFail, ExitCode: 255}, 1},
		{"GET", push, "", uptime.Ping{}, 1},
		{"GET", push + "?status=up&msg=OK&ping=12.5", "", uptime.Ping{Body: "OK", Took: 12500000}, 1},
		{"POST", push + "?status=down&msg=bad&ping=NaN", "", uptime.Ping{Kind: uptime.PingFail, Body: "bad"}, 1},
		{"GET", push + "?status=down;msg=bad", "", uptime.Ping{Kind: uptime.PingFail}, 1},
		{"GET", push + "?status=%&msg=a%20b", "", uptime.Ping{Kind: uptime.PingFail, Body: "a b"}, 1},
		{"GET", push + "?status=down&msg=disk+95%;full", "", uptime.Ping{Kind: uptime.PingFail, Body: "disk+95%;full"}, 1},
	} {
		before := w.jobs()
		res, body := w.do("", tt.method, tt.path, tt.body, "Content-Type", "text/plain", "Content-Encoding", "gzip")
		got, _ := w.store.last()
		got.At = tt.want.At
		if res.StatusCode != 200 || got != tt.want || w.jobs()-before != tt.jobs {
			t.Errorf("%s %s: got %d %q, %.200v and %d checks; want %.200v and %d", tt.method, tt.path, res.StatusCode, body, got, w.jobs()-before, tt.want, tt.jobs)
		}
	}
	if _, n := w.store.last(); n != 15 {
		t.Errorf("%d pings are kept, want 15", n)
	}
	if log := w.log.String(); strings.Contains(log, w.ping[len("/ping/"):]) {
		t.Errorf("the log holds the secret: %s", log)
	}
}

func TestWhatIsNoPingIsRefused(t *testing.T) {
	t.Parallel()
	w := newPingWorld(t)
	token := w.ping[len("/ping/"):]
	other := strings.Repeat("A", len(token))
	for _, tt := range []struct {
		method, path string
		status       int
		asks         int // of the database
	}{
		{"GET", "/ping/" + other, 404, 1}, {"GET", "/ping/short", 404, 0}, {"GET", "/ping/" + strings.Repeat("A", 4000), 404, 0}, {"GET", "/ping/", 404, 0},
		{"GET", "/api/push/" + other, 404, 1}, {"GET", "/api/push/", 404, 0}, {"GET", w.ping + "/stop", 404, 0}, {"GET", w.ping + "/256", 404, 0},
		{"GET", w.ping + "/-1", 404, 0}, {"GET", w.ping + "/start/x", 404, 0}, {"GET", w.ping + "?rid=1", 400, 0}, {"PUT", w.ping, 405, 0}, {"DELETE", w.ping, 405, 0},
	} {
		before := w.store.asked
		if res, body := w.do("", tt.method, tt.path, ""); res.StatusCode != tt.status || w.store.asked-before != tt.asks {
			t.Errorf("%s %s: got %d %q and %d questions to the database, want %d and %d", tt.method, tt.path, res.StatusCode, body, w.store.asked-before, tt.status, tt.asks)
		}
	}
	if _, n := w.store.last(); n != 0 || w.jobs() != 0 {
		t.Errorf("%d pings are kept and %d checks asked for, want none", n, w.jobs())
	}
	w.store.fails = uptime.Errorf(uptime.Unavailable, "canary: the database is gone")
	res, body := w.do("", "GET", w.ping, "")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || strings.Contains(body, "canary") {
		t.Errorf("without a database: got %d %q, want 503 and when to come again", res.StatusCode, body)
	}
	if res, body := w.do("", "GET", strings.Replace(w.ping, "/ping/", "/api/push/", 1), ""); res.StatusCode != 503 || !strings.HasPrefix(body, `{"ok":false`) {
		t.Errorf("without a database: got %d %q, want 503 in Uptime Kuma's form", res.StatusCode, body)
	}
}

func TestPingsAreLimitedByTokenAndNotByAddress(t *testing.T) {
	t.Parallel()
	w := newPingWorld(t)
	for range 300 {
		if res, body := w.do("", "GET", w.ping, ""); res.StatusCode != 200 {
			t.Fatalf("got %d %s, want all of the first 300 taken", res.StatusCode, body)
		}
	}
	if res, _ := w.do("", "GET", w.ping, ""); res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("got %d, want 429 and when to come again", res.StatusCode)
	}
	if res, _ := w.do("editor", "POST", "/api/v1/monitors/1/ping-token", ""); res.StatusCode != 200 {
		t.Fatalf("rotate: %d", res.StatusCode)
	}
	old := w.ping
	w.ping = "/ping/" + w.store.token.Reveal()
	for range 300 {
		if res, body := w.do("", "GET", w.ping, ""); res.StatusCode != 200 {
			t.Fatalf("another heartbeat of the same address: got %d %s", res.StatusCode, body)
		}
	}
	if old == w.ping {
		t.Error("the token is the same as before")
	}
}

func TestAHeartbeatsURLIsForWhoManagesIt(t *testing.T) {
	t.Parallel()
	w := newPingWorld(t)
	token := w.ping[len("/ping/"):]
	for _, tt := range []struct {
		who, method, path, body string
		shown                   bool
	}{
		{"editor", "GET", "/api/v1/monitors/1", "", true},
		{"viewer", "GET", "/api/v1/monitors/1", "", false},
		{"editor", "POST", "/api/v1/monitors", `{"name":"Backup","type":"heartbeat"}`, false}, // a repeat
	} {
		res, body := w.do(tt.who, tt.method, tt.path, tt.body, "Idempotency-Key", "once")
		if res.StatusCode >= 300 || strings.Contains(body, token) != tt.shown {
			t.Errorf("%s %s by %s: %d, shows the URL: %t, want %t", tt.method, tt.path, tt.who, res.StatusCode, !tt.shown, tt.shown)
		}
	}
	w.do("", "POST", w.ping+"/fail", "canary in the body")
	for who, shown := range map[string]bool{"editor": true, "viewer": false} {
		res, body := w.do(who, "GET", "/api/v1/monitors/1/pings", "")
		if res.StatusCode != 200 || !strings.Contains(body, `"kind":"fail"`) || strings.Contains(body, "canary") != shown || strings.Contains(body, token) {
			t.Errorf("the pings by %s: %d %s, want the body shown: %t", who, res.StatusCode, body, shown)
		}
	}
}

func TestAStateIsSetByHandForManualMonitorsOnly(t *testing.T) {
	t.Parallel()
	w := newPingWorld(t)
	if res, body := w.do("editor", "POST", "/api/v1/monitors", `{"name":"Lift","type":"manual"}`); res.StatusCode != 201 {
		t.Fatalf("create: %d %s", res.StatusCode, body)
	}
	for _, tt := range []struct {
		name, path, body string
		status           int
	}{
		{"a heartbeat", "/api/v1/monitors/1/status", `{"verdict":"down"}`, 409},
		{"unknown", "/api/v1/monitors/2/status", `{"verdict":"unknown"}`, 422},
		{"a forged line", "/api/v1/monitors/2/status", `{"verdict":"down","message":"a\nb"}`, 422},
		{"a long message", "/api/v1/monitors/2/status", `{"verdict":"down","message":"` + strings.Repeat("x", 501) + `"}`, 422},
		{"who said it", "/api/v1/monitors/2/status", `{"verdict":"down","user_id":1}`, 422},
		{"nobody's", "/api/v1/monitors/9/status", `{"verdict":"down"}`, 404},
	} {
		if res, body := w.do("editor", "PUT", tt.path, tt.body); res.StatusCode != tt.status || !w.store.state.At.IsZero() || w.jobs() != 0 {
			t.Errorf("%s: got %d %s, want %d and nothing changed", tt.name, res.StatusCode, body, tt.status)
		}
	}
	res, body := w.do("editor", "PUT", "/api/v1/monitors/2/status", `{"verdict":"down","message":" out of order "}`)
	if st := w.store.state; res.StatusCode != 200 || st.Verdict != uptime.VerdictDown || st.Message != "out of order" || st.UserID == 0 || w.jobs() != 1 {
		t.Errorf("got %d %s, kept %+v and asked for %d checks; want it kept, with who said it, and one check", res.StatusCode, body, st, w.jobs())
	}
}

// A sender that is cut in the middle of its body has pinged all the same.
func TestAPingWithHalfABodyIsAPing(t *testing.T) {
	t.Parallel()
	w := newPingWorld(t)
	body, sender := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", w.url+w.ping, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(sender, "half of")
		_ = sender.CloseWithError(io.ErrUnexpectedEOF)
	}()
	if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_ = res.Body.Close()
	}
	for range 1000 {
		if p, n := w.store.last(); n == 1 {
			if p.Body != "half of" {
				t.Errorf("kept %q, want what came", p.Body)
			}
			return
		}
		if res, _ := w.do("", "GET", "/healthz", ""); res.StatusCode != 200 { // passes the time
			t.Fatal(res.Status)
		}
	}
	t.Error("the ping is not kept")
}
