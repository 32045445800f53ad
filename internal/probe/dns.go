package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// maxAddresses of one name are tried; the rest of a larger answer is dropped.
const maxAddresses = 16

// resolver looks names up, afresh each time. The zero resolver asks the servers
// of /etc/resolv.conf.
type resolver struct {
	server string       // address:port; "" for the system's
	guard  *guard.Guard // not nil when a user chose the server
}

// lookup is the addresses of host. network is "ip", "ip4" or "ip6". The standard
// resolver does the work (hosts file, search list, retries, TCP) and tells
// NXDOMAIN, SERVFAIL and the like apart only by text, so a tap on its
// connections reads the answers too.
func (r resolver) lookup(parent, ctx context.Context, network, host string) ([]netip.Addr, *fault) {
	tap := &dnsTap{resolver: r, host: canonical(host)}
	res := net.Resolver{PreferGo: true, Dial: tap.dial}
	addrs, err := res.LookupNetIP(ctx, network, host)
	if err != nil || tap.foreign() {
		return nil, tap.fault(parent, host, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return interleave(addrs[:min(len(addrs), maxAddresses)]), nil
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// dnsTap notes what the servers answered during one look-up, which asks for A
// and AAAA at once.
type dnsTap struct {
	resolver
	host string

	mu        sync.Mutex // guards what follows
	answers   map[uptime.Reason]bool
	good      bool  // some answer has an address of the name it is about
	truncated bool  // an answer said to ask again over TCP
	answered  bool  // some server sent something with our id
	ownErr    error // no socket, or not allowed
	refused   bool  // nobody listens on the server's port
	lost      bool  // there is no route to the server
}

func (t *dnsTap) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if t.server != "" {
		address = t.server
	}
	c, err := dialDNS(ctx, t.guard, network, address)
	if err != nil {
		t.note(err)
		return nil, err
	}
	if u, ok := c.(*net.UDPConn); ok {
		return &tappedUDP{UDPConn: u, tap: t}, nil
	}
	return &tappedTCP{Conn: c, tap: t}, nil
}

func (t *dnsTap) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(err, syscall.ECONNREFUSED) {
		t.refused = true
		return
	}
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
		t.lost = true
		return
	}
	if ownFault(context.Background(), err) != nil {
		t.ownErr = err
	}
}

// message notes one answer. id is that of the question; an answer with another
// id is a forgery, which the resolver ignores as well.
func (t *dnsTap) message(id [2]byte, b []byte) {
	if len(b) >= 2 && [2]byte(b) != id {
		return
	}
	name, truncated, reason := classify(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered = true
	if truncated {
		t.truncated = true
		return
	}
	if reason == uptime.ReasonOK {
		t.good = true
		return
	}
	if name != "" && name != t.host {
		return // about a name of the search list
	}
	if t.answers == nil {
		t.answers = map[uptime.Reason]bool{}
	}
	t.answers[reason] = true
}

// foreign reports whether all addresses that came belong to names nobody asked for.
// The standard resolver takes them all the same.
func (t *dnsTap) foreign() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answers[uptime.DNSNoData] && !t.good
}

// classify reads an answer: the name asked for, whether it is cut, and what is
// wrong with it.
func classify(b []byte) (name string, truncated bool, reason uptime.Reason) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return "", false, uptime.DNSMalformed
	}
	q, err := p.Question()
	if err != nil && h.RCode == dnsmessage.RCodeSuccess {
		return "", false, uptime.DNSMalformed
	}
	name = canonical(q.Name.String())
	if h.Truncated {
		return name, true, uptime.ReasonOK
	}
	switch h.RCode {
	case dnsmessage.RCodeSuccess:
	case dnsmessage.RCodeNameError:
		return name, false, uptime.DNSNXDomain
	case dnsmessage.RCodeRefused:
		return name, false, uptime.DNSRefused
	default:
		return name, false, uptime.DNSServFail
	}
	return name, false, classifyAnswers(&p, name)
}

// classifyAnswers follows the aliases from name to an address.
func classifyAnswers(p *dnsmessage.Parser, name string) uptime.Reason {
	if err := p.SkipAllQuestions(); err != nil {
		return uptime.DNSMalformed
	}
	aliases, addressed := map[string]string{}, map[string]bool{}
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return uptime.DNSMalformed
		}
		owner := canonical(h.Name.String())
		if h.Type == dnsmessage.TypeCNAME {
			c, err := p.CNAMEResource()
			if err != nil {
				return uptime.DNSMalformed
			}
			aliases[owner] = canonical(c.CNAME.String())
			continue
		}
		if h.Type == dnsmessage.TypeA || h.Type == dnsmessage.TypeAAAA {
			addressed[owner] = true
		}
		if err := p.SkipAnswer(); err != nil {
			return uptime.DNSMalformed
		}
	}
	for range len(aliases) + 1 {
		if addressed[name] {
			return uptime.ReasonOK
		}
		next, ok := aliases[name]
		if !ok {
			return uptime.DNSNoData
		}
		name = next
	}
	return uptime.DNSLoop
}

// fault says why a look-up failed: by what the servers said, else by what became
// of the connections to them.
func (t *dnsTap) fault(parent context.Context, host string, err error) *fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := ownFault(parent, t.ownErr); f != nil {
		return f
	}
	for _, r := range []struct {
		reason uptime.Reason
		text   string
	}{
		{uptime.DNSNXDomain, "does not exist"},
		{uptime.DNSServFail, "cannot be resolved: its DNS servers fail"},
		{uptime.DNSRefused, "cannot be resolved: the DNS server refuses to answer"},
		{uptime.DNSLoop, "is an alias that leads back to itself"},
		{uptime.DNSMalformed, "cannot be resolved: the DNS answer is malformed"},
	} {
		if t.answers[r.reason] {
			return down(r.reason, "The name %s %s.", host, r.text)
		}
	}
	if t.guard == nil && !t.answered && isTimeout(err) && !t.alive(parent) {
		return unknown(uptime.OwnNetwork, "The DNS server of this machine answers nothing at all.")
	}
	if isTimeout(err) {
		return down(uptime.DNSTimeout, "No DNS server answered for %s in time.", host)
	}
	switch {
	case t.truncated:
		return down(uptime.DNSMalformed, "The DNS answer for %s is cut, and the server does not give it over TCP.", host)
	case t.answers[uptime.DNSNoData]:
		return down(uptime.DNSNoData, "The name %s exists and has no address of the kind asked for.", host)
	case t.refused && t.guard == nil:
		return unknown(uptime.OwnNetwork, "The DNS server of this machine does not run: nobody listens at its address.")
	case t.refused:
		return down(uptime.DNSRefused, "Nobody listens at the monitor's DNS server %s.", t.server)
	case t.lost && !t.answered && t.guard == nil:
		return unknown(uptime.OwnNetwork, "The DNS server of this machine cannot be reached: there is no route to it.")
	case t.lost && !t.answered:
		return down(uptime.DNSTimeout, "The monitor's DNS server %s cannot be reached.", t.server)
	case t.answered:
		return down(uptime.DNSMalformed, "The DNS answer for %s cannot be used.", host)
	}
	return down(uptime.DNSNXDomain, "The name %s does not exist.", host)
}

// aliveWait is how long the installation's resolver may take to answer anything
// before its silence about a name is held against it and not against the name.
const aliveWait = time.Second

// alive asks the resolver for what every resolver knows or refuses: the root's name
// servers. Whatever it answers, it answers.
func (r resolver) alive(parent context.Context) bool {
	ctx, cancel := context.WithTimeout(parent, aliveWait)
	defer cancel()
	tap := &dnsTap{resolver: r}
	_, err := (&net.Resolver{PreferGo: true, Dial: tap.dial}).LookupNS(ctx, ".")
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return err == nil || tap.answered
}

// tappedUDP must be a net.PacketConn: by that the resolver knows a datagram
// connection.
type tappedUDP struct {
	*net.UDPConn
	tap *dnsTap
	id  [2]byte
}

// Write notes the id of the question.
func (c *tappedUDP) Write(b []byte) (int, error) {
	if len(b) >= 2 {
		c.id = [2]byte(b)
	}
	return c.UDPConn.Write(b)
}

// Read notes the answer.
func (c *tappedUDP) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if err != nil {
		c.tap.note(err)
		return n, err
	}
	c.tap.message(c.id, b[:n])
	return n, nil
}

// tappedTCP collects a message that comes with its length before it.
type tappedTCP struct {
	net.Conn
	tap *dnsTap
	id  [2]byte
	got []byte
}

// Write notes the id of the question.
func (c *tappedTCP) Write(b []byte) (int, error) {
	if len(b) >= 4 {
		c.id = [2]byte(b[2:])
	}
	return c.Conn.Write(b)
}

// Read notes the answer when it is whole.
func (c *tappedTCP) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got = append(c.got, b[:n]...)
	if len(c.got) < 2 {
		return n, err
	}
	if want := 2 + int(c.got[0])<<8 + int(c.got[1]); len(c.got) >= want {
		c.tap.message(c.id, c.got[2:want])
		c.got = c.got[want:]
	}
	return n, err
}
