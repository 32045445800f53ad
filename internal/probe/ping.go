package probe

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"vedette/internal/uptime"
)

// Protocol numbers of IANA, as icmp.ParseMessage wants them.
const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// errNoPing is that this machine lets us open no socket for ICMP.
var errNoPing = errors.New("no permission to send ICMP")

// pingConfig is the config of a ping monitor.
type pingConfig struct {
	Count    int  `json:"count" min:"1" max:"20" doc:"how many packets are sent"`
	Interval span `json:"packet_interval" min:"10ms" max:"10s" doc:"the time from one packet to the next"`
	Size     int  `json:"size" min:"16" max:"65000" doc:"bytes of data in a packet, beside 8 of ICMP and 20 or 40 of IP"`
	netConfig
}

// newPing is the "ping" check type.
func newPing() Type {
	return kind[pingConfig]{
		name: "ping",
		about: "Sends ICMP echo requests. Up is at least one answer from one of the target's addresses; assert loss to want more. " +
			"It needs no privilege where `net.ipv4.ping_group_range` holds the group Vedette runs as, and CAP_NET_RAW elsewhere; with neither the result is unknown, never down.",
		target: hostOnly("a name or an address"),
		config: pingConfig{Count: 3, Interval: span(200 * time.Millisecond), Size: 56, netConfig: defaultNet()},
		sources: merged(addressSource(), map[string]source{
			"loss":    numberSource("loss", "the packets that were not answered, in percent", " %", uptime.AssertFailed),
			"rtt":     pingTime("rtt", "the mean time from a packet to its answer"),
			"rtt_max": pingTime("rtt_max", "the longest time from a packet to its answer"),
		}),
		examples: []uptime.CheckExample{{
			Title: "The office's router, degraded when packets are lost", Target: "router.example", Config: `{"count":5}`,
			Assertions: `[{"source":"loss","op":"le","value":20,"severity":"degraded"},{"source":"rtt","op":"lt","value":"300ms","severity":"degraded"}]`,
		}},
		compile: compilePing,
	}
}

// pingTime is a source that compares a time noted in nanoseconds.
func pingTime(name, about string) source {
	return source{about: about, ops: orderOps, compile: compileDuration(func(f *facts) time.Duration { return time.Duration(f.number[name]) })}
}

func compilePing(b *builder, cfg *pingConfig) Check {
	b.network(cfg.netConfig)
	allowed := b.env.Guard
	if sending := time.Duration(cfg.Count-1) * time.Duration(cfg.Interval); sending >= b.monitor.Timeout {
		b.problems.Add("config.count", "packets take %s to send, which is not within the timeout of %s", sending, b.monitor.Timeout)
	}
	return b.check(func(r *session) *fault {
		if f := r.resolve(r.target.host); f != nil {
			return f
		}
		// Each address gets its share of the time, so that one that is silent leaves some
		// to the next.
		addresses := r.trace.addresses
		for i, a := range addresses {
			to := netip.AddrPortFrom(a, 0)
			f := ownFault(r.parent, allowed.Check("ip", to)) // no dialer asks the guard for ICMP
			if f == nil {
				p := &ping{pingConfig: cfg, r: r, to: a, until: time.Now().Add(time.Until(r.deadline) / time.Duration(len(addresses)-i))}
				f = p.run()
			}
			r.trace.add(to, f)
			if f == nil {
				return nil
			}
		}
		return r.trace.worst()
	})
}

// ping is the packets sent to one address.
type ping struct {
	*pingConfig
	r     *session
	to    netip.Addr
	until time.Time

	conn    net.Conn
	raw     bool // the socket is privileged: answers to others arrive too, under an IPv4 header
	id      int
	data    []byte
	sent    []time.Time
	took    []time.Duration // by packet; 0: no answer
	got     int
	refused error // that the target cannot be reached, as a router or our system says
	refusal int   // how often
}

// run sends the packets and counts the answers.
func (p *ping) run() *fault {
	if f := p.open(); f != nil {
		return f
	}
	// Where there is too little time for the interval, half of it goes to sending.
	interval := min(time.Duration(p.Interval), time.Until(p.until)/2/time.Duration(p.Count))
	p.took = make([]time.Duration, p.Count)
	b := make([]byte, 64<<10)
	for {
		now := time.Now()
		wake := p.lastWait()
		if len(p.sent) < p.Count {
			if next := p.nextSend(interval); !now.Before(next) {
				if f := p.send(); f != nil {
					return f
				}
				continue
			} else if next.Before(wake) {
				wake = next
			}
		}
		if !now.Before(wake) || len(p.sent) == p.Count && p.got+p.refusal >= p.Count {
			return p.judge()
		}
		_ = p.conn.SetReadDeadline(wake)
		n, err := p.conn.Read(b)
		switch {
		case err == nil:
			p.receive(b[:n], time.Now())
		case isTimeout(err):
		default:
			if f := p.refuse(err); f != nil {
				return f
			}
		}
	}
}

func (p *ping) nextSend(interval time.Duration) time.Time {
	if len(p.sent) == 0 {
		return time.Time{}
	}
	return p.sent[0].Add(time.Duration(len(p.sent)) * interval)
}

// lastWait is when to give up on answers. When some came, or a router said that there
// is no way, the others are not waited for to the end.
func (p *ping) lastWait() time.Time {
	if p.got == 0 && p.refused == nil || len(p.sent) < p.Count {
		return p.until
	}
	var longest time.Duration
	for _, d := range p.took {
		longest = max(longest, d)
	}
	if end := p.sent[len(p.sent)-1].Add(max(time.Second, 3*longest)); end.Before(p.until) {
		return end
	}
	return p.until
}

func (p *ping) open() *fault {
	var err error
	p.conn, p.raw, err = openPing(p.to)
	switch {
	case errors.Is(err, errNoPing):
		return unknown(uptime.BadConfig, "This machine does not let us ping: put the group we run as into net.ipv4.ping_group_range, or give us CAP_NET_RAW.")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return down(uptime.ConnUnreach, "%s cannot be reached: no route to it.", p.to)
	case err != nil:
		if f := ownFault(p.r.parent, err); f != nil {
			return f
		}
		return unknown(uptime.OwnNetwork, "This machine cannot ping %s: %s.", p.to, clean(err.Error(), 100))
	}
	p.r.keep(p.conn)
	_ = p.conn.SetWriteDeadline(p.until)
	p.data = make([]byte, p.Size)
	_, _ = rand.Read(p.data) // never fails
	p.id = int(binary.BigEndian.Uint16(p.data))
	if local, ok := p.conn.LocalAddr().(*net.UDPAddr); ok {
		p.id = local.Port // the system puts it there
	}
	return nil
}

func (p *ping) send() *fault {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: p.id, Seq: len(p.sent) + 1, Data: p.data}}
	if p.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	wire, err := m.Marshal(nil) // of ICMPv6 the system makes the checksum
	if err != nil {
		return unknown(uptime.InternalError, "A ping could not be written.")
	}
	p.sent = append(p.sent, time.Now())
	if _, err = p.conn.Write(wire); err == nil {
		return nil
	}
	// A write may bring the error of an earlier packet, and then sends nothing.
	if f := p.refuse(err); f != nil {
		return f
	}
	_, _ = p.conn.Write(wire)
	return nil
}

// refuse notes an error of the socket: that a router, or our own system after asking
// for the neighbour, says that the target cannot be reached. It returns a fault only
// for what is ours. EACCES is what ICMPv6 "administratively prohibited" becomes.
func (p *ping) refuse(err error) *fault {
	if !errors.Is(err, syscall.EACCES) {
		if f := ownFault(p.r.parent, err); f != nil {
			return f
		}
	}
	if p.r.ctx.Err() != nil {
		return p.judge() // the socket was closed under us
	}
	if !isTimeout(err) {
		p.refused = err
		p.refusal++
	}
	return nil
}

// receive counts a packet if it is the answer to one of ours.
func (p *ping) receive(b []byte, at time.Time) {
	proto := protoICMP
	if p.to.Is6() {
		proto = protoICMPv6
	} else if p.raw {
		if len(b) < ipv4.HeaderLen || len(b) < int(b[0]&0x0f)*4 {
			return
		}
		b = b[int(b[0]&0x0f)*4:]
	}
	m, err := icmp.ParseMessage(proto, b)
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
		return
	}
	e, ok := m.Body.(*icmp.Echo)
	if !ok || e.ID != p.id || e.Seq < 1 || e.Seq > len(p.sent) || p.took[e.Seq-1] != 0 || !bytes.Equal(e.Data, p.data) {
		return
	}
	p.took[e.Seq-1] = max(1, at.Sub(p.sent[e.Seq-1])) // never 0, which means none
	p.got++
}

// judge notes what was measured.
func (p *ping) judge() *fault {
	var sum, longest time.Duration
	for _, d := range p.took {
		sum, longest = sum+d, max(longest, d)
	}
	p.r.setNumber("loss", 100*float64(len(p.sent)-p.got)/float64(max(1, len(p.sent))))
	p.r.seen.Protocol = map[bool]string{false: "ICMP", true: "ICMPv6"}[p.to.Is6()]
	p.r.seen.Body = fmt.Sprintf("%d packets sent, %d answered", len(p.sent), p.got)
	if f := p.r.ended(); f != nil && f.verdict == uptime.VerdictUnknown {
		return f
	}
	switch {
	case p.got > 0:
	case p.refused != nil:
		return down(uptime.ConnUnreach, "%s cannot be reached: %s.", p.to, reasonText(p.refused))
	default:
		return down(uptime.ConnTimeout, "%s answered none of %d pings in time.", p.to, len(p.sent))
	}
	mean := sum / time.Duration(p.got)
	p.r.phases.FirstByte = mean
	p.r.complete = true // lost packets are waited for until the deadline
	p.r.setNumber("rtt", float64(mean))
	p.r.setNumber("rtt_max", float64(longest))
	p.r.seen.Body += fmt.Sprintf(", mean %s, longest %s", mean.Round(time.Microsecond), longest.Round(time.Microsecond))
	return nil
}

// reasonText is the system's own word for an error number.
func reasonText(err error) string {
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		return n.Error()
	}
	return "no route to it"
}
