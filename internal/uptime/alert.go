package uptime

import (
	"encoding/json"
	"time"
)

// AlertKind is what an alert tells. The string is the event type of a webhook.
type AlertKind string

const (
	AlertOpened   AlertKind = "incident.opened"
	AlertResolved AlertKind = "incident.resolved"
	AlertTest     AlertKind = "channel.test"
)

// Alert is something people must be told. It is written in the transaction that
// made it true, with a snapshot of all that will be said, so that every send and
// every repeat of it says the same.
type Alert struct {
	ID         int64
	Kind       AlertKind
	IncidentID int64 // 0 for a test
	MonitorID  int64 // 0 for a test or an incident of our own
	OwnerID    int64 // 0 for an incident of our own: the administrators are told
	CreatedAt  time.Time
	RoutedAt   time.Time // zero until its deliveries are written
	Body       AlertBody
}

// AlertBody is the snapshot that mails and webhooks are written from. It is part
// of the public webhook format: fields are only ever added.
type AlertBody struct {
	Incident AlertIncident `json:"incident"`
	Monitor  AlertMonitor  `json:"monitor"`
	Evidence *Evidence     `json:"evidence,omitempty"`
	// Difference is what changed from the last good check to the first bad one.
	Difference []string `json:"difference,omitempty"`
}

// AlertIncident is the incident as an alert tells it. Instants are RFC 3339 UTC.
type AlertIncident struct {
	ID          int64        `json:"id"`
	Kind        IncidentKind `json:"kind"`
	Reason      Reason       `json:"reason"`
	Message     string       `json:"message"`
	LastGoodAt  *time.Time   `json:"last_good_at"`
	FirstBadAt  time.Time    `json:"first_bad_at"`
	ConfirmedAt time.Time    `json:"confirmed_at"`
	ResolvedAt  *time.Time   `json:"resolved_at"`
	Seconds     int64        `json:"duration_seconds"` // 0 while open
}

// AlertMonitor is the monitor as an alert tells it; the target is without
// credentials.
type AlertMonitor struct {
	ID     int64    `json:"id"`
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Target string   `json:"target"`
	Tags   []string `json:"tags"`
}

// Channel is a way to reach people.
type Channel struct {
	ID        int64
	OwnerID   int64
	Name      string
	Type      string          // "email", "webhook"
	Config    json.RawMessage // owned and typed by the provider; stored sealed
	Default   bool            // used for every monitor of the owner
	Enabled   bool
	Problem   string // why the last sends failed for good; empty when it works
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// DeliveryStatus is where a delivery stands.
type DeliveryStatus string

const (
	DeliveryPending    DeliveryStatus = "pending"    // owed: never tried, or waiting for its next attempt
	DeliverySending    DeliveryStatus = "sending"    // claimed by a notifier until its lease ends
	DeliveryDelivered  DeliveryStatus = "delivered"  // accepted by the provider
	DeliveryDead       DeliveryStatus = "dead"       // given up: permanent failure or horizon passed; can be resent
	DeliverySuppressed DeliveryStatus = "suppressed" // not sent on purpose; Cause says why
)

// Final reports whether nothing more will be tried by itself.
func (s DeliveryStatus) Final() bool {
	return s == DeliveryDelivered || s == DeliveryDead || s == DeliverySuppressed
}

// Delivery is one alert for one channel: unique by that pair, written before it
// is sent.
type Delivery struct {
	ID          int64
	AlertID     int64
	IncidentID  int64
	ChannelID   int64
	OwnerID     int64
	Key         string // stable over every attempt and resend: webhook-id, Message-ID
	Kind        AlertKind
	ChannelName string
	ChannelType string
	Status      DeliveryStatus
	Cause       string // why dead or suppressed, or the last error
	Attempts    int
	NextAt      time.Time
	CreatedAt   time.Time
	DoneAt      time.Time
	Log         []DeliveryAttempt // filled by reads of one delivery
}

// Outcome of one attempt to send.
type Outcome string

const (
	OutcomeUnknown   Outcome = "unknown" // begun, and we never learnt: it may have arrived
	OutcomeAccepted  Outcome = "accepted"
	OutcomeTemporary Outcome = "temporary"
	OutcomePermanent Outcome = "permanent"
)

// DeliveryAttempt is one try: the intent is written before, the outcome after.
type DeliveryAttempt struct {
	DeliveryID int64
	Number     int // from 1
	StartedAt  time.Time
	FinishedAt time.Time // zero while unknown
	Outcome    Outcome
	Peer       string // address or host that answered
	Code       int    // HTTP status or SMTP reply
	Excerpt    string // of the reply, at most 512 bytes, no secrets
	ProviderID string
	Latency    time.Duration
}
