package store_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// TestOneUnreadableMonitorIsParkedAlone is FAULTS 9, with a config of another key.
func TestOneUnreadableMonitorIsParkedAlone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		good, bad := e.Monitor(t, owner, nil), e.Monitor(t, owner, nil)
		execute(t, e, `UPDATE monitors SET config = 'deadbeef:AAAA' WHERE id = $1`, bad.ID)
		ms, err := e.Monitors(t.Context(), []int64{good.ID, bad.ID})
		if err != nil || len(ms) != 1 || ms[0].ID != good.ID {
			t.Fatalf("got %+v, %v, want the readable one", ms, err)
		}
		if _, active, err := e.ActiveMonitor(t.Context(), bad.ID); err != nil || active {
			t.Errorf("the unreadable one is active: %t, %v", active, err)
		}
		list, err := e.ListMonitors(t.Context(), uptime.MonitorFilter{Limit: 10})
		if err != nil || len(list) != 2 || list[1].Problem == "" || list[0].Problem != "" {
			t.Errorf("got %+v, %v, want both listed and the second's problem", list, err)
		}
	})
}

// TestARowThatMakesNoSenseIsParkedAlone is FAULTS 9, with rows that nothing of ours
// writes: each is shown with its problem, and the others go on.
func TestARowThatMakesNoSenseIsParkedAlone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		first := e.Monitor(t, owner, nil)
		var bad []int64
		for _, change := range []string{`interval_us = 0`, `interval_us = -10000000`, `interval_us = 1000000000000000`, `timeout_us = 0`,
			`regions = '{'`, `tags = 'prod'`, `assertions = '[{"source":"duration","op":"lt","value":NaN}]'`} {
			m := e.Monitor(t, owner, nil)
			execute(t, e, `UPDATE monitors SET `+change+` WHERE id = $1`, m.ID)
			bad = append(bad, m.ID)
		}
		last := e.Monitor(t, owner, nil)
		entries, err := e.ActiveMonitors(t.Context(), 0, len(bad)+2)
		if err != nil {
			t.Fatal(err)
		}
		active := map[int64]bool{}
		for _, entry := range entries {
			active[entry.MonitorID] = true
		}
		if !active[first.ID] || !active[last.ID] || active[bad[0]] || active[bad[4]] {
			t.Errorf("active: %v, want the good ones, and none without a possible schedule", active)
		}
		ms, err := e.Monitors(t.Context(), append(bad, first.ID, last.ID))
		if err != nil || len(ms) != 2 {
			t.Errorf("got %d monitors, %v, want the two good ones", len(ms), err)
		}
		e.Record(t, manager.Decide, storetest.Result(first, 0, up), storetest.Result(last, 0, up))
		list, err := e.ListMonitors(t.Context(), uptime.MonitorFilter{Limit: 20})
		if err != nil || len(list) != len(bad)+2 {
			t.Fatalf("listed %d, %v, want all", len(list), err)
		}
		for _, v := range list {
			if good := v.ID == first.ID || v.ID == last.ID; good != (v.Problem == "") || good != (v.State.Verdict == up) {
				t.Errorf("monitor %d: problem %q and %s; want a problem and unknown, or up", v.ID, v.Problem, v.State.Verdict)
			}
		}
	})
}

func TestTheRunningHourIsCounted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m, other := e.Monitor(t, owner, nil), e.Monitor(t, owner, nil)
		at := uptime.Now()
		r := storetest.Result(m, 0, up)
		r.Kind, r.ScheduledAt = uptime.KindManual, at
		confirmation := r
		confirmation.Attempt = 1
		e.Record(t, manager.Decide, r, confirmation, storetest.Result(other, 0, down))
		for _, step := range []time.Duration{time.Hour, 24 * time.Hour} {
			got, err := e.Buckets(t.Context(), owner, m.ID, at.Add(-step), at.Add(time.Minute), step)
			if err != nil || len(got) != 1 {
				t.Fatalf("%s: got %+v, %v, want one step", step, got, err)
			}
			b := got[0]
			if !b.Start.Equal(at.Truncate(step)) || b.Up != 1 || b.Down != 0 || b.MeanMicro != 12345 {
				t.Errorf("%s: got %+v, want one up of 12345 µs", step, b)
			}
			if off := float64(b.P50Micro)/12345 - 1; off < -0.1 || off > 0.1 {
				t.Errorf("%s: the median is %d µs, more than 10%% from 12345", step, b.P50Micro)
			}
		}
	})
}

// open reaches the database behind the store's back.
func open(t *testing.T, e storetest.Env) *sql.DB {
	t.Helper()
	driver, source := "pgx", e.Database
	if path, ok := strings.CutPrefix(e.Database, "sqlite:"); ok {
		driver, source = "sqlite", path
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// execute changes the database behind the store's back.
func execute(t *testing.T, e storetest.Env, q string, args ...any) {
	t.Helper()
	db := open(t, e)
	defer db.Close()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), q, args...); err != nil {
		t.Fatal(err)
	}
}
