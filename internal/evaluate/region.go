package evaluate

import (
	"time"

	"vedette/internal/uptime"
)

// fail folds a failing result: a streak that is long enough makes the region down,
// and any failing result ends a recovery that has begun. A region that was down
// before a gap is down again at once: that outage was confirmed already.
func fail(g *uptime.RegionState, r uptime.CheckResult, p uptime.Policy) {
	if g.Failures == 0 {
		g.FirstBad = r.StartedAt
	}
	g.Failures = min(g.Failures+1, uptime.MaxConfirm+1)
	g.Successes = 0
	g.FirstGood = time.Time{}
	if g.Verdict == uptime.VerdictDown {
		g.Reason, g.Message = r.Reason, r.Message
		return
	}
	if g.Was == uptime.VerdictDown || g.Failures >= 1+min(max(p.Confirm.Failures, 0), uptime.MaxConfirm) {
		become(g, uptime.VerdictDown, r)
		g.Since = g.FirstBad
	}
}

// succeed folds a good result, up or degraded. It is believed at once unless the
// region is in an outage, which ends with Confirm.Successes of them in a row.
func succeed(g *uptime.RegionState, r uptime.CheckResult, p uptime.Policy) {
	g.Failures = 0
	g.FirstBad = time.Time{}
	since := r.StartedAt
	if suspect(*g) {
		if g.Successes == 0 {
			g.FirstGood = r.StartedAt
		}
		g.Successes++
		if g.Successes < min(p.Confirm.Successes, uptime.MaxConfirm) {
			return
		}
		since = g.FirstGood
	}
	if g.Verdict != r.Verdict {
		g.Since = since
	}
	become(g, r.Verdict, r)
}

// blind folds the auditor's statement that nobody looked. Streaks end: what is on
// either side of a gap is not "in a row".
func blind(g *uptime.RegionState, r uptime.CheckResult) {
	was := g.Was
	if g.Verdict == uptime.VerdictDown {
		was = uptime.VerdictDown
	}
	if g.Verdict != uptime.VerdictUnknown || g.Since.IsZero() {
		g.Since = r.ScheduledAt
	}
	g.Failures = 0
	g.FirstBad = time.Time{}
	become(g, uptime.VerdictUnknown, r)
	g.Was = was
}

// become gives g the verdict v with the words of r, and ends a recovery's count.
func become(g *uptime.RegionState, v uptime.Verdict, r uptime.CheckResult) {
	g.Verdict, g.Reason, g.Message = v, r.Reason, r.Message
	g.Was, g.Successes = uptime.VerdictUnknown, 0
	g.FirstGood = time.Time{}
}

// combine is the verdict of all regions together, with the words of the first one
// (in the monitor's order) that says so:
//
//   - down when more than half of the monitor's regions are;
//   - unknown when more than half are down or were down when we lost sight of them
//     (nobody has seen the outage end), or when no region is known;
//   - degraded when some region is degraded or down;
//   - up otherwise. A region that cannot see does not speak against the others.
func combine(regions []uptime.RegionState) (uptime.Verdict, uptime.Reason, string) {
	var of [4]int
	for i := range regions {
		if v := regions[i].Verdict; v <= uptime.VerdictDown {
			of[v]++
		} else {
			of[uptime.VerdictUnknown]++ // a number that is no verdict is no evidence
		}
	}
	switch n := len(regions); {
	case 2*of[uptime.VerdictDown] > n:
		return words(regions, uptime.VerdictDown, uptime.VerdictDown)
	case outage(regions), of[uptime.VerdictUnknown] == n:
		return words(regions, uptime.VerdictUnknown, uptime.VerdictUnknown)
	case of[uptime.VerdictDown] > 0:
		return words(regions, uptime.VerdictDegraded, uptime.VerdictDown)
	case of[uptime.VerdictDegraded] > 0:
		return words(regions, uptime.VerdictDegraded, uptime.VerdictDegraded)
	}
	return uptime.VerdictUp, uptime.ReasonOK, ""
}

// words are those of the first region whose verdict is of, for the verdict v.
func words(regions []uptime.RegionState, v, of uptime.Verdict) (uptime.Verdict, uptime.Reason, string) {
	for i := range regions {
		if g := &regions[i]; g.Verdict == of && (g.Reason != uptime.ReasonOK || of != uptime.VerdictUnknown) {
			return v, g.Reason, g.Message
		}
	}
	return v, uptime.ReasonOK, ""
}
