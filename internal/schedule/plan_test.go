package schedule

import (
	"testing"
	"time"

	"vedette/internal/uptime"
)

func entries(n int, interval time.Duration) []uptime.ScheduleEntry {
	out := make([]uptime.ScheduleEntry, n)
	for i := range out {
		out[i] = uptime.ScheduleEntry{MonitorID: int64(i + 1), Revision: 1, Interval: interval, Since: time.Unix(0, 0), Regions: []string{"default"}}
	}
	return out
}

func TestEverySlotOfADayIsDispatchedOnce(t *testing.T) {
	t.Parallel()
	p, now := newPlan(), time.Unix(1_800_000_000, 0)
	for _, e := range entries(20, time.Minute) {
		p.put(e, now)
	}
	seen := map[uptime.ResultKey]int{}
	for end := now.Add(24 * time.Hour); now.Before(end); now = now.Add(time.Second) {
		p.due(now, 500, func(j uptime.Job, _ int64) {
			seen[uptime.ResultKey{MonitorID: j.MonitorID, ScheduledAt: j.ScheduledAt}]++
		})
	}
	if got, want := len(seen), 20*1440; got < want-20 || got > want {
		t.Fatalf("got %d slots, want %d", got, want)
	}
	for k, n := range seen {
		if n != 1 {
			t.Fatalf("slot %+v ran %d times", k, n)
		}
	}
}

func TestAPauseYieldsOneSpreadCatchUpAMonitor(t *testing.T) {
	t.Parallel()
	p, now := newPlan(), time.Unix(1_800_000_000, 0)
	for _, e := range entries(1000, time.Minute) {
		p.put(e, now)
	}
	woke := now.Add(10 * time.Minute)
	p.realign(now, woke, 500)
	n := 0
	p.due(woke, 5000, func(uptime.Job, int64) { n++ })
	if n > 10 {
		t.Errorf("got %d jobs at the instant of waking, want no burst", n)
	}
	runs := map[int64]int{}
	p.due(woke.Add(2*time.Second), 5000, func(j uptime.Job, _ int64) { runs[j.MonitorID]++ })
	for id, r := range runs {
		if r > 1 {
			t.Errorf("monitor %d ran %d times", id, r)
		}
	}
}

func BenchmarkPlanOfAMillionMonitors(b *testing.B) {
	p, now := newPlan(), time.Unix(1_800_000_000, 0)
	for _, e := range entries(1_000_000, 5*time.Minute) {
		p.put(e, now)
	}
	for b.Loop() {
		now = now.Add(100 * time.Millisecond)
		p.due(now, 500, func(uptime.Job, int64) {})
	}
}
