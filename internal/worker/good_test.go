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
		m := &uptime.Monitor{Interval: time.Minute, UpdatedAt: time.Now()}
		check := func(v uptime.Verdict) (kept bool) {
			out := probe.Outcome{Verdict: v}
			if v != uptime.VerdictUp || g.wanted(time.Now()) {
				out.Evidence = &uptime.Evidence{}
			}
			defer time.Sleep(time.Minute)
			return g.saw(out, time.Now(), m)
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

// A thousand monitors that start together do not ask together; and when a worker starts
// that knew them before, they have the hour within which their evidence was due anyhow.
func TestTheFirstEvidenceIsSpread(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for name, tt := range map[string]struct {
		age, soon, latest time.Duration // since the definition changed; of the tenth; of all
	}{
		"new monitors":           {0, time.Minute, goodFirst},
		"a worker starts again":  {24 * time.Hour, 6 * time.Minute, goodEvery},
		"a definition is edited": {time.Second, time.Minute, goodFirst},
	} {
		early := 0
		for range 1000 {
			var g goodEvidence
			g.saw(probe.Outcome{Verdict: uptime.VerdictUp}, start, &uptime.Monitor{Interval: time.Minute, UpdatedAt: start.Add(-tt.age)})
			if g.wanted(start.Add(tt.soon)) {
				early++
			}
			if !g.wanted(start.Add(tt.latest + time.Second)) {
				t.Fatalf("%s: one is not asked for its evidence within %s", name, tt.latest)
			}
		}
		if early < 50 || early > 200 {
			t.Errorf("%s: %d of 1000 are due within %s, want about 100", name, early, tt.soon)
		}
	}
}

// Five thousand are due at once: a burst is brought, then one of a hundred checks, and
// the rest comes in its turn.
func TestEvidenceOfGoodChecksIsAShareOfAll(t *testing.T) {
	t.Parallel()
	var b goodBudget
	brought := func(checks int) (n int) {
		for range checks {
			b.check()
			if b.take() {
				n++
			}
		}
		return n
	}
	if n := brought(1000); n < goodBurst || n > goodBurst+1000/goodShare+1 {
		t.Errorf("%d of the first 1000 checks brought evidence, want a burst of %d and 1 of %d", n, goodBurst, goodShare)
	}
	if n := brought(100_000); n < 950 || n > 1050 {
		t.Errorf("%d of 100,000 checks brought evidence, want about 1000", n)
	}
	for range 2 * goodBurst * goodShare { // nothing is due for a while
		b.check()
	}
	if n := brought(goodBurst); n != goodBurst {
		t.Errorf("%d of %d checks brought evidence after a while, want all", n, goodBurst)
	}
}
