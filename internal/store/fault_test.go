package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vedette/internal/incident"
	"vedette/internal/seal"
	"vedette/internal/store"
	"vedette/internal/store/storetest"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// TestThreeProcessesMigrateAtOnce is FAULTS 33.
func TestThreeProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				e := storetest.Env{Engine: engine, Database: "sqlite:" + filepath.Join(t.TempDir(), "vedette.db")}
				if engine == "postgres" {
					e.Database = testenv.Postgres(t)
				}
				stores := []*store.Store{e.Open(t), e.Open(t), e.Open(t)}
				var wg sync.WaitGroup
				for i, s := range stores {
					wg.Go(func() {
						if err := s.Migrate(t.Context()); err != nil {
							t.Errorf("process %d: %v", i, err)
						}
					})
				}
				wg.Wait()
				for i, s := range stores {
					if n, err := s.CountUsers(t.Context()); err != nil || n != 0 {
						t.Errorf("process %d: got %d users, %v", i, n, err)
					}
				}
			}
		})
	}
}

// Several processes may find that there is no database yet, and each makes it.
func TestManyOpenANewDatabaseAtOnce(t *testing.T) {
	t.Parallel()
	sealer, err := seal.New(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		path := filepath.Join(t.TempDir(), "vedette.db")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := store.Open(t.Context(), store.Options{Database: "sqlite:" + path, Sealer: sealer})
				if err != nil {
					t.Error(err)
				} else if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// TestAForeignLockDelaysAndLosesNothing is FAULTS 29: another program holds the
// database's write lock.
func TestAForeignLockDelaysAndLosesNothing(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "sqlite")
	m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
	unlock := lock(t, e)
	recorded := make(chan error, 1)
	go func() {
		_, err := e.RecordResults(t.Context(), []uptime.CheckResult{storetest.Result(m, 0, up)}, manager.Decide)
		recorded <- err
	}()
	if _, err := e.Store.Monitor(t.Context(), 0, m.ID); err != nil {
		t.Errorf("a read beside the lock: %v", err)
	}
	select {
	case err := <-recorded:
		t.Fatalf("recorded beside a foreign lock: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	unlock()
	if err := <-recorded; err != nil {
		t.Errorf("after the lock: %v", err)
	}
	if n := len(results(t, e, m)); n != 1 {
		t.Errorf("got %d results, want 1", n)
	}
}

// lock takes SQLite's write lock as another program would.
func lock(t *testing.T, e storetest.Env) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(e.Database, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if _, err := conn.ExecContext(context.WithoutCancel(t.Context()), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestACallerWhoLeavesIsNotKept: waiting for the one writer ends with the context.
func TestACallerWhoLeavesIsNotKept(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "sqlite")
	unlock := lock(t, e)
	defer unlock()
	busy := make(chan struct{})
	go func() { // it has the writer, and waits for the lock
		defer close(busy)
		_ = e.SetProgress(context.WithoutCancel(t.Context()), "a", uptime.Now())
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	for ctx.Err() == nil {
		if err := e.SetProgress(ctx, "b", uptime.Now()); !uptime.Is(err, uptime.Unavailable) {
			t.Errorf("got %v, want Unavailable", err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to leave", took)
	}
	unlock()
	<-busy
}

// TestARestartOfPostgreSQLIsUnavailableAndThenOver is FAULTS 32.
func TestARestartOfPostgreSQLIsUnavailableAndThenOver(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	e := storetest.Env{Engine: "postgres", Database: server.URL}
	e.Store = e.Open(t)
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
	server.Stop()
	_, err := e.RecordResults(t.Context(), []uptime.CheckResult{storetest.Result(m, 0, up)}, manager.Decide)
	if !uptime.Is(err, uptime.Unavailable) {
		t.Errorf("while it is away: got %v, want Unavailable", err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if got := e.Record(t, manager.Decide, storetest.Result(m, 0, up)); got[0].State.Verdict != up {
		t.Errorf("after its return: got %+v", got)
	}
}

// TestARepeatAfterALostAnswerToACommitHasNoEffect is FAULTS 28: the connection ends
// after each COMMIT was carried out and before its maker knows.
func TestARepeatAfterALostAnswerToACommitHasNoEffect(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "postgres")
	owner := e.User(t, "a@example.org").ID
	channels(t, e, owner, "one")
	m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 2 })
	u, err := url.Parse(e.Database)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewProxy(t, u.Host)
	u.Host = proxy.Addr
	far := storetest.Env{Engine: e.Engine, Database: u.String()}
	far.Store = far.Open(t)
	lost := 0
	lose := func(what string, fn func() error) error {
		t.Helper()
		proxy.LoseReplyTo("commit\x00")
		err := fn()
		if lost++; proxy.Lost() != lost {
			t.Fatalf("%s: %d answers were lost by now, want %d", what, proxy.Lost(), lost)
		}
		return err
	}

	recorder := incident.NewRecorder(incident.RecorderOptions{Store: far.Store})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = recorder.Run(ctx) })
	defer running.Wait()
	defer stop()
	verdicts := []uptime.Verdict{up, down, down, down, down, up}
	for i, v := range verdicts {
		err := lose(fmt.Sprint("result ", i), func() error {
			_, err := recorder.Record(t.Context(), storetest.Result(m, i, v))
			return err
		})
		if err != nil {
			t.Fatalf("result %d: %v", i, err)
		}
	}
	if n := len(results(t, e, m)); n != len(verdicts) {
		t.Errorf("got %d results, want %d", n, len(verdicts))
	}
	in := incidents(t, e, m)
	if confirmed := storetest.Result(m, 3, down); len(in) != 1 || in[0].Open() || !in[0].ConfirmedAt.Equal(confirmed.StartedAt.Add(confirmed.Duration)) {
		t.Fatalf("got %+v, want one incident, confirmed by the third failure and resolved", in)
	}
	refold(t, e, m, "after the repeats")
	told := alerts(t, e)
	if len(told) != 2 {
		t.Fatalf("got %d alerts, want 2", len(told))
	}

	// Its lease is over at once, as it is when a notifier comes back to a claim that it
	// does not know to have.
	terms := uptime.ClaimTerms{Lease: time.Microsecond, Limit: 9, PerChannel: 9}
	unknown := func(what string, err error) {
		t.Helper()
		if !uptime.Is(err, uptime.Unavailable) {
			t.Fatalf("%s: got %v, want Unavailable", what, err)
		}
	}
	unknown("routing", lose("routing", func() error { _, err := far.RouteAlerts(t.Context(), told, terms, route); return err }))
	if again := routeAlerts(t, far, terms, told...); len(again) != 0 {
		t.Errorf("routed again: %+v", again)
	}
	unknown("claiming", lose("claiming", func() error { _, err := far.ClaimDeliveries(t.Context(), terms); return err }))
	claims, err := far.ClaimDeliveries(t.Context(), terms)
	if err != nil || len(claims) != 1 || claims[0].Alert.Kind != uptime.AlertOpened || claims[0].Attempt != 3 {
		t.Fatalf("claimed %+v, %v, want the opening for the third time", claims, err)
	}
	done := uptime.SendResult{Status: uptime.DeliveryDelivered, Attempt: uptime.DeliveryAttempt{Outcome: uptime.OutcomeAccepted}}
	unknown("finishing", lose("finishing", func() error { return far.FinishDelivery(t.Context(), claims[0], done) }))
	if err := far.FinishDelivery(t.Context(), claims[0], done); !uptime.Is(err, uptime.Conflict) {
		t.Errorf("finished again: got %v, want Conflict", err)
	}
	d, err := e.Delivery(t.Context(), owner, claims[0].Delivery.ID)
	if err != nil || d.Status != uptime.DeliveryDelivered || len(d.Log) != 3 || d.Log[1].Outcome != uptime.OutcomeUnknown || d.Log[2].Outcome != uptime.OutcomeAccepted {
		t.Errorf("got %+v, %v, want delivered by the third attempt", d, err)
	}
	_, timeline, deliveries, err := e.Incident(t.Context(), owner, in[0].ID)
	if err != nil || len(deliveries) != 2 || len(timeline) != 3 {
		t.Errorf("got %d deliveries and the timeline %+v, %v, want 2, and opened, resolved and delivered", len(deliveries), timeline, err)
	}
}

// TestATransactionThatWasRolledBackIsRepeatedFromItsBeginning is FAULTS 32: each
// write of an outage and of telling about it meets a conflict once. Nothing that a
// failed try learnt may be left.
func TestATransactionThatWasRolledBackIsRepeatedFromItsBeginning(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{"serialisation failure": "40001", "deadlock": "40P01"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := storetest.New(t, "postgres")
			owner := e.User(t, "a@example.org").ID
			channels(t, e, owner, "one", "two")
			m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
			writes := []string{"monitor_states UPDATE", "incidents INSERT", "incident_events INSERT", "alerts INSERT", "events INSERT", "deliveries INSERT",
				"delivery_attempts INSERT", "alerts UPDATE", "delivery_attempts UPDATE", "deliveries UPDATE"}
			e.Record(t, manager.Decide, storetest.Result(m, 0, up))
			for _, w := range writes {
				table, event, _ := strings.Cut(w, " ")
				fail := "fail_" + table + "_" + event
				execute(t, e, `CREATE SEQUENCE `+fail)
				execute(t, e, `CREATE FUNCTION `+fail+`() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
 IF nextval('`+fail+`') = 1 THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '`+code+`'; END IF; RETURN NEW; END $$`)
				execute(t, e, `CREATE TRIGGER `+fail+` BEFORE `+event+` ON `+table+` FOR EACH ROW EXECUTE FUNCTION `+fail+`()`)
			}

			recorded := e.Record(t, manager.Decide, storetest.Result(m, 1, down))
			in := incidents(t, e, m)
			if len(recorded[0].AlertIDs) != 1 || recorded[0].State.Verdict != down || len(in) != 1 {
				t.Fatalf("recorded %+v, incidents %+v, want one incident and one alert", recorded, in)
			}
			terms := uptime.ClaimTerms{Lease: time.Minute, Limit: 9, PerChannel: 9}
			claims := routeAlerts(t, e, terms, recorded[0].AlertIDs...)
			if len(claims) != 2 || claims[0].Delivery.ChannelID == claims[1].Delivery.ChannelID {
				t.Fatalf("claimed %+v, want one for each channel", claims)
			}
			for _, c := range claims {
				if err := e.FinishDelivery(t.Context(), c, uptime.SendResult{Status: uptime.DeliveryDelivered}); err != nil {
					t.Errorf("finish: %v", err)
				}
			}
			_, timeline, told, err := e.Incident(t.Context(), owner, in[0].ID)
			if err != nil || len(timeline) != 3 || len(told) != 2 || told[0].Attempts != 1 {
				t.Errorf("got the timeline %+v and deliveries %+v, %v, want opened and two delivered", timeline, told, err)
			}
			for _, w := range writes {
				table, event, _ := strings.Cut(w, " ")
				execute(t, e, `DO $$ BEGIN IF (SELECT last_value FROM fail_`+table+`_`+event+`) < 2 THEN RAISE 'no conflict met'; END IF; END $$`)
			}
		})
	}
}
