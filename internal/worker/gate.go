package worker

import (
	"context"
	"sync"
	"time"
)

// gate bounds how many checks run: in all, against one host and for one owner. Who
// waits for a host's or owner's share keeps nobody else from a place.
type gate struct {
	perHost, perOwner int

	mu     sync.Mutex // guards what follows
	free   int
	hosts  map[string]int
	owners map[int64]int
	queues [2][]*waiter // urgent ones first
}

type waiter struct {
	host  string
	owner int64
	ready chan struct{}
	gone  bool
}

func newGate(n, perHost, perOwner int) *gate {
	return &gate{perHost: perHost, perOwner: perOwner, free: n, hosts: map[string]int{}, owners: map[int64]int{}}
}

// take gives a place if there is one; g.mu is held.
func (g *gate) take(host string, owner int64) bool {
	if g.free == 0 || g.hosts[host] >= g.perHost || g.owners[owner] >= g.perOwner {
		return false
	}
	g.free--
	g.hosts[host]++
	g.owners[owner]++
	return true
}

// enter waits for a place, at most limit; false when it got none.
func (g *gate) enter(ctx context.Context, host string, owner int64, urgent bool, limit time.Duration) bool {
	g.mu.Lock()
	if g.take(host, owner) {
		g.mu.Unlock()
		return true
	}
	w := &waiter{host: host, owner: owner, ready: make(chan struct{})}
	q := 1
	if urgent {
		q = 0
	}
	g.queues[q] = append(g.queues[q], w)
	g.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-w.ready:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.ready:
		return true
	default:
	}
	w.gone = true
	return false
}

// leave gives a place back, to the first waiter who may have it.
func (g *gate) leave(host string, owner int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	if g.hosts[host]--; g.hosts[host] == 0 {
		delete(g.hosts, host)
	}
	if g.owners[owner]--; g.owners[owner] == 0 {
		delete(g.owners, owner)
	}
	for q := range g.queues {
		kept := g.queues[q][:0]
		for _, w := range g.queues[q] {
			switch {
			case w.gone:
			case g.take(w.host, w.owner):
				close(w.ready)
			default:
				kept = append(kept, w)
			}
		}
		clear(g.queues[q][len(kept):])
		g.queues[q] = kept
	}
}
