// Package worker is the worker box of the diagram: it receives jobs of one region,
// runs their probes with bounded concurrency, and records every attempt.
//
// Whatever is in our own way (late, starved, unhealthy, told to stop) is an unknown
// result or no result at all, never a verdict about the target. A job is
// acknowledged after its results are committed; when the store fails, it is kept
// and tried again, and in the end left to another worker by its lease.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vedette/internal/probe"
	"vedette/internal/queue"
	"vedette/internal/uptime"
)

const (
	batchSize = 256
	drainTime = 8 * time.Second // running checks get this long after a stop
	ackEvery  = 50 * time.Millisecond
)

// Health says whether this machine can be believed when it sees a target at these
// addresses fail for the reason failed, in a check that started then.
type Health interface {
	Check(ctx context.Context, failed uptime.Reason, started time.Time, addresses []string) (ok bool, reason uptime.Reason, local map[string]string)
}

// Options of a Worker. Queue, Store, Compile and Recorder are required.
type Options struct {
	Queue    queue.Queue
	Store    Store
	Compile  func(uptime.Monitor) (probe.Check, error)
	Recorder Recorder
	Health   Health // nil: every failure is believed
	Region   string // default uptime.DefaultRegion
	Holder   string // names this process among the workers that may have trouble of their own
	Logger   *slog.Logger
	Metrics  prometheus.Registerer // nil: not exported

	// Crowd doubts that targets of several networks fall silent at once: for a worker
	// without sentinels, which has no other sign that its way out is gone.
	Crowd bool

	Concurrency int           // checks at once; default 2000
	PerHost     int           // of them against one target; default Concurrency/20, at least 4
	PerOwner    int           // of them for one owner; default Concurrency
	Held        int           // about how many jobs in hand, waiting ones included; default 4 × Concurrency
	Lease       time.Duration // the queue's; default 30 s
	StartLag    time.Duration // longest wait here before a check is starved; default 5 s

	// Failpoint, for tests, is called at each step's end with its name: received,
	// checked, recorded, acknowledged.
	Failpoint func(name string)
}

func (o Options) defaults() Options {
	if o.Region == "" {
		o.Region = uptime.DefaultRegion
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Concurrency == 0 {
		o.Concurrency = 2000
	}
	if o.PerHost == 0 {
		o.PerHost = max(o.Concurrency/20, 4)
	}
	if o.PerOwner == 0 {
		o.PerOwner = o.Concurrency
	}
	if o.Held == 0 {
		o.Held = 4 * o.Concurrency
	}
	if o.Lease == 0 {
		o.Lease = 30 * time.Second
	}
	if o.StartLag == 0 {
		o.StartLag = 5 * time.Second
	}
	if o.Failpoint == nil {
		o.Failpoint = func(string) {}
	}
	return o
}

// Worker runs checks. Make it with New.
type Worker struct {
	o     Options
	m     *metrics
	cache *cache
	gate  *gate
	watch *watchdog
	own   *trouble
	crowd crowd
	goods goodBudget

	lacks sync.Once // tells that others can make checks that this process cannot

	late atomic.Int64 // ns: the mean lateness of this process

	mu    sync.Mutex          // guards what follows
	beat  time.Time           // when pace last woke
	stall stall               // the last one
	held  map[string]struct{} // message ids in hand, to extend
	done  []string            // message ids to acknowledge
	sheds []shed              // given up, and to be recorded
}

// New makes a Worker.
func New(o Options) (*Worker, error) {
	if o.Queue == nil || o.Store == nil || o.Compile == nil || o.Recorder == nil {
		return nil, errors.New("worker needs a queue, a store, a compiler and a recorder")
	}
	o = o.defaults()
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	return &Worker{o: o, m: m, cache: newCache(o.Store, o.Compile), gate: newGate(o.Concurrency, o.PerHost, o.PerOwner), watch: newWatchdog(), own: newTrouble(),
		beat: time.Now(), held: map[string]struct{}{}}, nil
}

// Run works until ctx ends, then lets running checks end for a few seconds and
// returns within 10 s. Jobs that did not start are left to other workers.
func (w *Worker) Run(ctx context.Context) error {
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var jobs, service sync.WaitGroup
	service.Go(func() { w.tend(work) })
	service.Go(func() { w.retryParked(work) })
	service.Go(func() { w.watchChecks(work) })
	service.Go(func() { w.recordSheds(work) })
	service.Go(func() { w.pace(work) })
	service.Go(func() { w.tellTrouble(work) })
	for ctx.Err() == nil {
		if err := w.receive(ctx, work, &jobs); err != nil && ctx.Err() == nil {
			w.o.Logger.Warn("jobs are not received", slog.Any("error", err))
			wait(ctx, time.Second)
		}
	}
	stopped := time.AfterFunc(drainTime, abort)
	jobs.Wait()
	stopped.Stop()
	abort()
	service.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	w.flush(last)
	return nil
}

// receive takes one batch and starts its jobs.
func (w *Worker) receive(ctx, work context.Context, jobs *sync.WaitGroup) error {
	if w.busy() {
		wait(ctx, paceEvery)
		return nil
	}
	msgs, err := w.o.Queue.Receive(ctx, batchSize, time.Second)
	if err != nil || len(msgs) == 0 {
		return err
	}
	w.o.Failpoint("received")
	got := uptime.Now()
	tasks := make([]*task, 0, len(msgs))
	for _, m := range msgs {
		t := &task{id: m.ID, dequeued: got}
		if err := t.job.UnmarshalBinary(m.Body); err != nil {
			w.m.dead.Inc()
			if err := w.o.Queue.Dead(ctx, m, err.Error()); err != nil {
				w.o.Logger.Warn("dead letter is not moved", slog.Any("error", err))
			}
			continue
		}
		tasks = append(tasks, t)
	}
	if err := w.cache.load(ctx, tasks); err != nil {
		return err // the leases run out and the jobs come again
	}
	w.mu.Lock()
	for _, t := range tasks {
		w.held[t.id] = struct{}{}
	}
	w.mu.Unlock()
	for _, t := range tasks {
		if reason := w.overdue(t); reason != uptime.ReasonOK {
			w.shed(t, reason)
			continue
		}
		jobs.Go(func() { w.do(ctx, work, t) })
	}
	return nil
}

// tend acknowledges what is done every 50 ms and extends leases at a third of their time.
func (w *Worker) tend(ctx context.Context) {
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	extended := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.flush(ctx)
		if time.Since(extended) < w.o.Lease/3 {
			continue
		}
		extended = time.Now()
		w.mu.Lock()
		ids := make([]string, 0, len(w.held))
		for id := range w.held {
			ids = append(ids, id)
		}
		w.mu.Unlock()
		if len(ids) == 0 {
			continue
		}
		if err := w.o.Queue.Extend(ctx, ids); err != nil && ctx.Err() == nil {
			w.o.Logger.Warn("leases are not extended", slog.Any("error", err))
		}
	}
}

func (w *Worker) flush(ctx context.Context) {
	w.mu.Lock()
	ids := w.done
	w.done = nil
	w.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	if err := w.o.Queue.Ack(ctx, ids); err != nil {
		w.o.Logger.Warn("jobs are not acknowledged", slog.Any("error", err))
		w.mu.Lock()
		w.done = append(w.done, ids[:min(len(ids), w.o.Held)]...)
		w.mu.Unlock()
		return
	}
	w.o.Failpoint("acknowledged")
}

// finish lets go of a job: acknowledged when its results are stored, else left.
func (w *Worker) finish(t *task, stored bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.held, t.id)
	if stored {
		w.done = append(w.done, t.id)
	}
}

// wait sleeps for d; false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
