package worker

import (
	"context"

	"vedette/internal/uptime"
)

// Store reads what is to be run.
type Store interface {
	// Monitors returns those of the ids that exist, with Config unsealed.
	Monitors(ctx context.Context, ids []int64) ([]uptime.Monitor, error)
	// ParkMonitor notes that a monitor's definition cannot be run. It is shown to its
	// owner and not scheduled until it is changed.
	ParkMonitor(ctx context.Context, id, revision int64, problem string) error
	// RetryParked has every parked monitor tried once more: a new program, or one with
	// other rights on its machine, may be able to run it.
	RetryParked(ctx context.Context) error
	// SetSelfIncident opens, or resolves, the one incident about ourselves that has this
	// reason, with its alert, in one transaction. Repeats change nothing.
	SetSelfIncident(ctx context.Context, reason uptime.Reason, message string, open bool) (alertIDs []int64, err error)
}

// Recorder stores results. Record returns when r is committed, or with the error
// that kept it from being so; it is safe to call again with the same result.
type Recorder interface {
	Record(ctx context.Context, r uptime.CheckResult) (uptime.Recorded, error)
	// RecordAll is Record for many results whose outcome nobody asks for.
	RecordAll(ctx context.Context, rs []uptime.CheckResult) error
}
