package uptime

import "time"

// MonitorFilter selects monitors. Zero fields do not select.
type MonitorFilter struct {
	OwnerID int64
	Query   string // substring of name or target, case-insensitive
	Tags    []string
	Verdict *Verdict
	Enabled *bool
	Type    string
	After   int64 // cursor: ids greater than this
	Limit   int
}

// MonitorView is a monitor with what is believed of it. The store applies the
// liveness rule: a verdict the auditor does not vouch for any more (its progress
// is older than 2.5 intervals) reads as unknown, reason monitor_blind.
type MonitorView struct {
	Monitor
	State      State
	IncidentID int64 // the open one, or 0
}

// Bucket is one roll-up step of a monitor's results.
type Bucket struct {
	Start     time.Time
	Up        int64
	Degraded  int64
	Down      int64
	Unknown   int64
	MeanMicro int64 // mean duration of good results, microseconds
	P50Micro  int64 // quantiles from the mergeable histogram, within 10 %
	P95Micro  int64
	P99Micro  int64
}

// Uptime is time-weighted: Up/(Up+Down). Unknown time is in neither.
type Uptime struct {
	From, To  time.Time
	Up        time.Duration
	Down      time.Duration
	Unknown   time.Duration // gaps: we could not observe
	Paused    time.Duration
	Ratio     float64 // Up/(Up+Down); 0 when nothing was observed, see Coverage
	Coverage  float64 // (Up+Down)/(Up+Down+Unknown); 0 when nothing was observed
	Incidents int
}

// IncidentFilter selects incidents, newest first.
type IncidentFilter struct {
	OwnerID   int64 // 0: everybody's, and those about ourselves
	MonitorID int64
	Open      *bool
	Before    int64 // cursor: ids less than this
	Limit     int
}

// DeliveryFilter selects deliveries, newest first.
type DeliveryFilter struct {
	OwnerID    int64
	IncidentID int64
	ChannelID  int64
	Status     DeliveryStatus
	Before     int64
	Limit      int
}

// LiveEvent is a change that pages and API clients follow as it happens.
type LiveEvent struct {
	ID        int64     `json:"-"`
	OwnerID   int64     `json:"-"`
	At        time.Time `json:"at"`
	Type      string    `json:"type"` // monitor.changed, monitor.deleted, state.changed, incident.opened, …
	MonitorID int64     `json:"monitor_id,omitempty"`
	Incident  int64     `json:"incident_id,omitempty"`
	Delivery  int64     `json:"delivery_id,omitempty"`
	Verdict   string    `json:"verdict,omitempty"`
	Reason    string    `json:"reason,omitempty"`
}
