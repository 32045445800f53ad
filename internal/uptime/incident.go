package uptime

import "time"

// IncidentKind tells an outage of a target from one of ourselves.
type IncidentKind string

const (
	IncidentTarget IncidentKind = "target" // a monitor is down
	IncidentSelf   IncidentKind = "self"   // Vedette itself is blind or cannot deliver
)

// Incident is one outage. At most one is open per monitor, which the database
// enforces with a partial unique index.
type Incident struct {
	ID        int64
	Kind      IncidentKind
	MonitorID int64 // 0 for IncidentSelf
	OwnerID   int64 // 0 for IncidentSelf
	// MonitorName is the monitor's name when the incident opened, kept for a
	// monitor that was renamed or deleted since.
	MonitorName string
	Reason      Reason
	Message     string

	LastGoodAt     time.Time // start of the last good result before; zero if there was none
	FirstBadAt     time.Time // start of the first failing result: the outage's start
	ConfirmedAt    time.Time // when the last confirmation failed
	NotifiedAt     time.Time // first delivery accepted by a channel; zero until then
	ResolvedAt     time.Time // zero while open
	AcknowledgedAt time.Time
	AcknowledgedBy int64
	Resolution     string // "recovered", "monitor_deleted", "monitor_paused", …

	// LastGood is the last good check before whose evidence was kept, which may be an
	// hour older than LastGoodAt. Like Opening it never changes once written.
	LastGood *Sight
	Opening  *Evidence // of the first failing result
	Recovery *Evidence // of the recovering result
}

// Open reports whether the outage goes on.
func (i *Incident) Open() bool { return i.ResolvedAt.IsZero() }

// Event is one line of an incident's timeline.
type Event struct {
	ID         int64
	IncidentID int64
	At         time.Time
	Kind       string // opened, reason_changed, resolved, acknowledged, comment, delivery
	UserID     int64  // 0 when we did it
	Text       string
}

// Gap is a span in which a monitor was not observed. MonitorID 0 means all of them.
type Gap struct {
	ID        int64
	MonitorID int64
	Region    string // empty means all
	From      time.Time
	To        time.Time // zero while it lasts
	Cause     Reason
}
