package worker

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// How often the evidence of a good check is kept, to stand beside that of a failure
// later. It costs a row of some KB, so it is seldom; and the first is asked for at a
// random moment, so that a worker which starts does not ask of all monitors at once:
// soon for a definition that is new, within goodEvery for one of which there must be
// evidence already.
const (
	goodEvery  = time.Hour
	goodSpread = 10 // intervals, at most goodFirst, within which the first is asked for
	goodFirst  = 10 * time.Minute
)

// However many are due, one check of goodShare brings its evidence, so that a worker
// which is given thousands of monitors at once, or sees them recover, spends its time
// on checks; goodBurst may at any time, which is all that a small installation needs.
const (
	goodShare = 100
	goodBurst = 50
)

// goodBudget is what the good checks of a process may bring. The zero value allows a
// whole burst. It is safe for concurrent use.
type goodBudget struct {
	spent atomic.Int64 // goodShare for each that was brought, less one for each check since
}

// check notes one that was made.
func (b *goodBudget) check() {
	if b.spent.Load() > 0 {
		b.spent.Add(-1)
	}
}

// take reports whether a check may bring its evidence.
func (b *goodBudget) take() bool {
	for {
		spent := b.spent.Load()
		if spent > (goodBurst-1)*goodShare {
			return false
		}
		if b.spent.CompareAndSwap(spent, spent+goodShare) {
			return true
		}
	}
}

// goodEvidence is when the evidence of the next good check of one monitor is wanted.
type goodEvidence struct {
	due atomic.Int64 // Unix µs; 0: the monitor was not up yet
}

// wanted reports whether a check that starts now is to bring its evidence.
func (g *goodEvidence) wanted(now time.Time) bool {
	due := g.due.Load()
	return due != 0 && now.UnixMicro() >= due
}

// saw notes an outcome, and reports whether its evidence is to be kept. After a failure
// the next good check brings its own at once: it is how the target recovered.
func (g *goodEvidence) saw(out probe.Outcome, now time.Time, m *uptime.Monitor) bool {
	keep := out.Verdict.Good() && out.Evidence != nil && g.wanted(now)
	switch {
	case out.Verdict == uptime.VerdictDown:
		g.due.Store(now.UnixMicro())
	case keep:
		g.due.Store(now.Add(goodEvery - goodEvery/20 + rand.N(goodEvery/10)).UnixMicro())
	case out.Verdict.Good() && g.due.Load() == 0:
		within := min(goodSpread*m.Interval, goodFirst)
		if now.Sub(m.UpdatedAt) > goodEvery {
			within = goodEvery
		}
		g.due.CompareAndSwap(0, now.Add(rand.N(within+1)).UnixMicro())
	}
	return keep
}
