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
	"time"

	"vedette/internal/api"
	"vedette/internal/guard"
	"vedette/internal/probe"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

const password = "correct horse battery"

// memory is a store of maps. Methods that no test reaches are the embedded nil's.
type memory struct {
	service.Store
	mu       sync.Mutex
	users    []uptime.User
	keys     map[string]uptime.APIKey
	sessions map[string]uptime.Session
	monitors map[int64]uptime.Monitor
	counts   map[string]int
	answers  map[string][]byte
	prints   map[string]string
	events   []uptime.LiveEvent
}

func newMemory() *memory {
	return &memory{keys: map[string]uptime.APIKey{}, sessions: map[string]uptime.Session{}, monitors: map[int64]uptime.Monitor{},
		counts: map[string]int{}, answers: map[string][]byte{}, prints: map[string]string{}}
}

func missing() error { return uptime.Errorf(uptime.NotFound, "no such thing") }

func (m *memory) CreateFirstUser(ctx context.Context, u uptime.User) (uptime.User, error) {
	m.mu.Lock()
	n := len(m.users)
	m.mu.Unlock()
	if n > 0 {
		return u, uptime.Errorf(uptime.Conflict, "there is a user")
	}
	return m.CreateUser(ctx, u)
}

func (m *memory) CreateUser(_ context.Context, u uptime.User) (uptime.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u.ID = int64(len(m.users) + 1)
	m.users = append(m.users, u)
	return u, nil
}

func (m *memory) CountUsers(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.users), nil
}

func (m *memory) UserByID(_ context.Context, id int64) (uptime.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.users[id-1], nil
}

func (m *memory) UserByEmail(_ context.Context, email string) (uptime.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.users {
		if u.Email == email {
			return u, nil
		}
	}
	return uptime.User{}, missing()
}

func (m *memory) SetPassword(_ context.Context, id int64, hash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[id-1].PasswordHash = hash
	clear(m.sessions)
	return nil
}

func (m *memory) CreateSession(_ context.Context, s uptime.Session, h []byte) (uptime.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.ID = int64(len(m.sessions) + 1)
	m.sessions[string(h)] = s
	return s, nil
}

func (m *memory) SessionByHash(_ context.Context, h []byte, _ time.Time) (uptime.Session, uptime.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[string(h)]
	if !ok {
		return s, uptime.User{}, missing()
	}
	return s, m.users[s.UserID-1], nil
}

func (m *memory) DeleteSession(_ context.Context, id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, s := range m.sessions {
		if s.ID == id {
			delete(m.sessions, h)
		}
	}
	return nil
}

func (m *memory) CreateAPIKey(_ context.Context, k uptime.APIKey, h []byte) (uptime.APIKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k.ID = int64(len(m.keys) + 1)
	m.keys[string(h)] = k
	return k, nil
}

func (m *memory) APIKeyByHash(_ context.Context, h []byte, _ time.Time) (uptime.APIKey, uptime.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[string(h)]
	if !ok {
		return k, uptime.User{}, missing()
	}
	return k, m.users[k.UserID-1], nil
}

func (m *memory) TouchAPIKey(context.Context, int64, time.Time) error { return nil }

func (m *memory) CountAttempt(_ context.Context, key string, _ time.Time, _ time.Duration) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[key]++
	return m.counts[key], nil
}

func (m *memory) Idempotent(_ context.Context, _ int64, key string, print []byte) (int, []byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.answers[key]
	if ok && m.prints[key] != string(print) {
		return 0, nil, false, uptime.Errorf(uptime.Conflict, "this Idempotency-Key was used for another request")
	}
	return 201, body, ok, nil
}

func (m *memory) SaveIdempotent(_ context.Context, _ int64, key string, print []byte, _ int, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers[key], m.prints[key] = body, string(print)
	return nil
}

func (m *memory) CountMonitors(context.Context, int64) (int, error) { return 0, nil }

func (m *memory) CreateMonitor(_ context.Context, x uptime.Monitor) (uptime.Monitor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x.ID, x.Revision = int64(len(m.monitors)+1), 1
	m.monitors[x.ID] = x
	m.events = append(m.events, uptime.LiveEvent{ID: int64(len(m.events) + 1), OwnerID: x.OwnerID, Type: "monitor.changed", MonitorID: x.ID})
	return x, nil
}

func (m *memory) Monitor(_ context.Context, owner, id int64) (uptime.MonitorView, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, ok := m.monitors[id]
	if !ok || owner != 0 && x.OwnerID != owner {
		return uptime.MonitorView{}, missing()
	}
	return uptime.MonitorView{Monitor: x}, nil
}

func (m *memory) UpdateMonitor(_ context.Context, _ int64, x uptime.Monitor) (uptime.Monitor, []int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.monitors[x.ID].Revision != x.Revision {
		return x, nil, uptime.Errorf(uptime.Conflict, "changed meanwhile")
	}
	x.Revision++
	m.monitors[x.ID] = x
	return x, nil, nil
}

func (m *memory) ListChannels(context.Context, int64, int64, int) ([]uptime.Channel, error) {
	return nil, nil
}

func (m *memory) Channel(context.Context, int64, int64) (uptime.Channel, error) {
	return uptime.Channel{}, missing()
}

func (m *memory) LastEventID(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.events)), nil
}

func (m *memory) EventsAfter(_ context.Context, id int64, _ int) ([]uptime.LiveEvent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]uptime.LiveEvent(nil), m.events[min(id, int64(len(m.events))):]...), nil
}

// probes knows one type whose config has a password, and two that dial nobody.
type probes struct{}

func (probes) Types() []string { return []string{"heartbeat", "http", "manual"} }

// Describe is the real types: the document lists them.
func (probes) Describe() []uptime.CheckType {
	return probe.New(probe.Env{Guard: guard.New(guard.Options{Policy: guard.Allow()})}).Describe()
}

func (probes) Validate(m uptime.Monitor) error {
	if m.Type == "http" && !strings.HasPrefix(m.Target, "http") {
		return uptime.InvalidField("target", "is no URL")
	}
	return nil
}

func (probes) Members(string, json.RawMessage) []int64 { return nil }

func (probes) Redact(_ string, c json.RawMessage) (json.RawMessage, error) {
	var v map[string]any
	if err := json.Unmarshal(c, &v); err != nil {
		return nil, err
	}
	if v["password"] != nil {
		v["password"] = uptime.Redacted
	}
	return json.Marshal(v)
}

// world is a running API with a user of each role, and everything it logged.
type world struct {
	t     *testing.T
	url   string
	store *memory
	log   *bytes.Buffer
	key   map[string]string // editor, other, viewer, reader (the editor's read key), admin
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: newMemory(), log: &bytes.Buffer{}, key: map[string]string{}}
	svc := service.New(service.Options{Store: w.store, Probes: probes{}, Channels: map[string]service.Provider{}})
	h, err := api.New(api.Options{Service: svc, Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	ctx := t.Context()
	if _, err := svc.Bootstrap(ctx, "admin@example.org", password); err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]uptime.Role{"editor": uptime.RoleEditor, "other": uptime.RoleEditor, "viewer": uptime.RoleViewer} {
		if _, err := svc.CreateUser(ctx, service.Local(), name+"@example.org", password, role); err != nil {
			t.Fatal(err)
		}
	}
	for name, k := range map[string]struct {
		user  string
		scope uptime.Scope
	}{"admin": {"admin", "write"}, "editor": {"editor", "write"}, "other": {"other", "write"}, "viewer": {"viewer", "write"}, "reader": {"editor", "read"}} {
		_, text, err := svc.CreateAPIKeyFor(ctx, service.Local(), k.user+"@example.org", service.NewKey{Name: name, Scope: k.scope})
		if err != nil {
			t.Fatal(err)
		}
		w.key[name] = text
	}
	return w
}

// do sends one request; who is a key of w.key or empty; header is pairs.
func (w *world) do(who, method, path, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+w.key[who])
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(b)
}
