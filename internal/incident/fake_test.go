package incident_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"vedette/internal/evaluate"
	"vedette/internal/incident"
	"vedette/internal/uptime"
)

// memStore keeps the promises of incident.Store in memory: one transaction at a
// time, results stored once, decisions for exactly the monitors whose state may
// change, and at most one open incident. Everything it keeps of a state goes
// through JSON, so that each transaction begins as after a restart.
type memStore struct {
	mu        sync.Mutex // guards all below
	monitors  map[int64]uptime.Monitor
	states    map[int64][]byte
	results   map[uptime.ResultKey]*uptime.CheckResult
	incidents []*uptime.Incident
	events    []uptime.Event
	alerts    []uptime.Alert
	gaps      []*uptime.Gap
	batches   [][]uptime.CheckResult // in the order of their commit
	calls     int

	// before, if set, runs first in every transaction, without the lock; its error
	// ends it.
	before func(batch []uptime.CheckResult) error
}

func newMemStore(ms ...uptime.Monitor) *memStore {
	s := &memStore{monitors: map[int64]uptime.Monitor{}, states: map[int64][]byte{}, results: map[uptime.ResultKey]*uptime.CheckResult{}}
	for _, m := range ms {
		s.monitors[m.ID] = m
	}
	return s
}

func (s *memStore) RecordResults(_ context.Context, batch []uptime.CheckResult, decide func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	if s.before != nil {
		if err := s.before(batch); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, slices.Clone(batch))
	latest, fresh := s.insert(batch)
	told := map[int64][]int64{}
	judged := map[int64]bool{}
	for _, id := range slices.Sorted(maps.Keys(fresh)) {
		st := s.state(id)
		if !slices.ContainsFunc(fresh[id], func(r uptime.CheckResult) bool { return matters(r, st) }) {
			continue
		}
		judged[id] = true
		told[id] = s.write(id, decide(s.facts(id, st, fresh[id], latest)))
	}
	out := make([]uptime.Recorded, len(batch))
	for i, r := range batch {
		out[i] = uptime.Recorded{State: s.state(r.MonitorID), Quiet: !judged[r.MonitorID], AlertIDs: told[r.MonitorID]}
		delete(told, r.MonitorID)
	}
	return out, nil
}

// matters reports whether r asks for a decision.
func matters(r uptime.CheckResult, st uptime.State) bool {
	if r.Verdict == uptime.VerdictUnknown && r.Kind != uptime.KindGap {
		return false
	}
	return r.Verdict != uptime.VerdictUp || !st.Steady()
}

type regionKey struct {
	id     int64
	region string
}

// insert stores what is new and returns it by monitor, with the newest up results
// that were there before.
func (s *memStore) insert(batch []uptime.CheckResult) (map[regionKey]time.Time, map[int64][]uptime.CheckResult) {
	latest := map[regionKey]time.Time{}
	for k, r := range s.results {
		at := regionKey{k.MonitorID, k.Region}
		if r.Verdict == uptime.VerdictUp && k.ScheduledAt.After(latest[at]) {
			latest[at] = k.ScheduledAt
		}
	}
	fresh := map[int64][]uptime.CheckResult{}
	for _, r := range batch {
		if s.results[r.ResultKey] == nil {
			s.results[r.ResultKey] = &r
			fresh[r.MonitorID] = append(fresh[r.MonitorID], r)
		}
	}
	return latest, fresh
}

func (s *memStore) facts(id int64, st uptime.State, fresh []uptime.CheckResult, latest map[regionKey]time.Time) uptime.Facts {
	f := uptime.Facts{Monitor: s.monitors[id], State: st, Results: slices.Clone(fresh), Latest: map[string]time.Time{}}
	for k, at := range latest {
		if k.id == id {
			f.Latest[k.region] = at
		}
	}
	if !st.Steady() {
		for k, r := range s.results {
			known := slices.ContainsFunc(fresh, func(x uptime.CheckResult) bool { return x.ResultKey == k })
			observed := r.Verdict != uptime.VerdictUnknown || r.Kind == uptime.KindGap
			if k.MonitorID == id && !known && observed && !r.Superseded && !evaluate.Folded(st, k) {
				f.Results = append(f.Results, *r)
			}
		}
	}
	slices.SortFunc(f.Results, byKey)
	first := slices.MinFunc(fresh, byKey)
	for _, r := range s.results {
		if r.MonitorID == id && r.Verdict.Good() && r.Before(first.ResultKey) && r.StartedAt.After(f.LastGood) {
			f.LastGood = r.StartedAt
		}
	}
	for _, in := range s.incidents {
		if in.MonitorID == id && in.Open() {
			open := *in
			f.Open = &open
		}
	}
	for _, g := range s.gaps {
		if g.MonitorID == id && g.To.IsZero() {
			gap := *g
			f.Gap = &gap
		}
	}
	return f
}

func byKey(a, b uptime.CheckResult) int {
	switch {
	case a.Before(b.ResultKey):
		return -1
	case b.Before(a.ResultKey):
		return 1
	}
	return 0
}

// write does what the contract of uptime.Change says, and panics where the database
// would refuse.
func (s *memStore) write(id int64, c uptime.Change) (alertIDs []int64) {
	if c.State.MonitorID != 0 {
		b, err := json.Marshal(c.State)
		if err != nil {
			panic(err)
		}
		s.states[id] = b
	}
	for _, k := range c.Superseded {
		s.results[k].Superseded = true
	}
	for i, step := range append([]uptime.Change{c}, c.More...) {
		if i > 0 && (step.Update != nil || !step.CloseGap.IsZero() || step.More != nil || step.Superseded != nil) {
			panic("a further step holds what only the first may")
		}
		alertIDs = append(alertIDs, s.step(id, step)...)
	}
	return alertIDs
}

func (s *memStore) step(id int64, c uptime.Change) (alertIDs []int64) {
	if !c.CloseGap.IsZero() {
		i := slices.IndexFunc(s.gaps, func(g *uptime.Gap) bool { return g.MonitorID == id && g.To.IsZero() })
		s.gaps[i].To = c.CloseGap
	}
	if c.OpenGap != nil {
		g := *c.OpenGap
		g.ID = int64(len(s.gaps) + 1)
		s.gaps = append(s.gaps, &g)
	}
	if c.Update != nil {
		*s.incidents[c.Update.ID-1] = *c.Update
	}
	opened := int64(0)
	if c.Open != nil {
		if slices.ContainsFunc(s.incidents, func(in *uptime.Incident) bool { return in.MonitorID == id && in.Open() }) {
			panic("unique index: a second open incident")
		}
		in := *c.Open
		in.ID = int64(len(s.incidents) + 1)
		opened = in.ID
		s.incidents = append(s.incidents, &in)
	}
	for _, e := range c.Events {
		e.ID, e.IncidentID = int64(len(s.events)+1), cmp.Or(e.IncidentID, opened)
		s.events = append(s.events, e)
	}
	for _, a := range c.Alerts {
		a.ID, a.IncidentID = int64(len(s.alerts)+1), cmp.Or(a.IncidentID, opened)
		a.Body.Incident.ID = a.IncidentID
		if a.IncidentID == 0 {
			panic("an alert about no incident")
		}
		s.alerts = append(s.alerts, a)
		alertIDs = append(alertIDs, a.ID)
	}
	return alertIDs
}

func (s *memStore) state(id int64) (st uptime.State) {
	if b := s.states[id]; b != nil {
		if err := json.Unmarshal(b, &st); err != nil {
			panic(err)
		}
	}
	return st
}

// refold recomputes a monitor's state from what is stored.
func (s *memStore) refold(id int64) (st uptime.State) {
	m := s.monitors[id]
	p := uptime.Policy{Confirm: m.Confirm, Interval: m.Interval, Regions: m.Regions, Revision: m.Revision}
	var all []uptime.CheckResult
	for k, r := range s.results {
		if k.MonitorID == id && !r.Superseded {
			all = append(all, *r)
		}
	}
	slices.SortFunc(all, byKey)
	for _, r := range all {
		st, _ = evaluate.Next(st, r, p)
	}
	return st
}

// story is what people were told, "opened http_status, resolved, …".
func (s *memStore) story() (out []string) {
	for _, a := range s.alerts {
		switch a.Kind {
		case uptime.AlertOpened:
			out = append(out, fmt.Sprintf("opened %s", a.Body.Incident.Reason))
		case uptime.AlertResolved:
			out = append(out, "resolved")
		}
	}
	return out
}

// record stores one batch as the recorder would.
func (s *memStore) record(batch ...uptime.CheckResult) []uptime.Recorded {
	out, err := s.RecordResults(context.Background(), batch, incident.Manager{}.Decide)
	if err != nil {
		panic(err)
	}
	return out
}

// epoch is slot 0 of the tests' monitors, whose interval is a minute.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func monitor(id int64, failures, successes int, regions ...string) uptime.Monitor {
	if len(regions) == 0 {
		regions = []string{uptime.DefaultRegion}
	}
	return uptime.Monitor{ID: id, OwnerID: 9, Name: "Checkout", Type: "http", Target: "https://shop.example/health", Interval: time.Minute,
		Confirm: uptime.Confirm{Failures: failures, Interval: 5 * time.Second, Successes: successes}, Regions: regions, Enabled: true, Revision: 1}
}

// result is that of slot n of monitor 1: u up, d degraded, x down, t down with
// another reason, s starved, g the auditor's gap.
func result(n int, what rune) uptime.CheckResult {
	at := epoch.Add(time.Duration(n) * time.Minute)
	r := uptime.CheckResult{ResultKey: uptime.ResultKey{MonitorID: 1, Region: uptime.DefaultRegion, ScheduledAt: at}, Revision: 1,
		StartedAt: at.Add(time.Millisecond), Duration: 100 * time.Millisecond}
	switch what {
	case 'u':
		r.Verdict = uptime.VerdictUp
	case 'd':
		r.Verdict, r.Reason, r.Message = uptime.VerdictDegraded, uptime.Slow, "It took 900 ms."
	case 'x':
		r.Verdict, r.Reason, r.Message = uptime.VerdictDown, uptime.HTTPStatus, "It answered 503."
	case 't':
		r.Verdict, r.Reason, r.Message = uptime.VerdictDown, uptime.ConnTimeout, "It did not answer."
	case 's':
		r.Reason, r.Message = uptime.Starved, "This worker was too busy."
	case 'g':
		r.Kind, r.Reason, r.Message = uptime.KindGap, uptime.Blind, "Nobody looked."
		r.ScheduledAt, r.StartedAt, r.Duration = at.Add(time.Microsecond), at.Add(3*time.Minute), 0
	default:
		panic(what)
	}
	if r.Verdict != uptime.VerdictUp {
		r.Evidence = &uptime.Evidence{Status: 500 + n}
	}
	return r
}

// results are those of slots 0, 1, …, one per letter.
func results(pattern string) (out []uptime.CheckResult) {
	for n, what := range pattern {
		out = append(out, result(n, what))
	}
	return out
}
