package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"slices"
	"time"

	"vedette/internal/uptime"
)

// A histogram counts durations in buckets whose bounds grow by 1.2 from 100 µs, so
// that a quantile is right within 10 %, and two are merged by adding.
type histogram map[int]int64

const (
	histogramBase   = 100.0 // µs
	histogramFactor = 1.2
)

func bucketOf(us int64) int {
	if us <= histogramBase {
		return 0
	}
	return int(math.Ceil(math.Log(float64(us)/histogramBase) / math.Log(histogramFactor)))
}

func (h histogram) quantile(q float64) int64 {
	var total, seen int64
	for _, n := range h {
		total += n
	}
	keys := make([]int, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if seen += h[k]; float64(seen) >= q*float64(total) {
			return int64(histogramBase * math.Pow(histogramFactor, float64(k)-0.5)) // the middle of the bucket
		}
	}
	return 0
}

// tally is one roll-up being made.
type tally struct {
	up, degraded, down, unknown, sum int64
	h                                histogram
}

func (t *tally) add(v uptime.Verdict, us int64) {
	switch v {
	case uptime.VerdictUp:
		t.up++
	case uptime.VerdictDegraded:
		t.degraded++
	case uptime.VerdictDown:
		t.down++
	default:
		t.unknown++
	}
	if !v.Good() {
		return
	}
	t.sum += us
	if t.h == nil {
		t.h = histogram{}
	}
	t.h[bucketOf(us)]++
}

func (t *tally) merge(o *tally) {
	t.up, t.degraded, t.down, t.unknown, t.sum = t.up+o.up, t.degraded+o.degraded, t.down+o.down, t.unknown+o.unknown, t.sum+o.sum
	if t.h == nil {
		t.h = histogram{}
	}
	for k, n := range o.h {
		t.h[k] += n
	}
}

func (t *tally) bucket(start time.Time) uptime.Bucket {
	b := uptime.Bucket{Start: start, Up: t.up, Degraded: t.degraded, Down: t.down, Unknown: t.unknown,
		P50Micro: t.h.quantile(0.50), P95Micro: t.h.quantile(0.95), P99Micro: t.h.quantile(0.99)}
	if good := t.up + t.degraded; good > 0 {
		b.MeanMicro = t.sum / good
	}
	return b
}

// tallyStretch bounds one read for the roll-ups: at 8,000 checks a second half a
// million rows. A longer one would pass callTimeout, and in SQLite keep the log of
// writes from being taken over into the database.
const tallyStretch = time.Minute

// tallies reads the first attempt of each check scheduled in [from, to), by monitor.
func (s *Store) tallies(ctx context.Context, from, to time.Time) (map[int64]*tally, error) {
	const q = `SELECT monitor_id, verdict, duration_us FROM check_results
 WHERE scheduled_at >= $1 AND scheduled_at < $2 AND kind <> 3 AND attempt = 0`
	out := map[int64]*tally{}
	for ; from.Before(to); from = from.Add(tallyStretch) {
		end := earlier(from.Add(tallyStretch), to)
		err := s.query(ctx, "read results for roll-ups", q, []any{micro(from), micro(end)}, func(r row) error {
			var monitor, us int64
			var v uptime.Verdict
			if err := r.Scan(&monitor, &v, &us); err != nil {
				return err
			}
			t := out[monitor]
			if t == nil {
				t = &tally{}
				out[monitor] = t
			}
			t.add(v, us)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tallyOf is the same for one monitor, found by its slots.
func (s *Store) tallyOf(ctx context.Context, m schedule, from, to time.Time) (*tally, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := s.resultsIn(ctx, s.read, window{m, from, to.Add(-time.Microsecond)})
	if err != nil {
		return nil, s.fail("read results for roll-ups", err)
	}
	t := &tally{}
	for i := range found {
		if r := &found[i]; r.Kind != uptime.KindGap && r.Attempt == 0 {
			t.add(r.Verdict, r.Duration.Microseconds())
		}
	}
	return t, nil
}

const upsertRollup = `INSERT INTO rollups (monitor_id, step, start, up, degraded, down, unknown, sum_us, histogram)
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (monitor_id, step, start) DO UPDATE SET
 up = excluded.up, degraded = excluded.degraded, down = excluded.down, unknown = excluded.unknown, sum_us = excluded.sum_us, histogram = excluded.histogram`

// rollupBatch keeps each transaction short, so that checks are recorded between.
const rollupBatch = 200

// saveTallies writes roll-ups that start at one instant; doing so again changes nothing.
func (s *Store) saveTallies(ctx context.Context, step time.Duration, start time.Time, ts map[int64]*tally) error {
	ids := make([]int64, 0, len(ts))
	for id := range ts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, rollupBatch) {
		err := s.tx(ctx, "write roll-ups", func(ctx context.Context, tx *sql.Tx) error {
			for _, id := range chunk {
				t := ts[id]
				h, err := json.Marshal(t.h)
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, upsertRollup, id, int64(step.Seconds()), micro(start), t.up, t.degraded, t.down, t.unknown, t.sum, string(h)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rollups reads stored steps that start in [from, to), by start.
func (s *Store) rollups(ctx context.Context, id int64, step time.Duration, from, to time.Time) (map[int64]map[int64]*tally, error) {
	const q = `SELECT monitor_id, start, up, degraded, down, unknown, sum_us, histogram FROM rollups
 WHERE step = $1 AND start >= $2 AND start < $3 AND ($4 = 0 OR monitor_id = $4)`
	out := map[int64]map[int64]*tally{}
	err := s.query(ctx, "read roll-ups", q, []any{int64(step.Seconds()), micro(from), micro(to), id}, func(r row) error {
		var monitor, start int64
		var h string
		t := &tally{}
		if err := r.Scan(&monitor, &start, &t.up, &t.degraded, &t.down, &t.unknown, &t.sum, &h); err != nil {
			return err
		}
		if out[start] == nil {
			out[start] = map[int64]*tally{}
		}
		out[start][monitor] = t
		return json.Unmarshal([]byte(h), &t.h)
	})
	return out, err
}

// Buckets: see service.Monitors. The running hour or day is made from what is there.
func (s *Store) Buckets(ctx context.Context, owner, id int64, from, to time.Time, step time.Duration) ([]uptime.Bucket, error) {
	v, err := s.Monitor(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	from = from.UTC().Truncate(step)
	m, err := s.scheduleOf(ctx, s.read, &v.Monitor, from)
	if err != nil {
		return nil, s.fail("read roll-ups", err)
	}
	stored, err := s.rollups(ctx, id, step, from, to)
	if err != nil {
		return nil, err
	}
	closed, err := s.Progress(ctx, rollupProgress)
	if err != nil {
		return nil, err
	}
	var out []uptime.Bucket
	for start := from; start.Before(to) && !start.After(uptime.Now()); start = start.Add(step) {
		t := stored[micro(start)][id]
		if t == nil && start.Add(step).After(closed) {
			if t, err = s.running(ctx, m, start, step, closed); err != nil {
				return nil, err
			}
		}
		if t != nil {
			out = append(out, t.bucket(start))
		}
	}
	return out, nil
}

// running makes the figure of a step that is not closed: closed hours, and the
// results after them.
func (s *Store) running(ctx context.Context, m schedule, start time.Time, step time.Duration, closed time.Time) (*tally, error) {
	sum := &tally{}
	hours, err := s.rollups(ctx, m.monitorID, time.Hour, start, start.Add(step))
	if err != nil {
		return nil, err
	}
	for _, byMonitor := range hours {
		sum.merge(byMonitor[m.monitorID])
	}
	if closed.Before(start) {
		closed = start
	}
	raw, err := s.tallyOf(ctx, m, closed, earlier(start.Add(step), uptime.Now().Add(time.Minute)))
	if err != nil {
		return nil, err
	}
	sum.merge(raw)
	if sum.up+sum.degraded+sum.down+sum.unknown == 0 {
		return nil, nil
	}
	return sum, nil
}
