package notify_test

import (
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/queue"
	"vedette/internal/uptime"
)

func itemsOf(bodies ...string) []queue.Item {
	var items []queue.Item
	for _, b := range bodies {
		items = append(items, queue.Item{Body: []byte(b)})
	}
	return items
}

func TestPlan(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	temporary := notify.Sent{Outcome: uptime.OutcomeTemporary}
	asks := func(d time.Duration) notify.Sent {
		return notify.Sent{Outcome: uptime.OutcomeTemporary, RetryAfter: d}
	}
	for name, c := range map[string]struct {
		attempt int
		sent    notify.Sent
		age     time.Duration
		rnd     float64
		status  uptime.DeliveryStatus
		wait    time.Duration
	}{
		"accepted is delivered":                      {1, notify.Sent{Outcome: uptime.OutcomeAccepted}, 0, 0, uptime.DeliveryDelivered, 0},
		"permanent is dead at once":                  {1, notify.Sent{Outcome: uptime.OutcomePermanent}, 0, 0, uptime.DeliveryDead, 0},
		"unknown is tried again":                     {1, notify.Sent{Outcome: uptime.OutcomeUnknown}, 0, 0.5, uptime.DeliveryPending, 5 * time.Second},
		"the first repeat comes after about 5 s":     {1, temporary, 0, 0.5, uptime.DeliveryPending, 5 * time.Second},
		"the ceiling doubles":                        {4, temporary, 0, 0.5, uptime.DeliveryPending, 40 * time.Second},
		"the ceiling ends at 15 min":                 {1000, temporary, 0, 0.999999, uptime.DeliveryPending, 899999100 * time.Microsecond},
		"never sooner than a second":                 {1, temporary, 0, 0, uptime.DeliveryPending, time.Second},
		"Retry-After is a lower bound":               {1, asks(20 * time.Minute), 0, 0, uptime.DeliveryPending, 20 * time.Minute},
		"Retry-After is held to an hour":             {1, asks(72 * time.Hour), 0, 0, uptime.DeliveryPending, time.Hour},
		"a shorter Retry-After changes nothing":      {1, asks(time.Second), 0, 0.5, uptime.DeliveryPending, 5 * time.Second},
		"the horizon ends it":                        {40, temporary, 24 * time.Hour, 0, uptime.DeliveryDead, 0},
		"not before the horizon":                     {40, temporary, 24*time.Hour - 1, 0, uptime.DeliveryPending, time.Second},
		"a few tries are made even after it":         {11, temporary, 72 * time.Hour, 0, uptime.DeliveryPending, time.Second},
		"an outcome may have a shorter horizon":      {40, notify.Sent{Outcome: uptime.OutcomeTemporary, Horizon: time.Hour}, time.Hour, 0, uptime.DeliveryDead, 0},
		"an outcome cannot have a longer horizon":    {40, notify.Sent{Outcome: uptime.OutcomeTemporary, Horizon: 99 * time.Hour}, 24 * time.Hour, 0, uptime.DeliveryDead, 0},
		"an outcome nobody filled in is a temporary": {1, notify.Sent{}, 0, 0.5, uptime.DeliveryPending, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := created.Add(c.age)
			r := notify.Plan(uptime.Delivery{CreatedAt: created}, c.attempt, c.sent, now, c.rnd)
			wait := time.Duration(0)
			if !r.NextAt.IsZero() {
				wait = r.NextAt.Sub(uptime.Instant(now))
			}
			if r.Status != c.status || (wait-c.wait).Abs() > time.Microsecond {
				t.Errorf("got %s in %s, want %s in %s", r.Status, wait, c.status, c.wait)
			}
		})
	}
}
