// Package queuetest is the one suite that every implementation of queue.Broker is
// held to: order, bounds, leases, dead letters, limits and hints, and that every
// message reaches one receiver. What only one of them can suffer, such as a lost
// connection, is tested beside it, with the tools of this package.
//
// Every claim has its own broker, without anything in it, and runs in parallel.
package queuetest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"vedette/internal/queue"
)

// patience is how long anything may take on a machine that is busy with other tests.
const patience = 20 * time.Second

// Run holds the brokers that open makes to the contract. Each call of open is for
// one subtest and closes its broker in a Cleanup.
func Run(t *testing.T, open func(t *testing.T) queue.Broker) {
	claims := []struct {
		name string
		fn   func(t *testing.T, b queue.Broker)
	}{
		{"messages come in the order of their publication", inOrder},
		{"bodies come as they were", anyBody},
		{"urgent messages come before routine ones", urgentFirst},
		{"urgent messages come before routine ones whose lease ended", urgentBeforeReturned},
		{"a batch that does not fit is refused whole", bounded},
		{"a batch of thousands is taken", largeBatch},
		{"a receive returns no more than it was asked for", atMostN},
		{"a receive waits for the first message and no longer", waits},
		{"one name is one queue", named},
		{"stats count what is there", counted},
		{"a lease that ends brings the message again", leaseEnds},
		{"every one of many leases that end brings its message again", manyLeasesEnd},
		{"an extended lease lasts", extended},
		{"what is done stays done", acknowledged},
		{"an acknowledgement after the lease counts", lateAck},
		{"a message is dead after its last delivery", diesAtLast},
		{"an unreadable message is buried once and the others go on", buried},
		{"each message reaches one receiver", once},
		{"a receive that waits ends soon after its context", endsSoon},
		{"hints reach every watcher of their topic", hints},
		{"a limit lets n through in a window", limited},
		{"a limit holds for many at once", limitedTogether},
	}
	for _, c := range claims {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.fn(t, open(t))
		})
	}
}

// Open opens a queue or ends the test.
func Open(tb testing.TB, b queue.Broker, name string, o queue.Options) queue.Queue {
	tb.Helper()
	q, err := b.Queue(name, o)
	if err != nil {
		tb.Fatal(err)
	}
	return q
}

// Items are n routine items that carry the numbers from first on.
func Items(first, n int) []queue.Item {
	items := make([]queue.Item, n)
	for i := range items {
		items[i].Body = binary.BigEndian.AppendUint64(nil, uint64(first+i))
	}
	return items
}

// Number is what an item of Items carries, -1 for other bodies.
func Number(m queue.Message) int {
	if len(m.Body) != 8 {
		return -1
	}
	return int(binary.BigEndian.Uint64(m.Body))
}

func numbers(msgs []queue.Message) []int {
	var out []int
	for _, m := range msgs {
		out = append(out, Number(m))
	}
	return out
}

// IDs are those of the messages.
func IDs(msgs []queue.Message) []string {
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		ids[i] = m.ID
	}
	return ids
}

func urgent(items []queue.Item) []queue.Item {
	for i := range items {
		items[i].Urgent = true
	}
	return items
}

func publish(tb testing.TB, q queue.Queue, items []queue.Item) {
	tb.Helper()
	if err := q.Publish(context.Background(), items); err != nil {
		tb.Fatalf("publish %d items: %v", len(items), err)
	}
}

func ack(tb testing.TB, q queue.Queue, msgs []queue.Message) {
	tb.Helper()
	if err := q.Ack(context.Background(), IDs(msgs)); err != nil {
		tb.Fatalf("acknowledge %d messages: %v", len(msgs), err)
	}
}

// receive collects n messages in as many calls as it takes.
func receive(tb testing.TB, q queue.Queue, n int) []queue.Message {
	tb.Helper()
	var got []queue.Message
	for deadline := time.Now().Add(patience); len(got) < n && time.Now().Before(deadline); {
		msgs, err := q.Receive(context.Background(), n-len(got), time.Second)
		if err != nil {
			tb.Fatalf("receive: %v", err)
		}
		got = append(got, msgs...)
	}
	if len(got) != n {
		tb.Fatalf("received %v, want %d messages", numbers(got), n)
	}
	return got
}

// nothing fails when a message comes within d.
func nothing(tb testing.TB, q queue.Queue, d time.Duration) {
	tb.Helper()
	for deadline := time.Now().Add(d); ; {
		msgs, err := q.Receive(context.Background(), 10, max(time.Until(deadline), time.Millisecond))
		if err != nil || len(msgs) > 0 {
			tb.Fatalf("received %v, %v, want nothing", numbers(msgs), err)
		}
		if !time.Now().Before(deadline) {
			return
		}
	}
}

func wantNumbers(tb testing.TB, msgs []queue.Message, want ...int) {
	tb.Helper()
	if got := numbers(msgs); !slices.Equal(got, want) {
		tb.Fatalf("received %v, want %v", got, want)
	}
}

// wantStats waits until a queue's counts are as wanted.
func wantStats(tb testing.TB, q queue.Queue, want queue.Stats) {
	tb.Helper()
	got, err := q.Stats(context.Background())
	if err != nil || got != want {
		tb.Fatalf("stats are %+v, %v, want %+v", got, err, want)
	}
}

func wantFull(tb testing.TB, q queue.Queue, items []queue.Item) {
	tb.Helper()
	if err := q.Publish(context.Background(), items); !errors.Is(err, queue.ErrFull) {
		tb.Fatalf("publish %d items past the bound: %v, want %v", len(items), err, queue.ErrFull)
	}
}
