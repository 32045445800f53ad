package worker

import (
	"fmt"
	"testing"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// host is a target that is written so, and leads to this address.
type host struct {
	*compiled
	address string
}

func target(written, address string) host {
	return host{&compiled{host: written, outside: isOutside(written)}, address}
}

// networks are n hosts, each with its own domain and network.
func networks(n int) (out []host) {
	for i := range n {
		out = append(out, target(fmt.Sprintf("shop%d.example.net%d", i, i), fmt.Sprintf("198.18.%d.1", i)))
	}
	return out
}

func TestOnlyACrowdIsDisbelieved(t *testing.T) {
	t.Parallel()
	up := probe.Outcome{Verdict: uptime.VerdictUp}
	failed := func(reason uptime.Reason, h host) probe.Outcome {
		e := &uptime.Evidence{}
		if h.address != "" {
			e.Addresses = []string{h.address}
		}
		return probe.Outcome{Verdict: uptime.VerdictDown, Reason: reason, Evidence: e}
	}
	sameNetwork := []host{target("a.example", "198.18.0.1"), target("b.test", "198.18.0.2"), target("c.test2", "198.18.0.3"), target("d.test3", "198.18.0.4")}
	oneDomain := []host{target("a.shop.example", ""), target("b.shop.example", ""), target("c.shop.example", ""), target("shop.example", "")}
	neighbours := []host{target("192.168.1.2", "192.168.1.2"), target("10.0.0.1:80", "10.0.0.1"), target("nas.home.arpa", "192.168.2.2"), target("[fd00::1]:80", "fd00::1"), target("localhost", "127.0.0.1")}
	for name, c := range map[string]struct {
		before []host // answered
		fail   []host // fall silent then
		reason uptime.Reason
		want   bool // the last of them is disbelieved
	}{
		"three networks that answered":         {networks(3), networks(3), uptime.ConnTimeout, true},
		"two networks":                         {networks(2), networks(2), uptime.ConnTimeout, false},
		"many hosts of one network":            {sameNetwork, sameNetwork, uptime.ConnTimeout, false},
		"many names of one domain":             {oneDomain, oneDomain, uptime.DNSServFail, false},
		"neighbours":                           {neighbours, neighbours, uptime.ConnTimeout, false},
		"three networks that refuse":           {networks(3), networks(3), uptime.ConnRefused, false},
		"three networks that answer a 503":     {networks(3), networks(3), uptime.HTTPStatus, false},
		"three that were down from the start":  {nil, networks(3), uptime.ConnTimeout, false},
		"three names that do not resolve more": {networks(3), []host{target("a.shop0.net", ""), target("shop1.org", ""), target("shop2.example", "")}, uptime.DNSServFail, true},
	} {
		var w crowd
		now := time.Now()
		for _, h := range c.before {
			w.saw(h.compiled, up, now)
		}
		if c.before != nil {
			for _, h := range c.fail {
				h.answered.Store(true) // the same, or as good as
			}
		}
		now = now.Add(time.Minute)
		got := false
		for _, h := range c.fail {
			got = w.saw(h.compiled, failed(c.reason, h), now)
		}
		if got != c.want {
			t.Errorf("%s: disbelieved %v, want %v", name, got, c.want)
		}
	}
}

// One answer from outside ends it; an answer of a check from before does not. What was
// silent then and still is, is down.
func TestACrowdEndsWithAnAnswer(t *testing.T) {
	t.Parallel()
	var w crowd
	hosts := networks(5)
	start := time.Now()
	see := func(h host, silence bool, after time.Duration) bool {
		out := probe.Outcome{Verdict: uptime.VerdictUp}
		if silence {
			out = probe.Outcome{Verdict: uptime.VerdictDown, Reason: uptime.ConnTimeout, Evidence: &uptime.Evidence{Addresses: []string{h.address}}}
		}
		return w.saw(h.compiled, out, start.Add(after))
	}
	for _, h := range hosts {
		see(h, false, 0)
	}
	for n, h := range hosts[:4] {
		if got := see(h, true, time.Minute); got != (n >= 2) {
			t.Errorf("silence %d is disbelieved: %v", n+1, got)
		}
	}
	see(hosts[4], false, 59*time.Second)
	if !see(hosts[0], true, 2*time.Minute) {
		t.Error("an answer from before has ended it")
	}
	see(hosts[4], false, 3*time.Minute)
	if !see(hosts[0], true, 0) {
		t.Error("a check that began before the answer is believed")
	}
	for _, h := range hosts[:4] {
		if see(h, true, 4*time.Minute) {
			t.Error("what stays silent while others answer is disbelieved")
		}
	}
}
