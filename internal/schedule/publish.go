package schedule

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// maxPending bounds the jobs that wait for one region's queue. What does not fit
// is left to the auditor, which finds the slot without a verdict.
const maxPending = 200_000

// publisher moves jobs of one region into its queue. While the queue is down or
// full they wait here, each until its slot is over.
type publisher struct {
	s      *Scheduler
	region string
	wake   chan struct{}

	late   chan []uptime.Job // slots that were over before the queue took them
	warned time.Time         // when the log was last told of a queue that fails

	mu      sync.Mutex // guards pending
	pending []uptime.Job
}

// Bounds of what a failing queue costs: batches of late jobs that wait to be
// recorded (beyond them the auditor finds the slots), and lines in the log.
const (
	maxLate   = 64
	warnEvery = 10 * time.Second
)

func newPublisher(s *Scheduler, region string) *publisher {
	return &publisher{s: s, region: region, wake: make(chan struct{}, 1), late: make(chan []uptime.Job, maxLate)}
}

// add takes jobs without waiting.
func (p *publisher) add(jobs []uptime.Job) {
	p.mu.Lock()
	if room := maxPending - len(p.pending); len(jobs) > room {
		p.s.m.expired.Add(float64(len(jobs) - max(room, 0)))
		jobs = jobs[:max(room, 0)]
	}
	p.pending = append(p.pending, jobs...)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run publishes until ctx ends. What is still pending then is the next leader's,
// or the auditor's.
func (p *publisher) run(ctx context.Context) {
	var recording sync.WaitGroup
	defer recording.Wait()
	recording.Go(func() { p.recordLate(ctx) })
	var q queue.Queue
	backoff := 50 * time.Millisecond
	for {
		batch := p.take()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
			}
			continue
		}
		var err error
		if q == nil {
			q, err = p.s.o.Queues.Queue(uptime.MonitorQueue+":"+p.region, p.s.o.Queue)
		}
		if err == nil {
			err = p.publish(ctx, q, batch)
		}
		if err == nil {
			backoff = 50 * time.Millisecond
			continue
		}
		if ctx.Err() != nil {
			return
		}
		p.s.m.failed.Inc()
		p.warn(len(batch), err)
		p.mu.Lock()
		p.pending = append(batch, p.pending...)
		p.mu.Unlock()
		if !sleep(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, time.Second)
	}
}

// take removes a batch of jobs; those whose slot is over are handed to recordLate.
func (p *publisher) take() []uptime.Job {
	now := p.s.o.wall()
	var late []uptime.Job
	p.mu.Lock()
	batch := make([]uptime.Job, 0, min(len(p.pending), batchSize))
	n := 0
	for ; n < len(p.pending) && len(batch) < batchSize && len(late) < batchSize; n++ {
		if j := p.pending[n]; now.Before(j.Expires) {
			batch = append(batch, j)
		} else {
			late = append(late, j)
		}
	}
	p.pending = p.pending[n:]
	if len(p.pending) == 0 {
		p.pending = nil
	}
	p.mu.Unlock()
	p.s.m.expired.Add(float64(len(late)))
	if len(late) > 0 {
		select {
		case p.late <- late:
		default:
		}
	}
	return batch
}

// recordLate states the slots that the queue did not take in time, beside the
// publishing, which must not wait for the store.
func (p *publisher) recordLate(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case jobs := <-p.late:
			if err := recordAll(ctx, p.s, jobs, uptime.QueueFailed, ""); err != nil && ctx.Err() == nil {
				p.s.o.Logger.Warn("slots that the queue did not take are not recorded", slog.Int("slots", len(jobs)), slog.Any("error", err))
			}
		}
	}
}

// warn tells the log of a queue that fails, now and then.
func (p *publisher) warn(jobs int, err error) {
	if time.Since(p.warned) < warnEvery {
		return
	}
	p.warned = time.Now()
	p.s.o.Logger.Warn("jobs are not published", slog.String("region", p.region), slog.Int("jobs", jobs), slog.Any("error", err))
}

func (p *publisher) publish(ctx context.Context, q queue.Queue, jobs []uptime.Job) error {
	items := make([]queue.Item, len(jobs))
	for i, j := range jobs {
		b, err := j.MarshalBinary()
		if err != nil {
			return err
		}
		items[i] = queue.Item{Body: b, Urgent: j.Kind != uptime.KindSlot}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := q.Publish(ctx, items); err != nil {
		return err
	}
	p.s.m.jobs.Add(float64(len(jobs)))
	p.s.o.Failpoint("published")
	return nil
}

// recordAll stores an unknown result for each job. After an error the auditor finds
// those that were not stored.
func recordAll(ctx context.Context, s *Scheduler, jobs []uptime.Job, reason uptime.Reason, message string) error {
	if len(jobs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	now := uptime.Instant(s.o.wall())
	rs := make([]uptime.CheckResult, len(jobs))
	for i, j := range jobs {
		rs[i] = uptime.CheckResult{
			ResultKey: uptime.ResultKey{MonitorID: j.MonitorID, Region: j.Region, ScheduledAt: j.ScheduledAt},
			Kind:      j.Kind, Revision: j.Revision, Reason: reason, Message: message, DequeuedAt: now, StartedAt: now}
	}
	return s.o.Recorder.RecordAll(ctx, rs)
}
