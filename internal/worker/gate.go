package worker

import (
	"context"
	"sync"
	"time"
)

// gate bounds how many checks run: in all, against one host and for one owner. Who
// waits for a host's or an owner's share stands in a queue of that host or owner
// and keeps nobody else from a place; that queue is bounded, because a check which
// waits long says nothing of its slot. Entering and leaving take the same short
// time however many wait.
type gate struct {
	perHost, perOwner int

	mu      sync.Mutex // guards what follows
	free    int
	lines   [2]line // who waits for any place: urgent, routine
	waiting int     // there, and still there
	hosts   map[string]*share
	owners  map[int64]*share
}

// queueFactor is how many routine checks may wait for a share, per place of it. A
// target that answers in 100 ms works off ten in a second; for one that takes
// longer, more could not start in their time.
const queueFactor = 10

// share is what one host or owner uses, and who waits for it.
type share struct {
	running int
	lines   [2]line
	waiting int // in the lines, and still there
}

// idle reports that the share may be forgotten.
func (s *share) idle() bool { return s.running == 0 && s.lines[0].empty() && s.lines[1].empty() }

type waiter struct {
	host  string
	owner int64
	class int           // 0 urgent, 1 routine
	ready chan struct{} // closed when it has its place
	gone  bool          // it waits no more
	where *int          // the count of those who wait where it does
}

// stand puts w into a line, whose waiters are counted in where.
func (w *waiter) stand(lines *[2]line, where *int) {
	w.leave()
	w.where = where
	*where++
	lines[w.class].push(w)
}

// leave takes w from the count it is in.
func (w *waiter) leave() {
	if w.where != nil {
		*w.where--
		w.where = nil
	}
}

// line is a queue of waiters.
type line struct {
	waiters []*waiter
	head    int
}

func (l *line) empty() bool { return l.head == len(l.waiters) }

func (l *line) push(w *waiter) {
	if l.head > 64 && l.head > len(l.waiters)/2 {
		n := copy(l.waiters, l.waiters[l.head:])
		clear(l.waiters[n:])
		l.waiters, l.head = l.waiters[:n], 0
	}
	l.waiters = append(l.waiters, w)
}

// pop takes the first, who may have gone; nil if the line is empty.
func (l *line) pop() *waiter {
	if l.empty() {
		l.waiters, l.head = l.waiters[:0], 0
		return nil
	}
	w := l.waiters[l.head]
	l.waiters[l.head] = nil
	l.head++
	return w
}

func newGate(n, perHost, perOwner int) *gate {
	return &gate{perHost: perHost, perOwner: perOwner, free: n, hosts: map[string]*share{}, owners: map[int64]*share{}}
}

// shares finds, or begins, what the waiter's host and owner use; g.mu is held.
func (g *gate) shares(w *waiter) (host, owner *share) {
	if host = g.hosts[w.host]; host == nil {
		host = &share{}
		g.hosts[w.host] = host
	}
	if owner = g.owners[w.owner]; owner == nil {
		owner = &share{}
		g.owners[w.owner] = owner
	}
	return host, owner
}

// place gives w a place, or puts it into the line of what is used up; g.mu is held.
func (g *gate) place(w *waiter) bool {
	host, owner := g.shares(w)
	switch {
	case host.running >= g.perHost:
		w.stand(&host.lines, &host.waiting)
	case owner.running >= g.perOwner:
		w.stand(&owner.lines, &owner.waiting)
	case g.free == 0:
		w.stand(&g.lines, &g.waiting)
	default:
		w.leave()
		g.free--
		host.running++
		owner.running++
		return true
	}
	return false
}

// enter waits for a place, at most limit; false when it got none.
func (g *gate) enter(ctx context.Context, host string, owner int64, urgent bool, limit time.Duration) bool {
	w := &waiter{host: host, owner: owner, class: 1}
	if urgent {
		w.class = 0
	}
	g.mu.Lock()
	if g.place(w) {
		g.mu.Unlock()
		return true
	}
	w.ready = make(chan struct{})
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
	w.leave()
	return false
}

// crowded reports that a routine check of host and owner need not come: as many wait
// already as can be let in before long.
func (g *gate) crowded(host string, owner int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.hosts[host]; h != nil && h.waiting >= queueFactor*g.perHost {
		return true
	}
	o := g.owners[owner]
	return o != nil && o.waiting >= queueFactor*g.perOwner
}

// queued is how many wait for any place at all.
func (g *gate) queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// leave gives a place back. One who waited for this host's share, and one who
// waited for this owner's, go to the line for any place, from which those who came
// first, urgent ones before others, are let in.
func (g *gate) leave(host string, owner int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, o := g.hosts[host], g.owners[owner]
	g.free++
	h.running--
	o.running--
	g.promote(h, g.perHost)
	g.promote(o, g.perOwner)
	for g.free > 0 {
		w := g.lines[0].pop()
		if w == nil {
			w = g.lines[1].pop()
		}
		if w == nil {
			break
		}
		g.admit(w)
	}
	if h.idle() && g.hosts[host] == h {
		delete(g.hosts, host)
	}
	if o.idle() && g.owners[owner] == o {
		delete(g.owners, owner)
	}
}

// admit lets w in if its shares allow. When it does not use its turn, because it has
// gone or must wait for its host or owner now, the next who waits for the share that
// it left unused gets it.
func (g *gate) admit(w *waiter) {
	host, owner := g.shares(w)
	if !w.gone && g.place(w) {
		close(w.ready)
		return
	}
	g.promote(host, g.perHost)
	g.promote(owner, g.perOwner)
}

// promote moves the first who waits for a share that is not used up to the line for
// any place.
func (g *gate) promote(s *share, limit int) {
	if s.running >= limit {
		return
	}
	for _, l := range []*line{&s.lines[0], &s.lines[1]} {
		for w := l.pop(); w != nil; w = l.pop() {
			if !w.gone {
				w.stand(&g.lines, &g.waiting)
				return
			}
		}
	}
}
