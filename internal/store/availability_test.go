package store_test

import (
	"testing"
	"time"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// life is a monitor whose past is written by hand, in minutes before now.
type life struct {
	t   *testing.T
	e   storetest.Env
	m   uptime.Monitor
	now time.Time
}

func newLife(t *testing.T, e storetest.Env, minutes int) *life {
	l := &life{t: t, e: e, m: e.Monitor(t, e.User(t, "a@example.org").ID, nil), now: uptime.Now()}
	born := l.ago(minutes).UnixMicro()
	execute(t, e, `UPDATE monitors SET created_at = $1, scheduled_since = $1`, born)
	execute(t, e, `UPDATE monitor_schedules SET since = $1`, born)
	execute(t, e, `UPDATE gaps SET started_at = $1`, born)
	return l
}

func (l *life) ago(minutes int) time.Time {
	return l.now.Add(-time.Duration(minutes) * time.Minute)
}

// vouched says that the auditor looked last so long ago.
func (l *life) vouched(minutes int) {
	l.t.Helper()
	if err := l.e.SetProgress(l.t.Context(), "audit", l.ago(minutes)); err != nil {
		l.t.Fatal(err)
	}
}

// saw records that the slot of that moment, and the one after, gave v.
func (l *life) saw(minutes int, v uptime.Verdict) {
	l.t.Helper()
	for n := range 2 {
		r := storetest.Result(l.m, 0, v)
		r.ScheduledAt = l.ago(minutes).Add(time.Duration(n) * l.m.Interval)
		r.DequeuedAt, r.StartedAt, r.Duration = r.ScheduledAt, r.ScheduledAt, 0
		l.e.Record(l.t, manager.Decide, r)
	}
}

func (l *life) gap(from, to int, monitor int64, cause uptime.Reason) {
	l.t.Helper()
	if err := l.e.RecordGap(l.t.Context(), uptime.Gap{MonitorID: monitor, From: l.ago(from), To: l.ago(to), Cause: cause}); err != nil {
		l.t.Fatal(err)
	}
}

// expect compares the uptime of a span with what it should be, in minutes.
func (l *life) expect(from, to, upMinutes, downMinutes, unknown, paused int) uptime.Uptime {
	l.t.Helper()
	u, err := l.e.Uptime(l.t.Context(), l.m.OwnerID, l.m.ID, l.ago(from), l.ago(to))
	if err != nil {
		l.t.Fatal(err)
	}
	got := [4]time.Duration{u.Up.Round(time.Minute), u.Down.Round(time.Minute), u.Unknown.Round(time.Minute), u.Paused.Round(time.Minute)}
	want := [4]time.Duration{time.Duration(upMinutes) * time.Minute, time.Duration(downMinutes) * time.Minute, time.Duration(unknown) * time.Minute, time.Duration(paused) * time.Minute}
	if got != want {
		l.t.Errorf("%d to %d minutes ago: up, down, unknown, paused are %v, want %v", from, to, got, want)
	}
	return u
}

func TestUptimeIsTimeThatWasObserved(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		l := newLife(t, e, 100)
		l.vouched(0)
		l.expect(200, 0, 0, 0, 100, 0) // never checked: nothing is known, and nothing was before
		l.saw(90, up)
		l.saw(60, down)
		l.gap(50, 40, 0, uptime.NotRunning) // in the outage, of all monitors
		l.gap(45, 35, l.m.ID, uptime.Missed)
		l.saw(30, up)
		l.gap(20, 10, l.m.ID, uptime.Paused)
		l.gap(12, 8, 0, uptime.NotRunning) // half of it in the pause
		u := l.expect(200, 0, 48, 15, 27, 10)
		if u.Incidents != 1 || int(u.Ratio*1000) != 48*1000/63 || int(u.Coverage*1000) != 63*1000/90 {
			t.Errorf("got %+v, want one incident, a ratio of 48/63 and a coverage of 63/90", u)
		}
		l.expect(55, 45, 0, 5, 5, 0)
		l.expect(100, 90, 0, 0, 10, 0)
		l.expect(15, 5, 3, 0, 2, 5)
	})
}

func TestTimeThatNobodyVouchesForIsUnknown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		l := newLife(t, e, 60)
		l.saw(60, up)
		l.vouched(40) // the scheduler is away, and with it whoever would record a gap
		l.expect(60, 0, 20, 0, 40, 0)
		for verdict, want := range map[uptime.Verdict]int{up: 0, uptime.VerdictUnknown: 1} {
			got, err := e.ListMonitors(t.Context(), uptime.MonitorFilter{Verdict: &verdict, Limit: 10})
			if err != nil || len(got) != want {
				t.Errorf("verdict %s: got %d monitors, %v, want %d", verdict, len(got), err, want)
			}
		}
		l.vouched(0)
		l.expect(60, 0, 60, 0, 0, 0)
		verdict := up
		if got, err := e.ListMonitors(t.Context(), uptime.MonitorFilter{Verdict: &verdict, Limit: 10}); err != nil || len(got) != 1 {
			t.Errorf("vouched for again: got %+v, %v, want it up", got, err)
		}
	})
}

func TestAResumedOrParkedMonitorIsUnknownUntilItIsSeenAgain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		l := newLife(t, e, 60)
		l.vouched(0)
		l.saw(60, up)
		openGap := func() (cause uptime.Reason) {
			gaps, err := e.Gaps(t.Context(), 0, l.m.ID, l.ago(60), uptime.Now().Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range gaps {
				if g.To.IsZero() {
					cause += g.Cause
				}
			}
			return cause
		}
		if got := openGap(); got != "" {
			t.Fatalf("a monitor that is seen has a gap: %s", got)
		}
		for _, enabled := range []bool{false, true} {
			l.m.Enabled = enabled
			m, _, err := e.UpdateMonitor(t.Context(), l.m.OwnerID, l.m)
			if err != nil {
				t.Fatal(err)
			}
			l.m = m
			if want := map[bool]uptime.Reason{false: uptime.Paused, true: uptime.Pending}[enabled]; openGap() != want {
				t.Errorf("enabled %t: the open gap's cause is %q, want %q", enabled, openGap(), want)
			}
		}
		e.Record(t, manager.Decide, storetest.Result(l.m, 1, up))
		if got := openGap(); got != "" {
			t.Errorf("seen again, it still has a gap: %s", got)
		}
		for slot, want := range []bool{false, true, false} {
			for revision, want := range map[int64]bool{l.m.Revision: want, l.m.Revision + 1: false} {
				slots := []time.Time{storetest.Slot(l.m, slot), storetest.Slot(l.m, slot+5)}
				if got, err := e.Seen(t.Context(), l.m.ID, revision, slots); err != nil || got != want {
					t.Errorf("slot %d was seen in revision %d: %t, %v, want %t", slot, revision, got, err, want)
				}
			}
		}
		if err := e.ParkMonitor(t.Context(), l.m.ID, l.m.Revision, "No such type."); err != nil {
			t.Fatal(err)
		}
		v, err := e.Store.Monitor(t.Context(), 0, l.m.ID)
		if err != nil || v.State.Verdict != uptime.VerdictUnknown || v.State.Reason != uptime.BadConfig || openGap() != uptime.BadConfig {
			t.Errorf("parked: got %+v, %v, gap %q, want unknown, config_error and a gap", v.State, err, openGap())
		}
		if err := e.RetryParked(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, active, err := e.ActiveMonitor(t.Context(), l.m.ID); err != nil || !active {
			t.Errorf("after RetryParked it is active: %t, %v, want true", active, err)
		}
		saved, _, err := e.UpdateMonitor(t.Context(), l.m.OwnerID, l.m)
		if err != nil {
			t.Fatal(err)
		}
		e.Record(t, manager.Decide, storetest.Result(saved, 2, up))
		if got := openGap(); got != "" {
			t.Errorf("mended and seen again, it still has a gap: %s", got)
		}
	})
}
