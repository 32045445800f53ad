package queuetest

import (
	"testing"
	"time"

	"vedette/internal/queue"
)

// short is a lease that a test can outwait.
const short = 150 * time.Millisecond

func leaseEnds(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Lease: short})
	publish(t, q, Items(0, 2))
	start := time.Now()
	first := receive(t, q, 2)
	ack(t, q, first[:1])
	again := receive(t, q, 1)
	wantNumbers(t, again, 1)
	if again[0].ID != first[1].ID || again[0].Deliveries != 2 {
		t.Errorf("came again as %q, delivery %d, want %q, delivery 2", again[0].ID, again[0].Deliveries, first[1].ID)
	}
	if took := time.Since(start); took < short {
		t.Errorf("came again after %v, before the lease of %v ended", took, short)
	}
	ack(t, q, again)
	nothing(t, q, 3*short)
	wantStats(t, q, queue.Stats{})
}

// manyLeasesEnd asks for few at a time, so that an implementation has to go on where
// it stopped in its list of leases.
func manyLeasesEnd(t *testing.T, b queue.Broker) {
	const n = 500
	q := Open(t, b, "q", queue.Options{Lease: 2 * time.Second})
	publish(t, q, Items(0, n))
	receive(t, q, n)
	seen := map[int]bool{}
	for deadline := time.Now().Add(patience); len(seen) < n && time.Now().Before(deadline); {
		got, err := q.Receive(t.Context(), 7, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			if seen[Number(m)] || m.Deliveries != 2 {
				t.Fatalf("message %d: delivery %d, seen again %v", Number(m), m.Deliveries, seen[Number(m)])
			}
			seen[Number(m)] = true
		}
		ack(t, q, got)
	}
	if len(seen) != n {
		t.Fatalf("%d of %d messages came again", len(seen), n)
	}
	wantStats(t, q, queue.Stats{})
}

func extended(t *testing.T, b queue.Broker) {
	const lease = time.Second
	q := Open(t, b, "q", queue.Options{Lease: lease})
	publish(t, q, Items(0, 3))
	publish(t, q, urgent(Items(3, 1)))
	got := receive(t, q, 4)
	ack(t, q, got[1:2])
	for range 8 { // twice the lease
		if err := q.Extend(t.Context(), append(IDs(got), "none of ours")); err != nil {
			t.Fatal(err)
		}
		nothing(t, q, lease/4)
	}
	wantStats(t, q, queue.Stats{InFlight: 3})
	again := receive(t, q, 3)
	for _, m := range again {
		if m.Deliveries != 2 {
			t.Errorf("message %d: delivery %d, want 2: extending is no delivery", Number(m), m.Deliveries)
		}
	}
}

func acknowledged(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Lease: short})
	publish(t, q, Items(0, 2))
	got := receive(t, q, 2)
	ack(t, q, got)
	ack(t, q, got)
	ack(t, q, []queue.Message{{ID: "none of ours"}, {ID: ""}, {ID: "u"}, {ID: "r1-1"}})
	ack(t, q, nil)
	if err := q.Extend(t.Context(), IDs(got)); err != nil {
		t.Fatal(err)
	}
	if err := q.Dead(t.Context(), got[0], "done already"); err != nil {
		t.Fatal(err)
	}
	nothing(t, q, 3*short)
	wantStats(t, q, queue.Stats{})
}

func lateAck(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Lease: short})
	publish(t, q, Items(0, 2))
	got := receive(t, q, 2)
	<-time.After(2 * short)
	again := receive(t, q, 1) // the other one's lease is known to be over as well
	ack(t, q, got)
	ack(t, q, again)
	nothing(t, q, 3*short)
	wantStats(t, q, queue.Stats{})
	publish(t, q, Items(2, 1))
	wantNumbers(t, receive(t, q, 1), 2)
}

func diesAtLast(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Lease: short, MaxDeliveries: 3})
	publish(t, q, Items(0, 1))
	for want := 1; want <= 3; want++ {
		if got := receive(t, q, 1); got[0].Deliveries != want {
			t.Fatalf("delivery %d, want %d", got[0].Deliveries, want)
		}
	}
	nothing(t, q, 3*short)
	wantStats(t, q, queue.Stats{Dead: 1})
}

func buried(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Lease: short})
	publish(t, q, []queue.Item{{Body: []byte("version 9")}, {Body: nil, Urgent: true}})
	publish(t, q, Items(0, 2))
	got := receive(t, q, 4)
	for _, m := range got {
		if Number(m) >= 0 {
			ack(t, q, []queue.Message{m})
			continue
		}
		for range 2 {
			if err := q.Dead(t.Context(), m, "unknown version"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := q.Dead(t.Context(), queue.Message{ID: "none of ours"}, "test"); err != nil {
		t.Fatal(err)
	}
	nothing(t, q, 3*short)
	wantStats(t, q, queue.Stats{Dead: 2})
}
