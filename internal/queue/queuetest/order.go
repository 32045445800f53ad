package queuetest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"vedette/internal/queue"
)

func inOrder(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	publish(t, q, Items(0, 3))
	publish(t, q, Items(3, 2))
	wantNumbers(t, receive(t, q, 5), 0, 1, 2, 3, 4)
}

func anyBody(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	bodies := [][]byte{{}, {0}, []byte("\r\n"), all, bytes.Repeat(all, 1024)}
	for _, body := range bodies {
		publish(t, q, []queue.Item{{Body: bytes.Clone(body)}})
	}
	for i, m := range receive(t, q, len(bodies)) {
		if !bytes.Equal(m.Body, bodies[i]) {
			t.Errorf("body %d is %d bytes %.20q, want %d bytes %.20q", i, len(m.Body), m.Body, len(bodies[i]), bodies[i])
		}
		if m.Deliveries != 1 {
			t.Errorf("body %d: deliveries %d, want 1", i, m.Deliveries)
		}
	}
}

func urgentFirst(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	mixed := Items(0, 4)
	mixed[2].Urgent = true
	publish(t, q, mixed)
	publish(t, q, urgent(Items(4, 1)))
	wantNumbers(t, receive(t, q, 5), 2, 4, 0, 1, 3)
}

func urgentBeforeReturned(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Lease: 100 * time.Millisecond})
	publish(t, q, Items(0, 1))
	wantNumbers(t, receive(t, q, 1), 0)
	<-time.After(300 * time.Millisecond) // the lease is over, and nobody asked meanwhile
	publish(t, q, urgent(Items(1, 1)))
	got, err := q.Receive(t.Context(), 1, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, got, 1)
}

func bounded(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{Capacity: 10})
	wantFull(t, q, Items(0, 11))
	publish(t, q, Items(0, 8))
	wantFull(t, q, urgent(Items(8, 3)))
	wantStats(t, q, queue.Stats{Waiting: 8})
	publish(t, q, Items(8, 2))
	got := receive(t, q, 4)
	wantFull(t, q, Items(10, 1)) // what is in flight takes room as well
	ack(t, q, got[:1])
	wantFull(t, q, Items(10, 2))
	publish(t, q, Items(10, 1))
	wantStats(t, q, queue.Stats{Waiting: 7, InFlight: 3})
	wantNumbers(t, receive(t, q, 7), 4, 5, 6, 7, 8, 9, 10)
}

func largeBatch(t *testing.T, b queue.Broker) {
	const n = 20_000
	q := Open(t, b, "q", queue.Options{})
	publish(t, q, nil)
	publish(t, q, Items(0, n))
	for i, m := range receive(t, q, n) {
		if Number(m) != i {
			t.Fatalf("message %d is %d", i, Number(m))
		}
	}
}

func atMostN(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	publish(t, q, Items(0, 5))
	publish(t, q, urgent(Items(5, 5)))
	for _, n := range []int{0, -1, 3, 1} {
		got, err := q.Receive(t.Context(), n, 10*time.Millisecond)
		if err != nil || len(got) != max(n, 0) {
			t.Errorf("asked for %d, got %v, %v", n, numbers(got), err)
		}
	}
}

// waits also publishes to a receiver that waits already: it must be woken at once.
func waits(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	for _, wait := range []time.Duration{-1, 0, 50 * time.Millisecond} {
		start := time.Now()
		nothing(t, q, wait)
		if took := time.Since(start); took > wait+2*time.Second {
			t.Errorf("a wait of %v took %v", wait, took)
		}
	}
	for i := range 20 {
		got := make(chan []queue.Message, 1)
		go func() {
			msgs, _ := q.Receive(context.Background(), 1, time.Second)
			got <- msgs
		}()
		<-time.After(time.Duration(i) * 3 * time.Millisecond) // before and while it waits
		items := Items(i, 1)
		items[0].Urgent = i%2 == 0
		publish(t, q, items)
		start := time.Now()
		msgs := <-got
		wantNumbers(t, msgs, i)
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("a waiting receiver was woken after %v", took)
		}
		ack(t, q, msgs)
	}
}

func named(t *testing.T, b queue.Broker) {
	one, same, other := Open(t, b, "one", queue.Options{}), Open(t, b, "one", queue.Options{}), Open(t, b, "other", queue.Options{})
	publish(t, one, Items(1, 1))
	publish(t, other, Items(2, 1))
	wantNumbers(t, receive(t, same, 1), 1)
	wantNumbers(t, receive(t, other, 1), 2)
}

func counted(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	wantStats(t, q, queue.Stats{})
	publish(t, q, Items(0, 5))
	publish(t, q, urgent(Items(5, 2)))
	wantStats(t, q, queue.Stats{Waiting: 7})
	got := receive(t, q, 3)
	wantStats(t, q, queue.Stats{Waiting: 4, InFlight: 3})
	ack(t, q, got[:1])
	if err := q.Dead(t.Context(), got[1], "test"); err != nil {
		t.Fatal(err)
	}
	wantStats(t, q, queue.Stats{Waiting: 4, InFlight: 1, Dead: 1})
}
