package worker

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/uptime"
)

// story runs a worker's teller through spans in which twenty monitors, checked each
// second, find this; it returns what was told of our network.
func story(t *testing.T, spans []span) []string {
	var told []string
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		w := &Worker{o: Options{Store: f, Region: "default"}.defaults(), own: newTrouble()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.tellTrouble(ctx) }()
		for _, s := range spans {
			for end := time.Now().Add(s.length); time.Now().Before(end); {
				for monitor := range int64(20) {
					v, reason := s.verdict, s.reason
					if monitor < s.local {
						v, reason = uptime.VerdictUp, uptime.ReasonOK
					}
					w.own.saw(monitor, v, reason, time.Now(), s.interval())
				}
				time.Sleep(s.interval())
			}
		}
		cancel()
		<-done
		for _, what := range f.told {
			if slices.Contains([]string{"own_network true", "own_network false"}, what) {
				told = append(told, what)
			}
		}
	})
	return slices.Compact(told) // that there is trouble, or none, is stated again and again
}

type span struct {
	length  time.Duration
	verdict uptime.Verdict
	reason  uptime.Reason
	local   int64         // monitors that are up all the same, being on this machine
	every   time.Duration // 0: a second
}

func (s span) interval() time.Duration { return max(s.every, time.Second) }

func TestTroubleOfOurOwnIsToldOnce(t *testing.T) {
	const open, over = "own_network true", "own_network false"
	well := span{length: time.Minute, verdict: uptime.VerdictUp}
	lost := span{length: 5 * time.Minute, verdict: uptime.VerdictUnknown, reason: uptime.OwnNetwork}
	blip := lost
	blip.length = 5 * time.Second
	half := lost
	half.local = 5
	slow := lost
	slow.every, slow.length = 5*time.Minute, 30*time.Minute
	down := span{length: time.Minute, verdict: uptime.VerdictDown, reason: uptime.ConnTimeout}
	busy := span{length: time.Minute, verdict: uptime.VerdictUnknown, reason: uptime.Starved}
	for name, c := range map[string]struct {
		spans []span
		want  []string
	}{
		"all is well: what a former life left is ended": {[]span{well}, []string{over}},
		"targets are down":                             {[]span{well, down, well}, []string{over}},
		"a worker is busy":                             {[]span{well, busy, well}, []string{over}},
		"a blip is not told":                           {[]span{well, blip, well, blip, well}, []string{over}},
		"our network is lost, once":                    {[]span{well, lost, well}, []string{over, open, over}},
		"twice":                                        {[]span{well, lost, well, lost, well}, []string{over, open, over, open, over}},
		"it is lost and targets are down after":        {[]span{well, lost, down}, []string{over, open, over}},
		"from the start on":                            {[]span{lost}, []string{open}},
		"what is on this machine is seen all the same": {[]span{well, half, well}, []string{over, open, over}},
		"of monitors that are checked seldom":          {[]span{well, slow, well}, []string{over, open, over}},
	} {
		if got := story(t, c.spans); !slices.Equal(got, c.want) {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

// Monitors that were deleted while they could not be seen keep nothing open.
func TestTroubleOfDeletedMonitorsEnds(t *testing.T) {
	lost := span{length: time.Minute, verdict: uptime.VerdictUnknown, reason: uptime.OwnNetwork}
	silence := span{length: 10 * time.Minute, verdict: uptime.VerdictUnknown, reason: uptime.Starved}
	if got, want := story(t, []span{lost, silence}), []string{"own_network true", "own_network false"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A worker that is well says so for as long as it runs: another's trouble may end by its
// end, and then nobody else ends the incident.
func TestAWorkerThatIsWellSaysSoAgain(t *testing.T) {
	for name, broken := range map[string]bool{"the database is well": false, "it is not": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{broken: broken}
				w := &Worker{o: Options{Store: f}.defaults(), own: newTrouble()}
				w.own.saw(1, uptime.VerdictUp, uptime.ReasonOK, time.Now(), time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				w.tellTrouble(ctx)
				if n := len(f.told); n < 2*9 || n > 2*11 {
					t.Errorf("it was said %d times in five minutes, want about ten for each kind", n)
				}
			})
		})
	}
}
