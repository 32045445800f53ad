package uptime

import "time"

// Policy is what evaluate needs to know of a monitor.
type Policy struct {
	Confirm  Confirm
	Interval time.Duration
	Regions  []string
	Revision int64
}

// Facts are what the recorder's transaction has locked and read about one monitor
// whose state may change.
type Facts struct {
	Monitor Monitor // without Config
	State   State
	// Open is the monitor's open incident, nil if there is none.
	Open *Incident
	// Gap is the monitor's open gap, nil if there is none.
	Gap *Gap
	// Results are the stored results to fold, in ResultKey order: those just
	// inserted (a repeat that was stored before is not among them), and any stored
	// after the state's cursors that were not folded yet (of those, unknown ones of
	// kinds other than KindGap have nothing to fold and are left out). For a steady
	// state the ones just inserted suffice.
	Results []CheckResult
	// LastGood is the start of the last good result before those just inserted; zero
	// if there is none.
	LastGood time.Time
	// LastSeen is, per region, the good check whose evidence is kept. It and FirstBad are
	// there only when an incident may open.
	LastSeen map[string]Sight
	// FirstBad are, with their evidence, the results that began the streaks of failures
	// which the state knows of, as far as they are found.
	FirstBad []CheckResult
	// Latest is, per region, the greatest ScheduledAt of the up results that were
	// stored before this batch. Up results of a settled region are not folded, so its
	// cursor does not know of them: an older result that comes after one is late.
	// Only what lies after the first of Results matters.
	Latest map[string]time.Time
}

// Change is what the incident manager decides about one monitor. The recorder
// writes all of it in the transaction that stored the results, in this order:
// CloseGap, OpenGap, Update, Open, Events, Alerts, then each of More.
type Change struct {
	State      State
	Superseded []ResultKey // results to mark as not evaluated
	Transition *Transition // nil if the verdict stays
	Open       *Incident   // to insert; resolved already when it ended within the same results
	Update     *Incident   // to update in place: reason, resolution, recovery evidence; never beside Open
	Events     []Event     // IncidentID 0 means the incident in Open
	Alerts     []Alert     // IncidentID 0 means the incident in Open; so does Body.Incident.ID 0
	OpenGap    *Gap        // to insert; over already when its To is set
	CloseGap   time.Time   // when the gap of Facts ended; zero leaves it open
	// More is what happened after, in order, when the results hold more than one
	// outage or gap. Its elements are written like this one, each with the IncidentID 0
	// of its own Open; they carry no State, Superseded, Update, CloseGap or More.
	More []Change
}

// Recorded is what became of one result.
type Recorded struct {
	State    State   // the monitor's state after it; meaningful unless Quiet
	Quiet    bool    // stored, and the state did not need to be looked at
	AlertIDs []int64 // alerts that were written, to hint the notifier about
}

// Claim is a delivery that a notifier has taken, with all it needs to send it.
// Its attempt is on record already, with OutcomeUnknown.
type Claim struct {
	Delivery Delivery
	Attempt  int    // its number, from 1
	Token    string // fences the outcome: a claim that was given on cannot be finished by its old holder
	Channel  Channel
	Alert    Alert
}

// ClaimTerms are the bounds within which a notifier takes deliveries. A Limit of 0
// takes none.
type ClaimTerms struct {
	Lease      time.Duration // after which others may take them
	Limit      int           // how many at most
	PerChannel int           // how many of one channel, those being sent included
}

// Routed is an alert with the deliveries that were written for it, and claims of
// those that its notifier may send at once.
type Routed struct {
	Alert      Alert
	Deliveries []Delivery
	Claims     []Claim
}

// Verdict of the notifier about a claim's attempt.
type SendResult struct {
	Attempt DeliveryAttempt
	Status  DeliveryStatus // DeliveryPending to try again at NextAt
	NextAt  time.Time
	Cause   string
}
