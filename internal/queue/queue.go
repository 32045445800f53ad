// Package queue is the contract between those who ask for work and those who do
// it: at-least-once delivery in batches, with leases, bounds and dead letters.
//
// The database is the truth and a queue only a hint (the first law), so a queue
// may lose everything at any moment without losing a check, an incident or an
// alert; it must never lose quietly what it said it took while it runs. Two
// implementations, memqueue and redisqueue, are held to one suite, queuetest.
package queue

import (
	"context"
	"errors"
	"time"
)

// ErrFull is returned by Publish when the queue's bound would be passed. Nothing
// of the batch was taken. It is of kind Unavailable where kinds are asked for.
var ErrFull = errors.New("queue is full")

// Item is a message to publish.
type Item struct {
	Body   []byte // the queue's from now on: not to be changed
	Urgent bool   // received before every routine item: first checks, checks somebody asked for
}

// Message is an item that was received and is leased to its receiver.
type Message struct {
	ID         string // opaque, unique in its queue
	Body       []byte
	Deliveries int // how often it was received, this time included
}

// Queue is one named queue. All methods may be called concurrently.
type Queue interface {
	// Publish adds the items, all or none. ErrFull if they do not fit.
	Publish(ctx context.Context, items []Item) error
	// Receive returns up to n messages, urgent ones first, and waits up to wait
	// (at most 1 s) for the first. It returns none and no error when the wait is
	// over or n is not positive. Messages whose lease ended come again; one that was delivered
	// Options.MaxDeliveries times goes to the dead letters instead.
	Receive(ctx context.Context, n int, wait time.Duration) ([]Message, error)
	// Ack removes messages that are done. Unknown ids are ignored.
	Ack(ctx context.Context, ids []string) error
	// Extend begins the lease of messages in hand anew.
	Extend(ctx context.Context, ids []string) error
	// Dead moves a message that cannot be processed to the dead letters.
	Dead(ctx context.Context, m Message, cause string) error
	// Stats counts what is there.
	Stats(ctx context.Context) (Stats, error)
}

// Stats counts a queue's messages.
type Stats struct {
	Waiting  int
	InFlight int
	Dead     int
}

// Options of a queue.
type Options struct {
	Lease         time.Duration // default 30 s; holders of longer work call Extend
	Capacity      int           // waiting and in flight together; default 100,000
	MaxDeliveries int           // default 5
}

// Defaults fills zero fields.
func (o Options) Defaults() Options {
	if o.Lease == 0 {
		o.Lease = 30 * time.Second
	}
	if o.Capacity == 0 {
		o.Capacity = 100_000
	}
	if o.MaxDeliveries == 0 {
		o.MaxDeliveries = 5
	}
	return o
}

// Broker opens queues and carries hints between processes.
type Broker interface {
	// Queue opens a queue by name; the same name is the same queue.
	Queue(name string, o Options) (Queue, error)
	// Hint tells whoever watches topic, in every process, that something changed.
	// It may be lost, and never blocks for long.
	Hint(ctx context.Context, topic, payload string) error
	// Watch calls fn for every hint on topic until ctx ends, and once with an empty
	// payload whenever hints may have been lost (after a reconnect). It returns when
	// ctx ends.
	Watch(ctx context.Context, topic string, fn func(payload string)) error
	// Allow counts one use of key, in every process of the installation, and reports
	// whether it is among the first n of the present window of length per; if not, how
	// long until the next window.
	Allow(ctx context.Context, key string, n int, per time.Duration) (ok bool, retryAfter time.Duration, err error)
	// Ping says whether the broker answers.
	Ping(ctx context.Context) error
	Close() error
}
