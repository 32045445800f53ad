// Package guard is the one dialer of every connection that a user's input can
// steer: probes and their redirects, resolvers, webhooks, mail servers.
//
// It decides when the socket connects, on the address that is about to be used,
// so neither a name that resolves differently the second time nor an unusual
// notation passes it. An address that carries another one inside (IPv4-mapped,
// NAT64, 6to4, Teredo) is judged by both. Cloud metadata services and the
// addresses of our own database and queue are denied whatever the policy says.
//
// A refusal is ErrBlocked and nothing else: it tells neither the address nor
// the rule, so that it cannot be used to map a network. The guard is safe for
// concurrent use, and its policy may change while connections are being made.
package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrBlocked is the one error of a dial that the policy does not allow.
var ErrBlocked = errors.New("address is not allowed by --private-targets")

// Options of New. The zero value denies private targets.
type Options struct {
	Policy Policy
	// Own are servers of ours that no target may be, under any policy. Port 0 means
	// every port of the address.
	Own []netip.AddrPort
	// Timeout of one connect; 0 leaves it to the context.
	Timeout time.Duration
}

// Guard decides which addresses may be dialled.
type Guard struct {
	policy  atomic.Pointer[Policy]
	own     []netip.AddrPort
	public  *ssrf.Guardian
	timeout time.Duration
}

// New makes a guard.
func New(o Options) *Guard {
	g := &Guard{
		public:  ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork()),
		timeout: o.Timeout,
	}
	for _, a := range o.Own {
		g.own = append(g.own, netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()))
	}
	g.SetPolicy(o.Policy)
	return g
}

// SetPolicy replaces the policy for every connect from now on.
func (g *Guard) SetPolicy(p Policy) { g.policy.Store(&p) }

// Policy is the one in force.
func (g *Guard) Policy() Policy { return *g.policy.Load() }

// Control is the hook for net.Dialer.Control and net.ListenConfig.Control: it
// refuses with ErrBlocked before the connect is made. A Unix socket is this machine's
// own, and judged as loopback is.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	if network == "unix" {
		address = "127.0.0.1:0"
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrBlocked
	}
	return g.Check(network, a)
}

// Dialer is a new net.Dialer under this guard, for libraries that want one. It
// sends no keep-alives; set what else is needed, and leave Control alone.
func (g *Guard) Dialer() *net.Dialer {
	return &net.Dialer{Control: g.Control, Timeout: g.timeout, KeepAlive: -1}
}

// DialContext resolves and dials as net.Dialer does, under the guard. A refusal is
// exactly ErrBlocked.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := g.Dialer().DialContext(ctx, network, address)
	if errors.Is(err, ErrBlocked) {
		return nil, ErrBlocked
	}
	return c, err
}

// Check judges one address: nil or ErrBlocked. network is as net.Dialer's Control
// gets it ("tcp4", "udp6").
func (g *Guard) Check(network string, a netip.AddrPort) error {
	p := g.policy.Load()
	outer := a.Addr().Unmap().WithZone("")
	inner, translated := embedded(outer)
	for _, x := range append(inner, outer) {
		if g.isOwn(netip.AddrPortFrom(x, a.Port())) || isMetadata(x) && !p.listsExactly(x) {
			return ErrBlocked
		}
	}
	if p.allowPrivate || p.lists(outer) {
		return nil
	}
	for _, x := range inner {
		if !p.lists(x) && !g.isPublic(network, x, a.Port()) {
			return ErrBlocked
		}
	}
	if translated || g.isPublic(network, outer, a.Port()) {
		return nil
	}
	return ErrBlocked
}

// isPublic asks the library's table of the IANA special-purpose registries.
func (g *Guard) isPublic(network string, a netip.Addr, port uint16) bool {
	return g.public.Safe(network, netip.AddrPortFrom(a, port).String(), nil) == nil
}

// isOwn reports whether a is one of our servers. The unspecified address reaches
// this host, so it counts as loopback, in targets and in Own alike.
func (g *Guard) isOwn(a netip.AddrPort) bool {
	for _, o := range g.own {
		if o.Port() != 0 && o.Port() != a.Port() {
			continue
		}
		if o.Addr() == a.Addr() || isThisHost(o.Addr()) && isThisHost(a.Addr()) {
			return true
		}
	}
	return false
}

func isThisHost(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// isMetadata knows the addresses where clouds hand credentials to whoever asks.
func isMetadata(a netip.Addr) bool { return slices.Contains(metadata, a) }

// embedded lists the IPv4 addresses inside a, if it is of a transition
// mechanism. translated is true for NAT64, where the inner address alone is the
// destination (RFC 6052).
func embedded(a netip.Addr) (inner []netip.Addr, translated bool) {
	if a.Is4() {
		return nil, false
	}
	b := a.As16()
	v4 := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case nat64.Contains(a):
		return []netip.Addr{v4(12)}, true
	case nat64Local.Contains(a), v4Compatible.Contains(a) && !isThisHost(a):
		return []netip.Addr{v4(12)}, false
	case sixToFour.Contains(a):
		return []netip.Addr{v4(2)}, false
	case teredo.Contains(a): // RFC 4380: server in the clear, client inverted
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		return []netip.Addr{v4(4), client}, false
	}
	return nil, false
}

// metadata is from the clouds' manuals.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Azure, GCP, OpenStack, DigitalOcean
	netip.MustParseAddr("169.254.170.2"),   // AWS ECS task credentials
	netip.MustParseAddr("169.254.170.23"),  // AWS EKS pod identity
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("168.63.129.16"),   // Azure host agent
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS pod identity
	netip.MustParseAddr("fd20:ce::254"),    // GCP
}

// Prefixes of addresses that carry an IPv4 address (RFC 6052, 8215, 4291, 3056, 4380).
var (
	nat64        = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local   = netip.MustParsePrefix("64:ff9b:1::/48")
	v4Compatible = netip.MustParsePrefix("::/96")
	sixToFour    = netip.MustParsePrefix("2002::/16")
	teredo       = netip.MustParsePrefix("2001::/32")
)
