// Package service decides what a person may do: it authorises, validates, and
// asks the store for one transaction. It is the box "service" of the flow
// logger → auth → validator → controller → service → store.
//
// Ownership is checked in one place, Actor.Authorise: an administrator acts on
// everything, an editor on what is theirs, a viewer reads the installation without
// its secrets. What is somebody else's is NotFound, exactly as what does not exist.
// Every wrong field of a request is reported at once (uptime.Problems), and a
// rejected request changes nothing. The store's truth is followed by hints to the
// scheduler and the notifier, which may be lost.
//
// A Service is safe for concurrent use and starts no goroutine.
package service

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vedette/internal/uptime"
)

// Probes are the check types that a monitor may have.
type Probes interface {
	// Types are their names, sorted.
	Types() []string
	// Describe is every type for documents and forms, sorted by name.
	Describe() []uptime.CheckType
	// Validate compiles the monitor and throws the result away. Its errors are of kind
	// uptime.Invalid and name every wrong field.
	Validate(m uptime.Monitor) error
	// Redact is a config as its owner may read it: defaults filled in, secrets replaced
	// by uptime.Redacted.
	Redact(typ string, config json.RawMessage) (json.RawMessage, error)
	// Members are the ids of monitors that the config of a group names; none for any
	// other type.
	Members(typ string, config json.RawMessage) []int64
}

// Provider is what the service needs of a channel type.
type Provider interface {
	// Check validates a config and completes it; reveal is what its owner sees once.
	Check(config []byte) (stored []byte, reveal map[string]string, err error)
	// Redact is config as its owner may read it.
	Redact(config []byte) ([]byte, error)
}

// Limits bound what one account may ask for. Zero fields take the defaults.
type Limits struct {
	Monitors     int           // monitors of one editor; default 20,000
	ChecksNow    int           // checks asked for, per user and minute; default 60
	TestSends    int           // test sends, per user and ten minutes; default 30
	SessionIdle  time.Duration // a session unused for so long ends; default 7 days
	SessionTotal time.Duration // and so does one this old; default 30 days
}

func (l Limits) defaults() Limits {
	l.Monitors = positive(l.Monitors, 20_000)
	l.ChecksNow = positive(l.ChecksNow, 60)
	l.TestSends = positive(l.TestSends, 30)
	if l.SessionIdle <= 0 {
		l.SessionIdle = 7 * 24 * time.Hour
	}
	if l.SessionTotal <= 0 {
		l.SessionTotal = 30 * 24 * time.Hour
	}
	return l
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// Options of a Service. Store, Probes and Channels are required; a nil hook is
// left out.
type Options struct {
	Store    Store
	Probes   Probes
	Channels map[string]Provider // by channel type
	// Hint tells every process that something changed. It must not block for long.
	Hint func(ctx context.Context, topic, payload string)
	// NotifyAlerts asks the notifier for alerts that were just written.
	NotifyAlerts func(ctx context.Context, alertIDs []int64)
	// CheckNow publishes an urgent job.
	CheckNow func(ctx context.Context, j uptime.Job) error
	Logger   *slog.Logger // default: slog.DiscardHandler
	Limits   Limits
}

// Service is what the edges talk to.
type Service struct {
	store    Store
	probes   Probes
	channels map[string]Provider
	hint     func(ctx context.Context, topic, payload string)
	notify   func(ctx context.Context, alertIDs []int64)
	checkNow func(ctx context.Context, j uptime.Job) error
	log      *slog.Logger
	limits   Limits
	hashing  chan struct{} // bounds the memory that argon2id takes at once
	decoy    string        // a hash nobody's password has, for log-ins of unknown users
	deaf     atomic.Bool   // a ping was lost since the last note that we listen

	setupMu   sync.Mutex // guards what follows
	setupHash []byte     // SHA-256 of the one-time set-up token; nil: none is open
}

// New makes a Service.
func New(o Options) *Service {
	s := &Service{
		store: o.Store, probes: o.Probes, channels: o.Channels, log: o.Logger, limits: o.Limits.defaults(),
		hint: o.Hint, notify: o.NotifyAlerts, checkNow: o.CheckNow,
		hashing: make(chan struct{}, 4),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.hint == nil {
		s.hint = func(context.Context, string, string) {}
	}
	if s.notify == nil {
		s.notify = func(context.Context, []int64) {}
	}
	if s.checkNow == nil {
		s.checkNow = func(context.Context, uptime.Job) error {
			return uptime.Errorf(uptime.Unavailable, "this process cannot ask for checks")
		}
	}
	s.decoy = hashPassword(randomToken(""))
	return s
}

// Ping says whether the database answers.
func (s *Service) Ping(ctx context.Context) error { return s.store.Ping(ctx) }

// told hints the notifier about alerts, if there are any, and the live streams.
func (s *Service) told(ctx context.Context, alertIDs []int64) {
	if len(alertIDs) > 0 {
		s.notify(ctx, alertIDs)
	}
	s.hint(ctx, uptime.TopicEvents, "")
}

// throttle counts one attempt under key and refuses the one after max in a window.
func (s *Service) throttle(ctx context.Context, key string, max int, window time.Duration) error {
	n, err := s.store.CountAttempt(ctx, key, uptime.Now(), window)
	if err != nil {
		return err
	}
	if n <= max {
		return nil
	}
	return &uptime.Error{Kind: uptime.RateLimited, Message: "too many attempts; try again later", RetryAfter: window}
}
