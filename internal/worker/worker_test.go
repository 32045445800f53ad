package worker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/probe"
	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// fake is a queue, a store and a recorder in memory.
type fake struct {
	queue.Queue
	mu      sync.Mutex // guards what follows
	waiting []queue.Message
	acked   int
	dead    int
	results []uptime.CheckResult
}

func (f *fake) Receive(ctx context.Context, _ int, d time.Duration) ([]queue.Message, error) {
	f.mu.Lock()
	ms := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	if len(ms) == 0 {
		wait(ctx, d)
	}
	return ms, nil
}

func (f *fake) Ack(_ context.Context, ids []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked += len(ids)
	return nil
}
func (f *fake) Extend(context.Context, []string) error { return nil }
func (f *fake) Dead(context.Context, queue.Message, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead++
	return nil
}

func (f *fake) Monitors(_ context.Context, ids []int64) ([]uptime.Monitor, error) {
	var ms []uptime.Monitor
	for _, id := range ids {
		ms = append(ms, uptime.Monitor{ID: id, Enabled: true, Interval: time.Minute, Timeout: time.Second,
			Confirm: uptime.Confirm{Failures: 2, Interval: 5 * time.Second}})
	}
	return ms, nil
}
func (f *fake) ParkMonitor(context.Context, int64, int64, string) error { return nil }
func (f *fake) Record(_ context.Context, r uptime.CheckResult) (uptime.Recorded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results = append(f.results, r)
	return uptime.Recorded{}, nil
}
func (f *fake) Run(context.Context) probe.Outcome {
	return probe.Outcome{Verdict: uptime.VerdictDown, Reason: uptime.ConnRefused}
}

func TestAFailureIsConfirmedAndAnOldJobIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, f := uptime.Now(), &fake{}
		for i, expires := range []time.Time{now.Add(time.Minute), now.Add(-time.Minute)} {
			b, _ := uptime.Job{MonitorID: int64(i + 1), Region: "default", ScheduledAt: now, Expires: expires}.MarshalBinary()
			f.waiting = append(f.waiting, queue.Message{ID: string(rune('a' + i)), Body: b})
		}
		f.waiting = append(f.waiting, queue.Message{ID: "x", Body: []byte("garbage")})
		w, err := New(Options{Queue: f, Store: f, Recorder: f, Compile: func(uptime.Monitor) (probe.Check, error) { return f, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(30 * time.Second); cancel() }()
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		down, missed := 0, 0
		for _, r := range f.results {
			if r.Verdict == uptime.VerdictDown {
				down++
			}
			if r.Reason == uptime.Missed {
				missed++
			}
		}
		if down != 3 || missed != 1 || f.acked != 2 || f.dead != 1 {
			t.Fatalf("got %d down, %d missed, %d acked, %d dead; want 3, 1, 2, 1", down, missed, f.acked, f.dead)
		}
	})
}
