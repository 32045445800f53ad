package probe

import (
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/uptime"
)

func TestATimeOfDayComesOnceOnEveryDay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ zone, expr, from, want string }{
		{"Europe/London", "30 1 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},       // set forward over it
		{"Europe/London", "30 1 * * *", "2026-10-24T12:00:00Z", "2026-10-25T01:30:00Z 2026-10-26T01:30:00Z"},       // shown twice
		{"Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},       // set forward over it
		{"Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T01:30:00Z 2026-10-26T01:30:00Z"},       // shown twice
		{"America/New_York", "30 1 * * *", "2026-10-31T12:00:00Z", "2026-11-01T06:30:00Z 2026-11-02T06:30:00Z"},    // shown twice
		{"America/New_York", "30 1 * * *", "2026-03-07T12:00:00Z", "2026-03-08T06:30:00Z 2026-03-09T05:30:00Z"},    // just before the change
		{"America/New_York", "0 3 * * *", "2026-03-07T12:00:00Z", "2026-03-08T07:00:00Z 2026-03-09T07:00:00Z"},     // at the change
		{"Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00:00Z", "2026-04-04T15:15:00Z 2026-04-05T15:15:00Z"}, // half an hour back
		{"Asia/Kathmandu", "0 0 * * *", "2026-01-01T00:00:00Z", "2026-01-01T18:15:00Z 2026-01-02T18:15:00Z"},       // an odd zone
		{"UTC", "*/30 * * * *", "2026-03-28T23:59:59Z", "2026-03-29T00:00:00Z 2026-03-29T00:30:00Z"},               // no change at all
		{"Europe/London", "*/30 * * * *", "2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z 2026-03-29T01:30:00Z"},     // goes on over the change
		{"Europe/London", "30 1 * * *", "2026-10-25T00:30:04Z", "2026-10-26T01:30:00Z 2026-10-27T01:30:00Z"},       // it ran the first time
	} {
		t.Run(tt.zone+" "+tt.expr+" after "+tt.from, func(t *testing.T) {
			t.Parallel()
			c, err := parseCron(tt.expr, tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			from, err := time.Parse(time.RFC3339, tt.from)
			if err != nil {
				t.Fatal(err)
			}
			first := c.next(from)
			got := first.UTC().Format(time.RFC3339) + " " + c.next(first).UTC().Format(time.RFC3339)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestACronJobIsExpectedOnceOnTheDayOfAChange lives through four days around each
// change of the clock in London, with a job that runs at the first, or the second, of
// two half past ones, and stops after the third day.
func TestACronJobIsExpectedOnceOnTheDayOfAChange(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pings []string // of the days 1 to 3
		down  string   // on the fourth
	}{
		"forward, run when the clock has jumped": {[]string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:05Z", "2026-03-30T00:30:00Z"}, "2026-03-31T00:40:00Z"},
		"forward, run as long after midnight":    {[]string{"2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"}, "2026-03-31T00:40:00Z"},
		"back, run the first time":               {[]string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}, "2026-10-27T01:40:00Z"},
		"back, run the second time":              {[]string{"2026-10-24T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}, "2026-10-27T01:40:00Z"},
		"by a clock that is a little ahead":      {[]string{"2026-10-24T00:29:58Z", "2026-10-25T00:29:57Z", "2026-10-26T01:29:59Z"}, "2026-10-27T01:40:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var pings []time.Time
				for _, p := range append(tt.pings, tt.down) {
					at, err := time.Parse(time.RFC3339, p)
					if err != nil {
						t.Fatal(err)
					}
					pings = append(pings, at)
				}
				facts, env := &passiveFacts{}, testEnv()
				env.Facts = facts
				time.Sleep(time.Until(pings[0]))
				c, err := New(env).Compile(uptime.Monitor{Type: "heartbeat", Config: []byte(`{"cron":"30 1 * * *","timezone":"Europe/London","grace":"10m"}`), UpdatedAt: pings[0]})
				if err != nil {
					t.Fatal(err)
				}
				until := pings[3].Add(time.Hour)
				for next := 0; time.Now().Before(until); time.Sleep(time.Minute) {
					for next < 3 && !time.Now().Before(pings[next]) {
						facts.beat.Last = uptime.Ping{At: pings[next]}
						next++
					}
					want := uptime.VerdictUp
					if time.Now().After(pings[3]) {
						want = uptime.VerdictDown
					}
					if out := c.Run(t.Context(), Attempt{}); out.Verdict != want {
						t.Fatalf("at %s: %s %s, want %s", time.Now().UTC(), out.Verdict, out.Message, want)
					}
				}
			})
		})
	}
}

// FuzzCron looks for an expression that is taken and then does not go on, or goes back.
func FuzzCron(f *testing.F) {
	for _, expr := range []string{"30 1 * * *", "*/5 * * * * *", "@hourly", "0 0 29 2 *", "0 0 L * *", "0 0 * * 5#2", "0 0 1W * *", "0-59/7 1,2 * JAN-DEC MON", "0 0 1 1 * 2030", "", "* * * *", "*/0 * * * *"} {
		f.Add(expr, int64(1774742400))
	}
	f.Fuzz(func(t *testing.T, expr string, unix int64) {
		if len(expr) > 100 {
			return
		}
		c, err := parseCron(expr, "Europe/London")
		if err != nil {
			return
		}
		at := time.Unix(unix%(1<<32), 0)
		for range 5 {
			next := c.next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) {
				t.Fatalf("%q: %s is followed by %s", expr, at, next)
			}
			at = next
		}
	})
}
