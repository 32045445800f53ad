package uptime

import "time"

// ResultKind says why a check ran. The numbers are stored.
type ResultKind uint8

// The zero ResultKind is the regular one.
const (
	KindSlot   ResultKind = 0 // a slot of the schedule
	KindFirst  ResultKind = 1 // at once after creation, resume or an edit
	KindManual ResultKind = 2 // somebody asked for it
	KindGap    ResultKind = 3 // not a check: the auditor states that we are blind
)

// ResultKey names one attempt, and is the primary key of check_results, so that
// a job that runs twice is recorded once.
type ResultKey struct {
	MonitorID   int64
	Region      string
	ScheduledAt time.Time
	Attempt     int // 0 for the first try of a slot, then its confirmations
}

// Before orders attempts of one monitor: by slot, then region, then attempt.
func (k ResultKey) Before(o ResultKey) bool {
	if !k.ScheduledAt.Equal(o.ScheduledAt) {
		return k.ScheduledAt.Before(o.ScheduledAt)
	}
	if k.Region != o.Region {
		return k.Region < o.Region
	}
	return k.Attempt < o.Attempt
}

// Phases are the parts of one check's time. A phase that did not happen is 0.
type Phases struct {
	DNS       time.Duration
	Connect   time.Duration
	TLS       time.Duration
	FirstByte time.Duration // from request sent to first byte of the response
	Transfer  time.Duration // from first to last byte of the response
}

// CheckResult is one attempt and what came of it.
type CheckResult struct {
	ResultKey
	Kind     ResultKind
	Revision int64 // of the monitor that was run
	Verdict  Verdict
	Reason   Reason // ReasonOK when up
	Message  string // one sentence for a person; empty when up

	DequeuedAt time.Time // when a worker received the job
	StartedAt  time.Time // when the probe began
	Duration   time.Duration
	Phases     Phases

	// Superseded marks a result that came too late or was made by an older
	// revision: it is kept, and was never evaluated.
	Superseded bool
	// Evidence is kept for results that are not up.
	Evidence *Evidence
	// Keep has the evidence of this good result kept as that of its region's last good
	// check. It is not stored with the result.
	Keep bool
}

// Finished is when the probe ended.
func (r *CheckResult) Finished() time.Time { return r.StartedAt.Add(r.Duration) }

// Evidence is what was seen, so that a verdict can be shown, not only stated.
// It never holds a secret: the probe leaves credentials out before it is made.
type Evidence struct {
	Request      string            `json:"request,omitempty"`   // method and URL, or the like
	Addresses    []string          `json:"addresses,omitempty"` // all that the name resolved to
	Dialled      string            `json:"dialled,omitempty"`   // the one that was used last
	Attempts     []DialAttempt     `json:"attempts,omitempty"`
	Status       int               `json:"status,omitempty"`
	Protocol     string            `json:"protocol,omitempty"` // HTTP/1.1
	Headers      map[string]string `json:"headers,omitempty"`  // response head, 64 names and 512 bytes a value at most
	Body         string            `json:"body,omitempty"`     // first 4 KiB, valid UTF-8
	BodyBytes    int64             `json:"body_bytes,omitempty"`
	Redirects    []string          `json:"redirects,omitempty"`
	Statuses     []int             `json:"redirect_statuses,omitempty"` // by which each of Redirects was told
	Certificates []Certificate     `json:"certificates,omitempty"`
	Assertions   []AssertionResult `json:"assertions,omitempty"`
	Phases       map[string]string `json:"phases,omitempty"`
	Diagnosis    []string          `json:"diagnosis,omitempty"` // what else was found out when a failure was confirmed
	Local        map[string]string `json:"local,omitempty"`     // our own health at that moment
}

// DialAttempt is one address that was tried. Error is empty when it answered.
type DialAttempt struct {
	Address string `json:"address"`
	Error   string `json:"error,omitempty"`
}

// Certificate is one of the chain a server showed, leaf first.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	DNSNames  []string  `json:"dns_names,omitempty"`
	Addresses []string  `json:"ip_addresses,omitempty"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"` // whole days from the check to NotAfter, negative once it is over
	Key       string    `json:"key,omitempty"`
	Signature string    `json:"signature,omitempty"`
	SHA256    string    `json:"sha256"`
}

// AssertionResult is how one assertion went.
type AssertionResult struct {
	Assertion Assertion `json:"assertion"`
	OK        bool      `json:"ok"`
	Actual    string    `json:"actual,omitempty"`  // at most 256 bytes
	Message   string    `json:"message,omitempty"` // states expected and actual when not OK
}
