package incident_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vedette/internal/uptime"
)

// world is a random monitor and the results of a random span of its life.
type world struct {
	monitor uptime.Monitor
	results []uptime.CheckResult // in ResultKey order
}

func drawWorld(t *rapid.T) world {
	regions := rapid.SampledFrom([][]string{{"default"}, {"eu", "us"}, {"ap", "eu", "us"}}).Draw(t, "regions")
	m := monitor(1, rapid.IntRange(0, 3).Draw(t, "failures"), rapid.IntRange(0, 3).Draw(t, "successes"), regions...)
	w := world{monitor: m}
	for n := range rapid.IntRange(1, 20).Draw(t, "slots") {
		for _, region := range regions {
			for attempt := range rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(t, "attempts") {
				r := result(n, rapid.SampledFrom([]rune("uuuuxxxxtdsg")).Draw(t, "what"))
				r.Region, r.Attempt = region, attempt
				r.StartedAt = r.StartedAt.Add(time.Duration(attempt) * time.Second)
				w.results = append(w.results, r)
			}
		}
	}
	slices.SortFunc(w.results, byKey) // a gap lies just after the checks of its minute
	return w
}

// checkInvariants: alerts of each incident are opened, resolved; incidents follow
// one another without overlap; one is open exactly while the monitor is down, or
// was when we lost sight of it. (A second open one panics in the store.)
func checkInvariants(t *rapid.T, s *memStore) {
	t.Helper()
	open := false
	for i, a := range s.alerts {
		if (a.Kind == uptime.AlertOpened) == open {
			t.Fatalf("alert %d is %s, and open is %v before it: %v", i, a.Kind, open, s.story())
		}
		open = a.Kind == uptime.AlertOpened
	}
	if len(s.alerts) > 0 && open != s.incidents[len(s.incidents)-1].Open() {
		t.Fatalf("the last alert and the last incident differ: %v, %+v", s.story(), s.incidents[len(s.incidents)-1])
	}
	for i, in := range s.incidents {
		if i > 0 && in.FirstBadAt.Before(s.incidents[i-1].ResolvedAt) {
			t.Fatalf("incident %d begins %v, before its predecessor ended %v", i, in.FirstBadAt, s.incidents[i-1].ResolvedAt)
		}
		if !in.Open() && in.ResolvedAt.Before(in.FirstBadAt) || !in.LastGoodAt.IsZero() && !in.LastGoodAt.Before(in.FirstBadAt) {
			t.Fatalf("incident %d is out of order: %+v", i, in)
		}
	}
	switch v := s.state(1).Verdict; {
	case v == uptime.VerdictDown && !open:
		t.Fatalf("the monitor is down and no incident is open: %v", s.story())
	case v.Good() && open:
		t.Fatalf("the monitor is %v and an incident is open: %v", v, s.story())
	}
	lasting := 0
	for _, g := range s.gaps {
		if g.To.IsZero() {
			lasting++
		} else if g.To.Before(g.From) {
			t.Fatalf("a gap ends before it begins: %+v", g)
		}
	}
	if known := s.state(1).Verdict != uptime.VerdictUnknown; lasting > 1 || known && lasting > 0 {
		t.Fatalf("%d gaps last and the monitor is known: %v", lasting, known)
	}
}

func TestAnySequenceAlternatesAndIsAFoldOfWhatIsStored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		single, grouped := newMemStore(w.monitor), newMemStore(w.monitor)
		for i, r := range w.results {
			single.record(r)
			checkInvariants(t, single)
			if i%8 != 0 && i != len(w.results)-1 {
				continue // recomputing takes most of this test's time
			}
			if diff := cmp.Diff(single.refold(1), single.state(1)); diff != "" {
				t.Fatalf("state (-recomputed +stored):\n%s", diff)
			}
		}
		// Every transaction begins from what the store kept, so a batch's end is a
		// restart at that point.
		for rest := w.results; len(rest) > 0; {
			n := rapid.IntRange(1, min(8, len(rest))).Draw(t, "batch")
			grouped.record(rest[:n]...)
			rest = rest[n:]
		}
		checkInvariants(t, grouped)
		if diff := cmp.Diff(single.state(1), grouped.state(1)); diff != "" {
			t.Fatalf("state (-one by one +in batches):\n%s", diff)
		}
		if diff := cmp.Diff(single.incidents, grouped.incidents, ignoreEvidence()); diff != "" {
			t.Fatalf("incidents (-one by one +in batches):\n%s", diff)
		}
		if diff := cmp.Diff(single.gaps, grouped.gaps); diff != "" {
			t.Fatalf("gaps (-one by one +in batches):\n%s", diff)
		}
	})
}

func TestAnyArrivalOrderWithRepeatsKeepsTheInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		arrivals := append([]uptime.CheckResult{}, w.results...)
		arrivals = append(arrivals, w.results...)
		arrivals = rapid.Permutation(arrivals).Draw(t, "arrivals")
		s := newMemStore(w.monitor)
		for rest := arrivals; len(rest) > 0; {
			n := rapid.IntRange(1, min(4, len(rest))).Draw(t, "batch")
			s.record(rest[:n]...)
			rest = rest[n:]
			checkInvariants(t, s)
		}
		told := len(s.alerts)
		s.record(arrivals...)
		if len(s.alerts) != told || len(s.results) != len(w.results) {
			t.Fatalf("everything once more: %d alerts became %d, %d results for %d", told, len(s.alerts), len(s.results), len(w.results))
		}
	})
}
