package probe

import (
	"context"
	"time"

	"vedette/internal/uptime"
)

// Types that dial nobody judge by Env.Facts. Whatever keeps them from reading those
// is ours, and so never down: neither an error of the database nor its slowness.

// checkPassive refuses what has no meaning for a type that dials nobody.
func (b *builder) checkPassive() {
	if b.monitor.Confirm.Failures != 0 {
		b.problems.Add("confirm.failures", "must be 0 for this type: asking again gives the same answer")
	}
}

// passive makes a check of a function that judges by facts.
func (b *builder) passive(judge func(r *session, facts Facts) *fault) Check {
	return &passiveCheck{base: b.base, facts: b.env.Facts, judge: judge}
}

// passiveCheck is a check of a type that dials nobody.
type passiveCheck struct {
	base
	facts Facts
	judge func(r *session, facts Facts) *fault
}

// Run implements Check.
func (c *passiveCheck) Run(parent context.Context, attempt Attempt) Outcome {
	r := &session{base: &c.base, seen: new(uptime.Evidence)}
	r.begin(parent, attempt)
	defer r.end()
	if c.facts == nil {
		return r.conclude(unknown(uptime.BadConfig, "A monitor of this type is checked only where it is stored: what it judges by is in the database."), 0, nil)
	}
	f := c.judge(r, c.facts)
	return r.conclude(f, time.Since(r.start), nil)
}

// factsFault is what an error of Facts says.
func (r *session) factsFault(err error) *fault {
	if r.parent.Err() != nil {
		return unknown(uptime.Aborted, "The check was stopped before it ended.")
	}
	if uptime.Is(err, uptime.NotFound) {
		return unknown(uptime.BadConfig, "What this monitor judges by is not there; save it again.")
	}
	return unknown(uptime.StorageFailed, "The database did not say what this monitor judges by.")
}
