package uptime

import (
	"encoding/json"
	"time"
)

// Bounds of a monitor's numbers.
const (
	MinInterval     = time.Second
	MaxInterval     = 24 * time.Hour
	MinTimeout      = 100 * time.Millisecond
	MaxTimeout      = 5 * time.Minute
	MaxConfirm      = 10 // extra failing attempts, and successes to recover
	DefaultInterval = time.Minute
	DefaultTimeout  = 10 * time.Second
)

// Confirm says how many observations a verdict needs.
type Confirm struct {
	// Failures is how many further attempts must fail after the first failing one
	// before the monitor is down: 0 believes the first, 2 wants three in a row.
	Failures int
	// Interval is the wait between those attempts.
	Interval time.Duration
	// Successes is how many good results in a row close an incident; at least 1.
	Successes int
}

// Severity is what a failed assertion makes of the verdict.
type Severity string

// The zero Severity means SeverityDown.
const (
	SeverityDown     Severity = "down"
	SeverityDegraded Severity = "degraded"
)

// Assertion is one expectation about an outcome. Value's JSON type depends on
// source and op; the probe's type checks it when the monitor is saved.
type Assertion struct {
	Source   string          `json:"source"`
	Property string          `json:"property,omitempty"`
	Op       string          `json:"op"`
	Value    json.RawMessage `json:"value,omitempty"`
	Severity Severity        `json:"severity,omitempty"`
}

// Monitor is something a user wants watched, and how.
type Monitor struct {
	ID         int64
	OwnerID    int64
	Name       string
	Type       string // a probe type: "http", …
	Target     string
	Interval   time.Duration
	Timeout    time.Duration
	Confirm    Confirm
	Config     json.RawMessage // owned and typed by the probe; may hold secrets, so it is stored sealed
	Assertions []Assertion
	Inverted   bool    // up and down trade places
	ChannelIDs []int64 // who is told, beside the owner's default channels
	Tags       []string
	Regions    []string // never empty
	Enabled    bool
	// Revision grows with every change of the monitor. Results carry it; a result
	// of an older revision is stored but not evaluated.
	Revision int64
	// ScheduledSince is when the present interval and regions came into force:
	// from then on every slot is a pure function of id, region and interval.
	ScheduledSince time.Time
	// Problem is why the monitor is parked: its stored definition cannot be run.
	// Empty for a healthy monitor.
	Problem string
	// PingToken is the secret end of a heartbeat's URL. Reads leave it empty, see
	// service.Monitors; a write sets it only where there is none yet.
	PingToken Secret
	CreatedAt time.Time
	UpdatedAt time.Time
}

// ScheduleEntry is the part of a monitor the scheduler needs, kept small because
// a scheduler holds one for every active monitor (budget: 1.5 KB each at 1,000,000).
type ScheduleEntry struct {
	MonitorID int64
	OwnerID   int64
	Revision  int64
	Interval  time.Duration
	Timeout   time.Duration
	Confirm   Confirm
	Since     time.Time // no slot before this instant
	Regions   []string
}
