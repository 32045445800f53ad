package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"vedette/internal/uptime"
)

// RecordResults: see incident.Store.
//
// A batch of plainly up results of steady monitors is two statements: the insert,
// and one question which of its monitors are not steady. Everything else is done
// monitor by monitor, in the order of their ids, with the state's row locked.
func (s *Store) RecordResults(ctx context.Context, batch []uptime.CheckResult, decide func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error) {
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
	if err := s.insertRows(ctx, tx, live); err != nil {
		return err
	}
	for _, id := range undecided(live, steady) {
		done, err := s.decideOne(ctx, tx, id, live, decide)
		if err != nil {
			return err
		}
		for i, w := range rows {
			if w.r.MonitorID == id {
				recorded[i] = done
				done.AlertIDs = nil // told once
			}
		}
	}
	return nil
}

// insertRows stores results and their evidence; those that exist stay as they are.
func (s *Store) insertRows(ctx context.Context, tx *sql.Tx, rows []resultRow) error {
	fresh := slices.DeleteFunc(slices.Clone(rows), func(w resultRow) bool { return w.repeat })
	for chunk := range slices.Chunk(fresh, 500) {
		q, args := s.d.insertResults(chunk)
		n, err := affected(tx.ExecContext(ctx, q, args...))
		if err != nil {
			return wrap("insert results", err)
		}
		if n < int64(len(chunk)) {
			return errRepeats
		}
	}
	const insert = `INSERT INTO check_evidence (scheduled_at, monitor_id, region_id, attempt, message, evidence)
 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`
	for _, w := range fresh {
		if w.r.Message == "" && w.r.Evidence == nil {
			continue
		}
		text, err := evidenceText(w.r.Evidence)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insert, w.r.ScheduledAt.UnixMicro(), w.r.MonitorID, w.region, w.r.Attempt, w.r.Message, text); err != nil {
			return wrap("insert evidence", err)
		}
	}
	return nil
}

func evidenceText(e *uptime.Evidence) (string, error) {
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

// decideOne locks one monitor's state, gathers the facts, and writes the decision.
func (s *Store) decideOne(ctx context.Context, tx *sql.Tx, id int64, rows []resultRow, decide func(uptime.Facts) uptime.Change) (uptime.Recorded, error) {
	f, ok, err := s.facts(ctx, tx, id, rows)
	if err != nil || !ok {
		return uptime.Recorded{Quiet: true}, err
	}
	c := decide(f)
	alerts, err := s.apply(ctx, tx, f, c)
	return uptime.Recorded{State: c.State, AlertIDs: alerts}, err
}

const insertState = `INSERT INTO monitor_states (monitor_id, verdict, reason, message, since, steady, regions)
 SELECT id, 0, '', '', 0, 0, '[]' FROM monitors WHERE id = $1 ON CONFLICT DO NOTHING`

const selectState = `SELECT verdict, reason, message, since, regions FROM monitor_states WHERE monitor_id = $1`

// facts locks the state and reads what a decision needs; false when the monitor
// does not exist any more.
func (s *Store) facts(ctx context.Context, tx *sql.Tx, id int64, rows []resultRow) (f uptime.Facts, ok bool, err error) {
	if _, err := tx.ExecContext(ctx, insertState, id); err != nil {
		return f, false, wrap("insert state", err)
	}
	var since int64
	var regions string
	f.State.MonitorID = id
	err = tx.QueryRowContext(ctx, selectState+s.d.forUpdate(), id).Scan(&f.State.Verdict, &f.State.Reason, &f.State.Message, &since, &regions)
	if err == sql.ErrNoRows {
		return f, false, nil
	}
	if err != nil {
		return f, false, wrap("lock state", err)
	}
	f.State.Since = instant(since)
	if err := json.Unmarshal([]byte(regions), &f.State.Regions); err != nil {
		return f, false, wrap("read state", err)
	}
	if f.Monitor, err = s.monitorOn(ctx, tx, id); err != nil {
		return f, false, err
	}
	if f.Open, err = s.openIncident(ctx, tx, id); err != nil {
		return f, false, err
	}
	if f.Gap, err = s.openGap(ctx, tx, id); err != nil {
		return f, false, err
	}
	return f, true, s.addResults(ctx, tx, &f, rows)
}

// addResults fills Results, LastGood and Latest. What was stored by another
// transaction since the region's cursor is read too, so that a result which two
// recorders both thought quiet is folded by the next that looks.
func (s *Store) addResults(ctx context.Context, tx *sql.Tx, f *uptime.Facts, rows []resultRow) error {
	m := schedule{monitorID: f.Monitor.ID, regions: f.Monitor.Regions, interval: f.Monitor.Interval, since: f.Monitor.ScheduledSince, recent: true}
	var first, last time.Time
	fresh := map[uptime.ResultKey]bool{}
	for _, w := range rows {
		if w.r.MonitorID != m.monitorID {
			continue
		}
		if first.IsZero() || w.r.ScheduledAt.Before(first) {
			first = w.r.ScheduledAt
		}
		if w.r.ScheduledAt.After(last) {
			last = w.r.ScheduledAt
		}
		if !w.repeat {
			fresh[w.r.ResultKey] = true
			f.Results = append(f.Results, *w.r)
		}
	}
	stored, err := s.resultsOf(ctx, tx, m, first.Add(-lookBack(f, first)), lookAhead(f, last))
	if err != nil {
		return wrap("read results", err)
	}
	f.Latest = map[string]time.Time{}
	for i := range stored {
		r := &stored[i]
		if fresh[r.ResultKey] {
			continue
		}
		if r.Verdict == uptime.VerdictUp && r.ScheduledAt.After(f.Latest[r.Region]) {
			f.Latest[r.Region] = r.ScheduledAt
		}
		if r.ScheduledAt.Before(first) && r.Verdict.Good() && r.StartedAt.After(f.LastGood) {
			f.LastGood = r.StartedAt
		}
		if !unfolded(f, r) {
			continue
		}
		if r.Verdict == uptime.VerdictDown {
			if err := s.loadEvidence(ctx, tx, r); err != nil {
				return wrap("read evidence", err)
			}
		}
		f.Results = append(f.Results, *r)
	}
	sortResults(f.Results)
	return nil
}

// How many slots a decision reads at most, since it happens inside the transaction
// that every other result waits for: around the new results, and after one that is
// late, where a single newer result tells that it is.
const (
	lookSlots = 16
	lookLate  = 512
)

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// lookBack is how far before the first new result there may be results that were
// not folded, or the last good one: to the oldest cursor of an unsteady state, and
// three intervals at least.
func lookBack(f *uptime.Facts, first time.Time) time.Duration {
	back := 3*f.Monitor.Interval + f.Monitor.Timeout
	if f.State.Steady() {
		return back
	}
	for _, r := range f.State.Regions {
		if !r.Cursor.IsZero() {
			back = max(back, min(first.Sub(r.Cursor), lookSlots*f.Monitor.Interval))
		}
	}
	return back
}

// lookAhead is until when there may be results newer than the last of the batch: to
// this moment, or a little beyond where the clock of the last one is ahead of ours.
func lookAhead(f *uptime.Facts, last time.Time) time.Time {
	if now := uptime.Now(); now.After(last) {
		return earlier(now, last.Add(lookLate*f.Monitor.Interval))
	}
	return last.Add(lookSlots * f.Monitor.Interval)
}

// unfolded reports whether r was stored after its region's cursor, in a state that
// is not steady: then it may have been recorded beside us.
func unfolded(f *uptime.Facts, r *uptime.CheckResult) bool {
	if f.State.Steady() || r.Superseded {
		return false
	}
	for _, g := range f.State.Regions {
		if g.Region == r.Region {
			return r.ScheduledAt.After(g.Cursor) || (r.ScheduledAt.Equal(g.Cursor) && r.Attempt > g.Attempt)
		}
	}
	return false
}
