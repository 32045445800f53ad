package incident

import (
	"context"

	"vedette/internal/uptime"
)

// Store runs the recorder's transaction.
type Store interface {
	// RecordResults stores the batch (a result whose key exists is left as it is) and
	// calls decide, inside the same transaction and with the monitor's state locked,
	// for every monitor whose state may change: one that has a result in the batch
	// which is not plainly up, or whose stored state is not steady. Unknown results of
	// kinds other than KindGap never need a decision. What decide returns is written
	// in that transaction. A serialisation failure or lock time-out is retried inside;
	// decide must be pure.
	// The returned slice is parallel to batch.
	RecordResults(ctx context.Context, batch []uptime.CheckResult, decide func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error)
}
