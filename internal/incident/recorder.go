package incident

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vedette/internal/failpoint"
	"vedette/internal/uptime"
)

// RecorderOptions of a Recorder. Only Store is required.
type RecorderOptions struct {
	Store   Store
	Manager Manager
	// Notify is told which alerts were written, after their commit: a hint to the
	// queue "alerts". It may fail or be slow; nothing waits for it and a hint that
	// finds no room is dropped, since the notifier's sweep finds the alerts.
	Notify func(ctx context.Context, alertIDs []int64)
	// Hint is called, likewise, after a commit that changed what live pages show.
	Hint func(ctx context.Context)

	FlushEvery time.Duration // longest wait of a quiet result for its batch; default 100 ms
	MaxBatch   int           // results per transaction; default 500
	Writers    int           // transactions at once; default 1, which is what SQLite can use
	Capacity   int           // results in hand, waiting or being written; default 16384. Beyond it Record blocks
	WriteLimit time.Duration // of one transaction; default 10 s
	RetryFor   time.Duration // a store that does not answer is asked again for so long; default 5 s
	DrainFor   time.Duration // what Run may take after its end to write what is there; default 5 s

	Logger     *slog.Logger          // default: nothing is logged
	Registerer prometheus.Registerer // nil: metrics are not exported
	Failpoints *failpoint.Set        // record.begin, record.committed, record.hint
}

func (o RecorderOptions) defaults() RecorderOptions {
	setDefault(&o.FlushEvery, 100*time.Millisecond)
	setDefault(&o.MaxBatch, 500)
	setDefault(&o.Writers, 1)
	setDefault(&o.Capacity, 16384)
	setDefault(&o.WriteLimit, 10*time.Second)
	setDefault(&o.RetryFor, 5*time.Second)
	setDefault(&o.DrainFor, 5*time.Second)
	if o.Notify == nil {
		o.Notify = func(context.Context, []int64) {}
	}
	if o.Hint == nil {
		o.Hint = func(context.Context) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// setDefault gives v the value d if it has none that is positive.
func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Recorder stores results in groups. A quiet result (up, or unknown) waits up to
// FlushEvery for company; one that may change a state is written at once, together
// with all that waits; while a transaction runs the next group gathers. Results of
// one monitor keep the order in which Record was called for them.
type Recorder struct {
	o       RecorderOptions
	m       *metrics
	writers []*writer
	pool    sync.Pool // of *waiter
	hints   *hinter
	stopped chan struct{} // closed when Run takes no more
}

// NewRecorder makes a Recorder. Nothing is stored until Run. Like every mistake of
// wiring, a second Recorder on the same Registerer panics.
func NewRecorder(o RecorderOptions) *Recorder {
	o = o.defaults()
	r := &Recorder{o: o, stopped: make(chan struct{}), hints: newHinter(o)}
	r.pool.New = func() any { return &waiter{done: make(chan struct{}, 1)} }
	for range o.Writers {
		r.writers = append(r.writers, &writer{r: r, wake: make(chan struct{}, 1), room: make(chan struct{}, max(1, o.Capacity/o.Writers))})
	}
	r.m = newMetrics(o.Registerer, func() float64 {
		n := 0
		for _, w := range r.writers {
			n += len(w.room)
		}
		return float64(n)
	})
	return r
}

// Run writes until ctx ends, then refuses new results, writes what it has within
// DrainFor and returns. What could not be written by then fails for its caller.
func (r *Recorder) Run(ctx context.Context) error {
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var hints, writers sync.WaitGroup
	hints.Go(func() { r.hints.run(work) })
	for _, w := range r.writers {
		writers.Go(func() { w.run(work) })
	}
	<-ctx.Done()
	close(r.stopped)
	for _, w := range r.writers {
		w.close()
	}
	late := time.AfterFunc(r.o.DrainFor, abort)
	defer late.Stop()
	writers.Wait()
	r.hints.close()
	hints.Wait()
	return nil
}

// waiter is one result and the caller that waits for it.
type waiter struct {
	result  uptime.CheckResult
	arrived time.Time
	urgent  bool
	out     uptime.Recorded
	err     error
	done    chan struct{} // receives once per use
	group   *group        // told instead of done, if not nil
}

// group is the results of one RecordAll.
type group struct {
	done chan struct{} // closed when none is left

	mu   sync.Mutex
	left int   // guarded by mu
	err  error // guarded by mu: the first
}

func (g *group) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	if g.left--; g.left == 0 {
		close(g.done)
	}
}

// Record returns when res is committed, with what became of it, or with the error
// that kept it from being so: Unavailable when the store did not answer for
// RetryFor, or this recorder stops; the store's own when only this result is to
// blame; ctx's when that ended first, and then res may be committed yet. Calling it
// again with the same result is safe. It blocks while Capacity results are in hand.
func (r *Recorder) Record(ctx context.Context, res uptime.CheckResult) (uptime.Recorded, error) {
	x, err := r.hand(ctx, &res, nil)
	if err != nil {
		return uptime.Recorded{}, err
	}
	select {
	case <-x.done:
	case <-ctx.Done(): // x stays with its writer
		return uptime.Recorded{}, context.Cause(ctx)
	}
	out, err := x.out, x.err
	r.forget(x)
	return out, err
}

// RecordAll is Record for many results about which nobody needs to know more than
// that they are committed. After an error any of them may be; calling it again with
// all of them is safe.
func (r *Recorder) RecordAll(ctx context.Context, rs []uptime.CheckResult) error {
	if len(rs) == 0 {
		return nil
	}
	g := &group{done: make(chan struct{}), left: len(rs)}
	for i := range rs {
		if _, err := r.hand(ctx, &rs[i], g); err != nil {
			return err
		}
	}
	select {
	case <-g.done:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hand gives res to its writer, waiting for room.
func (r *Recorder) hand(ctx context.Context, res *uptime.CheckResult, g *group) (*waiter, error) {
	w := r.writers[uint64(res.MonitorID)%uint64(len(r.writers))]
	select {
	case w.room <- struct{}{}:
	default:
		r.m.blocked.Inc()
		select {
		case w.room <- struct{}{}:
		case <-r.stopped:
			return nil, errStopped()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	x := r.pool.Get().(*waiter)
	x.result, x.arrived, x.urgent, x.group = *res, time.Now(), urgent(res), g
	if !w.add(x) {
		<-w.room
		return nil, errStopped()
	}
	return x, nil
}

// forget puts x back for another use.
func (r *Recorder) forget(x *waiter) {
	*x = waiter{done: x.done}
	r.pool.Put(x)
}

// urgent reports whether r may change what we believe of a monitor in a way that
// people wait for.
func urgent(r *uptime.CheckResult) bool {
	return r.Verdict == uptime.VerdictDown || r.Verdict == uptime.VerdictDegraded || r.Kind == uptime.KindGap
}

func errStopped() error {
	return uptime.Errorf(uptime.Unavailable, "results are not recorded any more: this process stops")
}
