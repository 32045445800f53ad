package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"vedette/internal/uptime"
)

// RecordResults: see incident.Store.
//
// A batch of plainly up results of steady monitors is two statements: the insert,
// and one question which of its monitors are not steady. The others are decided
// together, their states' rows locked in the order of ids.
func (s *Store) RecordResults(ctx context.Context, batch []uptime.CheckResult, decide func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, s.fail("prepare inserts", err)
	}
	rows := make([]resultRow, len(batch))
	for i := range batch {
		region, err := s.regionID(ctx, batch[i].Region)
		if err != nil {
			return nil, err
		}
		rows[i] = resultRow{r: &batch[i], region: region}
	}
	recorded, err := s.recordBatch(ctx, rows, decide, false)
	for tries := 1; errors.Is(err, errRepeats) && tries < 3; tries++ {
		recorded, err = s.recordBatch(ctx, rows, decide, true)
	}
	return recorded, err
}

// errRepeats says that a batch holds results which were stored before. It happens
// when a job was given on, or the answer to a commit was lost, and then the batch
// is done again with a look at each key first, which is too dear for every batch.
var errRepeats = errors.New("some of the results were stored before")

func (s *Store) recordBatch(ctx context.Context, rows []resultRow, decide func(uptime.Facts) uptime.Change, look bool) (recorded []uptime.Recorded, err error) {
	err = s.tx(ctx, "record results", func(ctx context.Context, tx *sql.Tx) error {
		recorded = make([]uptime.Recorded, len(rows))
		for i := range recorded {
			recorded[i].Quiet = true
		}
		if look {
			if err := markRepeats(ctx, tx, rows); err != nil {
				return err
			}
		}
		return s.recordOn(ctx, tx, rows, recorded, decide)
	})
	if err != nil {
		return nil, err
	}
	return recorded, nil
}

const selectStored = `SELECT 1 FROM check_results WHERE scheduled_at = $1 AND monitor_id = $2 AND region_id = $3 AND attempt = $4`

// markRepeats finds which rows are stored, or stand in the batch twice.
func markRepeats(ctx context.Context, tx *sql.Tx, rows []resultRow) error {
	seen := map[uptime.ResultKey]bool{}
	for i := range rows {
		w := &rows[i]
		w.repeat = seen[w.r.ResultKey]
		seen[w.r.ResultKey] = true
		var one int
		err := tx.QueryRowContext(ctx, selectStored, w.r.ScheduledAt.UnixMicro(), w.r.MonitorID, w.region, w.r.Attempt).Scan(&one)
		switch {
		case err == nil:
			w.repeat = true
		case err != sql.ErrNoRows:
			return wrap("look for a stored result", err)
		}
	}
	return nil
}

func (s *Store) recordOn(ctx context.Context, tx *sql.Tx, rows []resultRow, recorded []uptime.Recorded, decide func(uptime.Facts) uptime.Change) error {
	steady, err := s.steadiness(ctx, tx, rows)
	if err != nil {
		return err
	}
	live := slices.DeleteFunc(slices.Clone(rows), func(w resultRow) bool {
		_, exists := steady[w.r.MonitorID]
		return !exists
	})
	ids := undecided(live, steady)
	if err := s.insertRows(ctx, tx, live, len(ids) == 0); err != nil || len(ids) == 0 {
		return err
	}
	done, err := s.decide(ctx, tx, ids, live, decide)
	for i, w := range rows {
		if d, ok := done[w.r.MonitorID]; ok {
			recorded[i] = d
			d.AlertIDs = nil // told once
			done[w.r.MonitorID] = d
		}
	}
	return err
}

// insertRows stores results and their evidence; those that exist stay as they are.
// After quiet ones, which change nothing else, the commit may be relaxed.
func (s *Store) insertRows(ctx context.Context, tx *sql.Tx, rows []resultRow, quiet bool) error {
	fresh := slices.DeleteFunc(slices.Clone(rows), func(w resultRow) bool { return w.repeat })
	c := s.script(ctx, tx)
	for rest := fresh; len(rest) > 0; {
		q, args, n := s.d.insertResults(rest)
		c.steps = append(c.steps, step{what: "insert results", q: q, stmt: s.inserts[q], args: args, done: func(stored int64) error {
			if stored < int64(n) {
				return errRepeats
			}
			return nil
		}})
		rest = rest[n:]
	}
	var evidence [][]any
	for _, w := range fresh {
		if w.r.Verdict == uptime.VerdictUp || w.r.Message == "" && w.r.Evidence == nil {
			continue
		}
		text, err := evidenceText(w.r.Evidence)
		if err != nil {
			return err
		}
		evidence = append(evidence, []any{w.r.ScheduledAt.UnixMicro(), w.r.MonitorID, w.region, int64(w.r.Attempt), w.r.Message, text})
	}
	const columns = `scheduled_at, monitor_id, region_id, attempt, message, evidence`
	c.values("insert evidence", columns, evidence,
		`INSERT INTO check_evidence (`+columns+`) SELECT `+columns+` FROM v WHERE true ON CONFLICT DO NOTHING`, nil)
	if err := c.keepGood(fresh); err != nil {
		return err
	}
	if q := s.d.relax(); quiet && q != "" {
		c.add("relax the commit", q, nil, nil)
	}
	return c.run()
}

// keepGood appends the keeping of good results' evidence, the newest of each monitor and
// region.
func (c *script) keepGood(rows []resultRow) error {
	type place struct{ monitor, region int64 }
	newest := map[place]*uptime.CheckResult{}
	for _, w := range rows {
		at := place{w.r.MonitorID, w.region}
		if w.r.Keep && w.r.Verdict.Good() && w.r.Evidence != nil && (newest[at] == nil || newest[at].StartedAt.Before(w.r.StartedAt)) {
			newest[at] = w.r
		}
	}
	var kept [][]any
	for at, r := range newest {
		text, err := evidenceText(r.Evidence)
		if err != nil {
			return err
		}
		kept = append(kept, []any{at.monitor, at.region, micro(r.StartedAt), text})
	}
	// In one order everywhere, so that two transactions do not wait for each other.
	slices.SortFunc(kept, func(a, b []any) int {
		return cmp.Or(cmp.Compare(a[0].(int64), b[0].(int64)), cmp.Compare(a[1].(int64), b[1].(int64)))
	})
	const columns = `monitor_id, region_id, started_at, evidence`
	c.values("keep the evidence of good results", columns, kept, `INSERT INTO last_good (`+columns+`) SELECT `+columns+` FROM v WHERE true
 ON CONFLICT (monitor_id, region_id) DO UPDATE SET started_at = excluded.started_at, evidence = excluded.evidence
 WHERE last_good.started_at < excluded.started_at`, nil)
	return nil
}

// prepare compiles the dialect's inserts, which takes the connection that a
// transaction would hold, and a schema that migrations have made.
func (s *Store) prepare(ctx context.Context) error {
	s.insertsMu.Lock()
	defer s.insertsMu.Unlock()
	if s.inserts != nil {
		return nil
	}
	ready := map[string]*sql.Stmt{}
	for _, q := range s.d.inserts() {
		stmt, err := s.write.PrepareContext(ctx, q)
		if err != nil {
			return err
		}
		ready[q] = stmt
	}
	s.inserts = ready
	return nil
}

// evidenceText is evidence, or a sight, as it is stored.
func evidenceText[T any](e *T) (string, error) {
	if e == nil {
		return "", nil
	}
	b, err := json.Marshal(e)
	return string(b), err
}

// steadiness tells of each monitor in rows that exists whether an up result would
// leave its state as it is.
func (s *Store) steadiness(ctx context.Context, tx *sql.Tx, rows []resultRow) (map[int64]bool, error) {
	ids := make([]int64, len(rows))
	for i, w := range rows {
		ids[i] = w.r.MonitorID
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	steady := make(map[int64]bool, len(ids))
	in, args := s.d.in("m.id", 1, ids)
	q := `SELECT m.id, coalesce(s.steady, 0) FROM monitors m LEFT JOIN monitor_states s ON s.monitor_id = m.id WHERE ` + in
	err := queryOn(ctx, tx, q, args, func(r row) error {
		var id, is int64
		err := r.Scan(&id, &is)
		steady[id] = is == 1
		return err
	})
	return steady, wrap("find unsteady monitors", err)
}

// undecided are the monitors, in order, that need a decision: those with a result
// that is not plainly up, and those whose stored state is not steady. Unknown
// results change no state, except those that state a gap (docs/decisions/0002).
func undecided(rows []resultRow, steady map[int64]bool) []int64 {
	var ids []int64
	for _, w := range rows {
		switch {
		case w.r.Verdict == uptime.VerdictDown, w.r.Verdict == uptime.VerdictDegraded, w.r.Kind == uptime.KindGap,
			w.r.Verdict == uptime.VerdictUp && !steady[w.r.MonitorID]:
			ids = append(ids, w.r.MonitorID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// decide locks the states of monitors, gathers the facts, and writes the decisions.
func (s *Store) decide(ctx context.Context, tx *sql.Tx, ids []int64, rows []resultRow, decide func(uptime.Facts) uptime.Change) (map[int64]uptime.Recorded, error) {
	fs, err := s.facts(ctx, tx, ids, rows)
	if err != nil {
		return nil, err
	}
	ds := make([]decided, len(fs))
	for i := range fs {
		ds[i] = decided{f: &fs[i], Change: decide(fs[i])}
	}
	alerts, err := s.apply(ctx, tx, ds)
	if err != nil {
		return nil, err
	}
	out := make(map[int64]uptime.Recorded, len(ds))
	for i := range ds {
		id := ds[i].f.Monitor.ID
		out[id] = uptime.Recorded{State: ds[i].State, AlertIDs: alerts[id]}
	}
	return out, nil
}
