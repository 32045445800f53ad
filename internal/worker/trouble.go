package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vedette/internal/uptime"
)

// When this machine cannot see, all its monitors are unknown, and nobody would be told:
// an unknown monitor is no outage. So it is told once, as an incident about ourselves.
const (
	troubleAfter = 10 * time.Second // of it, before it is told: a blip is not
	troubleOver  = 30 * time.Second // without it, after a monitor that had it was seen again
	troubleAgain = 30 * time.Second // how often it is stated anew that there is trouble, or none
	troubleLease = 3 * troubleAgain // after it, who had trouble and says nothing any more is gone
)

// ownReasons are the troubles that are told, with their sentences.
var ownReasons = map[uptime.Reason]struct{ open, over string }{
	uptime.OwnNetwork: {"The network or resolver of a worker in region %s does not work: %d monitors cannot be checked. They are unknown, not down.",
		"The network of every worker works again."},
	uptime.OwnResources: {"A worker in region %s has no descriptors, ports or memory left: %d monitors cannot be checked. They are unknown, not down.",
		"Every worker has what it needs again."},
}

// trouble is what of ours keeps monitors from being seen.
type trouble struct {
	blind atomic.Int64 // monitors that could not be seen, over all reasons; most of the time none
	sees  atomic.Bool  // this process has seen some target

	mu  sync.Mutex // guards what follows
	all map[uptime.Reason]*ownTrouble
}

// ownTrouble is one kind of it.
type ownTrouble struct {
	since, last time.Time           // of the present span: the first and last result that says so
	seen        time.Time           // when one of blind was seen again; zero if none was since last
	blind       map[int64]time.Time // monitors, and when they are forgotten: they may be deleted meanwhile
	told        bool                // the store knows that we have it
	stated      time.Time           // when the store was told so last; zero: never
}

func newTrouble() *trouble {
	t := &trouble{all: map[uptime.Reason]*ownTrouble{}}
	for reason := range ownReasons {
		t.all[reason] = &ownTrouble{blind: map[int64]time.Time{}}
	}
	return t
}

// saw notes what became of a monitor's check.
func (t *trouble) saw(monitor int64, v uptime.Verdict, reason uptime.Reason, now time.Time, interval time.Duration) {
	if v != uptime.VerdictUnknown && !t.sees.Load() {
		t.sees.Store(true)
	}
	_, ours := ownReasons[reason]
	if v == uptime.VerdictUnknown && !ours || v != uptime.VerdictUnknown && t.blind.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for r, o := range t.all {
		_, was := o.blind[monitor]
		switch {
		case v == uptime.VerdictUnknown && r == reason:
			if len(o.blind) == 0 && !o.told {
				o.since = now
			}
			o.last, o.seen = now, time.Time{}
			o.blind[monitor] = now.Add(3*interval + time.Minute)
		case v != uptime.VerdictUnknown && was:
			delete(o.blind, monitor)
			o.seen = now
		}
	}
	t.count()
}

// count sets the number of those that are blind; t.mu is held.
func (t *trouble) count() {
	n := 0
	for _, o := range t.all {
		n += len(o.blind)
	}
	t.blind.Store(int64(n))
}

// due is what the store is to be told now about one kind of trouble. A process that
// sees targets says again and again that it has none: that ends what others left open
// who are gone, its own former life among them.
func (t *trouble) due(reason uptime.Reason, now time.Time) (has, tell bool, blind int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.all[reason]
	for id, forget := range o.blind {
		if now.After(forget) {
			delete(o.blind, id)
		}
	}
	t.count()
	quiet := now.Sub(o.last) >= troubleOver && !o.seen.IsZero()
	switch {
	case o.told && (len(o.blind) == 0 || quiet):
		clear(o.blind)
		t.count()
		return false, true, 0
	case o.told:
		return true, now.Sub(o.stated) >= troubleAgain, len(o.blind)
	case len(o.blind) > 0:
		return true, o.last.Sub(o.since) >= troubleAfter, len(o.blind)
	}
	return false, t.sees.Load() && now.Sub(o.stated) >= troubleAgain, 0
}

// did notes what the store was told.
func (t *trouble) did(reason uptime.Reason, has bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[reason].told, t.all[reason].stated = has, now
}

// didNot notes that the store could not be told, so that one that is down is not asked
// each second by workers that are well.
func (t *trouble) didNot(reason uptime.Reason, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.all[reason]; !o.told {
		o.stated = now
	}
}

// tellTrouble keeps the incidents about this worker in step until ctx ends.
func (w *Worker) tellTrouble(ctx context.Context) {
	for wait(ctx, time.Second) {
		for reason, text := range ownReasons {
			has, tell, blind := w.own.due(reason, time.Now())
			if !tell {
				continue
			}
			message := text.over
			if has {
				message = fmt.Sprintf(text.open, w.o.Region, blind)
			}
			if err := w.o.Store.SetOwnTrouble(ctx, reason, w.o.Holder, message, has, troubleLease); err != nil {
				w.own.didNot(reason, time.Now())
				if ctx.Err() == nil {
					w.o.Logger.Warn("trouble of our own is not recorded", slog.String("reason", string(reason)), slog.Any("error", err))
				}
				continue
			}
			w.own.did(reason, has, time.Now())
		}
	}
}
