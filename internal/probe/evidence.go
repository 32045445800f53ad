package probe

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"vedette/internal/uptime"
)

// Bounds of evidence, as uptime.Evidence documents them.
const (
	evidenceHeaders = 64
	evidenceHeader  = 512
	evidenceActual  = 256
	evidenceCerts   = 10
)

// judge evaluates the assertions of one stage and returns the fault of the first
// that fails with severity down. Those of severity degraded wait for conclude.
func (r *httpRun) judge(s stage) *fault {
	if r.results == nil && len(r.assertions) > 0 {
		r.results = make([]found, len(r.assertions))
	}
	r.facts.status, r.facts.header = r.response.StatusCode, r.response.Header
	r.facts.body, r.facts.whole = r.body.kept, r.body.whole
	if s == stageHead && !r.ownStatus && (r.facts.status < 200 || r.facts.status > 299) {
		return down(uptime.HTTPStatus, "Status %d %s is not one of 200-299.", r.facts.status, http.StatusText(r.facts.status))
	}
	var first *fault
	for i := range r.assertions {
		a := &r.assertions[i]
		if a.stage != s {
			continue
		}
		r.results[i] = a.judge(&r.facts)
		if f := r.results[i].fault(a); f != nil && f.verdict == uptime.VerdictDown && first == nil {
			first = f
		}
	}
	return first
}

// fault is what a failed assertion makes of the verdict, nil if it holds.
func (f found) fault(a *assertion) *fault {
	if f.ok {
		return nil
	}
	out := &fault{uptime.VerdictDown, cmp.Or(f.reason, a.reason), a.message(f.actual)}
	if f.more {
		out.reason = uptime.BodyTooLarge
	}
	if a.Severity == uptime.SeverityDegraded {
		out.verdict = uptime.VerdictDegraded
	}
	return out
}

// conclude judges what is known at the end and makes the outcome. The first
// cause wins; a fault of severity degraded counts when nothing is down.
func (r *httpRun) conclude(f *fault, took time.Duration) Outcome {
	out := Outcome{Verdict: uptime.VerdictUp, Duration: took, Phases: r.phases}
	r.facts.duration, r.facts.phases, r.facts.chain, r.facts.now = took, r.phases, r.tlsTrace.chain, r.start
	if f == nil {
		f = r.judge(stageEnd)
	}
	if f == nil {
		f = r.degraded()
	}
	if f != nil {
		out.Verdict, out.Reason, out.Message = f.verdict, f.reason, r.withoutSecrets(f.message)
	}
	if f != nil || r.always {
		out.Evidence = r.evidence()
	}
	return out
}

// degraded is the first thing that is wrong without being down.
func (r *httpRun) degraded() *fault {
	for i := range r.results {
		if f := r.results[i].fault(&r.assertions[i]); f != nil {
			return f
		}
	}
	if r.downgraded && !r.cfg.AllowDowngrade {
		return &fault{uptime.VerdictDegraded, uptime.TLSDowngrade, "A redirect leads from https to http."}
	}
	if r.tlsTrace.weak && !r.cfg.TLS.SkipVerify {
		return &fault{uptime.VerdictDegraded, uptime.TLSWeak, "A certificate of the chain has an RSA key of fewer than 2048 bits."}
	}
	return nil
}

// evidence is what was seen, without secrets.
func (r *httpRun) evidence() *uptime.Evidence {
	e := &uptime.Evidence{
		Request:      r.hop.method + " " + redactURL(r.hop.url),
		Redirects:    r.redirects,
		BodyBytes:    r.body.bytes,
		Certificates: certificates(r.tlsTrace.chain),
		Phases:       phaseTexts(r.phases),
	}
	r.trace.describe(e)
	if r.response == nil {
		return e
	}
	e.Status, e.Protocol = r.response.StatusCode, r.response.Proto
	e.Headers = r.headers()
	e.Body = r.withoutSecrets(text(r.body.kept, evidenceBody))
	for i := range r.results {
		if f := r.results[i]; f.ok || f.actual != "" || f.reason != "" {
			e.Assertions = append(e.Assertions, r.assertionResult(i))
		}
	}
	return e
}

func (r *httpRun) assertionResult(i int) uptime.AssertionResult {
	f, a := r.results[i], &r.assertions[i]
	res := uptime.AssertionResult{Assertion: a.Assertion, OK: f.ok, Actual: r.withoutSecrets(clean(f.actual, evidenceActual-4))}
	if !f.ok {
		res.Message = r.withoutSecrets(a.message(f.actual))
	}
	return res
}

func (t *dialTrace) describe(e *uptime.Evidence) {
	for _, a := range t.addresses {
		e.Addresses = append(e.Addresses, a.String())
	}
	if t.dialled.IsValid() {
		e.Dialled = t.dialled.String()
	}
	for _, a := range t.attempts {
		d := uptime.DialAttempt{Address: a.to.String()}
		if a.fault != nil {
			d.Error = string(a.fault.reason)
		}
		e.Attempts = append(e.Attempts, d)
	}
	if len(t.attempts) == 0 && t.dialled.IsValid() {
		e.Attempts = []uptime.DialAttempt{{Address: e.Dialled}}
	}
}

// headers is the response head without cookies and credentials.
func (r *httpRun) headers() map[string]string {
	out := map[string]string{}
	for name, values := range r.response.Header {
		if isSensitive(name) || len(out) >= evidenceHeaders {
			continue
		}
		value := strings.Join(values, ", ")
		if name == "Location" {
			value = r.location(value)
		}
		out[clean(name, 100)] = r.withoutSecrets(clean(value, evidenceHeader-4))
	}
	return out
}

// location is a Location header without the credentials it may carry.
func (r *httpRun) location(v string) string {
	u, err := r.hop.url.Parse(v)
	if err != nil {
		return v
	}
	return redactURL(u)
}

// withoutSecrets blots the monitor's credentials out, where a target echoes them.
func (r *httpRun) withoutSecrets(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, uptime.Redacted)
	}
	return s
}

func certificates(chain []*x509.Certificate) []uptime.Certificate {
	var out []uptime.Certificate
	for _, c := range chain[:min(len(chain), evidenceCerts)] {
		sum := sha256.Sum256(c.Raw)
		names := slices.Clone(c.DNSNames[:min(len(c.DNSNames), 20)])
		for i := range names {
			names[i] = clean(names[i], 256)
		}
		out = append(out, uptime.Certificate{
			Subject: clean(c.Subject.String(), 256), Issuer: clean(c.Issuer.String(), 256), DNSNames: names,
			NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:]),
		})
	}
	return out
}

func phaseTexts(p uptime.Phases) map[string]string {
	out := map[string]string{}
	for name, d := range map[string]time.Duration{
		"dns": p.DNS, "connect": p.Connect, "tls": p.TLS, "first_byte": p.FirstByte, "transfer": p.Transfer,
	} {
		if d > 0 {
			out[name] = d.Round(time.Microsecond).String()
		}
	}
	return out
}

// text is at most n bytes of b as valid UTF-8 without NUL.
func text(b []byte, n int) string {
	b = b[:min(len(b), n)]
	s := strings.ToValidUTF8(string(b), "\uFFFD")
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
