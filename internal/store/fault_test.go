package store_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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
