package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestAHostWithoutAShareLeavesPlacesToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10, 2, 10)
		for i := range 5 {
			if got, want := g.enter(t.Context(), "hung", 1, false, time.Second), i < 2; got != want {
				t.Fatalf("enter %d of the hung host = %v, want %v", i, got, want)
			}
		}
		start := time.Now()
		if !g.enter(t.Context(), "fast", 1, false, time.Second) || time.Since(start) != 0 {
			t.Fatalf("the fast host waited %v", time.Since(start))
		}
	})
}

// Nobody may be forgotten in a line: whatever waits and gives up, each place that
// is left goes to somebody who may have it.
func TestEveryPlaceThatIsLeftGoesToAWaiterWhoMayHaveIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGate(4, 2, 3)
		hosts, owners := []string{"a", "b", "c"}, []int64{1, 2}
		type entrant struct {
			w  *waiter
			in bool
		}
		var all []*entrant
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "act") {
			case 0, 1:
				w := &waiter{host: rapid.SampledFrom(hosts).Draw(t, "host"), owner: rapid.SampledFrom(owners).Draw(t, "owner"),
					class: rapid.IntRange(0, 1).Draw(t, "class"), ready: make(chan struct{})}
				all = append(all, &entrant{w: w, in: g.place(w)})
			case 2:
				for i, e := range all {
					if e.in {
						all = append(all[:i:i], all[i+1:]...)
						g.leave(e.w.host, e.w.owner)
						break
					}
				}
			case 3:
				for _, e := range all {
					if !e.in {
						e.w.gone = true
						e.w.leave()
						break
					}
				}
			}
			running, byHost, byOwner := 0, map[string]int{}, map[int64]int{}
			for _, e := range all {
				select {
				case <-e.w.ready:
					e.in = true
				default:
				}
				if e.in {
					running++
					byHost[e.w.host]++
					byOwner[e.w.owner]++
				}
			}
			counted, standing := g.waiting, 0
			for _, h := range g.hosts {
				counted += h.waiting
			}
			for _, o := range g.owners {
				counted += o.waiting
			}
			for _, e := range all {
				if !e.in && !e.w.gone {
					standing++
				}
			}
			if counted != standing {
				t.Fatalf("%d wait, %d are counted", standing, counted)
			}
			if running > 4 || running != 4-g.free {
				t.Fatalf("%d run, %d places are free of 4", running, g.free)
			}
			for _, e := range all {
				if !e.in && !e.w.gone && running < 4 && byHost[e.w.host] < 2 && byOwner[e.w.owner] < 3 {
					t.Fatalf("a waiter for %s of owner %d is left standing: %d run, %v by host, %v by owner", e.w.host, e.w.owner, running, byHost, byOwner)
				}
			}
		}
	})
}
