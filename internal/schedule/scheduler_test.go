package schedule

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// fake is a store, queue, recorder and hint channel in memory.
type fake struct {
	queue.Queue
	mu       sync.Mutex // guards what follows
	entries  []uptime.ScheduleEntry
	holder   string
	until    time.Time
	progress time.Time
	gaps     []uptime.Gap
	results  map[uptime.ResultKey]uptime.CheckResult
	jobs     []uptime.Job
	down     bool               // the queue refuses
	idle     bool               // no worker answers
	found    uptime.CheckResult // verdict and reason of every check; up unless a reason is set
	incident bool
	trouble  []uptime.Reason // that workers have told
	hint     func(string)
}

func (f *fake) lock() func() { f.mu.Lock(); return f.mu.Unlock }

func (f *fake) ActiveMonitors(_ context.Context, after int64, _ int) ([]uptime.ScheduleEntry, error) {
	defer f.lock()()
	if after > 0 {
		return nil, nil
	}
	return append([]uptime.ScheduleEntry(nil), f.entries...), nil
}

func (f *fake) ActiveMonitor(_ context.Context, id int64) (uptime.ScheduleEntry, bool, error) {
	defer f.lock()()
	for _, e := range f.entries {
		if e.MonitorID == id {
			return e, true, nil
		}
	}
	return uptime.ScheduleEntry{}, false, nil
}

func (f *fake) HoldLease(_ context.Context, _, holder string, ttl time.Duration) (int64, bool, error) {
	defer f.lock()()
	if f.holder != holder && time.Now().Before(f.until) {
		return 0, false, nil
	}
	f.holder, f.until = holder, time.Now().Add(ttl)
	return 1, true, nil
}

func (f *fake) ReleaseLease(_ context.Context, _, holder string) error {
	defer f.lock()()
	if f.holder == holder {
		f.until = time.Time{}
	}
	return nil
}

func (f *fake) ObservedSlots(_ context.Context, from, to time.Time, fn func(uptime.ResultKey, bool, uptime.Reason)) error {
	f.mu.Lock()
	var rs []uptime.CheckResult
	for k, r := range f.results {
		if r.Kind == uptime.KindSlot && !k.ScheduledAt.Before(from) && k.ScheduledAt.Before(to) {
			rs = append(rs, r)
		}
	}
	f.mu.Unlock()
	for _, r := range rs {
		fn(r.ResultKey, r.Verdict != uptime.VerdictUnknown || r.Reason.Awaits(), r.Reason)
	}
	return nil
}

func (f *fake) Progress(context.Context, string) (time.Time, error) {
	defer f.lock()()
	return f.progress, nil
}

func (f *fake) SetProgress(_ context.Context, _ string, at time.Time) error {
	defer f.lock()()
	f.progress = at
	return nil
}

func (f *fake) RecordGap(_ context.Context, g uptime.Gap) error {
	defer f.lock()()
	f.gaps = append(f.gaps, g)
	return nil
}

func (f *fake) SetSelfIncident(_ context.Context, _ uptime.Reason, _ string, open bool) ([]int64, error) {
	defer f.lock()()
	f.incident = open
	return nil, nil
}

func (f *fake) OwnTrouble(context.Context) ([]uptime.Reason, error) {
	defer f.lock()()
	return f.trouble, nil
}

func (f *fake) RecordAll(_ context.Context, rs []uptime.CheckResult) error {
	defer f.lock()()
	for _, r := range rs {
		if _, ok := f.results[r.ResultKey]; !ok {
			f.results[r.ResultKey] = r
		}
	}
	return nil
}

func (f *fake) Publish(_ context.Context, items []queue.Item) error {
	defer f.lock()()
	if f.down {
		return errors.New("queue is down")
	}
	for _, it := range items {
		var j uptime.Job
		if err := j.UnmarshalBinary(it.Body); err != nil {
			return err
		}
		f.jobs = append(f.jobs, j)
		if !f.idle {
			k := uptime.ResultKey{MonitorID: j.MonitorID, Region: j.Region, ScheduledAt: j.ScheduledAt}
			f.results[k] = uptime.CheckResult{ResultKey: k, Kind: j.Kind, Verdict: uptime.VerdictUp}
			if f.found.Reason != uptime.ReasonOK {
				f.results[k] = uptime.CheckResult{ResultKey: k, Kind: j.Kind, Verdict: f.found.Verdict, Reason: f.found.Reason}
			}
		}
	}
	return nil
}

func (f *fake) Watch(ctx context.Context, _ string, fn func(string)) error {
	f.mu.Lock()
	f.hint = fn
	f.mu.Unlock()
	<-ctx.Done()
	return nil
}

type opener struct{ f *fake }

func (o opener) Queue(string, queue.Options) (queue.Queue, error) { return o.f, nil }

func start(t *testing.T, f *fake, holder string) (stop func()) {
	t.Helper()
	s, err := New(Options{Store: f, Queues: opener{f}, Hints: f, Recorder: f, Holder: holder})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return func() { cancel(); <-done }
}

func newFake(n int) *fake {
	return &fake{entries: entries(n, time.Minute), results: map[uptime.ResultKey]uptime.CheckResult{}}
}

func TestAHintBringsAFirstCheckWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		defer start(t, f, "a")()
		time.Sleep(5 * time.Second)
		e := entries(1, time.Hour)[0]
		e.Since = uptime.Now()
		f.mu.Lock()
		f.entries = append(f.entries, e)
		hint := f.hint
		f.mu.Unlock()
		hint("1")
		time.Sleep(time.Second)
		defer f.lock()()
		if len(f.jobs) != 1 || f.jobs[0].Kind != uptime.KindFirst {
			t.Fatalf("got jobs %+v, want one first check", f.jobs)
		}
	})
}

func TestSlotsAQueueLostBecomeUnknownAndTheQueueRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(5)
		defer start(t, f, "a")()
		time.Sleep(2 * time.Minute)
		set := func(down bool) { f.mu.Lock(); f.down = down; f.mu.Unlock() }
		set(true)
		time.Sleep(3 * time.Minute)
		set(false)
		time.Sleep(10 * time.Minute)
		defer f.lock()()
		slots, failed := 0, 0
		for _, r := range f.results {
			if r.Kind == uptime.KindSlot {
				slots++
			}
			if r.Reason == uptime.QueueFailed {
				failed++
			}
		}
		if slots < 5*14 || failed < 5 {
			t.Fatalf("got %d slots with a verdict and %d of them queue_failed, want 70 and 5 at least", slots, failed)
		}
	})
}

// What awaits its first ping may do so for a week, and nobody is woken for it; what
// cannot be checked here may not.
func TestAMonitorThatWaitsIsNotBlind(t *testing.T) {
	for reason, blind := range map[uptime.Reason]bool{uptime.Pending: false, uptime.Deaf: false, uptime.MembersOpen: false,
		uptime.StorageFailed: true, uptime.Blocked: true} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(1)
				f.found.Reason = reason
				defer start(t, f, "a")()
				time.Sleep(20 * time.Minute)
				defer f.lock()()
				if f.incident != blind {
					t.Errorf("there is an incident of our own: %t, want %t", f.incident, blind)
				}
			})
		})
	}
}

// Why a monitor cannot be seen is what its checks say; when nobody takes them in time,
// nobody knows more than that.
func TestABlindMonitorSaysWhatItsChecksSay(t *testing.T) {
	for found, want := range map[uptime.Reason]uptime.Reason{uptime.OwnNetwork: uptime.OwnNetwork, uptime.OwnResources: uptime.OwnResources,
		uptime.Starved: uptime.Starved, uptime.Blocked: uptime.Blocked, uptime.Missed: uptime.Blind, uptime.ReasonOK: uptime.Blind} {
		t.Run(string(found), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(1)
				f.found.Reason, f.idle = found, found == uptime.ReasonOK
				defer start(t, f, "a")()
				time.Sleep(10 * time.Minute)
				defer f.lock()()
				var got []uptime.Reason
				for _, r := range f.results {
					if r.Kind == uptime.KindGap {
						got = append(got, r.Reason)
					}
				}
				if !slices.Equal(got, []uptime.Reason{want}) {
					t.Errorf("the gap has the reasons %q, want %q", got, want)
				}
			})
		})
	}
}

func TestSilentWorkersMakeMonitorsBlindAndRaiseOneIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(3)
		f.idle = true
		defer start(t, f, "a")()
		time.Sleep(10 * time.Minute)
		defer f.lock()()
		blind := 0
		for _, r := range f.results {
			if r.Kind == uptime.KindGap {
				blind++
			}
		}
		if blind != 3 || !f.incident {
			t.Fatalf("got %d gap results and incident %v, want 3 and true", blind, f.incident)
		}
	})
}

// A worker that has told of its own network says why monitors are blind: that is one
// incident, not two. Blindness that goes on without it is told.
func TestBlindnessThatAWorkerExplainsIsNotToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(3)
		f.idle, f.trouble = true, []uptime.Reason{uptime.OwnNetwork}
		defer start(t, f, "a")()
		incident := func() bool {
			defer f.lock()()
			return f.incident
		}
		time.Sleep(20 * time.Minute)
		if incident() {
			t.Error("the blindness is told although its cause is")
		}
		f.lock()
		f.trouble = nil
		f.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if incident() {
			t.Error("the blindness is told before the monitors had their turn")
		}
		time.Sleep(8 * time.Minute)
		if !incident() {
			t.Error("blindness without a cause is not told")
		}
	})
}
