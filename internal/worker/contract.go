package worker

import (
	"context"
	"time"

	"vedette/internal/uptime"
)

// Store reads what is to be run.
type Store interface {
	// Monitors returns those of the ids that exist, with Config unsealed.
	Monitors(ctx context.Context, ids []int64) ([]uptime.Monitor, error)
	// ParkMonitor notes that a monitor's definition cannot be run. It is shown to its
	// owner and not scheduled until it is changed.
	ParkMonitor(ctx context.Context, id, revision int64, problem string) error
	// Seen reports whether one of these slots of a monitor, in whatever region, has a
	// known verdict of this revision.
	Seen(ctx context.Context, id, revision int64, slots []time.Time) (bool, error)
	// RetryParked has every parked monitor tried once more: a new program, or one with
	// other rights on its machine, may be able to run it.
	RetryParked(ctx context.Context) error
	// SetOwnTrouble notes that holder has trouble of this reason, for as long as ttl, or
	// that it has none. The first who has it opens the incident about ourselves, with its
	// alert; it is resolved when somebody says that he has none and nobody has any more.
	SetOwnTrouble(ctx context.Context, reason uptime.Reason, holder, message string, has bool, ttl time.Duration) error
}

// Recorder stores results. Record returns when r is committed, or with the error
// that kept it from being so; it is safe to call again with the same result.
type Recorder interface {
	Record(ctx context.Context, r uptime.CheckResult) (uptime.Recorded, error)
	// RecordAll is Record for many results whose outcome nobody asks for.
	RecordAll(ctx context.Context, rs []uptime.CheckResult) error
}
