package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"vedette/internal/incident"
	"vedette/internal/queue"
	"vedette/internal/queue/redisqueue"
	"vedette/internal/seal"
	"vedette/internal/store"
	"vedette/internal/uptime"
)

const (
	manyMonitors = 1_000_000
	manyInterval = 5 * time.Minute
	receivers    = 32 // each waits for the commit of what it received
)

// million measures one scheduler that has a million monitors: what it needs of
// memory, and how late it hands out their slots. The database and the queue are real;
// the workers are played by this process, which records every slot as up.
func (b *bench) million(ctx context.Context, mode string) error {
	if mode != "scaled" {
		return nil // one scheduler with workers elsewhere is the scaled mode
	}
	in := &installation{}
	defer in.close()
	if err := in.begin(mode); err != nil {
		return err
	}
	if err := in.populate(ctx, b.bin, b.fill(ctx, in)); err != nil {
		return err
	}
	if err := in.serve(b.bin, "scheduler"); err != nil {
		return err
	}
	w, err := simulate(ctx, in)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.untilJobs(ctx); err != nil {
		return err
	}
	pause(ctx, b.warm)
	before, err := usageOf(in.pids...)
	if err != nil {
		return err
	}
	w.forget()
	b.profile(ctx, in, 45*time.Second) // one full read of all monitors at least
	after, err := usageOf(in.pids...)
	if err != nil {
		return err
	}
	late := w.forget()
	slices.Sort(late)
	row(fmt.Sprintf("one scheduler, %d monitors at %s, workers simulated", manyMonitors, manyInterval),
		"%d slots in 45 s (%d due), dispatch p50 %.1f ms, p99 %.1f ms; %.2f KB a monitor; %.2f cores", len(late), manyMonitors*45/int(manyInterval.Seconds()),
		quantile(late, 0.5), quantile(late, 0.99), float64(after.memory)/1e3/manyMonitors, (after.cpu-before.cpu).Seconds()/45)
	return nil
}

// fill seeds the monitors and their steady states with two statements, since nothing
// here is about making them.
func (b *bench) fill(ctx context.Context, in *installation) func(*store.Store, int64) error {
	return func(_ *store.Store, owner int64) error {
		if err := in.openDB("pgx", in.database); err != nil {
			return err
		}
		// Old enough to be no new monitors, which get a first check at once, and new enough
		// that no slot of theirs is long overdue.
		since := time.Now().Add(-90 * time.Second).UnixMicro()
		_, err := in.db.ExecContext(ctx, `INSERT INTO monitors (owner_id, name, type, target, interval_us, timeout_us, confirm_failures, confirm_interval,
 confirm_successes, config, assertions, inverted, regions, tags, enabled, revision, scheduled_since, created_at, updated_at)
 SELECT $1, 'm' || n, 'http', 'http://127.0.0.1/' || n, $2, 10000000, 2, 5000000, 1, '', '[]', 0, '["default"]', '[]', 1, 1, $3, $3, $3
 FROM generate_series(1, $4) n`, owner, manyInterval.Microseconds(), since, manyMonitors)
		if err != nil {
			return err
		}
		_, err = in.db.ExecContext(ctx, `INSERT INTO monitor_states (monitor_id, verdict, reason, message, since, steady, regions)
 SELECT id, $1, '', '', $2, 1, '[]' FROM monitors`, int64(uptime.VerdictUp), since)
		return err
	}
}

// simulated plays the workers.
type simulated struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	closers []func() error
	q       queue.Queue
	rec     *incident.Recorder

	mu   sync.Mutex
	late []float64 // guarded by mu: milliseconds from a slot to the receipt of its job
	errs int       // guarded by mu
}

func simulate(ctx context.Context, in *installation) (*simulated, error) {
	sealer, err := seal.New(in.key)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Options{Database: in.database, Sealer: sealer})
	if err != nil {
		return nil, err
	}
	broker, err := redisqueue.New(ctx, redisqueue.Options{URL: in.queue})
	if err != nil {
		return nil, err
	}
	w := &simulated{closers: []func() error{broker.Close, s.Close}, rec: incident.NewRecorder(incident.RecorderOptions{Store: s, Writers: 2})}
	if w.q, err = broker.Queue(uptime.MonitorQueue+":"+uptime.DefaultRegion, queue.Options{}); err != nil {
		return nil, err
	}
	ctx, w.stop = context.WithCancel(ctx)
	w.running.Go(func() { _ = w.rec.Run(ctx) })
	for range receivers {
		w.running.Go(func() { w.work(ctx) })
	}
	return w, nil
}

// work receives jobs, records each as up and acknowledges them.
func (w *simulated) work(ctx context.Context) {
	for ctx.Err() == nil {
		msgs, err := w.q.Receive(ctx, 256, time.Second)
		got := uptime.Now()
		var rs []uptime.CheckResult
		var ids []string
		var late []float64
		for _, m := range msgs {
			var j uptime.Job
			if j.UnmarshalBinary(m.Body) != nil {
				continue
			}
			ids = append(ids, m.ID)
			late = append(late, float64(got.Sub(j.ScheduledAt).Microseconds())/1000)
			rs = append(rs, uptime.CheckResult{ResultKey: uptime.ResultKey{MonitorID: j.MonitorID, Region: j.Region, ScheduledAt: j.ScheduledAt}, Kind: j.Kind,
				Revision: j.Revision, Verdict: uptime.VerdictUp, DequeuedAt: got, StartedAt: got, Duration: time.Millisecond})
		}
		if err == nil {
			err = w.rec.RecordAll(ctx, rs)
		}
		if err == nil && len(ids) > 0 {
			err = w.q.Ack(ctx, ids)
		}
		w.mu.Lock()
		w.late = append(w.late, late...)
		if err != nil && ctx.Err() == nil {
			w.errs++
		}
		w.mu.Unlock()
	}
}

// untilJobs waits until the scheduler has read all monitors and hands out slots.
func (w *simulated) untilJobs(ctx context.Context) error {
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		w.mu.Lock()
		n := len(w.late)
		w.mu.Unlock()
		if n > 0 {
			return nil
		}
	}
	return fmt.Errorf("the scheduler handed out no slot within 3 minutes")
}

// forget returns what was seen, and begins anew.
func (w *simulated) forget() []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := w.late
	w.late = nil
	return late
}

func (w *simulated) close() {
	w.stop()
	w.running.Wait()
	for _, c := range w.closers {
		_ = c()
	}
	if w.errs > 0 {
		fmt.Println("simulated workers met", w.errs, "errors")
	}
}
