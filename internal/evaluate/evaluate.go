// Package evaluate is the pure rule from results to state: the evaluator inside
// the recorder's box of the diagram. Next folds one result into a monitor's state
// and says whether its verdict changed; nothing here reads a clock or a store.
//
// Invariants: a state is the fold of the results that were evaluated, in ResultKey
// order, so it can be recomputed from what is stored; a result at or before its
// region's cursor, of an older revision or of a region the monitor does not have
// changes nothing, so duplicates and late results neither open nor close; an
// unknown result is the identity unless the auditor states a gap; and nothing but
// good results in a row ends an outage, a gap in the middle of it included.
// It cannot fail: every input has an answer.
package evaluate

import (
	"slices"
	"time"

	"vedette/internal/uptime"
)

// Next is the state after r, and the transition if the monitor's verdict changed.
// s is not modified and may share nothing with what is returned, or everything if
// r changes nothing. The zero State is that of a monitor never checked.
func Next(s uptime.State, r uptime.CheckResult, p uptime.Policy) (uptime.State, *uptime.Transition) {
	if Ignored(s, r, p) || (r.Verdict == uptime.VerdictUp && r.Kind != uptime.KindGap && expected(s, r.Region, p)) {
		return s, nil
	}
	next := s
	next.MonitorID = r.MonitorID
	next.Regions = regionsOf(s, p)
	g := &next.Regions[slices.Index(p.Regions, r.Region)]
	switch {
	case r.Kind == uptime.KindGap:
		blind(g, r)
	case r.Verdict == uptime.VerdictDown:
		fail(g, r, p)
	default:
		succeed(g, r, p)
	}
	g.Cursor, g.Attempt = r.ScheduledAt, r.Attempt
	return next, conclude(&next, g, r)
}

// expected reports whether an up result of region is what s says already. The
// store does not even look at s then, so it must not move a cursor.
func expected(s uptime.State, region string, p uptime.Policy) bool {
	if s.Steady() {
		return true
	}
	return Settled(s, region) && slices.EqualFunc(s.Regions, p.Regions, func(g uptime.RegionState, name string) bool { return g.Region == name })
}

// Settled reports whether region is up without a doubt, so that its cursor tells
// nothing of the up results that came since.
func Settled(s uptime.State, region string) bool {
	for i := range s.Regions {
		if g := &s.Regions[i]; g.Region == region {
			return g.Verdict == uptime.VerdictUp && g.Failures == 0
		}
	}
	return false
}

// Ignored reports whether r says nothing about s, whatever its verdict: it is a
// duplicate, late, of another revision, region or monitor, marked as superseded,
// or could not observe.
func Ignored(s uptime.State, r uptime.CheckResult, p uptime.Policy) bool {
	observed := r.Kind == uptime.KindGap || r.Verdict.Good() || r.Verdict == uptime.VerdictDown
	return !observed || r.Superseded || r.Revision < p.Revision || !slices.Contains(p.Regions, r.Region) ||
		(s.MonitorID != 0 && s.MonitorID != r.MonitorID) || Folded(s, r.ResultKey)
}

// Folded reports whether the result of key k is at or before its region's cursor:
// it, or a later one, was folded into s already.
func Folded(s uptime.State, k uptime.ResultKey) bool {
	for i := range s.Regions {
		g := &s.Regions[i]
		if g.Region != k.Region || g.Cursor.IsZero() {
			continue
		}
		return k.ScheduledAt.Before(g.Cursor) || (k.ScheduledAt.Equal(g.Cursor) && k.Attempt <= g.Attempt)
	}
	return false
}

// Forget is s without its belief in an outage, if it has one: regions that are down
// become unknown and a new outage needs its confirmations again. It is for a
// monitor whose incident was ended by a person (paused, say) and not by good
// results. Regions that are down without making the monitor so stay as they are;
// so do those of several that were lost sight of, since whether they ever made the
// monitor down together is not known.
func Forget(s uptime.State) uptime.State {
	if s.Verdict != uptime.VerdictDown && (len(s.Regions) != 1 || !suspect(s.Regions[0])) {
		return s
	}
	s.Regions = slices.Clone(s.Regions)
	for i := range s.Regions {
		if g := &s.Regions[i]; suspect(*g) {
			*g = uptime.RegionState{Region: g.Region, Since: g.Since, Cursor: g.Cursor, Attempt: g.Attempt}
		}
	}
	s.Verdict, s.Reason, s.Message = combine(s.Regions)
	return s
}

// suspect reports whether a region is down as far as we know.
func suspect(g uptime.RegionState) bool {
	return g.Verdict == uptime.VerdictDown || g.Was == uptime.VerdictDown
}

// outage reports whether more than half of the regions are down as far as we know.
func outage(regions []uptime.RegionState) bool {
	n := 0
	for i := range regions {
		if suspect(regions[i]) {
			n++
		}
	}
	return 2*n > len(regions)
}

// regionsOf is a copy of the states of the policy's regions, in its order. Regions
// that the monitor no longer has are dropped, new ones are unknown, and so are
// those whose stored verdict is none.
func regionsOf(s uptime.State, p uptime.Policy) []uptime.RegionState {
	out := make([]uptime.RegionState, len(p.Regions))
	for i, name := range p.Regions {
		out[i].Region = name
		for j := range s.Regions {
			if s.Regions[j].Region == name {
				out[i] = s.Regions[j]
			}
		}
		if out[i].Verdict > uptime.VerdictDown {
			out[i].Verdict = uptime.VerdictUnknown
		}
	}
	return out
}

// conclude sets the combined verdict after region g took r.
func conclude(s *uptime.State, g *uptime.RegionState, r uptime.CheckResult) *uptime.Transition {
	from := s.Verdict
	s.Verdict, s.Reason, s.Message = combine(s.Regions)
	if s.Verdict == from {
		return nil
	}
	at := g.Since
	if s.Verdict == uptime.VerdictDown {
		at = downSince(s.Regions)
	}
	if at.Before(s.Since) {
		at = s.Since // verdicts follow one another, whatever the order of starts
	}
	s.Since = at
	seen := r.Finished()
	if r.StartedAt.IsZero() {
		seen = r.ScheduledAt // a statement, not a check
	}
	return &uptime.Transition{From: from, To: s.Verdict, Reason: s.Reason, Message: s.Message, At: at, Seen: seen}
}

// downSince is when more than half of the regions had become down.
func downSince(regions []uptime.RegionState) time.Time {
	var since []time.Time
	for i := range regions {
		if regions[i].Verdict == uptime.VerdictDown {
			since = append(since, regions[i].Since)
		}
	}
	slices.SortFunc(since, time.Time.Compare)
	return since[len(regions)/2]
}
