// Package memqueue is the queue of the embedded mode: bounded lists in this
// process, with the leases, the order and the dead letters of the contract, and
// hints that are function calls. What it holds ends with the process, which costs
// nothing: the scheduler computes slots again, the notifier's sweep finds alerts.
package memqueue

import (
	"context"
	"maps"
	"sync"
	"time"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// Options of a Broker; there are none yet that a caller must choose.
type Options struct{}

// Broker holds the queues of one process. It is safe for concurrent use.
type Broker struct {
	mu       sync.Mutex
	queues   map[string]*Queue                // guarded by mu
	watchers map[string]map[*watcher]struct{} // guarded by mu: by topic
	windows  map[string]window                // guarded by mu: of Allow
	swept    time.Time                        // guarded by mu: when windows was swept last
	closed   chan struct{}
	once     sync.Once
}

// New makes a Broker.
func New(Options) *Broker {
	return &Broker{queues: map[string]*Queue{}, watchers: map[string]map[*watcher]struct{}{}, windows: map[string]window{}, closed: make(chan struct{})}
}

// Queue opens a queue by name. Options of a queue that is open already are ignored.
func (b *Broker) Queue(name string, o queue.Options) (queue.Queue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[name]; q != nil {
		return q, nil
	}
	q := newQueue(o.Defaults())
	b.queues[name] = q
	return q, nil
}

// Ping says whether the broker is open.
func (b *Broker) Ping(context.Context) error {
	select {
	case <-b.closed:
		return uptime.Errorf(uptime.Unavailable, "the queue is closed")
	default:
		return nil
	}
}

// Close lets every watcher return.
func (b *Broker) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// watcher has room for hints that its function has not been called for yet. When
// there is no more room, it is told once that some were lost.
type watcher struct {
	hints chan string
	lost  chan struct{}
}

const watcherRoom = 1024

// Hint calls every watcher of the topic, without waiting for it.
func (b *Broker) Hint(_ context.Context, topic, payload string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watchers[topic] {
		select {
		case w.hints <- payload:
		default:
			select {
			case w.lost <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// Watch: see queue.Broker.
func (b *Broker) Watch(ctx context.Context, topic string, fn func(payload string)) error {
	w := &watcher{hints: make(chan string, watcherRoom), lost: make(chan struct{}, 1)}
	b.mu.Lock()
	if b.watchers[topic] == nil {
		b.watchers[topic] = map[*watcher]struct{}{}
	}
	b.watchers[topic][w] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers[topic], w)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.closed:
			return nil
		case p := <-w.hints:
			fn(p)
		case <-w.lost:
			fn("")
		}
	}
}

// window counts what Allow let through until it ends.
type window struct {
	end time.Time
	n   int
}

// windowsKept is how many windows there may be before those that are over are
// looked for, at most once a second.
const windowsKept = 10_000

// Allow: see queue.Broker.
func (b *Broker) Allow(_ context.Context, key string, n int, per time.Duration) (ok bool, retryAfter time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	w := b.windows[key]
	if !now.Before(w.end) {
		w = window{end: now.Add(per)}
	}
	w.n++
	if len(b.windows) > windowsKept && now.Sub(b.swept) > time.Second {
		b.swept = now
		maps.DeleteFunc(b.windows, func(_ string, old window) bool { return !now.Before(old.end) })
	}
	b.windows[key] = w
	return w.n <= n, w.end.Sub(now), nil
}
