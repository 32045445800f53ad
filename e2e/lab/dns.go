package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vedette/internal/testenv"
)

// systemDNS is where the lab's network has the DNS server of the machine.
const systemDNS = "127.0.0.53"

const (
	servfail = dnsmessage.RCodeServerFailure
	nxdomain = dnsmessage.RCodeNameError
)

// question is what a DNS server was asked.
type question struct {
	id  uint16
	raw []byte
	dnsmessage.Question
	tcp bool
}

// zone answers a question with packets, in turn; none is silence.
type zone func(q question) [][]byte

// resolver is a DNS server over UDP and TCP.
func (l *lab) resolver(z zone) string { return l.resolverOf(z, z) }

// resolverOf answers otherwise over TCP; tcp nil means that it does not listen there,
// and nobody else does.
func (l *lab) resolverOf(udp, tcp zone) string { return l.resolverOn("127.0.0.1", 0, udp, tcp) }

func (l *lab) resolverOn(host string, number int, udp, tcp zone) string {
	for {
		address := l.reserve(host, number).Addr
		p, err := net.ListenPacket("udp", address)
		if number == 0 && errors.Is(err, syscall.EADDRINUSE) {
			continue // a socket of UDP has this number
		}
		l.keep(must(p, err))
		go answerUDP(p, udp)
		if tcp != nil {
			serve(l.listenOn(address), func(c net.Conn) { answerTCP(c, tcp) })
		}
		return address
	}
}

func answerUDP(p net.PacketConn, z zone) {
	b := make([]byte, 4096)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		q, ok := ask(b[:n], false)
		if !ok {
			continue
		}
		go func() { // one that waits keeps no other up
			for _, reply := range z(q) {
				_, _ = p.WriteTo(reply, from)
			}
		}()
	}
}

func answerTCP(c net.Conn, z zone) {
	for {
		size := make([]byte, 2)
		if _, err := io.ReadFull(c, size); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(size))
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		q, ok := ask(b, true)
		if !ok {
			return
		}
		replies := z(q)
		if replies == nil {
			hangs(c)
			return
		}
		for _, reply := range replies {
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
		}
	}
}

func ask(b []byte, tcp bool) (question, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return question{}, false
	}
	q, err := p.Question()
	return question{id: h.ID, raw: append([]byte(nil), b...), Question: q, tcp: tcp}, err == nil
}

// reply packs an answer.
func (q question) reply(code dnsmessage.RCode, rr ...dnsmessage.Resource) []byte {
	return q.pack(dnsmessage.Header{ID: q.id, Response: true, RecursionAvailable: true, RCode: code}, rr)
}

func (q question) pack(h dnsmessage.Header, rr []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q.Question}, Answers: rr}
	return must(m.Pack())
}

// truncated is an answer that says to ask over TCP.
func (q question) truncated() []byte {
	return q.pack(dnsmessage.Header{ID: q.id, Response: true, Truncated: true}, nil)
}

func rcode(code dnsmessage.RCode) zone {
	return func(q question) [][]byte { return [][]byte{q.reply(code)} }
}

// head is the header of a record of the name that was asked for.
func (q question) head(t dnsmessage.Type, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: q.Name, Type: t, Class: dnsmessage.ClassINET, TTL: ttl}
}

// records are the addresses of the family that was asked for.
func (q question) records(addrs ...string) []dnsmessage.Resource {
	var out []dnsmessage.Resource
	for _, text := range addrs {
		a := netip.MustParseAddr(text)
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			out = append(out, dnsmessage.Resource{Header: q.head(dnsmessage.TypeA, 60), Body: &dnsmessage.AResource{A: a.As4()}})
		case !a.Is4() && q.Type == dnsmessage.TypeAAAA:
			out = append(out, dnsmessage.Resource{Header: q.head(dnsmessage.TypeAAAA, 60), Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return out
}

// address has every name at some addresses.
func address(addrs ...string) zone {
	return func(q question) [][]byte { return [][]byte{q.reply(dnsmessage.RCodeSuccess, q.records(addrs...)...)} }
}

// alias is a CNAME record.
func alias(from, to string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(from), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET, TTL: 60},
		Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}}
}

// renamed has records belong to another name.
func renamed(name string, rr []dnsmessage.Resource) []dnsmessage.Resource {
	for i := range rr {
		rr[i].Header.Name = dnsmessage.MustNewName(name)
	}
	return rr
}

func silence(question) [][]byte { return nil }

func after(wait time.Duration, z zone) zone {
	return func(q question) [][]byte {
		pause(wait)
		return z(q)
	}
}

// bytesOf answers with what make makes of the head of a good answer.
func bytesOf(mend func(b []byte) []byte) zone {
	return func(q question) [][]byte {
		return [][]byte{mend(q.reply(dnsmessage.RCodeSuccess, q.records("127.0.0.1", "::1")...))}
	}
}

// dns is the targets whose name is what matters: an http monitor of a page that
// works, at a name that a DNS server of the lab knows in its own way.
func (l *lab) dns() []scenario {
	page := l.page(says(ok("x")))
	p := port(page)
	named := func(z zone) monitor {
		return watch("http", "http://shop.test:"+p+"/").config("resolver", l.resolver(z))
	}
	via := func(resolver string) monitor {
		return watch("http", "http://shop.test:"+p+"/").config("resolver", resolver)
	}
	six := port(l.on("[::1]:0", says(ok("six"))))
	sixth := func(z zone, version string) monitor {
		return watch("http", "http://shop.test:"+six+"/").config("resolver", l.resolver(z)).config("ip_version", version)
	}
	cut := func(q question) [][]byte { return [][]byte{q.truncated()} }
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("127.0.0.%d", i+1)
	}
	long := strings.Repeat("a", 60)
	l.resolverOn(systemDNS, 53, l.system, l.system)
	return []scenario{
		{name: "one address", want: "up", monitor: named(address("127.0.0.1"))},
		{name: "the machine's own server", want: "up", monitor: watch("http", "http://good.system.test:"+p+"/")},
		{name: "localhost by the hosts file", want: "up", monitor: watch("http", "http://localhost:"+p+"/").config("ip_version", "4")},
		{name: "an alias", want: "up", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, append([]dnsmessage.Resource{alias("shop.test.", "web.test.")}, renamed("web.test.", q.records("127.0.0.1"))...)...)}
		})},
		{name: "a chain of five aliases", want: "up", monitor: named(func(q question) [][]byte {
			rr := []dnsmessage.Resource{alias("shop.test.", "a.test."), alias("a.test.", "b.test."), alias("b.test.", "c.test."), alias("c.test.", "d.test."), alias("d.test.", "e.test.")}
			return [][]byte{q.reply(0, append(rr, renamed("e.test.", q.records("127.0.0.1"))...)...)}
		})},
		{name: "an alias after its address", want: "up | down dns_malformed | down dns_nodata", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, append(renamed("web.test.", q.records("127.0.0.1")), alias("shop.test.", "web.test."))...)}
		})},
		{name: "the name in other letters", want: "up", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, renamed("SHOP.Test.", q.records("127.0.0.1"))...)}
		})},
		{name: "cut, whole over TCP", want: "up", monitor: via(l.resolverOf(cut, address("127.0.0.1")))},
		{name: "cut, whole over TCP in two segments", want: "up", monitor: via(l.resolverOf(cut, after(100*time.Millisecond, address("127.0.0.1"))))},
		{name: "thirty addresses over TCP", want: "up", monitor: via(l.resolverOf(cut, address(many...)))},
		{name: "slow, and in time", want: "up", monitor: named(after(time.Second, address("127.0.0.1")))},
		{name: "a forged id first", want: "up", monitor: named(func(q question) [][]byte {
			forged := q
			forged.id++
			return [][]byte{forged.reply(0, q.records("127.0.0.9")...), q.reply(0, q.records("127.0.0.1")...)}
		})},
		{name: "a forged id first, real one later", want: "up", monitor: via(l.slowForger())},
		{name: "the first address dead", want: "up | degraded", monitor: named(address("127.0.0.66", "127.0.0.1"))},
		{name: "the second address dead", want: "up | degraded", monitor: named(address("127.0.0.1", "127.0.0.66"))},
		{name: "one address that answers nothing", want: "up | degraded", monitor: named(address(silentNet, "127.0.0.1"))},
		{name: "one address without a route", want: "up | degraded", monitor: named(address(goneNet, "127.0.0.1"))},
		{name: "fifteen dead addresses and one that works", want: "up | degraded", monitor: named(address(append(dead(15), "127.0.0.1")...))},
		{name: "v6 dead and v4 fine", want: "up | degraded", monitor: named(address("::1", "127.0.0.1"))},
		{name: "v6 silent and v4 fine", want: "up | degraded", monitor: named(address(silentNet6, "127.0.0.1"))},
		{name: "v6 without a route and v4 fine", want: "up | degraded", monitor: named(address(goneNet6, "127.0.0.1"))},
		{name: "v4 dead and v6 fine", want: "up | degraded", monitor: sixth(address("127.0.0.1", "::1"), "any")},
		{name: "v6 alone", want: "up", monitor: sixth(address("::1"), "any")},
		{name: "v6 asked for and there", want: "up", monitor: sixth(address("127.0.0.1", "::1"), "6")},
		{name: "v4 asked for, v6 dead", want: "up", monitor: named(address("::1", "127.0.0.1")).config("ip_version", "4")},
		{name: "AAAA answered NOTIMP, A fine", want: "up", monitor: named(func(q question) [][]byte {
			if q.Type == dnsmessage.TypeAAAA {
				return [][]byte{q.reply(dnsmessage.RCodeNotImplemented)}
			}
			return [][]byte{q.reply(0, q.records("127.0.0.1")...)}
		})},
		{name: "AAAA never answered, A fine", want: "up | degraded | down dns_timeout", monitor: named(func(q question) [][]byte {
			if q.Type == dnsmessage.TypeAAAA {
				return nil
			}
			return [][]byte{q.reply(0, q.records("127.0.0.1")...)}
		}).timeout("4s")},
		{name: "records of other types too", want: "up", monitor: named(func(q question) [][]byte {
			txt := dnsmessage.Resource{Header: q.head(dnsmessage.TypeTXT, 60), Body: &dnsmessage.TXTResource{TXT: []string{"x"}}}
			return [][]byte{q.reply(0, append([]dnsmessage.Resource{txt}, q.records("127.0.0.1")...)...)}
		})},
		{name: "TTL 0", want: "up", monitor: named(func(q question) [][]byte {
			rr := q.records("127.0.0.1")
			for i := range rr {
				rr[i].Header.TTL = 0
			}
			return [][]byte{q.reply(0, rr...)}
		})},
		{name: "a name beyond ASCII", want: "up", monitor: watch("http", "http://bücher.test:"+p+"/").config("resolver", l.resolver(only("xn--bcher-kva.test.", address("127.0.0.1"))))},
		{name: "a name with a dot at its end", want: "up", monitor: watch("http", "http://shop.test.:"+p+"/").config("resolver", l.resolver(address("127.0.0.1")))},
		{name: "a long name", want: "up", monitor: watch("http", "http://"+long+"."+long+".test:"+p+"/").config("resolver", l.resolver(address("127.0.0.1")))},
		{name: "a second resolver that is not needed", want: "up", monitor: named(address("127.0.0.1")).config("second_resolver", l.refused())},

		{name: "NXDOMAIN", want: "down dns_nxdomain", monitor: named(rcode(nxdomain))},
		{name: "NXDOMAIN of the machine's own server", want: "down dns_nxdomain", monitor: watch("http", "http://none.system.test:"+p+"/")},
		{name: "SERVFAIL", want: "down dns_servfail", monitor: named(rcode(servfail))},
		{name: "SERVFAIL of the machine's own server", want: "down dns_servfail", monitor: watch("http", "http://broken.system.test:"+p+"/")},
		{name: "REFUSED", want: "down dns_refused", monitor: named(rcode(dnsmessage.RCodeRefused))},
		{name: "no answer", want: "down dns_timeout", monitor: named(silence)},
		{name: "no answer from the machine's own server, for this name alone", want: "down dns_timeout", monitor: watch("http", "http://silent.system.test:"+p+"/")},
		{name: "an answer that is too late", want: "down dns_timeout", monitor: named(after(5*time.Second, address("127.0.0.1")))},
		{name: "a name without records", want: "down dns_nodata", monitor: named(rcode(0))},
		{name: "no AAAA where v6 is asked for", want: "down dns_nodata", monitor: named(address("127.0.0.1")).config("ip_version", "6")},
		{name: "no A where v4 is asked for", want: "down dns_nodata", monitor: named(address("::1")).config("ip_version", "4")},
		{name: "an alias to a name that does not exist", want: "down dns_nxdomain", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(nxdomain, alias("shop.test.", "gone.test."))}
		})},
		{name: "an alias to a name without records", want: "down dns_nodata", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, alias("shop.test.", "empty.test."))}
		})},
		{name: "an alias of itself", want: "down dns_loop", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, alias("shop.test.", "shop.test."))}
		})},
		{name: "aliases in a circle", want: "down dns_loop", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, alias("shop.test.", "a.test."), alias("a.test.", "shop.test."))}
		})},
		{name: "an answer for another name", want: "down dns_nodata", monitor: named(func(q question) [][]byte {
			return [][]byte{q.reply(0, renamed("other.test.", q.records("127.0.0.1"))...)}
		})},
		{name: "cut, TCP refused", want: "down dns_malformed", monitor: via(l.resolverOf(cut, nil))},
		{name: "cut, TCP hangs", want: "down dns_timeout | down dns_malformed", monitor: via(l.resolverOf(cut, silence))},
		{name: "cut, TCP NXDOMAIN", want: "down dns_nxdomain", monitor: via(l.resolverOf(cut, rcode(nxdomain)))},
		{name: "bytes that are no answer", want: "down dns_malformed | down dns_timeout", monitor: named(bytesOf(func(b []byte) []byte { return append(b[:2:2], 0xff, 0xff, 0xff) }))},
		{name: "an answer that is cut off", want: "down dns_malformed | down dns_timeout", monitor: named(bytesOf(func(b []byte) []byte { return b[:len(b)-6] }))},
		{name: "a header alone that counts an answer", want: "down dns_malformed | down dns_timeout", monitor: named(bytesOf(func(b []byte) []byte { return b[:12] }))},
		{name: "a pointer that points at itself", want: "down dns_malformed | down dns_timeout", monitor: named(func(q question) [][]byte {
			b := q.reply(0)
			b[7] = 1 // one answer follows
			return [][]byte{append(b, 0xc0, byte(len(b)), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)}
		})},
		{name: "an address of three bytes", want: "down dns_malformed | down dns_timeout", monitor: named(func(q question) [][]byte {
			b := q.reply(0)
			b[7] = 1
			return [][]byte{append(b, 0xc0, 12, byte(q.Type>>8), byte(q.Type), 0, 1, 0, 0, 0, 60, 0, 3, 127, 0, 0)}
		})},
		{name: "all addresses dead", want: "down conn_refused", monitor: named(address(dead(3)...))},
		{name: "v4 and v6 dead", want: "down conn_refused", monitor: watch("http", "http://shop.test:"+l.refusedTwice()+"/").config("resolver", l.resolver(address("127.0.0.1", "::1")))},
		{name: "all addresses silent", want: "down conn_timeout", monitor: named(address(silentNet, "198.51.100.8"))},
		{name: "nobody at the monitor's own resolver", want: "down dns_refused | down dns_timeout", monitor: via(l.refused())},
		{name: "no route to the monitor's own resolver", want: "down dns_timeout | down dns_refused", monitor: via(goneNet + ":53")},
		{name: "a resolver that drops all", want: "down dns_timeout", monitor: via(silentNet + ":53")},
		l.moved(p),
		l.alternating(p),
	}
}

// refusedTwice is a port that is refused at the loopback addresses of both families.
func (l *lab) refusedTwice() string {
	for {
		p := l.reserve("127.0.0.1", 0)
		six, err := testenv.Reserve("::1", p.Number)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		l.keep(must(six, err))
		return port(p.Addr)
	}
}

// dead are addresses at which nobody listens.
func dead(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("127.0.66.%d", i+1)
	}
	return out
}

// only answers for one name, and NXDOMAIN for others.
func only(name string, z zone) zone {
	return func(q question) [][]byte {
		if !strings.EqualFold(q.Name.String(), name) {
			return [][]byte{q.reply(nxdomain)}
		}
		return z(q)
	}
}

// system is the zone of the machine's own server.
func (l *lab) system(q question) [][]byte {
	first, _, _ := strings.Cut(q.Name.String(), ".")
	switch first {
	case "good":
		return address("127.0.0.1")(q)
	case "broken":
		return rcode(servfail)(q)
	case "silent":
		return nil
	}
	return rcode(nxdomain)(q)
}

// slowForger answers at once with a wrong id and after a while with the right one.
func (l *lab) slowForger() string {
	p := must(net.ListenPacket("udp", "127.0.0.1:0"))
	l.keep(p)
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			q, ok := ask(b[:n], false)
			if !ok {
				continue
			}
			forged := q
			forged.id ^= 0x5555
			_, _ = p.WriteTo(forged.reply(nxdomain), from)
			time.AfterFunc(300*time.Millisecond, func() { _, _ = p.WriteTo(q.reply(0, q.records("127.0.0.1")...), from) })
		}
	}()
	return p.LocalAddr().String()
}

// moved is a name of TTL 1 that moves to a host where nobody is, and back.
func (l *lab) moved(port string) scenario {
	var here atomic.Pointer[string]
	set := func(a string) func() { return func() { here.Store(&a) } }
	set("127.0.0.1")()
	z := func(q question) [][]byte {
		rr := q.records(*here.Load())
		for i := range rr {
			rr[i].Header.TTL = 1
		}
		return [][]byte{q.reply(0, rr...)}
	}
	return scenario{name: "a name of TTL 1", want: "up", monitor: watch("http", "http://shop.test:"+port+"/").config("resolver", l.resolver(z)), then: []change{
		{"moved to a dead host", set("127.0.66.1"), "down conn_refused"},
		{"moved back", set("127.0.0.1"), "up"},
	}}
}

// alternating is a server that fails, and recovers.
func (l *lab) alternating(port string) scenario {
	var broken atomic.Bool
	z := func(q question) [][]byte {
		if broken.Load() {
			return rcode(servfail)(q)
		}
		return address("127.0.0.1")(q)
	}
	return scenario{name: "a DNS server", want: "up", monitor: watch("http", "http://shop.test:"+port+"/").config("resolver", l.resolver(z)), then: []change{
		{"that begins to fail", func() { broken.Store(true) }, "down dns_servfail"},
		{"that is mended", func() { broken.Store(false) }, "up"},
	}}
}
