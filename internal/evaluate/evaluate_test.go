package evaluate_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vedette/internal/evaluate"
	"vedette/internal/uptime"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// start is when the check of slot n began; slots are a minute apart.
func start(n int) time.Time { return epoch.Add(time.Duration(n)*time.Minute + time.Millisecond) }

// result is slot n's in a region: u up, d degraded, x down, s starved, g a gap.
func result(n int, region string, what rune) uptime.CheckResult {
	r := uptime.CheckResult{ResultKey: uptime.ResultKey{MonitorID: 1, Region: region, ScheduledAt: epoch.Add(time.Duration(n) * time.Minute)},
		Revision: 1, StartedAt: start(n), Duration: 100 * time.Millisecond}
	switch what {
	case 'u':
		r.Verdict = uptime.VerdictUp
	case 'd':
		r.Verdict, r.Reason = uptime.VerdictDegraded, uptime.Slow
	case 'x':
		r.Verdict, r.Reason = uptime.VerdictDown, uptime.HTTPStatus
	case 's':
		r.Reason = uptime.Starved
	case 'g':
		r.Kind, r.Reason = uptime.KindGap, uptime.Blind
	}
	return r
}

func policy(failures, successes int, regions ...string) uptime.Policy {
	return uptime.Policy{Confirm: uptime.Confirm{Failures: failures, Successes: successes}, Interval: time.Minute, Regions: regions, Revision: 1}
}

// verdicts folds a pattern of one region and spells the verdict after each result.
func verdicts(pattern string, p uptime.Policy) (out string, s uptime.State) {
	for n, what := range pattern {
		s, _ = evaluate.Next(s, result(n, p.Regions[0], what), p)
		out += string("?udx"[s.Verdict])
	}
	return out, s
}

func TestVerdictsOfOneRegion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                string
		failures, successes int
		pattern, want       string
	}{
		{"nothing is believed before there is evidence", 2, 1, "sxxs", "????"},
		{"the first good result is believed at once", 2, 3, "u", "u"},
		{"so is the first degraded one", 2, 3, "du", "du"},
		{"a failure is believed when confirmed", 2, 1, "uxxx", "uuux"},
		{"a good result in between starts the count again", 2, 1, "xxuxxx", "??uuux"},
		{"so does a degraded one", 1, 1, "xdxx", "?ddx"},
		{"no confirmation means the first", 0, 1, "ux", "ux"},
		{"recovery needs its successes", 0, 3, "xuuu", "xxxu"},
		{"in a row", 0, 2, "xuxuu", "xxxxu"},
		{"up and degraded count alike and the last one is the verdict", 0, 2, "xud", "xxd"},
		{"what could not observe changes nothing", 1, 2, "usxsxsusu", "uuuuxxxxu"},
		{"a gap makes it unknown", 1, 1, "ug", "u?"},
		{"a gap ends a streak of failures", 1, 1, "uxgxx", "uu??x"},
		{"a good result ends blindness at once", 1, 3, "uugu", "uu?u"},
		{"an outage goes on after a gap with its first failure", 2, 1, "xxxgx", "??x?x"},
		{"an outage seen to end after a gap needs its successes", 0, 2, "xguu", "x??u"},
		{"a gap ends a streak of successes", 0, 2, "xuguu", "xx??u"},
		{"two gaps remember the outage as one does", 2, 1, "xxxggx", "??x??x"},
		{"successes below one mean one", 0, -4, "xu", "xu"},
		{"failures below zero mean none", -4, 1, "ux", "ux"},
	} {
		if got, _ := verdicts(c.pattern, policy(c.failures, c.successes, "default")); got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.name, c.pattern, got, c.want)
		}
	}
}

// Regions are listed as they are: slot by slot, one letter a region, '-' for none.
func TestVerdictsOfSeveralRegions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		slots []string
		want  string
	}{
		{"all up is up", []string{"uuu"}, "u"},
		{"a region not heard of yet does not speak against the others", []string{"u--"}, "u"},
		{"one of three down is degraded", []string{"uuu", "xuu"}, "ud"},
		{"two of three down is down", []string{"uuu", "xuu", "-xu"}, "udx"},
		{"one of two down is degraded", []string{"uu", "xu"}, "ud"},
		{"two of two down is down", []string{"uu", "xx"}, "ux"},
		{"one degraded is degraded", []string{"uud"}, "d"},
		{"a blind region does not speak against the others", []string{"uuu", "g--"}, "uu"},
		{"all blind is unknown", []string{"uuu", "ggg"}, "u?"},
		{"losing sight of a region that is down does not end the outage", []string{"uxx", "-g-"}, "x?"},
		{"until most of the others see it end", []string{"uxx", "-g-", "--u"}, "x?u"},
		{"or it goes on", []string{"uxx", "-g-", "-x-"}, "x?x"},
	} {
		regions := []string{"ap", "eu", "us"}[:len(c.slots[0])]
		p, s, got := policy(0, 1, regions...), uptime.State{}, ""
		for n, slot := range c.slots {
			for i, what := range slot {
				if what != '-' {
					s, _ = evaluate.Next(s, result(n, regions[i], what), p)
				}
			}
			got += string("?udx"[s.Verdict])
		}
		if got != c.want {
			t.Errorf("%s: %v gives %s, want %s", c.name, c.slots, got, c.want)
		}
	}
}

func TestATransitionIsDatedFromTheFirstThatSaysSo(t *testing.T) {
	t.Parallel()
	p := policy(2, 2, "default")
	var s uptime.State
	var got []uptime.Transition
	for n, what := range "uxxxxugxuu" {
		var tr *uptime.Transition
		if s, tr = evaluate.Next(s, result(n, "default", what), p); tr != nil {
			got = append(got, *tr)
		}
	}
	seen := func(n int) time.Time { return start(n).Add(100 * time.Millisecond) }
	want := []uptime.Transition{
		{From: uptime.VerdictUnknown, To: uptime.VerdictUp, At: start(0), Seen: seen(0)},
		{From: uptime.VerdictUp, To: uptime.VerdictDown, Reason: uptime.HTTPStatus, At: start(1), Seen: seen(3)},
		{From: uptime.VerdictDown, To: uptime.VerdictUnknown, Reason: uptime.Blind, At: epoch.Add(6 * time.Minute), Seen: seen(6)},
		{From: uptime.VerdictUnknown, To: uptime.VerdictDown, Reason: uptime.HTTPStatus, At: start(7), Seen: seen(7)},
		{From: uptime.VerdictDown, To: uptime.VerdictUp, At: start(8), Seen: seen(9)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("transitions (-want +got):\n%s", diff)
	}
}

func TestWhatMustNotCountChangesNothing(t *testing.T) {
	t.Parallel()
	p := policy(1, 1, "default")
	p.Revision = 5
	current := func(n int, what rune) uptime.CheckResult {
		r := result(n, "default", what)
		r.Revision = 5
		return r
	}
	s, _ := evaluate.Next(uptime.State{}, current(3, 'x'), p)
	change := func(fn func(*uptime.CheckResult)) uptime.CheckResult {
		r := current(4, 'x')
		fn(&r)
		return r
	}
	for name, r := range map[string]uptime.CheckResult{
		"the same result again":      current(3, 'x'),
		"an older slot":              current(2, 'x'),
		"an older slot that is good": current(2, 'u'),
		"an older gap":               current(2, 'g'),
		"an older revision":          change(func(r *uptime.CheckResult) { r.Revision = 4 }),
		"a region it does not have":  change(func(r *uptime.CheckResult) { r.Region = "mars" }),
		"another monitor":            change(func(r *uptime.CheckResult) { r.MonitorID = 2 }),
		"a superseded result":        change(func(r *uptime.CheckResult) { r.Superseded = true }),
		"what could not observe":     current(4, 's'),
		"a verdict that is none":     change(func(r *uptime.CheckResult) { r.Verdict = 77 }),
	} {
		next, tr := evaluate.Next(s, r, p)
		if diff := cmp.Diff(s, next); diff != "" || tr != nil {
			t.Errorf("%s: transition %v, state (-before +after):\n%s", name, tr, diff)
		}
	}
	if next, tr := evaluate.Next(s, current(4, 'x'), p); tr == nil || next.Verdict != uptime.VerdictDown {
		t.Errorf("the next slot: got %v, want it to count", next.Verdict)
	}
}

func TestAConfirmationOfTheSameSlotCounts(t *testing.T) {
	t.Parallel()
	p, s := policy(2, 1, "default"), uptime.State{}
	for attempt := range 3 {
		r := result(0, "default", 'x')
		r.Attempt, r.StartedAt = attempt, r.StartedAt.Add(time.Duration(attempt)*5*time.Second)
		s, _ = evaluate.Next(s, r, p)
	}
	if s.Verdict != uptime.VerdictDown || !s.Since.Equal(start(0)) {
		t.Errorf("got %v since %v, want down since the first attempt %v", s.Verdict, s.Since, start(0))
	}
}

func TestARegionThatWasRemovedIsForgotten(t *testing.T) {
	t.Parallel()
	before, after := policy(0, 1, "eu", "us"), policy(0, 1, "us")
	after.Revision = 2
	s, _ := evaluate.Next(uptime.State{}, result(0, "eu", 'x'), before)
	s, _ = evaluate.Next(s, result(0, "us", 'u'), before)
	if s.Verdict != uptime.VerdictDegraded {
		t.Fatalf("with both: %v, want degraded", s.Verdict)
	}
	r := result(1, "us", 'u')
	r.Revision = 2
	if s, _ = evaluate.Next(s, r, after); s.Verdict != uptime.VerdictUp || len(s.Regions) != 1 {
		t.Errorf("without eu: %v with %d regions, want up with 1", s.Verdict, len(s.Regions))
	}
}

func TestASteadyMonitorCostsNothing(t *testing.T) {
	// Not parallel: allocations are counted for the whole process.
	p := policy(2, 1, "default")
	_, s := verdicts("uu", p)
	if !s.Steady() {
		t.Fatal("two good results are not steady")
	}
	r := result(9, "default", 'u')
	if n := testing.AllocsPerRun(100, func() { evaluate.Next(s, r, p) }); n != 0 {
		t.Errorf("an up result allocates %v times", n)
	}
}

func TestForgetMakesAnOutageNeedItsConfirmationsAgain(t *testing.T) {
	t.Parallel()
	p := policy(2, 1, "default")
	for _, pattern := range []string{"xxx", "xxxg"} {
		_, s := verdicts(pattern, p)
		s = evaluate.Forget(s)
		got := string("?udx"[s.Verdict])
		for n := 10; n < 13; n++ {
			s, _ = evaluate.Next(s, result(n, "default", 'x'), p)
			got += string("?udx"[s.Verdict])
		}
		if got != "???x" {
			t.Errorf("after %s: %s, want ???x", pattern, got)
		}
	}
	_, up := verdicts("uxx", p)
	if diff := cmp.Diff(up, evaluate.Forget(up)); diff != "" {
		t.Errorf("a monitor without an outage lost something:\n%s", diff)
	}
}

// Any state and any result, sensible or not, have an answer; the state that was
// given stays as it is, and the same question has the same answer.
func TestNextIsTotalAndPure(t *testing.T) {
	t.Parallel()
	instants := rapid.Map(rapid.Int64Range(-1<<40, 1<<52), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
	names := rapid.SampledFrom([]string{"", "default", "eu", "us"})
	verdict := rapid.Map(rapid.Uint8(), func(v uint8) uptime.Verdict { return uptime.Verdict(v) })
	rapid.Check(t, func(t *rapid.T) {
		region := rapid.Custom(func(t *rapid.T) uptime.RegionState {
			return uptime.RegionState{Region: names.Draw(t, "region"), Verdict: verdict.Draw(t, "verdict"), Was: verdict.Draw(t, "was"),
				Since: instants.Draw(t, "since"), Failures: rapid.Int().Draw(t, "failures"), Successes: rapid.Int().Draw(t, "successes"),
				Cursor: instants.Draw(t, "cursor"), Attempt: rapid.Int().Draw(t, "attempt")}
		})
		s := uptime.State{MonitorID: rapid.Int64Range(0, 2).Draw(t, "id"), Verdict: verdict.Draw(t, "verdict"), Since: instants.Draw(t, "since"),
			Regions: rapid.SliceOfN(region, 0, 4).Draw(t, "regions")}
		r := uptime.CheckResult{ResultKey: uptime.ResultKey{MonitorID: rapid.Int64Range(0, 2).Draw(t, "monitor"), Region: names.Draw(t, "region"),
			ScheduledAt: instants.Draw(t, "slot"), Attempt: rapid.Int().Draw(t, "attempt")}, Kind: uptime.ResultKind(rapid.Uint8Range(0, 4).Draw(t, "kind")),
			Verdict: verdict.Draw(t, "verdict"), StartedAt: instants.Draw(t, "started")}
		p := policy(rapid.Int().Draw(t, "need"), rapid.Int().Draw(t, "recover"), rapid.SliceOfN(names, 0, 4).Draw(t, "wanted")...)
		p.Revision = 0
		before := mustJSON(t, s)
		once, first := evaluate.Next(s, r, p)
		twice, second := evaluate.Next(s, r, p)
		if diff := cmp.Diff(once, twice) + cmp.Diff(first, second); diff != "" {
			t.Fatalf("two answers to one question:\n%s", diff)
		}
		if after := mustJSON(t, s); before != after {
			t.Fatalf("the state was modified: %s became %s", before, after)
		}
		if first != nil && first.From == first.To {
			t.Fatalf("a transition from %v to itself", first.From)
		}
		if again, tr := evaluate.Next(once, r, p); tr != nil {
			t.Fatalf("a duplicate made a transition: %+v, %+v", again, tr)
		}
		evaluate.Forget(s)
	})
}

func mustJSON(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func BenchmarkNextSteady(b *testing.B) {
	p := policy(2, 1, "default")
	_, s := verdicts("uu", p)
	r := result(9, "default", 'u')
	for b.Loop() {
		evaluate.Next(s, r, p)
	}
}
