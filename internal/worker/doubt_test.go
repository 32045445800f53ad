package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// sick is a machine that has no way out.
type sick struct{}

func (sick) Check(context.Context, uptime.Reason, time.Time, []string) (bool, uptime.Reason, map[string]string) {
	return false, uptime.OwnNetwork, nil
}

func TestWhatWasToldIsBelievedAndAMissingPingIsNotAfterAStall(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reason uptime.Reason
		health Health
		stall  time.Duration // how long ago one of 9 s ended; 0: none
		want   uptime.Reason
	}{
		"a job's failure, on a sick machine":        {uptime.ReportedFail, sick{}, time.Second, uptime.ReasonOK},
		"a person's word, on a sick machine":        {uptime.SetByHand, sick{}, time.Second, uptime.ReasonOK},
		"a group, on a sick machine":                {uptime.Members, sick{}, 0, uptime.ReasonOK},
		"a missing ping, on a sick machine":         {uptime.MissedBeat, sick{}, 0, uptime.OwnNetwork},
		"a missing ping, right after a stall":       {uptime.MissedBeat, nil, time.Second, uptime.Starved},
		"a missing ping, well after a stall":        {uptime.MissedBeat, nil, 6 * time.Second, uptime.ReasonOK},
		"a refused connection, after a stall":       {uptime.ConnRefused, nil, time.Second, uptime.ReasonOK},
		"a missing ping, on a machine that is well": {uptime.MissedBeat, nil, 0, uptime.ReasonOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				w, err := New(Options{Queue: f, Store: f, Recorder: f, Health: tt.health, Compile: func(uptime.Monitor) (probe.Check, error) { return f, nil }})
				if err != nil {
					t.Fatal(err)
				}
				if tt.stall > 0 {
					w.stall = stall{end: time.Now().Add(-tt.stall), length: 9 * time.Second}
				}
				got, _ := w.doubt(t.Context(), probe.Outcome{Verdict: uptime.VerdictDown, Reason: tt.reason}, time.Now(), 10*time.Second)
				if got != tt.want {
					t.Errorf("doubted as %q, want %q", got, tt.want)
				}
			})
		})
	}
}
