package incident

import (
	"maps"
	"time"

	"vedette/internal/evaluate"
	"vedette/internal/uptime"
)

// Manager decides what results mean for incidents, alerts and gaps. It has no
// state: the zero Manager is ready, and may be used by many goroutines.
type Manager struct{}

// Resolution of an incident that good results ended.
const resolutionRecovered = "recovered"

// Decide folds the results of one monitor and says all that is to be written. It
// is pure: the same facts give the same change, so a transaction may be repeated.
//
// An incident opens when the monitor becomes down and none is open, and is resolved
// when the monitor is up or degraded again; between the two the verdict may pass
// through unknown any number of times without a word. A monitor that is believed
// down without an open incident had it ended by a person; it starts afresh.
func (Manager) Decide(f uptime.Facts) uptime.Change {
	d := decision{f: &f, state: f.State, open: copyOf(f.Open), lastGood: f.LastGood, lastSeen: maps.Clone(f.LastSeen),
		policy: uptime.Policy{Confirm: f.Monitor.Confirm, Interval: f.Monitor.Interval, Regions: f.Monitor.Regions, Revision: f.Monitor.Revision}}
	if f.Open == nil {
		d.state = evaluate.Forget(d.state)
	} else {
		d.incidents = 1
	}
	if f.Gap != nil {
		g := *f.Gap
		d.gap = &g
	}
	d.step(0)
	for i := range f.Results {
		d.take(i)
	}
	c := d.steps[0]
	c.State, c.Superseded, c.Transition, c.More = d.state, d.superseded, d.transition, d.steps[1:]
	return c
}

// decision is one Decide under way.
type decision struct {
	f          *uptime.Facts
	policy     uptime.Policy
	state      uptime.State
	superseded []uptime.ResultKey
	transition *uptime.Transition // from the first verdict to the last
	lastGood   time.Time
	lastSeen   map[string]uptime.Sight

	open *uptime.Incident // the open incident: a copy of Facts.Open, or one of a step
	gap  *uptime.Gap      // the open gap, likewise
	// steps are what is to be written. Each holds one incident, Facts.Open before
	// those that open here, with all that is said of it; and likewise one gap.
	steps           []uptime.Change
	incidents, gaps int // that have a step
	home            int // the step of the open incident
}

// take folds result i.
func (d *decision) take(i int) {
	r := d.f.Results[i]
	if d.late(&r) {
		if !r.Superseded {
			d.superseded = append(d.superseded, r.ResultKey)
		}
		return
	}
	if evaluate.Ignored(d.state, r, d.policy) {
		return // it could not observe
	}
	next, t := evaluate.Next(d.state, r, d.policy)
	d.state = next
	if t != nil {
		d.merge(*t)
		d.watch(*t)
	}
	switch {
	case next.Verdict == uptime.VerdictDown && d.open == nil && t != nil:
		d.begin(*t, i)
	case next.Verdict == uptime.VerdictDown && d.open != nil && next.Reason != d.open.Reason:
		d.rename(&r)
	case next.Verdict.Good() && d.open != nil && r.Verdict.Good():
		d.end(&r)
	}
	if r.Verdict.Good() && r.StartedAt.After(d.lastGood) {
		d.lastGood = r.StartedAt
	}
	if r.Keep && r.Verdict.Good() && r.Evidence != nil {
		if d.lastSeen == nil {
			d.lastSeen = map[string]uptime.Sight{}
		}
		d.lastSeen[r.Region] = uptime.Sight{At: r.StartedAt, Region: r.Region, Evidence: *r.Evidence}
	}
}

// late reports whether r must not be evaluated any more. The up results of a
// settled region leave no cursor, so there the newest stored one counts.
func (d *decision) late(r *uptime.CheckResult) bool {
	if r.Superseded || r.Revision < d.policy.Revision || evaluate.Folded(d.state, r.ResultKey) {
		return true
	}
	return evaluate.Settled(d.f.State, r.Region) && r.ScheduledAt.Before(d.f.Latest[r.Region])
}

// merge makes d's transition reach from the first verdict to the newest. What
// ended where it began was no change.
func (d *decision) merge(t uptime.Transition) {
	if d.transition != nil {
		t.From = d.transition.From
	}
	d.transition = &t
	if t.From == t.To {
		d.transition = nil
	}
}

// step is the n-th step, which is added when it is not there yet.
func (d *decision) step(n int) *uptime.Change {
	if n == len(d.steps) {
		d.steps = append(d.steps, uptime.Change{})
	}
	return &d.steps[n]
}

// begin opens an incident that result i confirmed.
func (d *decision) begin(t uptime.Transition, i int) {
	in := &uptime.Incident{
		Kind: uptime.IncidentTarget, MonitorID: d.f.Monitor.ID, OwnerID: d.f.Monitor.OwnerID, MonitorName: d.f.Monitor.Name,
		Reason: t.Reason, Message: t.Message, FirstBadAt: t.At, ConfirmedAt: t.Seen,
		Opening: diagnosed(d.opening(t, i), d.f.Results[i].Evidence),
	}
	if d.lastGood.Before(t.At) {
		in.LastGoodAt = d.lastGood
	}
	if seen, ok := d.lastSeen[d.f.Results[i].Region]; ok && seen.At.Before(t.At) {
		in.LastGood = &seen
	}
	d.open, d.home = in, d.incidents
	d.incidents++
	d.step(d.home).Open = in
	d.say(uptime.Event{At: t.Seen, Kind: "opened", Text: sentence(t.Reason, t.Message)})
	d.alert(uptime.AlertOpened, t.Seen, in.Opening)
}

// opening is the evidence of the first failing result of the streak that result i
// ended, or of the first that is among the facts.
func (d *decision) opening(t uptime.Transition, i int) *uptime.Evidence {
	for j := range d.f.FirstBad {
		if r := &d.f.FirstBad[j]; r.StartedAt.Equal(t.At) && r.Evidence != nil {
			return r.Evidence
		}
	}
	for j := range d.f.Results[:i] {
		r := &d.f.Results[j]
		if r.Verdict == uptime.VerdictDown && !r.StartedAt.Before(t.At) && r.Evidence != nil && !d.isSuperseded(r) {
			return r.Evidence
		}
	}
	return d.f.Results[i].Evidence
}

// diagnosed is the evidence of a first failure with what its confirmation found out.
func diagnosed(first, confirming *uptime.Evidence) *uptime.Evidence {
	if first == nil || confirming == nil || len(confirming.Diagnosis) == 0 {
		return first
	}
	e := *first
	e.Diagnosis = confirming.Diagnosis
	return &e
}

func (d *decision) isSuperseded(r *uptime.CheckResult) bool {
	for _, k := range d.superseded {
		if k == r.ResultKey {
			return true
		}
	}
	return r.Superseded
}

// rename notes that the same outage has another cause now.
func (d *decision) rename(r *uptime.CheckResult) {
	d.touch()
	d.open.Reason, d.open.Message = d.state.Reason, d.state.Message
	d.say(uptime.Event{At: r.Finished(), Kind: "reason_changed", Text: sentence(d.state.Reason, d.state.Message)})
}

// end resolves the open incident: r showed that the target works again.
func (d *decision) end(r *uptime.CheckResult) {
	d.touch()
	d.open.ResolvedAt = d.state.Since
	if d.open.ResolvedAt.Before(d.open.FirstBadAt) {
		d.open.ResolvedAt = d.open.FirstBadAt
	}
	d.open.Resolution, d.open.Recovery = resolutionRecovered, r.Evidence
	d.say(uptime.Event{At: r.Finished(), Kind: "resolved", Text: "The target is " + d.state.Verdict.String() + " again."})
	d.alert(uptime.AlertResolved, r.Finished(), r.Evidence)
	d.open = nil
}

// touch makes the open incident one that a step writes.
func (d *decision) touch() {
	if d.open.ID != 0 {
		d.steps[0].Update = d.open
	}
}

func (d *decision) say(e uptime.Event) {
	e.IncidentID = d.open.ID
	d.steps[d.home].Events = append(d.steps[d.home].Events, e)
}

func (d *decision) alert(kind uptime.AlertKind, at time.Time, evidence *uptime.Evidence) {
	d.steps[d.home].Alerts = append(d.steps[d.home].Alerts, uptime.Alert{
		Kind: kind, IncidentID: d.open.ID, MonitorID: d.f.Monitor.ID, OwnerID: d.f.Monitor.OwnerID, CreatedAt: at,
		Body: alertBody(d.open, &d.f.Monitor, evidence),
	})
}

// watch keeps the gap in step with the verdict: one opens when we lose sight of the
// monitor and closes when we see it again.
func (d *decision) watch(t uptime.Transition) {
	switch {
	case t.To == uptime.VerdictUnknown && d.gap == nil:
		d.gap = &uptime.Gap{MonitorID: d.f.Monitor.ID, From: t.At, Cause: t.Reason}
		d.step(d.gaps).OpenGap = d.gap
		d.gaps++
	case t.To != uptime.VerdictUnknown && d.gap != nil:
		to := t.At
		if to.Before(d.gap.From) {
			to = d.gap.From
		}
		if d.gap.ID == 0 {
			d.gap.To = to
		} else {
			d.steps[0].CloseGap = to
		}
		d.gap = nil
	}
}

func copyOf(in *uptime.Incident) *uptime.Incident {
	if in == nil {
		return nil
	}
	out := *in
	return &out
}
