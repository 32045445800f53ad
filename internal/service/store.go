package service

import (
	"context"
	"time"

	"vedette/internal/uptime"
)

// Store is the persistence that services stand on. Reads that take an owner return
// only what is that owner's; owner 0 means everybody's (administrators, viewers).
// What does not exist, and what is not the owner's, is the same NotFound.
type Store interface {
	Users
	Monitors
	Heartbeats
	Incidents
	Channels
	Deliveries
	Events
	// Ping says whether the database answers.
	Ping(ctx context.Context) error
}

// Users keeps accounts and their credentials.
type Users interface {
	// CreateFirstUser creates u if there is no user at all, else Conflict; atomic.
	CreateFirstUser(ctx context.Context, u uptime.User) (uptime.User, error)
	// CreateUser is a Conflict on "email" when the address is taken.
	CreateUser(ctx context.Context, u uptime.User) (uptime.User, error)
	CountUsers(ctx context.Context) (int, error)
	UserByID(ctx context.Context, id int64) (uptime.User, error)
	UserByEmail(ctx context.Context, email string) (uptime.User, error)
	// SetPassword also ends every session of the user.
	SetPassword(ctx context.Context, id int64, hash string) error

	CreateSession(ctx context.Context, s uptime.Session, tokenHash []byte) (uptime.Session, error)
	// SessionByHash returns a session that has not expired, and its user.
	SessionByHash(ctx context.Context, tokenHash []byte, now time.Time) (uptime.Session, uptime.User, error)
	TouchSession(ctx context.Context, id int64, seen time.Time) error
	DeleteSession(ctx context.Context, id int64) error

	CreateAPIKey(ctx context.Context, k uptime.APIKey, keyHash []byte) (uptime.APIKey, error)
	APIKeyByHash(ctx context.Context, keyHash []byte, now time.Time) (uptime.APIKey, uptime.User, error)
	TouchAPIKey(ctx context.Context, id int64, used time.Time) error
	ListAPIKeys(ctx context.Context, userID int64) ([]uptime.APIKey, error)
	DeleteAPIKey(ctx context.Context, userID, id int64) error

	// CountAttempt adds one to the counter of key in the window that now falls in and
	// returns the count: for log-in throttles that hold over all replicas.
	CountAttempt(ctx context.Context, key string, now time.Time, window time.Duration) (int, error)
	// Idempotent returns the response stored under user and key, if any; SaveIdempotent
	// stores one. A key with another fingerprint (hash of route and body) is a Conflict.
	// Entries live 24 hours.
	Idempotent(ctx context.Context, userID int64, key string, fingerprint []byte) (status int, body []byte, found bool, err error)
	SaveIdempotent(ctx context.Context, userID int64, key string, fingerprint []byte, status int, body []byte) error
}

// Monitors keeps monitors and what was found of them.
type Monitors interface {
	// CreateMonitor stores m (ID, Revision, instants are set by it). A channel that is
	// not the owner's is Invalid on "channels". Like UpdateMonitor it gives the monitor
	// m.PingToken if that is set and the monitor has none yet.
	CreateMonitor(ctx context.Context, m uptime.Monitor) (uptime.Monitor, error)
	// UpdateMonitor replaces what a user may change if the stored revision is still
	// m.Revision, else Conflict. Revision grows; Problem is cleared; ScheduledSince
	// moves when interval, regions or enabled change. Switching Enabled off resolves an
	// open incident ("monitor_paused", with its alert) and opens a gap; switching it on
	// closes that gap.
	UpdateMonitor(ctx context.Context, owner int64, m uptime.Monitor) (uptime.Monitor, []int64, error)
	// DeleteMonitor removes the monitor and its results, and resolves its open incident
	// ("monitor_deleted", with its alert); incidents stay.
	DeleteMonitor(ctx context.Context, owner, id int64) (alertIDs []int64, err error)
	Monitor(ctx context.Context, owner, id int64) (uptime.MonitorView, error)
	ListMonitors(ctx context.Context, f uptime.MonitorFilter) ([]uptime.MonitorView, error)
	CountMonitors(ctx context.Context, owner int64) (int, error)
	// ListResults returns results scheduled in [from, to), newest first, at most limit,
	// older than before when that is not zero; only those not up if failing.
	ListResults(ctx context.Context, owner, id int64, from, to time.Time, before uptime.ResultKey, failing bool, limit int) ([]uptime.CheckResult, error)
	Uptime(ctx context.Context, owner, id int64, from, to time.Time) (uptime.Uptime, error)
	// Buckets returns roll-ups of step (an hour or a day) that start in [from, to).
	Buckets(ctx context.Context, owner, id int64, from, to time.Time, step time.Duration) ([]uptime.Bucket, error)
	Gaps(ctx context.Context, owner, id int64, from, to time.Time) ([]uptime.Gap, error)
}

// Heartbeats keeps what was told to us: pings of jobs, and states that people set.
type Heartbeats interface {
	// PingToken is the secret end of a monitor's URL; NotFound if it never had one.
	PingToken(ctx context.Context, owner, id int64) (uptime.Secret, error)
	ReplacePingToken(ctx context.Context, owner, id int64, token uptime.Secret) error
	// RecordPing keeps p for the heartbeat that token belongs to, else NotFound; paused
	// ones too.
	RecordPing(ctx context.Context, token string, p uptime.Ping) (uptime.Pinged, error)
	// ListPings returns pings with ids less than before, if it is not 0, newest first.
	ListPings(ctx context.Context, owner, id, before int64, limit int) ([]uptime.Ping, error)
	// NoteListening notes that pings can be received now. returned says that they could
	// not since the last note; that is also concluded when it lies long back.
	NoteListening(ctx context.Context, now time.Time, returned bool) error

	SetManualState(ctx context.Context, owner, id int64, st uptime.ManualState) error
}

// Incidents keeps outages and what people did about them.
type Incidents interface {
	ListIncidents(ctx context.Context, f uptime.IncidentFilter) ([]uptime.Incident, error)
	Incident(ctx context.Context, owner, id int64) (uptime.Incident, []uptime.Event, []uptime.Delivery, error)
	// Acknowledge notes who took the incident. A second call changes nothing.
	Acknowledge(ctx context.Context, owner, id, userID int64, at time.Time) (uptime.Incident, error)
	Comment(ctx context.Context, owner, id, userID int64, text string, at time.Time) (uptime.Event, error)
}

// Channels keeps ways to reach people.
type Channels interface {
	CreateChannel(ctx context.Context, c uptime.Channel) (uptime.Channel, error)
	// UpdateChannel replaces what a user may change if the revision still matches.
	UpdateChannel(ctx context.Context, owner int64, c uptime.Channel) (uptime.Channel, error)
	// DeleteChannel also ends its undelivered deliveries as suppressed ("channel deleted").
	DeleteChannel(ctx context.Context, owner, id int64) error
	Channel(ctx context.Context, owner, id int64) (uptime.Channel, error)
	ListChannels(ctx context.Context, owner, after int64, limit int) ([]uptime.Channel, error)
	// TestChannel writes a test alert with one delivery for this channel.
	TestChannel(ctx context.Context, owner, id int64) (deliveryID, alertID int64, err error)
}

// Deliveries is the record of who was told what.
type Deliveries interface {
	ListDeliveries(ctx context.Context, f uptime.DeliveryFilter) ([]uptime.Delivery, error)
	// Delivery has its Log filled.
	Delivery(ctx context.Context, owner, id int64) (uptime.Delivery, error)
	// Resend makes a delivered, dead or suppressed delivery due again, under its old
	// key; Conflict when it is still under way.
	Resend(ctx context.Context, owner, id int64) (uptime.Delivery, error)
}

// Events are written in the transactions that make them true, and kept a day, so
// that any replica can serve any stream from any point.
type Events interface {
	// EventsAfter returns events with greater ids, oldest first.
	EventsAfter(ctx context.Context, id int64, limit int) ([]uptime.LiveEvent, error)
	LastEventID(ctx context.Context) (int64, error)
}
