package incident_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vedette/internal/incident"
	"vedette/internal/uptime"
)

// reference is the rule for one region in its plainest form: what is told after
// these verdicts, seen in this order.
func reference(pattern []rune, failures, successes int) (told []string) {
	down, bad, good := false, 0, 0
	for _, v := range pattern {
		if v == 'x' {
			good, bad = 0, bad+1
			if !down && bad > failures {
				down = true
				told = append(told, "opened http_status")
			}
			continue
		}
		bad = 0
		if !down {
			continue
		}
		if good++; good >= successes {
			down, good = false, 0
			told = append(told, "resolved")
		}
	}
	return told
}

// permutations calls fn with every order of 0…n-1 (Heap's algorithm).
func permutations(n int, fn func([]int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var rec func(int)
	rec = func(k int) {
		if k == 1 {
			fn(order)
			return
		}
		for i := range k {
			rec(k - 1)
			if k%2 == 0 {
				order[i], order[k-1] = order[k-1], order[i]
			} else {
				order[0], order[k-1] = order[k-1], order[0]
			}
		}
	}
	rec(n)
}

// Row 17 of the faults: six results in every order of arrival. What arrives after
// a later slot was seen says nothing; the rest is judged by the plain rule.
func TestLateResultsNeitherOpenNorClose(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"uuuuux", "xxxxxu", "xuxuxu", "uxxuux", "uxxxuu", "uuuxxx", "uxxxux"} {
		for _, confirm := range [][2]int{{0, 1}, {2, 1}, {1, 2}} {
			t.Run(pattern, func(t *testing.T) {
				t.Parallel()
				all := results(pattern)
				permutations(6, func(order []int) {
					s := newMemStore(monitor(1, confirm[0], confirm[1]))
					var timely []rune
					newest := -1
					for _, n := range order {
						s.record(all[n])
						if n > newest {
							newest, timely = n, append(timely, rune(pattern[n]))
						}
					}
					want := reference(timely, confirm[0], confirm[1])
					if diff := cmp.Diff(want, s.story()); diff != "" {
						t.Fatalf("arrival %v of %s, confirm %v: (-want +got):\n%s", order, pattern, confirm, diff)
					}
				})
			})
		}
	}
}

func TestALaterUnknownDoesNotMakeAnObservationLate(t *testing.T) {
	t.Parallel()
	s := newMemStore(monitor(1, 0, 1))
	all := results("uuxs")
	for _, n := range []int{0, 1, 3, 2} {
		s.record(all[n])
	}
	if diff := cmp.Diff([]string{"opened http_status"}, s.story()); diff != "" {
		t.Errorf("alerts (-want +got):\n%s", diff)
	}
}

// Row 6: a result of an older revision is kept and not judged.
func TestResultsOfAnOlderRevisionAreKeptAndNotJudged(t *testing.T) {
	t.Parallel()
	m := monitor(1, 0, 1)
	m.Revision = 3
	s := newMemStore(m)
	for n, what := range "uxxg" {
		r := result(n, what)
		if n > 0 {
			r.Revision = 2
		} else {
			r.Revision = 3
		}
		s.record(r)
	}
	if len(s.story()) != 0 || s.state(1).Verdict != uptime.VerdictUp {
		t.Errorf("got %v, state %v; want silence and up", s.story(), s.state(1).Verdict)
	}
	marked := 0
	for _, r := range s.results {
		if r.Superseded {
			marked++
		}
	}
	if len(s.results) != 4 || marked != 3 {
		t.Errorf("kept %d, marked %d as superseded; want 4 and 3", len(s.results), marked)
	}
}

// A person ended the incident (paused the monitor, say): the outage before says
// nothing about what comes after, which needs its own confirmations.
func TestAnIncidentEndedByAPersonIsConfirmedAfresh(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"while down": "xxx", "while unknown": "xxxg"} {
		s := newMemStore(monitor(1, 2, 1))
		for _, r := range results(before) {
			s.record(r)
		}
		s.incidents[0].ResolvedAt, s.incidents[0].Resolution = at(4), "monitor_paused"
		s.record(result(5, 'x'))
		s.record(result(6, 'x'))
		if len(s.incidents) != 1 {
			t.Fatalf("%s: two failing results opened an incident, three are needed", name)
		}
		s.record(result(7, 'x'))
		if len(s.incidents) != 2 || !s.incidents[1].FirstBadAt.Equal(at(5)) {
			t.Errorf("%s: got %d incidents, want a second one from %v", name, len(s.incidents), at(5))
		}
	}
}

// Row 45: good results close an incident even if the state does not know of it.
func TestAnOpenIncidentOfAMonitorThatIsUpIsClosed(t *testing.T) {
	t.Parallel()
	open := uptime.Incident{ID: 4, Kind: uptime.IncidentTarget, MonitorID: 1, FirstBadAt: at(0)}
	c := incident.Manager{}.Decide(uptime.Facts{Monitor: monitor(1, 2, 1), Open: &open, Results: []uptime.CheckResult{result(3, 'u')}})
	if c.Update == nil || c.Update.Open() || len(c.Alerts) != 1 || c.Alerts[0].Kind != uptime.AlertResolved {
		t.Errorf("got update %+v and alerts %+v, want the incident resolved", c.Update, c.Alerts)
	}
	if !open.Open() {
		t.Error("the facts were modified")
	}
}

func TestAGapIsAsLongAsTheBlindness(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, pattern string
		want          []uptime.Gap
	}{
		{"between two good results", "uuggu", []uptime.Gap{{ID: 1, MonitorID: 1, From: at(2).Add(-999 * time.Microsecond), To: at(4), Cause: uptime.Blind}}},
		{"in an outage, until it is seen again", "xgx", []uptime.Gap{{ID: 1, MonitorID: 1, From: at(1).Add(-999 * time.Microsecond), To: at(2), Cause: uptime.Blind}}},
		{"still open", "ug", []uptime.Gap{{ID: 1, MonitorID: 1, From: at(1).Add(-999 * time.Microsecond), Cause: uptime.Blind}}},
		{"a monitor never seen has no gap yet", "gg", nil},
	} {
		s := newMemStore(monitor(1, 0, 1))
		for _, r := range results(c.pattern) {
			s.record(r)
		}
		var got []uptime.Gap
		for _, g := range s.gaps {
			got = append(got, *g)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", c.name, c.pattern, diff)
		}
	}
}

func TestAlertsShowTheTargetWithoutSecrets(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"https://shop.example/health":                            "https://shop.example/health",
		"https://user:canary@shop.example/health":                "https://shop.example/health",
		"https://canary@shop.example/":                           "https://shop.example/",
		"https://shop.example/?page=2&api_key=canary&q=a%20b":    "https://shop.example/?page=2&api_key=***&q=a%20b",
		"https://shop.example/?X-Amz-Signature=canary":           "https://shop.example/?X-Amz-Signature=***",
		"https://shop.example/?access%5Ftoken=canary":            "https://shop.example/?access%5Ftoken=***",
		"https://shop.example/?flag&Password=canary":             "https://shop.example/?flag&Password=***",
		"https://shop.example/#access_token=canary":              "https://shop.example/",
		"https://user:can%zzary@shop.example/?token=canary":      "https://shop.example/",
		"postgres://app:canary@db.example:5432/x?sslmode=prefer": "postgres://db.example:5432/x?sslmode=prefer",
		"app:canary@tcp-db.example:3306":                         "tcp-db.example:3306",
		"db.example:5432":                                        "db.example:5432",
		"192.0.2.7":                                              "192.0.2.7",
		"[2001:db8::1]:22":                                       "[2001:db8::1]:22",
	} {
		m := monitor(1, 0, 1)
		m.Target = target
		c := incident.Manager{}.Decide(uptime.Facts{Monitor: m, Results: []uptime.CheckResult{result(0, 'x')}})
		if got := c.Alerts[0].Body.Monitor.Target; got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}

// What was found out when a failure was confirmed stands in the incident, beside the
// evidence of the first failure, which stays as it was.
func TestADiagnosisOfTheConfirmationIsInTheIncident(t *testing.T) {
	t.Parallel()
	first, second := result(0, 'x'), result(0, 'x')
	second.Attempt, second.StartedAt = 1, second.StartedAt.Add(time.Second)
	second.Evidence = &uptime.Evidence{Status: 1, Diagnosis: []string{"The other answers."}}
	c := incident.Manager{}.Decide(uptime.Facts{Monitor: monitor(1, 1, 1), Results: []uptime.CheckResult{first, second}})
	want := &uptime.Evidence{Status: 500, Diagnosis: []string{"The other answers."}}
	if diff := cmp.Diff(want, c.Open.Opening); diff != "" {
		t.Errorf("opening (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, c.Alerts[0].Body.Evidence); diff != "" {
		t.Errorf("alert (-want +got):\n%s", diff)
	}
	if first.Evidence.Diagnosis != nil {
		t.Error("the first result was changed")
	}
}
