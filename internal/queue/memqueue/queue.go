package memqueue

import (
	"container/heap"
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
	next    int64             // guarded by mu: the id given last
	urgent  []*entry          // guarded by mu
	routine []*entry          // guarded by mu
	leased  map[string]*entry // guarded by mu
	leases  leaseHeap         // guarded by mu: ends of leases, stale ones among them
	dead    []dead            // guarded by mu: the last deadKept
	died    int               // guarded by mu
}

// entry is a message from its publication to its end.
type entry struct {
	id         string
	body       []byte
	urgent     bool
	deliveries int
	until      time.Time // its lease's end while leased
}

type dead struct {
	m     queue.Message
	cause string
}

func newQueue(o queue.Options) *Queue {
	return &Queue{o: o, wake: make(chan struct{}, 1), leased: map[string]*entry{}}
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Publish: see queue.Queue.
func (q *Queue) Publish(_ context.Context, items []queue.Item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.urgent)+len(q.routine)+len(q.leased)+len(items) > q.o.Capacity {
		return queue.ErrFull
	}
	for _, item := range items {
		q.next++
		e := &entry{id: strconv.FormatInt(q.next, 10), body: item.Body, urgent: item.Urgent}
		q.add(e)
	}
	q.nudge()
	return nil
}

// add puts e at the end of its list.
func (q *Queue) add(e *entry) {
	if e.urgent {
		q.urgent = append(q.urgent, e)
		return
	}
	q.routine = append(q.routine, e)
}

// Receive: see queue.Queue.
func (q *Queue) Receive(ctx context.Context, n int, wait time.Duration) ([]queue.Message, error) {
	deadline := time.NewTimer(min(wait, time.Second))
	defer deadline.Stop()
	for {
		got, lease := q.take(n)
		if len(got) > 0 {
			return got, nil
		}
		var expiry <-chan time.Time
		if lease > 0 {
			t := time.NewTimer(lease)
			defer t.Stop()
			expiry = t.C
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

// take leases up to n messages; with none to have, it says when the next lease ends.
func (q *Queue) take(n int) ([]queue.Message, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.reclaim(now)
	var got []queue.Message
	for _, list := range []*[]*entry{&q.urgent, &q.routine} {
		k := min(n-len(got), len(*list))
		for _, e := range (*list)[:k] {
			e.deliveries++
			e.until = now.Add(q.o.Lease)
			q.leased[e.id] = e
			heap.Push(&q.leases, lease{e.until, e.id})
			got = append(got, queue.Message{ID: e.id, Body: e.body, Deliveries: e.deliveries})
		}
		clear((*list)[:k])
		*list = (*list)[k:]
	}
	if len(q.urgent)+len(q.routine) > 0 {
		q.nudge() // for another receiver
	}
	if len(q.leases) == 0 {
		return got, 0
	}
	return got, max(q.leases[0].until.Sub(now), time.Millisecond)
}

// reclaim puts messages whose lease is over back at the front, oldest first, or
// among the dead letters.
func (q *Queue) reclaim(now time.Time) {
	var back []*entry
	for len(q.leases) > 0 && !q.leases[0].until.After(now) {
		l := heap.Pop(&q.leases).(lease)
		e := q.leased[l.id]
		if e == nil || e.until.After(now) { // done, or extended
			continue
		}
		delete(q.leased, l.id)
		if e.deliveries >= q.o.MaxDeliveries {
			q.bury(queue.Message{ID: e.id, Body: e.body, Deliveries: e.deliveries}, "its lease ended too often")
			continue
		}
		back = append(back, e)
	}
	for _, e := range slices.Backward(back) {
		if e.urgent {
			q.urgent = slices.Insert(q.urgent, 0, e)
			continue
		}
		q.routine = slices.Insert(q.routine, 0, e)
	}
}

func (q *Queue) bury(m queue.Message, cause string) {
	q.died++
	q.dead = append(q.dead, dead{m, cause})
	if len(q.dead) > deadKept {
		q.dead = slices.Delete(q.dead, 0, len(q.dead)-deadKept)
	}
}

// Ack: see queue.Queue.
func (q *Queue) Ack(_ context.Context, ids []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		delete(q.leased, id)
	}
	if len(q.leases) > 2*len(q.leased)+1024 {
		q.leases.compact(q.leased)
	}
	return nil
}

// Extend: see queue.Queue.
func (q *Queue) Extend(_ context.Context, ids []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	until := time.Now().Add(q.o.Lease)
	for _, id := range ids {
		if e := q.leased[id]; e != nil {
			e.until = until
			heap.Push(&q.leases, lease{until, id})
		}
	}
	return nil
}

// Dead: see queue.Queue.
func (q *Queue) Dead(_ context.Context, m queue.Message, cause string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.leased[m.ID]; ok {
		delete(q.leased, m.ID)
		q.bury(m, cause)
	}
	return nil
}

// Stats: see queue.Queue.
func (q *Queue) Stats(context.Context) (queue.Stats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return queue.Stats{Waiting: len(q.urgent) + len(q.routine), InFlight: len(q.leased), Dead: q.died}, nil
}

// lease is when a message's lease ends; one that was extended has several.
type lease struct {
	until time.Time
	id    string
}

// leaseHeap has the lease that ends first on top.
type leaseHeap []lease

func (h leaseHeap) Len() int           { return len(h) }
func (h leaseHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h leaseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are heap.Interface's.
func (h *leaseHeap) Push(x any) { *h = append(*h, x.(lease)) }

// Pop takes the last element.
func (h *leaseHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = lease{}
	*h = old[:len(old)-1]
	return l
}

// compact drops the leases of messages that are done or were extended since.
func (h *leaseHeap) compact(live map[string]*entry) {
	*h = slices.DeleteFunc(*h, func(l lease) bool {
		e := live[l.id]
		return e == nil || !e.until.Equal(l.until)
	})
	heap.Init(h)
}
