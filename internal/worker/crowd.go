package worker

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// crowdSize is how many networks must fall silent at once to be disbelieved: one
// operator, one provider or one domain fails by itself, three of them do not.
const crowdSize = 3

// crowd is what a worker without sentinels knows of its own way out: that targets which
// answered fell silent, all over the internet, and nothing out there has answered since.
// Only what answered before counts, so that what is down for long says nothing; and
// only what is outside, since neighbours answer when the way out is gone.
type crowd struct {
	size  atomic.Int64 // of members: most of the time none
	ended atomic.Int64 // Unix µs: when the last crowd got its answer

	mu      sync.Mutex // guards what follows
	members map[string]struct{}
	since   time.Time // the start of the first check that met silence
}

// saw notes what came of a check of a target outside, and reports whether its silence
// is that of everything.
func (c *crowd) saw(k *compiled, out probe.Outcome, started time.Time) bool {
	if !k.outside {
		return false
	}
	if out.Verdict.Good() || out.Verdict == uptime.VerdictDown && !silent(out.Reason) {
		if !k.answered.Load() {
			k.answered.Store(true)
		}
		c.answered(started)
		return false
	}
	network := networkOf(k, out)
	if out.Verdict != uptime.VerdictDown || network == "" {
		return false
	}
	if k.answered.Swap(false) {
		c.fell(network, started)
	}
	return c.size.Load() >= crowdSize || started.UnixMicro() < c.ended.Load()+healthAfter.Microseconds()
}

// answered ends the crowd, unless the answer is from before it.
func (c *crowd) answered(started time.Time) {
	if c.size.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if started.After(c.since) {
		if len(c.members) >= crowdSize { // checks that began before may yet fail for it
			c.ended.Store(time.Now().UnixMicro())
		}
		c.members = nil
		c.size.Store(0)
	}
}

func (c *crowd) fell(network string, started time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members == nil {
		c.members, c.since = map[string]struct{}{}, started
	}
	if started.Before(c.since) {
		c.since = started
	}
	c.members[network] = struct{}{}
	c.size.Store(int64(len(c.members)))
}

// isOutside reports whether a target may lie beyond our own network: not if it is
// written as an address that does not. What a name leads to is seen when it fails.
func isOutside(host string) bool {
	host = hostOf(host)
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && host != "localhost" && host != "" || err == nil && isPublic(a)
}

func isPublic(a netip.Addr) bool { return a.IsGlobalUnicast() && !a.IsPrivate() }

// networkOf is the network of a target that failed: the prefix of its address as
// providers hold it, or its domain when its name was not resolved. Empty when it is not
// outside after all.
func networkOf(k *compiled, out probe.Outcome) string {
	if out.Evidence == nil {
		return ""
	}
	if len(out.Evidence.Addresses) == 0 {
		labels := strings.Split(strings.TrimSuffix(hostOf(k.host), "."), ".")
		return strings.ToLower(strings.Join(labels[max(0, len(labels)-2):], "."))
	}
	a, err := netip.ParseAddr(out.Evidence.Addresses[0])
	if err != nil || !isPublic(a) {
		return ""
	}
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}
