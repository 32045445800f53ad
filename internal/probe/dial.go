package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// connectStagger is how long an address may stay silent before the next one is
// tried beside it (RFC 8305 §5 recommends 250 ms).
const connectStagger = 250 * time.Millisecond

// dialer resolves a name and connects to whichever of its addresses answers. It
// is shared by every run of a check.
type dialer struct {
	resolver resolver
	second   resolver // asked when resolver failed and the check is confirmed; zero when there is none
	sockets  net.Dialer
	network  string // "ip", "ip4", "ip6": which addresses count
}

// dialTrace is what a dial leaves for the evidence.
type dialTrace struct {
	host      string // that was looked up; "" before that
	port      uint16 // of TCP; 0 when none was dialled
	addresses []netip.Addr
	dialled   netip.AddrPort
	attempts  []dialAttempt
}

type dialAttempt struct {
	to    netip.AddrPort
	fault *fault // nil: connected
}

// netConfig are the options of every type that dials.
type netConfig struct {
	IPVersion      string `json:"ip_version" enum:"any,4,6" doc:"which addresses of the target count"`
	Resolver       string `json:"resolver" doc:"the DNS server that is asked for the target's addresses, such as 192.0.2.53:53; empty is the system's"`
	SecondResolver string `json:"second_resolver" doc:"another DNS server, asked when a failure is confirmed, to tell whose fault it is"`
}

func defaultNet() netConfig { return netConfig{IPVersion: "any"} }

// newDialer makes a dialer. A resolver that the monitor names is under the guard;
// the installation's own is not.
func newDialer(env Env, c netConfig) *dialer {
	d := &dialer{resolver: resolver{server: env.Resolver}, sockets: *env.Guard.Dialer(), network: "ip"}
	if c.Resolver != "" {
		d.resolver = resolver{server: c.Resolver, guard: env.Guard}
	}
	if c.SecondResolver != "" {
		d.second = resolver{server: c.SecondResolver, guard: env.Guard}
	}
	if c.IPVersion == "4" || c.IPVersion == "6" {
		d.network += c.IPVersion
	}
	return d
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// rotated is addrs beginning n places later, so that a confirmation meets another
// address than the attempt before it.
func rotated(addrs []netip.Addr, n int) []netip.Addr {
	if n == 0 || len(addrs) < 2 {
		return addrs
	}
	n %= len(addrs)
	return append(addrs[n:len(addrs):len(addrs)], addrs[:n]...)
}

// resolve is every address of host that counts, in the order to try them.
func (d *dialer) resolve(parent, ctx context.Context, host string) ([]netip.Addr, *fault) {
	literal, err := netip.ParseAddr(host)
	if err != nil {
		return d.resolver.lookup(parent, ctx, d.network, host)
	}
	literal = literal.Unmap()
	if d.network == "ip4" && !literal.Is4() || d.network == "ip6" && literal.Is4() {
		return nil, down(uptime.DNSNoData, "%s is not an address of the IP version asked for.", host)
	}
	return []netip.Addr{literal}, nil
}

// connect tries the addresses until one answers. A single address is tried in
// place; several are tried in turn, each starting when the one before failed or
// stayed silent for connectStagger. It returns when all attempts have ended.
func (d *dialer) connect(parent, ctx context.Context, t *dialTrace, port uint16) (net.Conn, *fault) {
	if len(t.addresses) == 1 {
		return d.connectOne(parent, ctx, t, addrPort(t.addresses[0], port))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialResult, len(t.addresses))
	next, running := 0, 0
	start := func() {
		to := addrPort(t.addresses[next], port)
		next, running = next+1, running+1
		go func() {
			c, err := d.sockets.DialContext(ctx, "tcp", to.String())
			results <- dialResult{to, c, err}
		}()
	}
	start()
	stagger := time.NewTicker(connectStagger)
	defer stagger.Stop()
	for running > 0 {
		select {
		case <-stagger.C:
			if next < len(t.addresses) {
				start()
			}
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				discard(results, running)
				t.add(r.to, nil)
				return r.conn, nil
			}
			t.add(r.to, connectFault(parent, r.to, r.err))
			if next < len(t.addresses) {
				start()
			}
		}
	}
	return nil, t.worst()
}

type dialResult struct {
	to   netip.AddrPort
	conn net.Conn
	err  error
}

// discard waits for the attempts that lost the race.
func discard(results <-chan dialResult, running int) {
	for range running {
		if r := <-results; r.err == nil {
			_ = r.conn.Close()
		}
	}
}

func (d *dialer) connectOne(parent, ctx context.Context, t *dialTrace, to netip.AddrPort) (net.Conn, *fault) {
	// Not DialTCP: that binds the socket first, which takes a local port away from
	// all targets at once.
	c, err := d.sockets.DialContext(ctx, "tcp", to.String())
	if err != nil {
		f := connectFault(parent, to, err)
		t.add(to, f)
		return nil, f
	}
	t.dialled = to
	return c, nil
}

// connected reports whether some address took the connection.
func (t *dialTrace) connected() bool {
	if len(t.attempts) == 0 {
		return t.dialled.IsValid()
	}
	return slices.ContainsFunc(t.attempts, func(a dialAttempt) bool { return a.fault == nil })
}

func (t *dialTrace) add(to netip.AddrPort, f *fault) {
	t.dialled = to
	t.attempts = append(t.attempts, dialAttempt{to, f})
}

// worst is the fault to tell when no address answered: one of ours if there is
// one, since the address it hit might have worked; else the first that is more
// than a missing route, which is often just a family this machine lacks.
func (t *dialTrace) worst() *fault {
	best := t.attempts[0].fault
	for _, a := range t.attempts {
		if a.fault.verdict == uptime.VerdictUnknown {
			return a.fault
		}
		if best.reason == uptime.ConnUnreach {
			best = a.fault
		}
	}
	return best
}

// interleave alternates the families, keeping the order within each, so that one
// dead family delays a check by one address only (RFC 8305 §4).
func interleave(addrs []netip.Addr) []netip.Addr {
	var a, b []netip.Addr
	for _, x := range addrs {
		if x.Is4() == addrs[0].Is4() {
			a = append(a, x)
		} else {
			b = append(b, x)
		}
	}
	if len(b) == 0 {
		return a
	}
	out := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			out = append(out, a[i])
		}
		if i < len(b) {
			out = append(out, b[i])
		}
	}
	return out
}

// dialDNS opens a connection to a DNS server: under the guard if a user chose
// the server, plainly if it is the installation's own.
func dialDNS(ctx context.Context, g *guard.Guard, network, address string) (net.Conn, error) {
	if g != nil {
		return g.DialContext(ctx, network, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
