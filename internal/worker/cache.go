package worker

import (
	"context"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// maxCached bounds the cache; beyond it, it starts over.
const maxCached = 200_000

// compiled is a monitor made ready once for its revision.
type compiled struct {
	monitor uptime.Monitor
	check   probe.Check
	host    string
	err     error
	good    goodEvidence

	outside    bool         // it may be beyond our own network; see crowd
	answered   atomic.Bool  // its last check was answered
	suspect    atomic.Bool  // its last check failed, and it is not down yet
	impossible atomic.Int32 // checks in a row that could not be made
	since      atomic.Int64 // the first such slot, in µs; 0 when there is none
}

// parkAfter checks in a row that could not be made here, a monitor is parked, unless it
// was seen from elsewhere in one of the last seenIn slots. One of them may be an answer
// on which an assertion takes longer than it may.
const (
	parkAfter = 3
	seenIn    = 10
)

// cannot notes why the check of a slot ended, and reports whether its monitor is to be
// parked.
func (k *compiled) cannot(reason uptime.Reason, slot time.Time) bool {
	if reason == uptime.BadConfig {
		k.since.CompareAndSwap(0, slot.UnixMicro())
		return k.impossible.Add(1) >= parkAfter
	}
	if k.since.Load() != 0 {
		k.since.Store(0)
		k.impossible.Store(0)
	}
	return false
}

// lately are the last slots of the monitor, in all its regions, none of them before its
// checks could not be made here.
func (k *compiled) lately(now time.Time) (slots []time.Time) {
	since := time.UnixMicro(k.since.Load())
	for _, region := range k.monitor.Regions {
		slot := uptime.SlotBefore(k.monitor.ID, region, k.monitor.Interval, now)
		for n := 0; n < seenIn && !slot.Before(since); n++ {
			slots = append(slots, slot)
			slot = slot.Add(-k.monitor.Interval)
		}
	}
	return slots
}

// cache keeps compiled monitors. Only the receiver's goroutine uses it.
type cache struct {
	store   Store
	compile func(uptime.Monitor) (probe.Check, error)
	byID    map[int64]*compiled
}

func newCache(s Store, compile func(uptime.Monitor) (probe.Check, error)) *cache {
	return &cache{store: s, compile: compile, byID: map[int64]*compiled{}}
}

// load gives each task its monitor, with one read for all that are not known in
// the revision asked for. A monitor that does not exist stays nil.
func (c *cache) load(ctx context.Context, tasks []*task) error {
	var miss []int64
	asked := map[int64]struct{}{}
	for _, t := range tasks {
		if k := c.byID[t.job.MonitorID]; k != nil && k.monitor.Revision >= t.job.Revision {
			continue
		}
		if _, ok := asked[t.job.MonitorID]; !ok {
			asked[t.job.MonitorID] = struct{}{}
			miss = append(miss, t.job.MonitorID)
		}
	}
	if len(miss) > 0 {
		ms, err := c.store.Monitors(ctx, miss)
		if err != nil {
			return err
		}
		if len(c.byID) > maxCached {
			clear(c.byID)
		}
		for _, id := range miss {
			delete(c.byID, id)
		}
		for _, m := range ms {
			c.byID[m.ID] = c.build(m)
		}
	}
	for _, t := range tasks {
		t.c = c.byID[t.job.MonitorID]
	}
	return nil
}

func (c *cache) build(m uptime.Monitor) *compiled {
	k := &compiled{host: m.Target}
	if uptime.Passive(m.Type) {
		k.host = "monitor " + strconv.FormatInt(m.ID, 10) // there is no host that they share
	}
	if u, err := url.Parse(m.Target); err == nil && u.Host != "" {
		k.host = u.Host
	}
	k.outside = isOutside(k.host)
	k.check, k.err = c.compile(m)
	if k.err != nil {
		m.Problem = k.err.Error()
	}
	k.monitor = m
	m.Config = nil
	return k
}
