package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// boundaries are the ends of all steps between a slot that is due and a message
// that is delivered, with the hit at which the process dies there. The first hit of
// the early ones is a check like any other; by the third the outage is being
// confirmed. The second hit of the last ones is the other channel.
var boundaries = []struct {
	point string
	hits  []int
}{
	{"schedule.due", []int{1, 3}},
	{"schedule.published", []int{1, 3}},
	{"schedule.audited", []int{1}},
	{"worker.received", []int{1, 3}},
	{"worker.checked", []int{1, 2}},
	{"record.begin", []int{1, 2, 3}},
	{"record.committed", []int{1, 2, 3}},
	{"worker.recorded", []int{1, 2}},
	{"worker.acknowledged", []int{1}},
	{"record.hint", []int{1}},
	{"notify.received", []int{1}},
	{"notify.routed", []int{1}},
	{"notify.claimed", []int{1}},
	{"notify.sent", []int{1, 2}},
	{"notify.finished", []int{1, 2}},
}

// TestACrashAtAnyStepLosesNothingAndInventsNothing is the crash matrix: at every
// boundary, in an outage and in its end, the process is killed with SIGKILL and
// started again. Each outage opens one incident, is told once by each channel
// (repeats carry the same id), and so is its end; nothing else is told.
func TestACrashAtAnyStepLosesNothingAndInventsNothing(t *testing.T) {
	const lanes = 3 // so many installations share the points
	for lane := range lanes {
		t.Run(fmt.Sprintf("embedded-%d", lane+1), func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, func(t testing.TB, smtp string) *cluster { return embedded(t, smtp) })
			n := 0
			for _, b := range boundaries {
				for _, hit := range b.hits {
					if n++; n%lanes == lane {
						m.crash(b.point, hit)
					}
				}
			}
		})
		t.Run(fmt.Sprintf("scaled-%d", lane+1), func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, func(t testing.TB, smtp string) *cluster { return scaledBy(t, smtp, 1) })
			for n, b := range boundaries {
				if n%lanes == lane {
					m.crash(b.point, b.hits[0])
				}
			}
		})
	}
}

// matrix is one installation on the way through the points.
type matrix struct {
	t       testing.TB
	c       *cluster
	n       news
	tg      *target
	id      int64
	outages int // so far
}

func newMatrix(t testing.TB, begin func(testing.TB, string) *cluster) *matrix {
	mail, hook, tg := testenv.SMTP(t), newReceiver(t), newTarget(t)
	c := begin(t, mail.URL())
	return &matrix{t: t, c: c, n: news{t, c, mail, hook}, tg: tg, id: c.watch(tg, hook)}
}

// crash has the process killed at point once while an outage begins, and once while
// it ends.
func (m *matrix) crash(point string, hit int) {
	m.t.Helper()
	before := m.repeats()
	m.at(point, hit, http.StatusServiceUnavailable)
	m.outages++
	m.n.settle(m.outages, m.outages-1)
	m.at(point, hit, http.StatusOK)
	m.n.settle(m.outages, m.outages)
	m.c.until(m.id, "up")
	if point == "notify.sent" { // it was accepted, and nobody could know: it comes again
		eventually(m.t, 90*time.Second, "what was sent and not recorded is sent again", func() bool { return m.repeats() >= before+2 })
		m.n.settle(m.outages, m.outages)
	}
}

// repeats are the messages that came more than once, under one id.
func (m *matrix) repeats() int {
	all := m.n.mail.Messages()
	ids := map[string]bool{}
	for _, mail := range all {
		ids[mail.Header.Get("Message-Id")] = true
	}
	return len(all) - len(ids) + m.n.hook.repeats()
}

// at kills the process that has the point, changes what the target answers, starts
// it so that it dies there, and starts it again.
func (m *matrix) at(point string, hit int, status int) {
	m.t.Helper()
	name := "all"
	if m.c.pg != nil {
		stage, _, _ := strings.Cut(point, ".")
		name = map[string]string{"schedule": "scheduler1", "worker": "worker1", "record": "worker1", "notify": "notifier1"}[stage]
	}
	m.c.procs[name].kill()
	m.tg.status.Store(int64(status))
	m.c.restart(name, fmt.Sprintf("VEDETTE_FAILPOINTS=%s=kill@%d", point, hit))
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	select {
	case <-m.c.procs[name].done:
	case <-deadline.C:
		m.t.Fatalf("%s: the point was not hit %d times within a minute", point, hit)
	}
	m.c.restart(name)
	m.c.ready()
}
