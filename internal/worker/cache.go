package worker

import (
	"context"
	"net/url"
	"strconv"
	"sync/atomic"

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
	impossible atomic.Int32 // checks in a row that could not be made
}

// parkAfter checks in a row that could not be made here, a monitor is parked. One of them
// may be a busy machine, on which an assertion took longer than it may.
const parkAfter = 3

// cannot notes why a check ended, and reports whether its monitor is to be parked.
func (k *compiled) cannot(reason uptime.Reason) bool {
	if reason == uptime.BadConfig {
		return k.impossible.Add(1) >= parkAfter
	}
	if k.impossible.Load() != 0 {
		k.impossible.Store(0)
	}
	return false
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
