package incident

import (
	"context"
)

// hint is what a commit made known.
type hint struct {
	alerts []int64
	events bool
}

// hintBacklog bounds hints that wait for a slow queue. Each stands for a commit.
const hintBacklog = 256

// hinter passes hints on in a goroutine of its own, so that a queue that is slow or
// away never delays a transaction.
type hinter struct {
	o     RecorderOptions
	hints chan hint
}

func newHinter(o RecorderOptions) *hinter {
	return &hinter{o: o, hints: make(chan hint, hintBacklog)}
}

// send hands h over; false when there is no room and it is lost.
func (x *hinter) send(h hint) bool {
	select {
	case x.hints <- h:
		return true
	default:
		return false
	}
}

// close ends run after what was sent. Nobody may send any more.
func (x *hinter) close() { close(x.hints) }

// run passes hints on, those that waited together in one.
func (x *hinter) run(ctx context.Context) {
	for h := range x.hints {
		for more := true; more; {
			select {
			case next, open := <-x.hints:
				h.alerts = append(h.alerts, next.alerts...)
				h.events = h.events || next.events
				more = open
			default:
				more = false
			}
		}
		if x.o.Failpoints.Hit("record.hint") != nil {
			continue
		}
		if len(h.alerts) > 0 {
			x.o.Notify(ctx, h.alerts)
		}
		if h.events {
			x.o.Hint(ctx)
		}
	}
}
