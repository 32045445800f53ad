package uptime

import "time"

// State is what we believe of a monitor: a fold of its results by evaluate.Next.
// The zero State is that of a monitor never checked.
type State struct {
	MonitorID int64
	Verdict   Verdict
	Reason    Reason
	Message   string
	Since     time.Time // when Verdict began: the start of the first result that says so
	Regions   []RegionState
}

// RegionState is the fold of one region's results.
type RegionState struct {
	Region  string  `json:"region"`
	Verdict Verdict `json:"verdict"`
	Reason  Reason  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`
	// Was is VerdictDown while the region is unknown and was down before: the outage
	// is not over because we stopped looking. Zero otherwise.
	Was       Verdict   `json:"was,omitzero"`
	Since     time.Time `json:"since,omitzero"`
	Failures  int       `json:"failures,omitempty"`  // failing results in a row, capped at MaxConfirm+1
	Successes int       `json:"successes,omitempty"` // good results in a row while the region is down
	FirstBad  time.Time `json:"first_bad,omitzero"`  // start of the first of Failures
	FirstGood time.Time `json:"first_good,omitzero"` // start of the first of Successes
	// Cursor is the last result folded that changed this struct. A result at or
	// before it is a duplicate or late, and changes nothing.
	Cursor  time.Time `json:"cursor,omitzero"` // its ScheduledAt
	Attempt int       `json:"attempt,omitempty"`
}

// Steady reports whether an up result would leave s exactly as it is, except for
// its cursor. The recorder then stores the result and touches nothing else.
func (s *State) Steady() bool {
	for i := range s.Regions {
		r := &s.Regions[i]
		if r.Verdict != VerdictUp || r.Failures != 0 {
			return false
		}
	}
	return s.Verdict == VerdictUp && len(s.Regions) > 0
}

// Transition is a change of a monitor's verdict.
type Transition struct {
	From, To Verdict
	Reason   Reason
	Message  string
	At       time.Time // when the new verdict began to be true (first bad, first good)
	Seen     time.Time // when the result that confirmed it finished
}
