package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	parked  []string
	broken  bool // the store cannot be told of trouble
	seen    bool // others have a verdict
	retried int
	told    []string // about ourselves: "own_network true"
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
func (f *fake) ParkMonitor(_ context.Context, _, _ int64, problem string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parked = append(f.parked, problem)
	return nil
}
func (f *fake) Seen(_ context.Context, _, _ int64, slots []time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen && len(slots) > 0, nil
}
func (f *fake) RetryParked(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retried++
	return nil
}
func (f *fake) SetOwnTrouble(_ context.Context, reason uptime.Reason, _, _ string, has bool, _ time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprint(reason, " ", has))
	if f.broken {
		return errors.New("the database is down")
	}
	return nil
}
func (f *fake) Record(_ context.Context, r uptime.CheckResult) (uptime.Recorded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results = append(f.results, r)
	return uptime.Recorded{}, nil
}
func (f *fake) RecordAll(ctx context.Context, rs []uptime.CheckResult) error {
	for _, r := range rs {
		_, _ = f.Record(ctx, r)
	}
	return nil
}

func (f *fake) Run(context.Context, probe.Attempt) probe.Outcome {
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

// asked keeps what it was asked for by each attempt, and fails.
type asked struct {
	mu       sync.Mutex
	attempts []probe.Attempt
}

func (a *asked) Run(_ context.Context, attempt probe.Attempt) probe.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	attempt.Evidence = false
	a.attempts = append(a.attempts, attempt)
	return probe.Outcome{Verdict: uptime.VerdictDown, Reason: uptime.ConnRefused}
}

// A slot that comes while a failure is being confirmed may be the last that it takes to
// open an incident, which is to say what else works.
func TestAFailureThatFollowsOneIsDiagnosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, f, check := uptime.Now(), &fake{}, &asked{}
		w, err := New(Options{Queue: f, Store: f, Recorder: f, Compile: func(uptime.Monitor) (probe.Check, error) { return check, nil }})
		if err != nil {
			t.Fatal(err)
		}
		send := func(slot time.Time) {
			b, _ := uptime.Job{MonitorID: 1, Region: "default", ScheduledAt: slot, Expires: slot.Add(time.Minute)}.MarshalBinary()
			f.mu.Lock()
			defer f.mu.Unlock()
			f.waiting = append(f.waiting, queue.Message{ID: slot.String(), Body: b})
		}
		send(now)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, func() { send(now.Add(2 * time.Second)) })
		time.AfterFunc(30*time.Second, cancel)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(check.attempts) < 2 || check.attempts[0] != (probe.Attempt{}) {
			t.Fatalf("got attempts %+v, want the first to be asked for nothing", check.attempts)
		}
		firsts := 0
		for _, a := range check.attempts[1:] {
			if a.Number == 0 && !a.Diagnose {
				t.Errorf("attempt %+v after a failure is not asked to find out what else works", a)
			}
			if a.Number == 0 {
				firsts++
			}
		}
		if firsts != 1 {
			t.Errorf("got attempts %+v, want one of the second slot", check.attempts)
		}
	})
}

// impossible is a probe that this machine cannot make.
type impossible struct{}

func (impossible) Run(context.Context, probe.Attempt) probe.Outcome {
	return probe.Outcome{Reason: uptime.BadConfig, Message: "No right to send ICMP."}
}

func TestACheckThatCannotBeMadeHereIsShownOnTheMonitorAndNeverDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, f := uptime.Now(), &fake{}
		for n := range parkAfter {
			b, _ := uptime.Job{MonitorID: 1, Region: "default", ScheduledAt: now.Add(time.Duration(n)), Expires: now.Add(time.Minute)}.MarshalBinary()
			f.waiting = append(f.waiting, queue.Message{ID: strconv.Itoa(n), Body: b})
		}
		w, err := New(Options{Queue: f, Store: f, Recorder: f, Compile: func(uptime.Monitor) (probe.Check, error) { return impossible{}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(retryEvery+time.Minute, cancel)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(f.results) != parkAfter || f.results[0].Verdict != uptime.VerdictUnknown || f.retried != 2 || len(f.parked) != 1 || f.parked[0] != "No right to send ICMP." {
			t.Fatalf("got %+v, parked with %q; want unknown results, the message on the monitor once, and two tries anew (got %d)", f.results, f.parked, f.retried)
		}
	})
}

// A machine that lacks a right does not keep a monitor from those that have it.
func TestACheckThatOthersCanMakeIsLeftToThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, f := uptime.Now(), &fake{seen: true}
		for n := range 3 * parkAfter {
			b, _ := uptime.Job{MonitorID: 1, Region: "default", ScheduledAt: now.Add(-time.Duration(n+1) * time.Minute), Expires: now.Add(time.Minute)}.MarshalBinary()
			f.waiting = append(f.waiting, queue.Message{ID: strconv.Itoa(n), Body: b})
		}
		w, err := New(Options{Queue: f, Store: f, Recorder: f, Compile: func(uptime.Monitor) (probe.Check, error) { return impossible{}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		w.cache.byID[1] = &compiled{monitor: uptime.Monitor{ID: 1, Enabled: true, Interval: time.Second, Timeout: time.Second, Regions: []string{"default", "eu"}}, host: "here", check: impossible{}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(f.results) != 3*parkAfter || len(f.parked) != 0 {
			t.Errorf("got %d results, parked with %q; want %d and not parked", len(f.results), f.parked, 3*parkAfter)
		}
	})
}

// The slots that are asked for are those of every region since the check could not be
// made here, and not many.
func TestTheSlotsThatOthersMayHaveSeen(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		ago  time.Duration
		want int
	}{{5 * time.Minute, 2 * 5}, {time.Hour, 2 * seenIn}, {-time.Hour, 0}} {
		k := &compiled{monitor: uptime.Monitor{ID: 1, Interval: time.Minute, Regions: []string{"eu", "us"}}}
		k.cannot(uptime.BadConfig, now.Add(-c.ago))
		k.cannot(uptime.BadConfig, now)
		if got := k.lately(now); len(got) != c.want {
			t.Errorf("since %v ago: %v, want %d slots", c.ago, got, c.want)
		}
	}
	k := &compiled{monitor: uptime.Monitor{ID: 1, Interval: time.Minute, Regions: []string{"eu"}}}
	k.cannot(uptime.BadConfig, now.Add(-time.Hour))
	k.cannot(uptime.ReasonOK, now)
	if k.cannot(uptime.BadConfig, now.Add(time.Hour)); len(k.lately(now)) != 0 {
		t.Error("a check that could be made meanwhile does not start the count again")
	}
}

// slow is a probe that takes its time and finds the target up.
type slow time.Duration

func (s slow) Run(ctx context.Context, _ probe.Attempt) probe.Outcome {
	wait(ctx, time.Duration(s))
	return probe.Outcome{Verdict: uptime.VerdictUp}
}

// More is asked of one host than it can answer: every slot has one result, those
// that could not start are unknown, nobody is called down, and who is checked
// elsewhere does not wait.
func TestWhatCannotBeCheckedInTimeIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, f := uptime.Now(), &fake{}
		const asked = 1000
		for i := range asked + 1 {
			b, _ := uptime.Job{MonitorID: int64(i + 1), Region: "default", ScheduledAt: now, Expires: now.Add(time.Minute)}.MarshalBinary()
			f.waiting = append(f.waiting, queue.Message{ID: strconv.Itoa(i), Body: b})
		}
		w, err := New(Options{Queue: f, Store: f, Recorder: f, Concurrency: 80, Compile: func(m uptime.Monitor) (probe.Check, error) {
			return slow(time.Second), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		w.cache.byID[asked+1] = &compiled{monitor: uptime.Monitor{ID: asked + 1, Enabled: true, Interval: time.Minute, Timeout: time.Second}, host: "elsewhere", check: slow(0)}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Second, cancel)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		count, slots := map[uptime.Reason]int{}, map[uptime.ResultKey]bool{}
		for _, r := range f.results {
			slots[r.ResultKey] = true
			count[r.Reason]++
			if r.MonitorID == asked+1 && r.StartedAt.Sub(now) > 100*time.Millisecond {
				t.Errorf("the check elsewhere started %v late", r.StartedAt.Sub(now))
			}
		}
		// Four at once for a second each, for the five seconds that a check may wait here.
		if up := count[uptime.ReasonOK]; len(slots) != asked+1 || len(f.results) != asked+1 || f.acked != asked+1 || up < 20 || up > 30 || up+count[uptime.Starved] != asked+1 {
			t.Fatalf("got %d results of %d slots, %d acked: %v", len(f.results), len(slots), f.acked, count)
		}
	})
}
