package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"vedette/internal/testenv"
)

// TestAForeignLockOnTheDatabaseIsNobodysOutage is FAULTS 29: another program takes
// SQLite's write lock for ten seconds while a hundred monitors are checked every one.
func TestAForeignLockOnTheDatabaseIsNobodysOutage(t *testing.T) {
	t.Parallel()
	tg := newTarget(t)
	c := embedded(t, testenv.SMTP(t).URL())
	ids := make([]int64, 100)
	for i := range ids {
		ids[i] = c.monitor(fmt.Sprint("Shop ", i), tg.URL)
	}
	c.until(ids[len(ids)-1], "up")

	data, _ := strings.CutPrefix(c.env[len(c.env)-2], "VEDETTE_DATA=")
	db, err := sql.Open("sqlite", filepath.Join(data, "vedette.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fresh := command(t, c.env, "", "api-key", "create", "--user", adminEmail)
	if _, err := conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 10000; BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	c.key = fresh // whose first use cannot be noted now
	locked, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for locked.Err() == nil {
		if v := c.verdict(ids[0]); v == "down" || v == "" {
			t.Errorf("beside the lock the API says %q, want an answer that is not down", v)
		}
		select {
		case <-locked.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}

	seen := tg.hits.Load()
	eventually(t, 60*time.Second, "every monitor is checked again", func() bool { return tg.hits.Load() > seen+2*int64(len(ids)) })
	for _, id := range ids {
		c.until(id, "up")
	}
	c.neverDown(ids...)
}

// TestPostgreSQLMayCrashAgainAndAgain is FAULTS 32: ten crashes of the database (an
// immediate shutdown and a recovery), as many as fit, with one target that is well
// and one that breaks on the way.
func TestPostgreSQLMayCrashAgainAndAgain(t *testing.T) {
	t.Parallel()
	mail, hook, tg, well := testenv.SMTP(t), newReceiver(t), newTarget(t), newTarget(t)
	c := scaledBy(t, mail.URL(), 1)
	id := c.watch(tg, hook)
	healthy := c.monitor("Healthy", well.URL)
	c.until(healthy, "up")
	for round := range 10 {
		if round == 3 {
			tg.status.Store(http.StatusServiceUnavailable)
		}
		seen := well.hits.Load()
		if err := c.pg.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 60*time.Second, "checks go on", func() bool { return well.hits.Load() > seen })
	}
	n := news{t, c, mail, hook}
	n.settle(1, 0)
	c.until(id, "down")
	c.until(healthy, "up")
	c.neverDown(healthy)
	tg.status.Store(http.StatusOK)
	n.settle(1, 1)
}

// monitor watches url every second, without a channel of its own.
func (c *cluster) monitor(name, url string) int64 {
	c.t.Helper()
	var m struct {
		ID int64 `json:"id"`
	}
	c.must("POST", "/api/v1/monitors", object{"name": name, "type": "http", "target": url, "interval": "1s", "timeout": "900ms",
		"confirm": object{"failures": 1, "interval": "200ms", "successes": 1}, "enabled": true}, &m)
	return m.ID
}

// neverDown checks that no result of the monitors says down, and no incident.
func (c *cluster) neverDown(ids ...int64) {
	c.t.Helper()
	for _, id := range ids {
		if got := c.list(fmt.Sprintf("/api/v1/monitors/%d/incidents", id)); len(got) != 0 {
			c.t.Errorf("monitor %d: got incidents %v, want none", id, got)
		}
		for _, r := range c.list(fmt.Sprintf("/api/v1/monitors/%d/results?limit=200", id)) {
			if r["verdict"] == "down" {
				c.t.Errorf("monitor %d: got %v, want nothing down", id, r)
			}
		}
	}
}

// TestMigrationsMayMeetAndDie is FAULTS 33: three processes migrate an empty
// database at once, and one of them is killed, each round at another moment: in
// PostgreSQL in the midst of a statement's answer, in SQLite a little later than in
// the round before. Eight rounds and four fit; each leaves a whole schema.
func TestMigrationsMayMeetAndDie(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		for round := range 8 {
			data := filepath.Join(t.TempDir(), "data")
			victim := meet(t, []string{"VEDETTE_DATA=" + data})
			select {
			case <-victim.done:
			case <-time.After(time.Duration(round*12) * time.Millisecond):
			}
			victim.kill()
			whole(t, []string{"VEDETTE_DATA=" + data})
		}
	})
	for _, table := range []string{"goose_db_version", "users", "check_results", "delivery_attempts"} {
		t.Run("postgres "+table, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(testenv.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			key := "VEDETTE_KEY=" + strings.Repeat("A", 43) + "="
			env := []string{"VEDETTE_DATABASE=" + u.String(), key}
			proxy := testenv.NewProxy(t, u.Host)
			u.Host = proxy.Addr
			proxy.LoseReplyTo("CREATE TABLE " + table)
			victim := start(t, []string{"VEDETTE_DATABASE=" + u.String(), key}, "migrate")
			eventually(t, 30*time.Second, "the migration makes "+table, func() bool { return proxy.Lost() > 0 })
			others := meet(t, env)
			victim.kill()
			<-others.done
			whole(t, env)
		})
	}
}

// meet starts three migrations at once and returns one of them. The others have to
// succeed.
func meet(t *testing.T, env []string) *process {
	t.Helper()
	ps := []*process{start(t, env, "migrate"), start(t, env, "migrate"), start(t, env, "migrate")}
	t.Cleanup(func() {
		for _, p := range ps[1:] {
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("a migration beside others: exit status %d\n%s", code, p.output())
			}
		}
	})
	return ps[0]
}

// whole checks that the database can be migrated and used.
func whole(t *testing.T, env []string) {
	t.Helper()
	command(t, env, "", "migrate")
	command(t, env, adminPassword, "user", "create", "--email", adminEmail, "--password-stdin", "--role", "admin")
	command(t, env, "", "api-key", "create", "--user", adminEmail)
}
