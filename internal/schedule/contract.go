package schedule

import (
	"context"
	"time"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// Store is what the scheduler and its auditor read and write.
type Store interface {
	// ActiveMonitors returns the schedule of enabled, unparked monitors with id > after, by id.
	ActiveMonitors(ctx context.Context, after int64, limit int) ([]uptime.ScheduleEntry, error)
	// ActiveMonitor returns the schedule of one monitor; false if it is not active.
	ActiveMonitor(ctx context.Context, id int64) (uptime.ScheduleEntry, bool, error)
	// HoldLease takes, keeps or is refused the named lease: true while holder has it
	// until now+ttl by this process's clock. Taking it over raises the term.
	HoldLease(ctx context.Context, name, holder string, ttl time.Duration) (term int64, held bool, err error)
	// ReleaseLease gives the lease back if holder still has it.
	ReleaseLease(ctx context.Context, name, holder string) error
	// ObservedSlots calls fn for every first attempt (attempt 0, kind slot) scheduled in
	// [from, to). known is false when we were blind, for this reason: the verdict is
	// unknown, and its reason is not one that Awaits.
	ObservedSlots(ctx context.Context, from, to time.Time, fn func(k uptime.ResultKey, known bool, reason uptime.Reason)) error
	// Progress is the named instant up to which work is done; zero if never set.
	Progress(ctx context.Context, name string) (time.Time, error)
	// SetProgress moves it forward; it never goes back.
	SetProgress(ctx context.Context, name string, at time.Time) error
	// RecordGap stores a gap that is over; a gap with the same monitor, region and
	// start is left as it is.
	RecordGap(ctx context.Context, g uptime.Gap) error
	// SetSelfIncident opens, or resolves, the one incident about ourselves that has
	// this reason, with its alert, in one transaction. Repeats change nothing.
	SetSelfIncident(ctx context.Context, reason uptime.Reason, message string, open bool) (alertIDs []int64, err error)
	// OwnTrouble are the reasons of the open incidents about ourselves.
	OwnTrouble(ctx context.Context) ([]uptime.Reason, error)
}

// Queues opens the job queue of a region.
type Queues interface {
	Queue(name string, o queue.Options) (queue.Queue, error)
}

// Recorder stores results that no worker made: missed slots, blindness.
type Recorder interface {
	// RecordAll returns when all are committed, or with the error that kept some from
	// being so; it is safe to call again with the same results.
	RecordAll(ctx context.Context, rs []uptime.CheckResult) error
}
