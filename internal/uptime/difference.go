package uptime

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sight is one check as an incident keeps it: when it started, from where, and what
// was seen.
type Sight struct {
	At     time.Time `json:"at"`
	Region string    `json:"region,omitempty"`
	Evidence
}

// slower phases are told when they took this many times as long, and so much longer.
const (
	slowerTimes = 2
	slowerBy    = 50 * time.Millisecond
)

// Difference is what changed from one check to another, in short sentences that each
// begin with what they are about. What either of them did not come to is left out,
// since it says nothing; nil when either is nil.
func Difference(good, bad *Evidence) []string {
	if good == nil || bad == nil {
		return nil
	}
	var d difference
	d.addresses(good, bad)
	d.add("protocol", good.Protocol, bad.Protocol)
	if good.Status != 0 {
		d.add("status", number(good.Status), cmp.Or(number(bad.Status), "none"))
	}
	if len(good.Redirects) > 0 || bad.Status != 0 && len(bad.Redirects) > 0 {
		d.add("redirects", cmp.Or(strings.Join(good.Redirects, ", "), "none"), cmp.Or(strings.Join(bad.Redirects, ", "), "none"))
	}
	for _, name := range []string{"Content-Type", "Server", "Location"} {
		d.add("header "+name, good.Headers[name], bad.Headers[name])
	}
	d.certificates(good.Certificates, bad.Certificates)
	if good.Status != 0 && bad.Status != 0 {
		d.add("body", fmt.Sprintf("%d bytes", good.BodyBytes), fmt.Sprintf("%d bytes", bad.BodyBytes))
	}
	d.phases(good.Phases, bad.Phases)
	d.assertions(good.Assertions, bad.Assertions)
	return d
}

type difference []string

// add tells a change. A text that is missing on either side is none.
func (d *difference) add(what, from, to string) {
	if from != to && from != "" && to != "" {
		*d = append(*d, fmt.Sprintf("%s %s → %s", what, from, to))
	}
}

// number is n, or nothing for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// addresses tells that the name leads elsewhere, or else that another of its addresses
// was used.
func (d *difference) addresses(good, bad *Evidence) {
	list := func(e *Evidence) string { return strings.Join(slices.Sorted(slices.Values(e.Addresses)), ", ") }
	what := "address"
	if len(good.Addresses) > 1 || len(bad.Addresses) > 1 {
		what = "addresses"
	}
	if list(good) != list(bad) {
		d.add(what, list(good), list(bad))
		return
	}
	d.add("dialled", good.Dialled, bad.Dialled)
}

func (d *difference) certificates(good, bad []Certificate) {
	if len(good) == 0 || len(bad) == 0 || good[0].SHA256 == bad[0].SHA256 {
		return
	}
	g, b := &good[0], &bad[0]
	before := len(*d)
	d.add("certificate subject", g.Subject, b.Subject)
	d.add("certificate issuer", g.Issuer, b.Issuer)
	d.add("certificate names", strings.Join(g.DNSNames, ", "), strings.Join(b.DNSNames, ", "))
	d.add("certificate valid until", g.NotAfter.Format(time.DateOnly), b.NotAfter.Format(time.DateOnly))
	if len(*d) == before {
		d.add("certificate", g.SHA256, b.SHA256)
	}
}

// phases tells those that became much slower.
func (d *difference) phases(good, bad map[string]string) {
	for _, name := range []string{"dns", "connect", "tls", "first_byte", "transfer"} {
		g, err1 := time.ParseDuration(good[name])
		b, err2 := time.ParseDuration(bad[name])
		if err1 == nil && err2 == nil && b-g >= slowerBy && b >= slowerTimes*g {
			d.add(strings.ReplaceAll(name, "_", " "), short(g), short(b))
		}
	}
}

// short is a duration to two or three digits.
func short(t time.Duration) string {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if t >= 10*unit {
			return t.Round(unit).String()
		}
	}
	return t.String()
}

// assertions tells those that held and do not.
func (d *difference) assertions(good, bad []AssertionResult) {
	for _, b := range bad {
		i := slices.IndexFunc(good, func(g AssertionResult) bool {
			return g.Assertion.Source == b.Assertion.Source && g.Assertion.Property == b.Assertion.Property &&
				g.Assertion.Op == b.Assertion.Op && string(g.Assertion.Value) == string(b.Assertion.Value)
		})
		if i < 0 || b.OK || !good[i].OK || b.Assertion.Source == "status" || len(good[i].Actual) > 100 {
			continue // the status has been told, and a text as long as a body is no difference to read
		}
		what := strings.TrimSpace(b.Assertion.Source + " " + b.Assertion.Property)
		d.add(what, cmp.Or(good[i].Actual, "nothing"), cmp.Or(b.Actual, "nothing"))
	}
}
