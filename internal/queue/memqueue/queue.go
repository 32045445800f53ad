package memqueue

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"vedette/internal/queue"
)

// deadKept is how many dead letters are kept to be looked at; all are counted.
const deadKept = 1000

// Queue is one bounded queue.
type Queue struct {
	o    queue.Options
	wake chan struct{} // has an element when something may be receivable

	mu      sync.Mutex
	next    int64            // guarded by mu: the id given last
	urgent  []*entry         // guarded by mu: what may be received, oldest first
	routine []*entry         // guarded by mu
	gone    int              // guarded by mu: entries of these lists that are done
	held    map[int64]*entry // guarded by mu: received and not done, leased or listed again
	listed  int              // guarded by mu: how many of held are listed again
	leases  []lease          // guarded by mu: in order of their ends, since all are equally long; stale ones among them
	dead    []dead           // guarded by mu: the last deadKept
	died    int              // guarded by mu
}

// entry is a message from its publication to its end.
type entry struct {
	id         int64
	body       []byte
	urgent     bool
	listed     bool // its lease is over and it waits to be received again
	done       bool
	deliveries int
	until      time.Time // its lease's end
}

// lease is when an entry's lease ends; an entry that was extended has several.
type lease struct {
	until time.Time
	e     *entry
}

// stale reports that the entry is done, listed again, or leased for longer.
func (l lease) stale() bool { return l.e.done || l.e.listed || !l.e.until.Equal(l.until) }

type dead struct {
	m     queue.Message
	cause string
}

func newQueue(o queue.Options) *Queue {
	return &Queue{o: o, wake: make(chan struct{}, 1), held: map[int64]*entry{}}
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *Queue) waiting() int { return len(q.urgent) + len(q.routine) - q.gone }

// Publish: see queue.Queue.
func (q *Queue) Publish(_ context.Context, items []queue.Item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting()+len(q.held)-q.listed+len(items) > q.o.Capacity {
		return queue.ErrFull
	}
	for _, item := range items {
		q.next++
		e := &entry{id: q.next, body: item.Body, urgent: item.Urgent}
		if e.urgent {
			q.urgent = append(q.urgent, e)
			continue
		}
		q.routine = append(q.routine, e)
	}
	q.nudge()
	return nil
}

// Receive: see queue.Queue.
func (q *Queue) Receive(ctx context.Context, n int, wait time.Duration) ([]queue.Message, error) {
	deadline := time.NewTimer(min(wait, time.Second))
	defer deadline.Stop()
	for {
		got, lease := q.take(n)
		if len(got) > 0 || n <= 0 {
			return got, nil
		}
		var expiry <-chan time.Time
		if lease > 0 {
			expiry = time.After(lease)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return nil, nil
		case <-q.wake:
		case <-expiry:
		}
	}
}

// take leases up to n messages, and says how long it is until the next lease ends,
// 0 when there is none.
func (q *Queue) take(n int) ([]queue.Message, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.reclaim(now)
	var got []queue.Message
	if k := min(n, q.waiting()); k > 0 {
		got = make([]queue.Message, 0, k)
	}
	q.urgent, got = q.lease(q.urgent, got, n, now)
	q.routine, got = q.lease(q.routine, got, n, now)
	if q.waiting() > 0 {
		q.nudge() // for another receiver
	}
	if len(q.leases) == 0 {
		return got, 0
	}
	return got, max(q.leases[0].until.Sub(now), time.Millisecond)
}

// lease moves entries from list to got until that has n, and returns both.
func (q *Queue) lease(list []*entry, got []queue.Message, n int, now time.Time) ([]*entry, []queue.Message) {
	until := now.Add(q.o.Lease)
	for len(list) > 0 && len(got) < n {
		e := list[0]
		list[0] = nil
		list = list[1:]
		if e.done { // acknowledged late, while it was listed again
			q.gone--
			continue
		}
		if e.listed {
			e.listed = false
			q.listed--
		}
		e.deliveries++
		e.until = until
		q.held[e.id] = e
		q.leases = append(q.leases, lease{until, e})
		got = append(got, queue.Message{ID: strconv.FormatInt(e.id, 10), Body: e.body, Deliveries: e.deliveries})
	}
	return list, got
}

// reclaim puts messages whose lease is over back at the front, oldest first, or
// among the dead letters.
func (q *Queue) reclaim(now time.Time) {
	var urgent, routine []*entry
	for len(q.leases) > 0 && !q.leases[0].until.After(now) {
		l := q.leases[0]
		q.leases[0] = lease{}
		q.leases = q.leases[1:]
		if l.stale() {
			continue
		}
		if l.e.deliveries >= q.o.MaxDeliveries {
			q.bury(l.e, "its lease ended too often")
			continue
		}
		l.e.listed = true
		q.listed++
		if l.e.urgent {
			urgent = append(urgent, l.e)
			continue
		}
		routine = append(routine, l.e)
	}
	q.urgent, q.routine = ahead(urgent, q.urgent), ahead(routine, q.routine)
}

// ahead puts back, in order of publication, in front of list.
func ahead(back, list []*entry) []*entry {
	if len(back) == 0 {
		return list
	}
	slices.SortFunc(back, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	return append(back, list...)
}

// finish forgets an entry that was received.
func (q *Queue) finish(e *entry) {
	e.done = true
	delete(q.held, e.id)
	if e.listed {
		q.listed--
		q.gone++
	}
}

func (q *Queue) bury(e *entry, cause string) {
	q.finish(e)
	q.died++
	q.dead = append(q.dead, dead{queue.Message{ID: strconv.FormatInt(e.id, 10), Body: e.body, Deliveries: e.deliveries}, cause})
	if len(q.dead) > deadKept {
		q.dead = slices.Delete(q.dead, 0, len(q.dead)-deadKept)
	}
}

// find is the entry of an id that was given out, nil when it is done or none of ours.
func (q *Queue) find(id string) *entry {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil
	}
	return q.held[n]
}

// Ack: see queue.Queue.
func (q *Queue) Ack(_ context.Context, ids []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if e := q.find(id); e != nil {
			q.finish(e)
		}
	}
	q.compact()
	return nil
}

// Extend: see queue.Queue.
func (q *Queue) Extend(_ context.Context, ids []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	until := time.Now().Add(q.o.Lease)
	for _, id := range ids {
		if e := q.find(id); e != nil && !e.listed {
			e.until = until
			q.leases = append(q.leases, lease{until, e})
		}
	}
	q.compact()
	return nil
}

// compact drops stale leases once they are most of the list, which would otherwise
// keep the bodies of messages that are done.
func (q *Queue) compact() {
	if len(q.leases) > 2*len(q.held)+1024 {
		q.leases = slices.DeleteFunc(q.leases, lease.stale)
	}
}

// Dead: see queue.Queue.
func (q *Queue) Dead(_ context.Context, m queue.Message, cause string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.find(m.ID); e != nil {
		q.bury(e, cause)
	}
	return nil
}

// Stats: see queue.Queue.
func (q *Queue) Stats(context.Context) (queue.Stats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return queue.Stats{Waiting: q.waiting(), InFlight: len(q.held) - q.listed, Dead: q.died}, nil
}
