package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"vedette/internal/uptime"
)

// rollupProgress names the instant up to which hours are closed and rolled up.
const rollupProgress = "rollup"

// An hour is closed when its last results can no longer come in: the longest
// timeout and confirmation are minutes.
const rollupDelay = 15 * time.Minute

// purgeRows bounds one deletion, so that checks are recorded between two: about
// 20 ms of SQLite.
const purgeRows = 5000

// Upkeep makes partitions ahead, rolls closed hours up and deletes what is past its
// time, in small steps. Any number of processes may call it; a step done twice
// changes nothing. It stops between steps when ctx ends.
func (s *Store) Upkeep(ctx context.Context) error {
	now := uptime.Now()
	for _, step := range []func(context.Context, time.Time) error{s.makePartitions, s.rollUp, s.purgeResults, s.purgeRest} {
		if err := step(ctx, now); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// rollUp closes every hour that is over, oldest first, and with the last of a day
// the day.
func (s *Store) rollUp(ctx context.Context, now time.Time) error {
	done, err := s.Progress(ctx, rollupProgress)
	if err != nil {
		return err
	}
	if done.IsZero() {
		if done, err = s.firstResult(ctx); err != nil || done.IsZero() {
			return err
		}
		done = done.Truncate(time.Hour)
	}
	for end := done.Add(time.Hour); !end.After(now.Add(-rollupDelay)) && ctx.Err() == nil; end = end.Add(time.Hour) {
		hour, err := s.tallies(ctx, end.Add(-time.Hour), end)
		if err != nil {
			return err
		}
		ahead, err := s.Progress(ctx, rollupProgress)
		if err != nil {
			return err
		}
		if !ahead.Before(end) { // another process closed it, and may have deleted what was to be read here
			end = ahead
			continue
		}
		if err := s.saveTallies(ctx, time.Hour, end.Add(-time.Hour), hour); err != nil {
			return err
		}
		if end.Truncate(24 * time.Hour).Equal(end) {
			if err := s.rollUpDay(ctx, end.AddDate(0, 0, -1)); err != nil {
				return err
			}
		}
		if err := s.SetProgress(ctx, rollupProgress, end); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) rollUpDay(ctx context.Context, day time.Time) error {
	hours, err := s.rollups(ctx, 0, time.Hour, day, day.AddDate(0, 0, 1))
	if err != nil {
		return err
	}
	sums := map[int64]*tally{}
	for _, byMonitor := range hours {
		for id, t := range byMonitor {
			if sums[id] == nil {
				sums[id] = &tally{}
			}
			sums[id].merge(t)
		}
	}
	return s.saveTallies(ctx, 24*time.Hour, day, sums)
}

func (s *Store) firstResult(ctx context.Context) (at time.Time, err error) {
	err = s.query(ctx, "find the first result", `SELECT coalesce(min(scheduled_at), 0) FROM check_results`, nil, func(r row) error {
		var us int64
		err := r.Scan(&us)
		at = instant(us)
		return err
	})
	return at, err
}

// purgeResults deletes raw results that are past their time: whole days in
// PostgreSQL, a stretch at the front of the table in SQLite.
func (s *Store) purgeResults(ctx context.Context, now time.Time) error {
	limit := now.Add(-s.opts.KeepResults)
	if s.d.postgres() {
		if err := s.dropPartitions(ctx, limit); err != nil {
			return err
		}
		return s.purge(ctx, `DELETE FROM check_evidence WHERE ctid IN (SELECT ctid FROM check_evidence WHERE scheduled_at < $1 LIMIT $2)`, limit)
	}
	for _, table := range []string{"check_results", "check_evidence"} {
		q := fmt.Sprintf(`DELETE FROM %[1]s WHERE (scheduled_at, monitor_id, region_id, attempt) IN
 (SELECT scheduled_at, monitor_id, region_id, attempt FROM %[1]s WHERE scheduled_at < $1 ORDER BY scheduled_at LIMIT $2)`, table)
		if err := s.purge(ctx, q, limit); err != nil {
			return err
		}
	}
	return nil
}

// purge runs a bounded deletion until it finds nothing more. After each it lets
// the recorder go first, for as long as the deletion took.
func (s *Store) purge(ctx context.Context, q string, limit time.Time) error {
	for ctx.Err() == nil {
		var n int64
		begin := time.Now()
		err := s.tx(ctx, "purge", func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = affected(tx.ExecContext(ctx, q, micro(limit), purgeRows))
			return err
		})
		if err != nil || n < purgeRows {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Since(begin)):
		}
	}
	return nil
}

// dropPartitions takes each day that is over off the table, which waits for those who
// read it and keeps nobody waiting, and then drops it. Whoever ends or gives up between
// leaves a day half off, or off and not dropped: the next finishes both.
func (s *Store) dropPartitions(ctx context.Context, limit time.Time) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return s.fail("drop partitions", err)
	}
	defer conn.Close()
	// Two at once would take the same day off, and one of them fail. The lock is the
	// session's: a transaction would be waited for by the statements that it guards.
	alone := false
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, lockDrops).Scan(&alone); err != nil || !alone {
		return s.fail("drop partitions", err)
	}
	err = s.dropPartitionsOn(ctx, conn, limit)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	_, unlocked := conn.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, lockDrops)
	return s.fail("drop partitions", errors.Join(err, unlocked))
}

func (s *Store) dropPartitionsOn(ctx context.Context, conn *sql.Conn, limit time.Time) error {
	var stmts []string
	err := queryOn(ctx, conn, selectPartitions, nil, func(r row) error {
		var name, detach string
		err := r.Scan(&name, &detach)
		day, e := time.Parse("check_results_20060102", name)
		if e != nil || day.AddDate(0, 0, 1).After(limit) {
			return err
		}
		if detach != "" {
			stmts = append(stmts, `ALTER TABLE check_results DETACH PARTITION `+name+` `+detach) // our own names, parsed above
		}
		stmts = append(stmts, `DROP TABLE `+name)
		return err
	})
	for _, stmt := range stmts {
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = conn.ExecContext(ctx, stmt)
		cancel()
		err = wrap(stmt, err)
	}
	return err
}

// selectPartitions names the days and what takes each off the table, if it is on it:
// the one that is half off first, for there can be only one.
const selectPartitions = `SELECT c.relname, CASE WHEN h.inhrelid IS NULL THEN '' WHEN h.inhdetachpending THEN 'FINALIZE' ELSE 'CONCURRENTLY' END
 FROM pg_class c LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
 WHERE c.relkind = 'r' AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'check_results'::regclass) AND c.relname LIKE 'check\_results\_%'
 ORDER BY h.inhdetachpending DESC NULLS LAST`

// purgeRest deletes hourly figures, live events, expired credentials and what was
// kept to answer repeats.
func (s *Store) purgeRest(ctx context.Context, now time.Time) error {
	for _, p := range []struct {
		q    string
		keep time.Duration
	}{
		{`DELETE FROM rollups WHERE step = 3600 AND start < $1`, s.opts.KeepHourly},
		{`DELETE FROM events WHERE at < $1`, 24 * time.Hour},
		{`DELETE FROM idempotency WHERE created_at < $1`, 24 * time.Hour},
		{`DELETE FROM attempt_counters WHERE window_start < $1`, 24 * time.Hour},
		{`DELETE FROM sessions WHERE expires_at < $1`, 0},
		{`DELETE FROM pings WHERE at < $1`, s.opts.KeepResults},
		{`DELETE FROM deaf_spans WHERE ended_at < $1`, keepDeafSpans},
	} {
		err := s.tx(ctx, "purge", func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, p.q, micro(now.Add(-p.keep)))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
