package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/incident"
	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

const day = 24 * time.Hour

// What storetest's stores keep: the defaults of store.Options.
const (
	keepResults = 30 * day
	keepHourly  = 397 * day
)

// read is the one column of q's rows.
func read[T any](t *testing.T, e storetest.Env, q string, args ...any) (out []T) {
	t.Helper()
	db := open(t, e)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), q, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// sizes are the numbers of rows of every table.
func sizes(t *testing.T, e storetest.Env) map[string]int64 {
	t.Helper()
	q := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if e.Engine == "postgres" {
		q = `SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace`
	}
	var counts []string // in one query: a connection for each takes longer than counting
	for _, table := range read[string](t, e, q) {
		counts = append(counts, fmt.Sprintf(`SELECT concat('%[1]s ', count(*)) FROM %[1]s`, table))
	}
	out := map[string]int64{}
	for _, line := range read[string](t, e, strings.Join(counts, " UNION ALL ")) {
		table, n, _ := strings.Cut(line, " ")
		count, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[table] = count
	}
	return out
}

// makeDay makes the partition that at falls in, as it was made when at was the future.
func makeDay(t *testing.T, e storetest.Env, at time.Time) (name string) {
	t.Helper()
	from := at.UTC().Truncate(day)
	name = "check_results_" + from.Format("20060102")
	if e.Engine == "postgres" {
		execute(t, e, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s PARTITION OF check_results FOR VALUES FROM (%d) TO (%d)`, name, from.UnixMicro(), from.Add(day).UnixMicro()))
	}
	return name
}

func days(t *testing.T, e storetest.Env) []string {
	t.Helper()
	return read[string](t, e, `SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'check_results_%' ORDER BY relname`)
}

func upkeep(t *testing.T, e storetest.Env) {
	t.Helper()
	if err := e.Upkeep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// rolledUp says that every hour before at is closed, so that none is looked for.
func rolledUp(t *testing.T, e storetest.Env, at time.Time) {
	t.Helper()
	if err := e.SetProgress(t.Context(), "rollup", at.Truncate(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// resultAt is what was found at an instant that need be no slot.
func resultAt(m uptime.Monitor, at time.Time, v uptime.Verdict) uptime.CheckResult {
	r := storetest.Result(m, 0, v)
	r.ScheduledAt, r.DequeuedAt, r.StartedAt = at, at, at
	return r
}

// TestUpkeepDeletesWhatIsPastItsTimeAndNothingElse has rows on both sides of every
// limit, and looks at all tables. The margins outlast the test.
func TestUpkeepDeletesWhatIsPastItsTimeAndNothingElse(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
		now := uptime.Now()
		kept := now.Add(-keepResults + 10*time.Minute)
		gone := now.Add(-keepResults).Truncate(day).Add(-time.Microsecond) // the last of a day that is past it
		for _, at := range []time.Time{gone, kept} {
			makeDay(t, e, at)
			e.Record(t, manager.Decide, resultAt(m, at, down), resultAt(m, at.Add(-time.Microsecond), unknown))
		}
		rolledUp(t, e, now)
		const rollup = `INSERT INTO rollups (monitor_id, step, start, up, degraded, down, unknown, sum_us, histogram) VALUES (1, $1, $2, 1, 0, 0, 0, 1, '{}')`
		for _, back := range []time.Duration{keepHourly - 10*time.Minute, keepHourly + time.Second} {
			execute(t, e, rollup, 3600, now.Add(-back).UnixMicro())
			execute(t, e, rollup, 86400, now.Add(-back).UnixMicro())
		}
		for _, back := range []time.Duration{day - 10*time.Minute, day + time.Second} {
			at := now.Add(-back).UnixMicro()
			execute(t, e, `INSERT INTO events (at, owner_id, type) VALUES ($1, 1, 'monitor.updated')`, at)
			execute(t, e, `INSERT INTO idempotency (user_id, key, fingerprint, status, body, created_at) VALUES (1, $2, '', 201, '', $1)`, at, fmt.Sprint(back))
			execute(t, e, `INSERT INTO attempt_counters (key, window_start, count) VALUES ($2, $1, 1)`, at, fmt.Sprint(back))
			execute(t, e, `INSERT INTO sessions (user_id, token_hash, created_at, seen_at, expires_at) VALUES ($3, $2, 1, 1, $1)`, at+(day-time.Minute).Microseconds(), fmt.Sprint(back), m.OwnerID)
		}
		before := sizes(t, e)
		upkeep(t, e)

		got, want := sizes(t, e), maps.Clone(before)
		for table, n := range map[string]int64{"check_results": 2, "check_evidence": 2, "rollups": 1, "events": 1, "idempotency": 1, "attempt_counters": 1, "sessions": 1} {
			want[table] -= n
		}
		if !maps.Equal(got, want) {
			t.Errorf("got  %v\nwant %v\nfrom %v", got, want, before)
		}
		limit := now.Add(-keepResults).UnixMicro()
		for _, table := range []string{"check_results", "check_evidence"} {
			if old := read[int64](t, e, `SELECT scheduled_at FROM `+table+` WHERE scheduled_at < $1`, limit); len(old) != 0 {
				t.Errorf("%s has rows of %d, before the limit %d", table, old, limit)
			}
		}
		if n := read[int64](t, e, `SELECT count(*) FROM rollups WHERE step = 86400`)[0]; n != 2 {
			t.Errorf("got %d daily figures, want both", n)
		}
		in := incidents(t, e, m)
		if len(in) != 1 || !in[0].Open() || in[0].Opening == nil || in[0].Opening.Status != 503 {
			t.Errorf("got %+v, want the incident open with its evidence, though the result that opened it is gone", in)
		}
		if e.Engine == "postgres" {
			all := days(t, e)
			if name := "check_results_" + gone.Format("20060102"); slices.Contains(all, name) || !slices.Contains(all, makeDay(t, e, kept)) {
				t.Errorf("got the days %v, want %s dropped and the next one there", all, name)
			}
		}
	})
}

// TestRetentionGoesInBatches has the deletion fail at a row near the end: what was
// deleted before stays so, but for less than a batch, and the next run goes on.
func TestRetentionGoesInBatches(t *testing.T) {
	t.Parallel()
	const rows, bad, batch = 12_000, 11_000, 5_000
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		old := uptime.Now().Add(-keepResults - day).UnixMicro()
		rolledUp(t, e, uptime.Now())
		execute(t, e, `WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 11999)
 INSERT INTO check_evidence (scheduled_at, monitor_id, region_id, attempt, message, evidence) SELECT CAST($1 AS BIGINT) + i, 1, 0, 0, 'x', '' FROM n`, old)
		refuse, allow := `CREATE TRIGGER refuse BEFORE DELETE ON check_evidence WHEN old.scheduled_at = %d BEGIN SELECT RAISE(ABORT, 'refused'); END`, `DROP TRIGGER refuse`
		if e.Engine == "postgres" {
			execute(t, e, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$`)
			refuse = `CREATE TRIGGER refuse BEFORE DELETE ON check_evidence FOR EACH ROW WHEN (old.scheduled_at = %d) EXECUTE FUNCTION refuse()`
			allow += ` ON check_evidence`
		}
		execute(t, e, fmt.Sprintf(refuse, old+bad))
		if err := e.Upkeep(t.Context()); err == nil {
			t.Fatal("the deletion of a row was refused, and upkeep did not tell")
		}
		count := func() int64 { return read[int64](t, e, `SELECT count(*) FROM check_evidence`)[0] }
		if n := rows - count(); n < bad-batch || n > bad {
			t.Errorf("%d rows were deleted when row %d was refused, want all but a batch of at most %d", n, bad, batch)
		}
		execute(t, e, allow)
		upkeep(t, e)
		if n := count(); n != 0 {
			t.Errorf("%d rows are left by the run after, want none", n)
		}
	})
}

// TestARunOfUpkeepDoesNotDelayRecording is FAULTS 31: results are recorded while
// 200,000 others are deleted. In one transaction the deletion would keep a recording
// waiting for as long as it takes; in batches none waits for more than a part of it.
func TestARunOfUpkeepDoesNotDelayRecording(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "sqlite")
	m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
	execute(t, e, `WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 199999)
 INSERT INTO check_results SELECT $1 + i, 1, 0, 0, 0, 1, '', 1, 0, 0, 1000, 0, 0, 0, 0, 0 FROM n`, uptime.Now().Add(-keepResults-day).UnixMicro())
	rolledUp(t, e, uptime.Now())
	slot := 0
	record := func() time.Duration {
		began := time.Now()
		e.Record(t, manager.Decide, storetest.Result(m, slot, up))
		slot++
		return time.Since(began)
	}
	record() // the first is decided upon
	var alone, beside []time.Duration
	for range 200 {
		alone = append(alone, record())
	}
	var took time.Duration
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		err := e.Upkeep(t.Context())
		took = time.Since(began)
		done <- err
	}()
	for running := true; running; {
		beside = append(beside, record())
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
	}
	if n := read[int64](t, e, `SELECT count(*) FROM check_results`)[0]; n != int64(slot) {
		t.Errorf("got %d results, want the %d that were recorded", n, slot)
	}
	slices.Sort(alone)
	slices.Sort(beside)
	longest, median := beside[len(beside)-1], beside[len(beside)/2]
	t.Logf("deleting took %s; meanwhile %d recordings, median %s (alone %s), longest %s", took, len(beside), median, alone[100], longest)
	if longest > took/2 || median > took/20 {
		t.Errorf("a recording took up to %s, half of them %s or more, while the deletion took %s", longest, median, took)
	}
}

// TestRollUpsAreWhatWasCountedByHand closes a day of two monitors. The bounds of a
// histogram are 100 µs · 1.2ⁿ: 10 ms is in bucket 26, 20 ms in 30, 30 ms in 32.
func TestRollUpsAreWhatWasCountedByHand(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m, other := e.Monitor(t, owner, nil), e.Monitor(t, owner, nil)
		start := uptime.Now().Truncate(day).Add(-2 * day) // closed, whenever this runs
		at := func(m uptime.Monitor, after time.Duration, v uptime.Verdict, took time.Duration) uptime.CheckResult {
			r := resultAt(m, start.Add(after), v)
			r.Duration = took
			return r
		}
		confirmation, manual, gap := at(m, 5*time.Hour+3*time.Second, down, time.Second), at(m, 5*time.Hour+5*time.Second, up, 20*time.Millisecond), at(m, 5*time.Hour+6*time.Second, unknown, 0)
		confirmation.Attempt, manual.Kind, gap.Kind = 1, uptime.KindManual, uptime.KindGap
		keep := func(f uptime.Facts) uptime.Change { return uptime.Change{State: f.State} }
		e.Record(t, keep, at(m, 5*time.Hour-time.Microsecond, up, time.Millisecond), // the last of hour 4
			at(m, 5*time.Hour, up, 10*time.Millisecond), at(m, 5*time.Hour+time.Second, degraded, 30*time.Millisecond),
			at(m, 5*time.Hour+3*time.Second, down, time.Second), confirmation, at(m, 5*time.Hour+4*time.Second, unknown, 0), manual, gap,
			at(m, 24*time.Hour-time.Microsecond, up, 100*time.Microsecond), at(other, 5*time.Hour, up, 10*time.Millisecond))
		rows := func() []string {
			return read[string](t, e, `SELECT concat_ws(' ', monitor_id, step, (start - $1) / 3600000000, up, degraded, down, unknown, sum_us, histogram) FROM rollups
 ORDER BY monitor_id, step, start`, start.UnixMicro())
		}
		upkeep(t, e)
		line := func(m uptime.Monitor, text string) string { return fmt.Sprintf("%d %s", m.ID, text) }
		want := []string{
			line(m, `3600 4 1 0 0 0 1000 {"13":1}`), line(m, `3600 5 2 1 1 1 60000 {"26":1,"30":1,"32":1}`), line(m, `3600 23 1 0 0 0 100 {"0":1}`),
			line(m, `86400 0 4 1 1 1 61100 {"0":1,"13":1,"26":1,"30":1,"32":1}`),
			line(other, `3600 5 1 0 0 0 10000 {"26":1}`), line(other, `86400 0 1 0 0 0 10000 {"26":1}`),
		}
		if got := rows(); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		execute(t, e, `DELETE FROM progress`) // as if the process had ended before it noted its progress
		upkeep(t, e)
		if got := rows(); !slices.Equal(got, want) {
			t.Errorf("done again: got  %q\nwant %q", got, want)
		}
		b, err := e.Buckets(t.Context(), owner, m.ID, start, start.Add(day), day)
		if err != nil || len(b) != 1 || b[0].Up != 4 || b[0].Degraded != 1 || b[0].Down != 1 || b[0].Unknown != 1 || b[0].MeanMicro != 61100/5 {
			t.Fatalf("got %+v, %v, want the day's figure", b, err)
		}
		for what, off := range map[string]float64{"median": float64(b[0].P50Micro) / 10_000, "99th percentile": float64(b[0].P99Micro) / 30_000} {
			if off < 0.9 || off > 1.1 {
				t.Errorf("the %s is %.2f of what it should be, want it within 10%%: %+v", what, off, b[0])
			}
		}
	})
}

// TestASlowProcessLeavesClosedHoursAlone keeps one process waiting for the results of
// an hour until another has closed it and deleted them: what it then reads is less.
func TestASlowProcessLeavesClosedHoursAlone(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "postgres")
	m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
	hour := uptime.Now().Truncate(time.Hour).Add(-2 * time.Hour)
	e.Record(t, manager.Decide, resultAt(m, hour.Add(time.Minute), up), resultAt(m, hour.Add(2*time.Minute), up))
	rolledUp(t, e, hour)
	db := open(t, e)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE check_results`); err != nil {
		t.Fatal(err)
	}
	slow := make(chan error, 1)
	go func() { slow <- e.Upkeep(t.Context()) }()
	for len(read[int64](t, e, `SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'check_results'::regclass`)) == 0 {
		select {
		case err := <-slow:
			t.Fatalf("it did not wait for the table: %v", err)
		default:
		}
	}
	for _, q := range []string{`DELETE FROM check_results WHERE scheduled_at < $1`,
		`INSERT INTO rollups SELECT monitor_id, 3600, CAST($1 AS BIGINT) - 120000000, 2, 0, 0, 0, 24690, '{}' FROM monitor_states`,
		`UPDATE progress SET at = CAST($1 AS BIGINT) + 3480000000 WHERE name = 'rollup'`} {
		if _, err := tx.ExecContext(t.Context(), q, hour.Add(2*time.Minute).UnixMicro()); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	if got := read[int64](t, e, `SELECT up FROM rollups WHERE step = 3600 AND start = $1`, hour.UnixMicro()); !slices.Equal(got, []int64{2}) {
		t.Errorf("got %v, want the figure of 2 that the faster process wrote", got)
	}
}

// TestAnHourWaitsForItsLateResults: it is closed a quarter of an hour after its end,
// and what comes until then is counted; what comes later is kept, and is in no figure.
func TestAnHourWaitsForItsLateResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := storetest.New(t, "sqlite")
		m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
		hour := uptime.Now().Truncate(time.Hour)
		till := func(after time.Duration) { time.Sleep(time.Until(hour.Add(after))) } // in the bubble, no time at all
		counted := func() []int64 {
			t.Helper()
			upkeep(t, e)
			return read[int64](t, e, `SELECT up FROM rollups WHERE step = 3600`)
		}
		e.Record(t, manager.Decide, resultAt(m, hour.Add(30*time.Minute), up))
		till(75*time.Minute - time.Second)
		if got := counted(); len(got) != 0 {
			t.Errorf("the hour was closed before its time: %v", got)
		}
		e.Record(t, manager.Decide, resultAt(m, hour.Add(59*time.Minute), up))
		till(75 * time.Minute)
		if got := counted(); !slices.Equal(got, []int64{2}) {
			t.Errorf("closed: got %v, want both results", got)
		}
		e.Record(t, manager.Decide, resultAt(m, hour.Add(58*time.Minute), up))
		if got := counted(); !slices.Equal(got, []int64{2}) {
			t.Errorf("after its time: got %v, want the figure as it was", got)
		}
		if n := read[int64](t, e, `SELECT count(*) FROM check_results`)[0]; n != 3 {
			t.Errorf("got %d results, want all 3 kept", n)
		}
	})
}

// TestDaysAreMadeAhead deletes what Migrate made, as seven days without a process
// would, and has four processes make it again at once.
func TestDaysAreMadeAhead(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "postgres")
	m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
	expect := func(when string) {
		t.Helper()
		today, got := uptime.Now().Truncate(day), days(t, e)
		for n := -2; n <= 7; n++ {
			if name := "check_results_" + today.AddDate(0, 0, n).Format("20060102"); !slices.Contains(got, name) {
				t.Errorf("%s: %s is not among %v", when, name, got)
			}
		}
	}
	expect("migrated")
	for _, name := range days(t, e) {
		execute(t, e, `DROP TABLE `+name)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		s := e.Open(t)
		wg.Go(func() {
			if err := s.Upkeep(t.Context()); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	expect("made again")
	now := uptime.Now()
	e.Record(t, manager.Decide, resultAt(m, now, up), resultAt(m, now.Add(day), up), resultAt(m, now.Add(-day), up))
}

// TestAResultOlderThanEveryDayIsRefusedAlone: it tells its caller, and is in nobody's way.
func TestAResultOlderThanEveryDayIsRefusedAlone(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "postgres")
	m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
	recorder := incident.NewRecorder(incident.RecorderOptions{Store: e.Store})
	ctx, stop := context.WithCancel(t.Context())
	var running, callers sync.WaitGroup
	running.Go(func() { _ = recorder.Run(ctx) })
	defer running.Wait()
	defer stop()
	const good = 20
	for n := range good + 1 {
		r := storetest.Result(m, n, up)
		if n == good/2 {
			r = resultAt(m, uptime.Now().Add(-keepResults), up)
		}
		callers.Go(func() { // together, so that they are of one batch
			_, err := recorder.Record(t.Context(), r)
			if refused := err != nil; refused != (n == good/2) || uptime.Is(err, uptime.Unavailable) {
				t.Errorf("result %d: got %v, want only number %d refused, and the database not blamed", n, err, good/2)
			}
		})
	}
	callers.Wait()
	if n := read[int64](t, e, `SELECT count(*) FROM check_results`)[0]; n != good {
		t.Errorf("got %d results, want %d", n, good)
	}
}

// TestADayThatIsHalfOffIsDropped: a process that ended, or waited for a reader in
// vain, has left one day half off the table, and another off it and not dropped.
// Four processes at once find them, and five that are whole.
func TestADayThatIsHalfOffIsDropped(t *testing.T) {
	t.Parallel()
	e := storetest.New(t, "postgres")
	rolledUp(t, e, uptime.Now())
	kept := days(t, e)
	var old []string
	for n := range 7 {
		old = append(old, makeDay(t, e, uptime.Now().Add(-keepResults-time.Duration(n+2)*day)))
	}
	execute(t, e, `ALTER TABLE check_results DETACH PARTITION `+old[5])
	reader := open(t, e)
	defer reader.Close()
	tx, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `SELECT count(*) FROM check_results`); err != nil {
		t.Fatal(err)
	}
	impatient := open(t, e)
	defer impatient.Close()
	impatient.SetMaxOpenConns(1)
	if _, err := impatient.ExecContext(t.Context(), `SET lock_timeout = 100`); err != nil {
		t.Fatal(err)
	}
	if _, err := impatient.ExecContext(t.Context(), `ALTER TABLE check_results DETACH PARTITION `+old[3]+` CONCURRENTLY`); err == nil {
		t.Fatal("a day was taken off the table under its reader")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if half := read[bool](t, e, `SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::text::regclass`, old[3]); !slices.Equal(half, []bool{true}) {
		t.Fatalf("half off: got %v, want true", half)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		s := e.Open(t)
		wg.Go(func() {
			if err := s.Upkeep(t.Context()); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := days(t, e); !slices.Equal(got, kept) {
		t.Errorf("got the days %v, want %v", got, kept)
	}
}
