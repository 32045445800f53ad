// Package incident is the recorder's box of the diagram. Manager decides, purely,
// what results mean for incidents, alerts and gaps; Recorder gathers results into
// groups and has the store write each group, and what it means, in one transaction.
//
// Invariants: a result is acknowledged only after its commit; a monitor has at most
// one open incident, and an outage opens and closes exactly one, through gaps and
// changes of reason; results of one monitor are stored in the order they came; a
// store that does not answer fails results (which their makers try again or let
// become unknown) and is never a verdict; one bad row fails alone.
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
