package schedule

import (
	"time"

	"vedette/internal/uptime"
)

// slotKey names one monitor in one region; regions are numbered by the plan.
type slotKey struct {
	id     int64
	region uint16
}

// slot is the next dispatch of one monitor in one region. It is kept small, and
// free of pointers, because there are a million of them.
type slot struct {
	slotKey
	at       int64 // µs since the epoch: when to dispatch; the slot run is the last one at or before it
	interval int64 // µs
	revision int64
	since    int64 // µs
	pos      int32 // in the heap
	seen     uint32
}

// plan is a heap of slots by instant with an index by monitor. It is not safe for
// concurrent use. About 150 bytes a slot.
type plan struct {
	slots   []slot
	free    []int32
	heap    []int32
	index   map[slotKey]int32
	regions []string
	round   uint32  // the number of the present full read
	rate    float64 // slots a second, of all
}

// perSecond is how often the slot comes round.
func (s *slot) perSecond() float64 { return 1e6 / float64(s.interval) }

func newPlan() *plan { return &plan{index: map[slotKey]int32{}} }

// region numbers a region name.
func (p *plan) region(name string) uint16 {
	for i, r := range p.regions {
		if r == name {
			return uint16(i)
		}
	}
	p.regions = append(p.regions, name)
	return uint16(len(p.regions) - 1)
}

// next is the first slot after now that the entry allows, in µs.
func (p *plan) next(k slotKey, interval, since int64, now time.Time) int64 {
	if s := time.UnixMicro(since - 1); now.Before(s) {
		now = s
	}
	return uptime.SlotAfter(k.id, p.regions[k.region], time.Duration(interval)*time.Microsecond, now).UnixMicro()
}

// put adds or changes the slots of e. It reports whether the monitor is new here
// or of another revision.
func (p *plan) put(e uptime.ScheduleEntry, now time.Time) (changed bool) {
	for _, r := range e.Regions {
		k := slotKey{e.MonitorID, p.region(r)}
		i, ok := p.index[k]
		if ok && p.slots[i].revision == e.Revision {
			p.slots[i].seen = p.round
			continue
		}
		changed = true
		s := slot{slotKey: k, interval: e.Interval.Microseconds(), revision: e.Revision, since: e.Since.UnixMicro(), seen: p.round}
		s.at = p.next(k, s.interval, s.since, now)
		if ok {
			s.pos = p.slots[i].pos
			p.rate += s.perSecond() - p.slots[i].perSecond()
			p.slots[i] = s
			p.fix(s.pos)
			continue
		}
		p.insert(s)
	}
	if changed {
		p.dropOthers(e)
	}
	return changed
}

// dropOthers removes the regions that a changed monitor left.
func (p *plan) dropOthers(e uptime.ScheduleEntry) {
	for n := range p.regions {
		if i, ok := p.index[slotKey{e.MonitorID, uint16(n)}]; ok && p.slots[i].revision != e.Revision {
			p.remove(i)
		}
	}
}

func (p *plan) insert(s slot) {
	var i int32
	if n := len(p.free); n > 0 {
		i, p.free = p.free[n-1], p.free[:n-1]
	} else {
		i = int32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	s.pos = int32(len(p.heap))
	p.slots[i] = s
	p.index[s.slotKey] = i
	p.rate += s.perSecond()
	p.heap = append(p.heap, i)
	p.up(s.pos)
}

// drop removes a monitor from all regions.
func (p *plan) drop(id int64) {
	for n := range p.regions {
		if i, ok := p.index[slotKey{id, uint16(n)}]; ok {
			p.remove(i)
		}
	}
}

// sweep removes, of the n slots from the place from on, those that the full read that
// just ended did not see, and returns where to go on: -1 at the end.
func (p *plan) sweep(from, n int) int {
	for i := from; i < min(from+n, len(p.slots)); i++ {
		if s := &p.slots[i]; s.id != 0 && s.seen != p.round {
			p.remove(int32(i))
		}
	}
	if from+n >= len(p.slots) {
		return -1
	}
	return from + n
}

func (p *plan) remove(i int32) {
	pos, last := p.slots[i].pos, int32(len(p.heap)-1)
	p.swap(pos, last)
	p.heap = p.heap[:last]
	if pos < last {
		p.fix(pos)
	}
	delete(p.index, p.slots[i].slotKey)
	p.rate -= p.slots[i].perSecond()
	p.slots[i] = slot{}
	p.free = append(p.free, i)
}

// due makes the jobs of what is due at now, max at most, and moves those slots on.
// However late it is, a monitor yields one job: the last slot that passed.
func (p *plan) due(now time.Time, max int, fn func(j uptime.Job, at int64)) {
	n := now.UnixMicro()
	for range max {
		if len(p.heap) == 0 || p.slots[p.heap[0]].at > n {
			return
		}
		s := &p.slots[p.heap[0]]
		next := p.next(s.slotKey, s.interval, s.since, now)
		at := next - s.interval
		if at >= s.since {
			fn(uptime.Job{MonitorID: s.id, Region: p.regions[s.region], ScheduledAt: time.UnixMicro(at).UTC(), Kind: uptime.KindSlot,
				Revision: s.revision, Expires: time.UnixMicro(next).UTC()}, s.at)
		}
		s.at = next
		p.down(0)
	}
}

// wait is how long until the first slot; false when there is none.
func (p *plan) wait(now time.Time) (time.Duration, bool) {
	if len(p.heap) == 0 {
		return 0, false
	}
	return time.UnixMicro(p.slots[p.heap[0]].at).Sub(now), true
}

// linger is how long to let slots gather before they are handed out: a queue takes
// ten jobs for little more than one. At 500 slots a second it is 1 ms, at 2,000 and
// more 4 ms, which stays well within the deviation that DESIGN §13 allows.
func (p *plan) linger() time.Duration {
	const perSlot, most = 2 * time.Microsecond, 4 * time.Millisecond
	return min(time.Duration(p.rate*float64(perSlot)), most)
}

// realign computes every slot anew from now, after the clock was set or we slept.
// With rate > 0, monitors whose slot passed since from get one catch-up check,
// rate a second.
func (p *plan) realign(from, now time.Time, rate int) {
	caught := int64(0)
	for _, i := range p.heap {
		s := &p.slots[i]
		s.at = p.next(s.slotKey, s.interval, s.since, now)
		passed := s.at - s.interval
		if rate <= 0 || passed < s.since || passed <= from.UnixMicro() {
			continue
		}
		s.at = min(s.at, now.UnixMicro()+caught*1_000_000/int64(rate))
		caught++
	}
	for i := int32(len(p.heap)/2) - 1; i >= 0; i-- {
		p.down(i)
	}
}

func (p *plan) less(a, b int32) bool { return p.slots[p.heap[a]].at < p.slots[p.heap[b]].at }

func (p *plan) swap(a, b int32) {
	p.heap[a], p.heap[b] = p.heap[b], p.heap[a]
	p.slots[p.heap[a]].pos, p.slots[p.heap[b]].pos = a, b
}

func (p *plan) fix(i int32) { p.up(i); p.down(i) }

func (p *plan) up(i int32) {
	for i > 0 && p.less(i, (i-1)/2) {
		p.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (p *plan) down(i int32) {
	for {
		c := 2*i + 1
		if c >= int32(len(p.heap)) {
			return
		}
		if c+1 < int32(len(p.heap)) && p.less(c+1, c) {
			c++
		}
		if !p.less(c, i) {
			return
		}
		p.swap(i, c)
		i = c
	}
}
