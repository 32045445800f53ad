package store_test

import (
	"testing"
	"time"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// TestTroubleOfOneWorkerIsNotEndedByAnother: two workers lose their network; one finds
// it again, and another starts. The incident lasts until the last has it again, or is gone.
func TestTroubleOfOneWorkerIsNotEndedByAnother(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		says := func(holder string, reason uptime.Reason, has bool, ttl time.Duration) {
			t.Helper()
			if err := e.SetOwnTrouble(t.Context(), reason, holder, "a message", has, ttl); err != nil {
				t.Fatal(err)
			}
		}
		incidents := func(step string, total int, open bool) {
			t.Helper()
			all, err := e.ListIncidents(t.Context(), uptime.IncidentFilter{Limit: 9})
			if err != nil || len(all) != total || total > 0 && all[0].Open() != open {
				t.Errorf("%s: got %+v, %v, want %d of which the last is open: %t", step, all, err, total, open)
			}
		}
		const lease = time.Hour
		says("b", uptime.OwnNetwork, false, lease)
		incidents("nothing is wrong", 0, false)
		says("a", uptime.OwnNetwork, true, lease)
		says("a", uptime.OwnNetwork, true, lease)
		says("b", uptime.OwnNetwork, true, lease)
		incidents("both have it", 1, true)
		says("a", uptime.OwnNetwork, false, lease)
		says("c", uptime.OwnNetwork, false, lease)
		says("b", uptime.OwnResources, false, lease)
		incidents("one has it still", 1, true)
		says("b", uptime.OwnNetwork, false, lease)
		incidents("nobody has it", 1, false)
		says("a", uptime.OwnNetwork, true, -lease) // it was said an hour ago
		incidents("it comes again", 2, true)
		says("c", uptime.OwnNetwork, false, lease)
		incidents("who had it is gone", 2, false)
	})
}
