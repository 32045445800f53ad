package store_test

import (
	"slices"
	"testing"
	"time"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// TestResultsAreFoundAcrossAChangeOfSchedule pages through results of which the
// older followed another interval, all of them and those that are not up.
func TestResultsAreFoundAcrossAChangeOfSchedule(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m := e.Monitor(t, owner, nil)
		other := e.Monitor(t, owner, nil)
		began := m.ScheduledSince.Add(-time.Hour)
		for _, q := range []string{`UPDATE monitors SET scheduled_since = $2 WHERE id = $1`, `UPDATE monitor_schedules SET since = $2 WHERE monitor_id = $1`} {
			execute(t, e, q, m.ID, began.UnixMicro())
		}
		m.ScheduledSince = began
		var want []uptime.ResultKey
		record := func(m uptime.Monitor, verdicts ...uptime.Verdict) {
			for n, v := range verdicts {
				r := storetest.Result(m, n, v)
				e.Record(t, manager.Decide, r, storetest.Result(other, n, down))
				want = append(want, r.ResultKey)
			}
		}
		record(m, up, down, up, up, unknown)
		m.Interval = 7 * time.Second
		m, _, err := e.UpdateMonitor(t.Context(), owner, m)
		if err != nil {
			t.Fatal(err)
		}
		record(m, up, down)
		slices.Reverse(want)

		for _, c := range []struct {
			failing bool
			want    []uptime.ResultKey
		}{{false, want}, {true, []uptime.ResultKey{want[0], want[2], want[5]}}} {
			var got []uptime.ResultKey
			var before uptime.ResultKey
			for {
				page, err := e.ListResults(t.Context(), owner, m.ID, began, m.ScheduledSince.Add(time.Hour), before, c.failing, 2)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					got = append(got, r.ResultKey)
					if r.Verdict == down && (r.Evidence == nil || r.Evidence.Status != 503) {
						t.Errorf("%v has the evidence %+v, want the status 503", r.ResultKey, r.Evidence)
					}
				}
				if len(page) < 2 {
					break
				}
				before = page[1].ResultKey
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("failing %t: got %v\nwant %v", c.failing, got, c.want)
			}
		}
	})
}
