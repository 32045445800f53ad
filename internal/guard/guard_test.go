package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestDenyRefusesEverySpecialAddress(t *testing.T) {
	t.Parallel()
	g := New(Options{Policy: Deny()})
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.1.1", "169.254.1.1",
		"172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.19.9.9",
		"198.51.100.7", "203.0.113.5", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1",
		"::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254", "::127.0.0.1", "::7f00:1", "::8.8.8.8",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "64:ff9b:1::808:808",
		"2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:0:808:808:0:0:80ff:fffe", "2001:db8::1",
		"169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
	} {
		if err := g.Check("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)); !errors.Is(err, ErrBlocked) {
			t.Errorf("Check(%s) = %v, want ErrBlocked", a, err)
		}
	}
	for _, a := range []string{"8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"} {
		if err := g.Check("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)); err != nil {
			t.Errorf("Check(%s) = %v, want nil", a, err)
		}
	}
}

func TestMetadataAndOwnServersAreDeniedUnderEveryPolicy(t *testing.T) {
	t.Parallel()
	own := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5432"), netip.MustParseAddrPort("10.0.0.9:0")}
	blocked := []string{
		"169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80",
		"[2002:a9fe:a9fe::]:80", "100.100.100.200:443", "[2001:0:a9fe:a9fe::]:80", "[2001:0:808:808::5601:5601]:80",
		"127.0.0.1:5432", "127.0.0.2:5432", "0.0.0.0:5432", "[::]:5432", "[::1]:5432", "[::ffff:127.0.0.1]:5432", "10.0.0.9:80",
	}
	for _, policy := range []string{"allow", "deny", "0.0.0.0/0,::/0", "169.254.0.0/16"} {
		p, err := Parse(policy)
		if err != nil {
			t.Fatal(err)
		}
		g := New(Options{Policy: p, Own: own})
		for _, a := range blocked {
			if err := g.Check("tcp", netip.MustParseAddrPort(a)); !errors.Is(err, ErrBlocked) {
				t.Errorf("policy %s: Check(%s) = %v, want ErrBlocked", policy, a, err)
			}
		}
	}
}

func TestPolicyLetsThroughWhatItNames(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		policy, address string
		blocked         bool
	}{
		"allow lets loopback through":                {"allow", "127.0.0.1:80", false},
		"allow lets RFC 1918 through":                {"allow", "192.168.1.1:80", false},
		"a listed prefix lets its addresses through": {"10.0.0.0/8", "10.9.9.9:80", false},
		"a listed prefix lets mapped form through":   {"10.0.0.0/8", "[::ffff:10.9.9.9]:80", false},
		"a listed prefix lets NAT64 form through":    {"10.0.0.0/8", "[64:ff9b::a09:909]:80", false},
		"what is not listed stays denied":            {"10.0.0.0/8", "192.168.1.1:80", true},
		"public addresses stay allowed with a list":  {"10.0.0.0/8", "8.8.8.8:80", false},
		"metadata listed by itself is allowed":       {"169.254.169.254", "169.254.169.254:80", false},
		"metadata in a listed prefix is not":         {"169.254.0.0/16", "169.254.169.254:80", true},
		"its neighbour in that prefix is":            {"169.254.0.0/16", "169.254.1.1:80", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			err = New(Options{Policy: p}).Check("tcp", netip.MustParseAddrPort(tt.address))
			if errors.Is(err, ErrBlocked) != tt.blocked {
				t.Errorf("Check(%s) under %s = %v, want blocked %v", tt.address, p, err, tt.blocked)
			}
		})
	}
}

func TestParseRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "yes", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8;", "::ffff:10.0.0.0/104", "fe80::1%eth0", "office.com"} {
		if p, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, p)
		}
	}
	for in, want := range map[string]string{"ALLOW": "allow", " deny ": "deny", "10.0.0.0/8, 192.168.1.7": "10.0.0.0/8,192.168.1.7/32"} {
		p, err := Parse(in)
		if err != nil || p.String() != want {
			t.Errorf("Parse(%q) = %q, %v, want %q", in, p, err, want)
		}
	}
}

// Every way to write an address of this host ends in ErrBlocked or in a name
// that does not resolve, never in a connection.
func TestNoNotationReachesThisHost(t *testing.T) {
	t.Parallel()
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	g := New(Options{Policy: Deny()})
	for _, host := range []string{
		"127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
		"017700000001", "127.0.0.1.", "::ffff:127.0.0.1", "::ffff:7f00:1", "0", "0.0.0.0", "::", "::1",
		"1２7.0.0.1", "１２７.0.0.1", "127。0。0。1", "a:b@127.0.0.1", "127.0.0.1#", "127.0.0.1?", "127.0.0.1/", `127.0.0.1\`,
	} {
		c, err := g.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			c.Close()
			t.Errorf("DialContext(%q) connected to %s", host, c.RemoteAddr())
		}
	}
	if _, err := g.DialContext(t.Context(), "tcp", l.Addr().String()); err != ErrBlocked {
		t.Errorf("DialContext = %v, want exactly ErrBlocked: a refusal tells nothing else", err)
	}
}

// Whoever resolved the address, and whatever it said before: the connect decides.
func TestTheDecisionFallsAtConnect(t *testing.T) {
	t.Parallel()
	l := listen(t)
	d := New(Options{Policy: Deny()}).Dialer()
	_, err := d.DialTCP(context.Background(), "tcp", netip.AddrPort{}, netip.MustParseAddrPort(l.Addr().String()))
	if !errors.Is(err, ErrBlocked) {
		t.Errorf("DialTCP of a resolved address = %v, want ErrBlocked", err)
	}
}

func TestPolicyChangesWhileInUse(t *testing.T) {
	t.Parallel()
	l := listen(t)
	g := New(Options{Policy: Allow()})
	c, err := g.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("under allow: %v", err)
	}
	c.Close()
	g.SetPolicy(Deny())
	if _, err := g.DialContext(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, ErrBlocked) {
		t.Errorf("after SetPolicy(Deny()) = %v, want ErrBlocked", err)
	}
	if _, err := g.DialContext(t.Context(), "udp", "127.0.0.1:53"); !errors.Is(err, ErrBlocked) {
		t.Errorf("udp after SetPolicy(Deny()) = %v, want ErrBlocked", err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestAUnixSocketIsJudgedAsLoopback(t *testing.T) {
	t.Parallel()
	listed, err := Parse("127.0.0.1/32")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		policy Policy
		want   error
	}{"denied": {Deny(), ErrBlocked}, "allowed": {Allow(), nil}, "listed": {listed, nil}} {
		if err := New(Options{Policy: tt.policy}).Control("unix", "/run/docker.sock", nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: Control = %v, want %v", name, err, tt.want)
		}
	}
}
