package notify

import (
	"context"
	"time"

	"vedette/internal/uptime"
)

// Store keeps alerts and deliveries.
type Store interface {
	// RouteAlerts writes the deliveries of alerts, once for each: in one transaction
	// it locks the alerts, calls route with each and its candidate channels (the
	// monitor's, and the owner's defaults; for an incident of our own the defaults of
	// every administrator), inserts what route returns and sets RoutedAt. Deliveries
	// that could be claimed right after (see ClaimDeliveries) are claimed along,
	// within terms, since every commit that people wait for costs them time.
	// Other unrouted alerts of the same incidents are routed along, so that an
	// incident's deliveries are in the order of its alerts. Alerts that were routed
	// already or do not exist are left out.
	RouteAlerts(ctx context.Context, ids []int64, terms uptime.ClaimTerms, route func(uptime.Alert, []uptime.Channel) []uptime.Delivery) ([]uptime.Routed, error)
	// UnroutedAlerts are alerts whose hint may have been lost: written before t, not routed.
	UnroutedAlerts(ctx context.Context, before time.Time, limit int) ([]int64, error)
	// ClaimDeliveries takes, within terms, deliveries that are due (pending and NextAt
	// passed, or sending with their lease over), oldest first, never one whose
	// incident has an earlier delivery for the same channel that is not final. Each
	// claim's attempt row (OutcomeUnknown) is written in the same transaction.
	ClaimDeliveries(ctx context.Context, terms uptime.ClaimTerms) ([]uptime.Claim, error)
	// FinishDelivery writes an attempt's outcome. A claim whose token is no longer
	// current is reported as a Conflict and changes nothing but the attempt row.
	FinishDelivery(ctx context.Context, c uptime.Claim, r uptime.SendResult) error
	// NextDelivery is when the earliest waiting delivery is due; zero if there is none.
	NextDelivery(ctx context.Context) (time.Time, error)
	// SetSelfIncident: see schedule.Store.
	SetSelfIncident(ctx context.Context, reason uptime.Reason, message string, open bool) (alertIDs []int64, err error)
}

// Provider sends one kind of channel. Each is one file and one line in the table
// that New is given.
type Provider interface {
	// Type is the channel type, "email".
	Type() string
	// Check validates a channel's config when it is saved, and fills in what is ours
	// to make (a webhook's signing secret). It returns the config to store and, when
	// something was made that its owner must see once, that.
	Check(config []byte) (stored []byte, reveal map[string]string, err error)
	// Redact is config as its owner may read it, secrets replaced by uptime.Redacted.
	Redact(config []byte) ([]byte, error)
	// Send delivers one alert. It honours ctx's deadline, and says in the outcome
	// whether trying again makes sense; RetryAfter is the receiver's wish, or 0.
	Send(ctx context.Context, c uptime.Claim) Sent
}

// Sent is what came of one attempt.
type Sent struct {
	Outcome    uptime.Outcome
	Peer       string
	Code       int
	Excerpt    string // at most 512 bytes, no secrets
	ProviderID string
	RetryAfter time.Duration
	// Horizon shortens the time for which a temporary failure is repeated; 0 means
	// the usual 24 h.
	Horizon time.Duration
}
