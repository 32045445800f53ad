package incident_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vedette/internal/uptime"
)

// The rows "Flapping" of the fidelity page, with two confirmations, and what
// follows from them. Each pattern is told to a store one result at a time, and
// once more as one batch: the story must be the same.
func TestFlapping(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		failures  int
		successes int
		pattern   string
		want      []string
	}{
		{"one bad check opens nothing", 2, 1, "uuuxuuu", nil},
		{"one bad check of another kind opens nothing", 2, 1, "uuutuuu", nil},
		{"isolated failures however often open nothing", 2, 1, strings.Repeat("uxutu", 50), nil},
		{"two bad of three needed open nothing", 2, 1, strings.Repeat("uuxx", 50), nil},
		{"three bad are one incident with one close", 2, 1, "uuxxxuu", []string{"opened http_status", "resolved"}},
		{"always bad is one incident", 2, 1, strings.Repeat("x", 100), []string{"opened http_status"}},
		{"a change of reason while down is the same incident", 2, 1, "uxxxtttxxxtuu", []string{"opened http_status", "resolved"}},
		{"a slow phase is degraded and opens nothing", 2, 1, "uuddddddduu", nil},
		{"a slow phase between failures ends their streak", 2, 1, "uxxdxxu", nil},
		{"single successes inside an outage do not close it", 2, 2, "uxxxuxxuxuxxuu", []string{"opened http_status", "resolved"}},
		{"without confirmation the first failure counts", 0, 1, "uxu", []string{"opened http_status", "resolved"}},
		{"a slow answer ends an outage", 2, 1, "xxxd", []string{"opened http_status", "resolved"}},
		{"good and slow answers count together", 2, 3, "xxxudxudu", []string{"opened http_status", "resolved"}},
		{"a starved slot is no answer and ends no streak", 2, 1, "uxsxsxu", []string{"opened http_status", "resolved"}},
		{"starved slots alone open nothing", 0, 1, "ussssssssu", nil},
		{"a gap ends a streak", 2, 1, "uxxgxu", nil},
		{"a gap in an outage is silent", 2, 1, "uxxxgxxu", []string{"opened http_status", "resolved"}},
		{"a recovery seen after a gap is told", 2, 1, "uxxxgu", []string{"opened http_status", "resolved"}},
		{"a gap does not stand for a success", 2, 2, "uxxxugux", []string{"opened http_status"}},
		{"many gaps in an outage are silent", 0, 1, "xggxgxgu", []string{"opened http_status", "resolved"}},
		{"an outage from the first check on is told", 2, 1, "xxxu", []string{"opened http_status", "resolved"}},
		{"two outages are two incidents", 0, 1, "uxuxu", []string{"opened http_status", "resolved", "opened http_status", "resolved"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			single, whole := newMemStore(monitor(1, c.failures, c.successes)), newMemStore(monitor(1, c.failures, c.successes))
			for _, r := range results(c.pattern) {
				single.record(r)
			}
			whole.record(results(c.pattern)...)
			for way, s := range map[string]*memStore{"one by one": single, "in one batch": whole} {
				if diff := cmp.Diff(c.want, s.story()); diff != "" {
					t.Errorf("%s, %s: alerts (-want +got):\n%s", c.pattern, way, diff)
				}
			}
			if diff := cmp.Diff(single.incidents, whole.incidents, ignoreEvidence()); diff != "" {
				t.Errorf("%s: incidents one by one and in one batch differ:\n%s", c.pattern, diff)
			}
			if diff := cmp.Diff(single.gaps, whole.gaps); diff != "" {
				t.Errorf("%s: gaps one by one and in one batch differ:\n%s", c.pattern, diff)
			}
		})
	}
}

// ignoreEvidence: how far the opening evidence reaches back depends on batches.
func ignoreEvidence() cmp.Option {
	return cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Opening" }, cmp.Ignore())
}

func at(n int) time.Time { return epoch.Add(time.Duration(n)*time.Minute + time.Millisecond) }

func TestAnIncidentTellsWhenWhatAndWhy(t *testing.T) {
	t.Parallel()
	s := newMemStore(monitor(1, 2, 2))
	for _, r := range results("uuxxxttuxuu") {
		s.record(r)
	}
	if len(s.incidents) != 1 {
		t.Fatalf("got %d incidents, want 1", len(s.incidents))
	}
	want := uptime.Incident{ID: 1, Kind: uptime.IncidentTarget, MonitorID: 1, OwnerID: 9, MonitorName: "Checkout",
		Reason: uptime.HTTPStatus, Message: "It answered 503.", LastGoodAt: at(1), FirstBadAt: at(2), ConfirmedAt: at(4).Add(100 * time.Millisecond),
		ResolvedAt: at(9), Resolution: "recovered", Opening: &uptime.Evidence{Status: 504}}
	if diff := cmp.Diff(want, *s.incidents[0]); diff != "" {
		t.Errorf("incident (-want +got):\n%s", diff)
	}
	var kinds []string
	for _, e := range s.events {
		kinds = append(kinds, e.Kind+" "+e.Text)
	}
	wantEvents := []string{"opened http_status: It answered 503.", "reason_changed conn_timeout: It did not answer.",
		"reason_changed http_status: It answered 503.", "resolved The target is up again."}
	if diff := cmp.Diff(wantEvents, kinds); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	if a := s.alerts[1].Body.Incident; a.Seconds != 7*60 || a.ResolvedAt == nil || !a.ResolvedAt.Equal(at(9)) {
		t.Errorf("resolve tells %d s until %v, want 420 s until %v", a.Seconds, a.ResolvedAt, at(9))
	}
}

func TestOpeningEvidenceIsOfTheFirstFailureInTheBatch(t *testing.T) {
	t.Parallel()
	s := newMemStore(monitor(1, 2, 1))
	s.record(results("xuxxx")...)
	if got := s.incidents[0].Opening; got == nil || got.Status != 502 {
		t.Errorf("got evidence %+v, want that of slot 2", got)
	}
	if a := s.alerts[0]; a.Body.Evidence == nil || a.Body.Evidence.Status != 502 {
		t.Errorf("the alert shows %+v, want that of slot 2", a.Body.Evidence)
	}
}

func TestSeveralOutagesInOneBatchAreToldInOrder(t *testing.T) {
	t.Parallel()
	s := newMemStore(monitor(1, 0, 1))
	s.record(results("ux")...)
	recs := s.record(results("uxuxuxgxgu")[2:]...)
	want := []string{"opened http_status", "resolved", "opened http_status", "resolved", "opened http_status", "resolved"}
	if diff := cmp.Diff(want, s.story()); diff != "" {
		t.Errorf("alerts (-want +got):\n%s", diff)
	}
	var about []int64
	for _, a := range s.alerts {
		about = append(about, a.IncidentID)
	}
	if diff := cmp.Diff([]int64{1, 1, 2, 2, 3, 3}, about); diff != "" {
		t.Errorf("alerts are about incidents (-want +got):\n%s", diff)
	}
	if len(s.gaps) != 2 || s.gaps[0].To.IsZero() || s.gaps[1].To.IsZero() || s.gaps[0].To.After(s.gaps[1].From) {
		t.Errorf("got gaps %+v, want two that are over", s.gaps)
	}
	if diff := cmp.Diff([]int64{2, 3, 4, 5, 6}, recs[0].AlertIDs); diff != "" {
		t.Errorf("alerts to hint about (-want +got):\n%s", diff)
	}
}

func TestDuplicatesThreeTimesMoveNothing(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"uxu", "uxxu", "xxuxxxu", "uxxxuxuu", "gxgxg"} {
		once, thrice := newMemStore(monitor(1, 2, 2)), newMemStore(monitor(1, 2, 2))
		for _, r := range results(pattern) {
			once.record(r)
			thrice.record(r, r)
			thrice.record(r)
		}
		if diff := cmp.Diff(once.state(1), thrice.state(1)); diff != "" {
			t.Errorf("%s: state (-once +thrice):\n%s", pattern, diff)
		}
		if !slices.Equal(once.story(), thrice.story()) {
			t.Errorf("%s: got %v, want %v", pattern, thrice.story(), once.story())
		}
	}
}
