package probe

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vedette/internal/uptime"
)

// A pattern that would take minutes is cut off, and says nothing about the target.
func TestACostlyPatternIsCutOff(t *testing.T) {
	t.Parallel()
	m := uptime.Monitor{Target: "http://" + serve(t, says(page(strings.Repeat("a", 1<<20)))), Timeout: time.Second}
	for range 20 { // no timeout + 2 s with as many as there are
		m.Assertions = append(m.Assertions, assert("body", "", "matches", "[ab]*a[ab]{900}c"), assert("body", "", "not_matches", "(a{1,900})b"))
	}
	out, want := run(t, m), uptime.BadConfig
	if out.Reason == uptime.Starved { // the other tests left it less than half of the time
		want = uptime.Starved
	}
	check(t, out, uptime.VerdictUnknown, want)
}

// A pattern that had no processor is not said to be dear.
func TestAPatternOnABusyMachineIsNotCalledCostly(t *testing.T) {
	t.Parallel()
	a := assertion{Assertion: assert("body", "", "matches", "x"), judge: func(*facts) found { panic(errBusy) }}
	f := a.evaluate(&facts{})
	f.judged = true
	if out := f.fault(&a); out == nil || out.verdict != uptime.VerdictUnknown || out.reason != uptime.Starved {
		t.Errorf("fault = %+v, want unknown, starved", out)
	}
}

// One that must be timed finds what an untimed one finds.
func TestATimedPatternFindsTheSame(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("filler \xff ü ", cheapMatch/64)
	for pattern, want := range map[string]bool{`needle\d+$`: true, `^filler.*x*y*z*`: true, "ü needle": true, `\xff.{0,9}needle`: false, `(?s)^f.*7$`: true, `absent\d`: false} {
		match, err := compilePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := patiently(func() bool { return match([]byte(long + "needle7")) }); got != want {
			t.Errorf("%s: %v, want %v", pattern, got, want)
		}
	}
}

// patiently is what match finds when the other tests leave it the time.
func patiently(match func() bool) (hit bool) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errBusy:
			hit = patiently(match)
		default:
			panic(p)
		}
	}()
	return match()
}

// hostileJSON are documents of the largest size that is parsed, in shapes that multiply
// what a path visits.
func hostileJSON(size int) map[string]string {
	n := min(size/4, maxJSONValues-1000)
	chain := strings.Repeat(`[`, maxJSONDepth-1) + strings.Repeat(`]`, maxJSONDepth-1)
	keyed := strings.Repeat(`{"a":`, maxJSONDepth-1) + "1" + strings.Repeat("}", maxJSONDepth-1)
	list := func(item string, n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	inner := strings.Repeat(`[`, maxJSONDepth-2) + strings.Repeat(`]`, maxJSONDepth-2)
	return map[string]string{
		"a wide list":         list("1", n),
		"a list of objects":   list(`{"a":1}`, min(n/3, size/8)),
		"one chain of lists":  chain,
		"one chain of keys":   keyed,
		"many chains":         list(inner, min(n, size)/(2*maxJSONDepth)),
		"lists of lists":      list(list("1", 400), min(n/401, size/802)),
		"one long text":       `["` + strings.Repeat("a", size-100) + `"]`,
		"many keys":           `{"a":` + list(`{"b":[1],"c":{"d":1}}`, min(n/6, size/22)) + `}`,
		"deeper than allowed": strings.Repeat(`[`, size/2),
		"more than allowed":   list("1", size/2),
	}
}

// Whatever the document and the path, an evaluation ends soon or the path is refused.
// Of the time, most is for a machine that is busy: a path that multiplies would take
// hours.
func TestJSONPathIsBounded(t *testing.T) {
	t.Parallel()
	paths := []string{
		"$..nope", "$..*", "$..[*].nope", "$[*][*][*][*].nope", "$..[?@.a==2]", "$..[?@.*.*.*]", "$[?@..nope]", "$..[?(@[*] && @.a==1)]",
		"$" + strings.Repeat("[*]", 120) + ".nope", "$" + strings.Repeat("[0:]", 100) + ".nope", "$..[?@" + strings.Repeat(".*", 100) + "]", "$..[-1].nope", "$[0,-1,'a']..nope",
	}
	refused := []string{
		"$" + strings.Repeat("[0,-1]", 40) + ".nope", "$" + strings.Repeat("['a','a']", 20) + ".nope", "$[?@.*==@.*]", "$[?@[*] && @[0:]]", "$[?count(@.*) == count(@[0,1])]", "$[?@['?'][?@.a]]", "$..a..b",
		"$[?@[?@[?@.a]]]", "$[?$..a]", "$[?match(@.a,'b')]", "$[?search(@.a,@.b)]", "$[?@.a=~/(a{1,900})b/]", "$[?@" + strings.Repeat("[0,0]", 20) + "]",
	}
	for _, path := range refused {
		if _, err := parsePath(path); err == nil {
			t.Errorf("%s passes, want it refused", path)
		}
	}
	for _, size := range []int{1 << 20, 16 << 20} {
		for name, doc := range hostileJSON(size) {
			if size > 1<<20 && name != "one long text" && name != "more than allowed" {
				continue // 1 MiB has as many values as are allowed
			}
			start := time.Now()
			d := parseJSON([]byte(doc))
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%s of %d MiB: parsed in %s", name, size>>20, took)
			}
			if d.err != nil {
				continue
			}
			for _, path := range paths {
				expr, err := parsePath(path)
				if err != nil {
					t.Errorf("%s: %v", path, err)
					continue
				}
				start := time.Now()
				expr.first(d.value)
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("%s of %d MiB, %s: took %s", name, size>>20, path, took)
				}
			}
		}
	}
}

func TestABugInAnAssertionIsNotTakenForACost(t *testing.T) {
	t.Parallel()
	defer func() {
		if p := recover(); p == nil || errors.Is(p.(error), errCostly) {
			t.Errorf("recovered %v, want the bug itself", p)
		}
	}()
	a := assertion{judge: func(*facts) found { panic(errors.New("a bug")) }}
	a.evaluate(&facts{})
}
