package probe

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

// Bounds of what a user may ask to be evaluated on every check.
const (
	maxAssertions = 50
	maxPattern    = 1024 // bytes of a regular expression
)

// facts is what assertions judge.
type facts struct {
	status   int
	header   http.Header
	body     []byte
	whole    bool      // body is all there is
	document *document // body as JSON
	markup   *markup   // body as HTML or XML
	text     map[string]string
	number   map[string]float64
	list     map[string][]string
	dialled  netip.AddrPort
	degraded *fault // what the type itself calls degraded
	duration time.Duration
	phases   uptime.Phases
	chain    []*x509.Certificate
	now      time.Time
}

// found is how one assertion went.
type found struct {
	judged bool
	ok     bool
	more   bool          // cannot be told without the part of the body that was too large
	cut    error         // cannot be told in the time that an evaluation may take: errCostly or errBusy
	actual string        // for a person
	reason uptime.Reason // instead of the assertion's own, if not empty
}

// judge evaluates one compiled assertion.
type judge func(*facts) found

// evaluate is judge for an assertion that may turn out to take too long.
func (a *assertion) evaluate(f *facts) (out found) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errCostly, errBusy:
			out = found{cut: p.(error), actual: "an answer on which it takes too long"}
		default:
			panic(p)
		}
	}()
	return a.judge(f)
}

// stage is when an assertion's facts are known.
type stage uint8

const (
	stageHead stage = iota // status and headers
	stageBody              // the body was read
	stageEnd               // all of it: times, certificates
)

// assertion is one expectation, compiled.
type assertion struct {
	uptime.Assertion
	stage    stage
	reason   uptime.Reason
	expected string
	judge    judge
}

// compiler makes the judge of one assertion, or notes what is wrong with it.
type compiler func(a *assertion, path string, p *uptime.Problems)

// compileAssertions compiles those whose source the type knows.
func compileAssertions(list []uptime.Assertion, sources map[string]source, p *uptime.Problems) []assertion {
	if len(list) > maxAssertions {
		p.Add("assertions", "are %d; at most %d are allowed", len(list), maxAssertions)
		return nil
	}
	out := make([]assertion, 0, len(list))
	for i, a := range list {
		path := fmt.Sprintf("assertions[%d]", i)
		src, ok := sources[a.Source]
		if !ok {
			p.Add(path+".source", "%q is not something this type can look at%s", a.Source, suggest(a.Source, sources))
			continue
		}
		switch a.Severity {
		case "", uptime.SeverityDown, uptime.SeverityDegraded:
		default:
			p.Add(path+".severity", "must be down or degraded")
		}
		c := assertion{Assertion: a}
		c.expected = strings.TrimSpace(a.Op + " " + clean(string(a.Value), 100))
		if src.property == "" && a.Property != "" {
			p.Add(path+".property", "is not for this source; leave it out")
		}
		src.compile(&c, path, p)
		out = append(out, c)
	}
	return out
}

// message says what was expected and what came instead.
func (a *assertion) message(actual string) string {
	what := a.Source
	if a.Property != "" {
		what += " " + a.Property
	}
	return fmt.Sprintf("Expected %s %s, got %s.", clean(what, 100), a.expected, clean(cmp.Or(actual, "nothing"), 256))
}

// compileStatus takes a set such as "200-299,301".
func compileStatus(a *assertion, path string, p *uptime.Problems) {
	a.stage, a.reason = stageHead, uptime.HTTPStatus
	want := map[string]bool{"in": true, "eq": true, "not_in": false, "ne": false}
	positive, ok := want[a.Op]
	if !ok {
		badOp(a, path, p, "in", "not_in", "eq", "ne")
		return
	}
	set, err := parseStatusSet(a.Value)
	if err != nil {
		p.Add(path+".value", "%v", err)
		return
	}
	a.judge = func(f *facts) found {
		return found{ok: set.has(f.status) == positive, actual: strconv.Itoa(f.status)}
	}
}

type statusSet [][2]int

func (s statusSet) has(code int) bool {
	return slices.ContainsFunc(s, func(r [2]int) bool { return r[0] <= code && code <= r[1] })
}

func parseStatusSet(raw json.RawMessage) (statusSet, error) {
	wrong := fmt.Errorf(`must be status codes such as "200-299,301"`)
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = strings.TrimSpace(string(raw))
	}
	var set statusSet
	for item := range strings.SplitSeq(text, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(item), "-")
		if !ranged {
			hi = lo
		}
		if c, ok := strings.CutSuffix(strings.ToLower(lo), "xx"); ok && !ranged {
			lo, hi = c+"00", c+"99"
		}
		a, err1 := strconv.Atoi(strings.TrimSpace(lo))
		b, err2 := strconv.Atoi(strings.TrimSpace(hi))
		if err1 != nil || err2 != nil || a < 100 || b > 999 || a > b {
			return nil, wrong
		}
		set = append(set, [2]int{a, b})
	}
	return set, nil
}

// compileBody looks for text. A match in the part that was read settles it, even
// when the rest was too large.
func compileBody(a *assertion, path string, p *uptime.Problems) {
	a.stage, a.reason = stageBody, uptime.Keyword
	match, positive, ok := compileMatch(a, path, p)
	if !ok {
		return
	}
	if !positive {
		a.reason = uptime.KeywordBad
	}
	a.judge = func(f *facts) found {
		hit := match(f.body)
		if !hit && !f.whole {
			return found{more: true, actual: "a body too large to search"}
		}
		if hit {
			return found{ok: positive, actual: "a body that has it"}
		}
		return found{ok: !positive, actual: "a body of " + strconv.Itoa(len(f.body)) + " bytes without it"}
	}
}

// compileMatch reads the text operators shared by body, header and JSON.
func compileMatch(a *assertion, path string, p *uptime.Problems) (match func([]byte) bool, positive, ok bool) {
	text, isText := stringValue(a.Value)
	if !isText {
		p.Add(path+".value", "must be a string")
		return nil, false, false
	}
	base, negated := strings.CutPrefix(a.Op, "not_")
	switch base {
	case "contains":
		if text == "" {
			p.Add(path+".value", "must not be empty: every text contains it")
			return nil, false, false
		}
		want := []byte(text)
		return func(b []byte) bool { return bytes.Contains(b, want) }, !negated, true
	case "eq", "ne":
		return func(b []byte) bool { return string(b) == text }, a.Op == "eq", true
	case "matches":
		if len(text) > maxPattern {
			p.Add(path+".value", "is longer than %d bytes", maxPattern)
			return nil, false, false
		}
		match, err := compilePattern(text)
		if err != nil {
			p.Add(path+".value", "is not a regular expression (RE2): %v", err)
			return nil, false, false
		}
		return match, !negated, true
	}
	badOp(a, path, p, textOps...)
	return nil, false, false
}

// compileHeader looks at one response header; several lines of it are joined
// with ", ".
func compileHeader(a *assertion, path string, p *uptime.Problems) {
	a.stage, a.reason = stageHead, uptime.Header
	if a.Property == "" {
		p.Add(path+".property", "must name a header")
		return
	}
	if !httpguts.ValidHeaderFieldName(a.Property) {
		p.Add(path+".property", "is not a header name")
		return
	}
	name := http.CanonicalHeaderKey(a.Property)
	switch a.Op {
	case "exists", "not_exists":
		want := a.Op == "exists"
		a.judge = func(f *facts) found {
			v, ok := f.header[name]
			return found{ok: ok == want, actual: strings.Join(v, ", ")}
		}
		return
	}
	match, positive, ok := compileMatch(a, path, p)
	if !ok {
		return
	}
	a.judge = func(f *facts) found {
		v := strings.Join(f.header[name], ", ")
		return found{ok: match([]byte(v)) == positive, actual: v}
	}
}

// compileDuration compares a time of the check with a span such as "800ms".
func compileDuration(get func(*facts) time.Duration) compiler {
	return func(a *assertion, path string, p *uptime.Problems) {
		a.stage, a.reason = stageEnd, uptime.Slow
		text, _ := stringValue(a.Value)
		limit, err := time.ParseDuration(text)
		if err != nil || limit <= 0 {
			p.Add(path+".value", `must be a time with its unit, such as "800ms"`)
			return
		}
		holds, ok := comparison(a.Op)
		if !ok {
			badOp(a, path, p, "lt", "le", "gt", "ge")
			return
		}
		a.judge = func(f *facts) found {
			d := get(f)
			return found{ok: holds(cmp.Compare(d, limit)), actual: d.Round(10 * time.Microsecond).String()}
		}
	}
}

// timeSources are the times every type measures.
func timeSources() map[string]source {
	out := map[string]source{}
	for name, of := range map[string]struct {
		about string
		get   func(*facts) time.Duration
	}{
		"duration":   {"the time of the whole check", func(f *facts) time.Duration { return f.duration }},
		"dns":        {"the time of the look-up", func(f *facts) time.Duration { return f.phases.DNS }},
		"connect":    {"the time until the connection stood", func(f *facts) time.Duration { return f.phases.Connect }},
		"tls":        {"the time of the TLS handshake", func(f *facts) time.Duration { return f.phases.TLS }},
		"first_byte": {"the time from the request to the first byte of the answer", func(f *facts) time.Duration { return f.phases.FirstByte }},
		"transfer":   {"the time from the first byte to the last", func(f *facts) time.Duration { return f.phases.Transfer }},
	} {
		out[name] = source{about: of.about, ops: orderOps, compile: compileDuration(of.get)}
	}
	return out
}

// compileCertDays compares the days until the first certificate of the chain
// expires.
func compileCertDays(a *assertion, path string, p *uptime.Problems) {
	a.stage, a.reason = stageEnd, uptime.TLSExpiring
	days, ok := numberValue(a.Value)
	if !ok {
		p.Add(path+".value", "must be a number of days")
		return
	}
	holds, ok := comparison(a.Op)
	if !ok {
		badOp(a, path, p, "gt", "ge", "lt", "le")
		return
	}
	a.judge = func(f *facts) found {
		if len(f.chain) == 0 {
			return found{actual: "a connection without a certificate", reason: uptime.AssertFailed}
		}
		left := daysLeft(f.chain, f.now)
		r := found{ok: holds(cmp.Compare(float64(left), days)), actual: strconv.Itoa(left) + " days"}
		if left < 0 {
			r.reason = uptime.TLSExpired
		}
		return r
	}
}

// comparison is the test of cmp.Compare's result that op names.
func comparison(op string) (holds func(int) bool, ok bool) {
	switch op {
	case "eq":
		return func(c int) bool { return c == 0 }, true
	case "ne":
		return func(c int) bool { return c != 0 }, true
	case "lt":
		return func(c int) bool { return c < 0 }, true
	case "le":
		return func(c int) bool { return c <= 0 }, true
	case "gt":
		return func(c int) bool { return c > 0 }, true
	case "ge":
		return func(c int) bool { return c >= 0 }, true
	}
	return nil, false
}

func stringValue(raw json.RawMessage) (string, bool) {
	var s string
	return s, json.Unmarshal(raw, &s) == nil && len(raw) > 0 && raw[0] != 'n'
}

// numberValue is a JSON number. Null is none, although encoding/json takes it for 0.
func numberValue(raw json.RawMessage) (float64, bool) {
	var n *float64
	if json.Unmarshal(raw, &n) != nil || n == nil {
		return 0, false
	}
	return *n, true
}

// countValue is a whole number, 0 or more.
func countValue(raw json.RawMessage) (int, bool) {
	n, ok := numberValue(raw)
	return int(n), ok && n >= 0 && n <= math.MaxInt32 && n == math.Trunc(n)
}

func badOp(a *assertion, path string, p *uptime.Problems, ops ...string) {
	p.Add(path+".op", "%q is not one of %s", a.Op, strings.Join(ops, ", "))
}

// fault is what a failed assertion makes of the verdict, nil if it holds or was
// not judged.
func (f found) fault(a *assertion) *fault {
	if f.ok || !f.judged {
		return nil
	}
	out := &fault{uptime.VerdictDown, cmp.Or(f.reason, a.reason), a.message(f.actual)}
	if f.more {
		out.reason = uptime.BodyTooLarge
	}
	switch f.cut {
	case errBusy:
		return unknown(uptime.Starved, "This machine had no time left to judge the assertion on %s: it was busy, or the assertions before took it all.", clean(a.Source, 100))
	case errCostly:
		return unknown(uptime.BadConfig, "The assertion on %s takes too long on this answer; make its pattern or path simpler.", clean(a.Source, 100))
	}
	if a.Severity == uptime.SeverityDegraded {
		out.verdict = uptime.VerdictDegraded
	}
	return out
}
