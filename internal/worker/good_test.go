package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// A day of checks a minute: evidence is kept about once an hour, not of the first good
// check, and at once when a failure is over.
func TestEvidenceOfGoodChecksIsKeptSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g goodEvidence
		check := func(v uptime.Verdict) (kept bool) {
			out := probe.Outcome{Verdict: v}
			if v != uptime.VerdictUp || g.wanted(time.Now()) {
				out.Evidence = &uptime.Evidence{}
			}
			defer time.Sleep(time.Minute)
			return g.saw(out, time.Now(), time.Minute)
		}
		if check(uptime.VerdictUp) {
			t.Error("the first good check is kept")
		}
		kept := 0
		for range 24 * 60 {
			if check(uptime.VerdictUp) {
				kept++
			}
		}
		if kept < 22 || kept > 26 {
			t.Errorf("kept %d in a day, want about 24", kept)
		}
		if check(uptime.VerdictDown) || check(uptime.VerdictUnknown) {
			t.Error("a check that is not good is kept")
		}
		if !check(uptime.VerdictUp) || check(uptime.VerdictUp) {
			t.Error("want the first good check after a failure kept, and not the second")
		}
		if check(uptime.VerdictDegraded) {
			t.Error("a slow check right after is kept")
		}
		time.Sleep(2 * time.Hour)
		if !check(uptime.VerdictDegraded) {
			t.Error("a slow check is good, and is not kept after hours")
		}
	})
}

// A thousand monitors that start together do not ask together.
func TestTheFirstEvidenceIsSpread(t *testing.T) {
	t.Parallel()
	start := time.Now()
	early := 0
	for range 1000 {
		var g goodEvidence
		g.saw(probe.Outcome{Verdict: uptime.VerdictUp}, start, time.Minute)
		if g.wanted(start.Add(time.Minute)) {
			early++
		}
		if !g.wanted(start.Add(goodFirst + time.Second)) {
			t.Fatal("a monitor is not asked for its evidence within ten minutes")
		}
	}
	if early < 50 || early > 200 {
		t.Errorf("%d of 1000 are due after one of ten minutes, want about 100", early)
	}
}
