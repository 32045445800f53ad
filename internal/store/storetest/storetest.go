// Package storetest gives tests a real store: every test that stands on one runs
// once per engine, on a SQLite file of its own and on a fresh database of a real
// PostgreSQL. It is imported by tests only.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"vedette/internal/seal"
	"vedette/internal/store"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// Env is one migrated database, empty but for its schema.
type Env struct {
	*store.Store
	Engine   string // "sqlite" or "postgres"
	Database string // in the form of store.Options
}

// Each runs test on both engines, in parallel.
func Each(t *testing.T, test func(t *testing.T, e Env)) {
	t.Helper()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, New(t, engine))
		})
	}
}

// New makes a database of the engine.
func New(tb testing.TB, engine string) Env {
	tb.Helper()
	e := Env{Engine: engine}
	switch engine {
	case "sqlite":
		e.Database = "sqlite:" + filepath.Join(tb.TempDir(), "vedette.db")
	case "postgres":
		e.Database = testenv.Postgres(tb)
	default:
		tb.Fatalf("no engine %q", engine)
	}
	e.Store = e.Open(tb)
	if err := e.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return e
}

// Open opens the database once more, as another process does. It is not migrated.
func (e Env) Open(tb testing.TB) *store.Store {
	tb.Helper()
	sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(tb.Context(), store.Options{Database: e.Database, Sealer: sealer})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// User creates an account.
func (e Env) User(tb testing.TB, email string) uptime.User {
	tb.Helper()
	u, err := e.CreateUser(tb.Context(), uptime.User{Email: email, PasswordHash: "-", Role: uptime.RoleEditor, CreatedAt: uptime.Now()})
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// Monitor creates a monitor of owner: every ten seconds, down after a second failure
// unless change says otherwise.
func (e Env) Monitor(tb testing.TB, owner int64, change func(*uptime.Monitor)) uptime.Monitor {
	tb.Helper()
	m := uptime.Monitor{OwnerID: owner, Name: "Checkout", Type: "http", Target: "https://shop.example/health", Interval: 10 * time.Second,
		Timeout: time.Second, Confirm: uptime.Confirm{Failures: 1, Interval: time.Second, Successes: 1}, Config: json.RawMessage(`{"method":"GET"}`),
		Regions: []string{uptime.DefaultRegion}, Tags: []string{"prod"}, Enabled: true}
	if change != nil {
		change(&m)
	}
	m, err := e.CreateMonitor(tb.Context(), m)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// Slot is the n-th slot of m in its first region after its schedule began; n may be
// negative.
func Slot(m uptime.Monitor, n int) time.Time {
	first := uptime.SlotAfter(m.ID, m.Regions[0], m.Interval, m.ScheduledSince)
	return first.Add(time.Duration(n) * m.Interval)
}

// Result is what a worker found in the n-th slot of m.
func Result(m uptime.Monitor, n int, v uptime.Verdict) uptime.CheckResult {
	at := Slot(m, n)
	r := uptime.CheckResult{
		ResultKey: uptime.ResultKey{MonitorID: m.ID, Region: m.Regions[0], ScheduledAt: at}, Revision: m.Revision, Verdict: v,
		DequeuedAt: at.Add(time.Millisecond), StartedAt: at.Add(1500 * time.Microsecond), Duration: 12345 * time.Microsecond,
		Phases: uptime.Phases{Connect: 210 * time.Microsecond, FirstByte: 11 * time.Millisecond, Transfer: 40 * time.Microsecond},
	}
	switch v {
	case uptime.VerdictDown:
		r.Reason, r.Message, r.Evidence = uptime.HTTPStatus, "The server answered 503.", &uptime.Evidence{Status: 503, Body: "on holiday"}
	case uptime.VerdictDegraded:
		r.Reason, r.Message = uptime.Slow, "It took too long."
	case uptime.VerdictUnknown:
		r.Reason, r.Message = uptime.Missed, "Nobody looked."
	}
	return r
}

// Record stores results, in one batch, and fails the test if that fails.
func (e Env) Record(tb testing.TB, decide func(uptime.Facts) uptime.Change, batch ...uptime.CheckResult) []uptime.Recorded {
	tb.Helper()
	out, err := e.RecordResults(context.WithoutCancel(tb.Context()), batch, decide)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
