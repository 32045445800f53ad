package main

import (
	"crypto/tls"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsType is the targets of the type dns: servers that are asked for records.
func (l *lab) dnsType() []scenario {
	at := func(server string) monitor { return watch("dns", "shop.test").config("server", server) }
	asks := func(z zone) monitor { return at(l.resolver(z)) }
	cut := func(q question) [][]byte { return [][]byte{q.truncated()} }
	one := address("127.0.0.1", "::1")
	mail := func(q question) [][]byte {
		return [][]byte{q.reply(0,
			dnsmessage.Resource{Header: q.head(dnsmessage.TypeMX, 300), Body: &dnsmessage.MXResource{Pref: 20, MX: dnsmessage.MustNewName("backup.shop.test.")}},
			dnsmessage.Resource{Header: q.head(dnsmessage.TypeMX, 300), Body: &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("mail.shop.test.")}})}
	}
	text := func(parts ...string) zone {
		return func(q question) [][]byte {
			return [][]byte{q.reply(0, dnsmessage.Resource{Header: q.head(dnsmessage.TypeTXT, 300), Body: &dnsmessage.TXTResource{TXT: parts}})}
		}
	}
	aliased := func(q question) [][]byte {
		return [][]byte{q.reply(0, append([]dnsmessage.Resource{alias("shop.test.", "web.test.")}, renamed("web.test.", q.records("192.0.2.7"))...)...)}
	}
	secure := func(cfg *tls.Config) monitor {
		return at(l.overTLS(cfg, func(c net.Conn) { answerTCP(c, one) })).config("transport", "tls").config("tls.ca_pem", l.pki.pem())
	}
	return []scenario{
		{name: "dns: one address", want: "up", monitor: asks(one)},
		{name: "dns: the machine's own server", want: "up", monitor: watch("dns", "good.system.test")},
		{name: "dns: an alias with its address", want: "up", monitor: asks(aliased)},
		{name: "dns: AAAA", want: "up", monitor: asks(one).config("record", "AAAA")},
		{name: "dns: MX, in any order", want: "up", monitor: asks(mail).config("record", "MX").assert("answer", "eq", []string{"10 mail.shop.test", "20 backup.shop.test"})},
		{name: "dns: TXT in pieces", want: "up", monitor: asks(text("v=spf1 ", "-all")).config("record", "TXT").assert("answer", "contains", "v=spf1 -all")},
		{name: "dns: the wanted address among many", want: "up", monitor: asks(address("192.0.2.1", "192.0.2.2", "192.0.2.3")).assert("answer", "contains", "192.0.2.2")},
		{name: "dns: NXDOMAIN, as wanted", want: "up", monitor: asks(rcode(nxdomain)).assert("rcode", "eq", "NXDOMAIN")},
		{name: "dns: cut, whole over TCP", want: "up", monitor: at(l.resolverOf(cut, one))},
		{name: "dns: over TCP", want: "up", monitor: asks(one).config("transport", "tcp")},
		{name: "dns: over TLS", want: "up", monitor: secure(shows(l.pki.leaf()))},
		{name: "dns: slow, and in time", want: "up", monitor: asks(after(time.Second, one))},
		{name: "dns: a forged id first", want: "up", monitor: at(l.slowForger())},
		{name: "dns: the name in other letters", want: "up", monitor: asks(func(q question) [][]byte {
			return [][]byte{q.reply(0, renamed("SHOP.test.", q.records("127.0.0.1"))...)}
		})},
		{name: "dns: TTL as wanted", want: "up", monitor: asks(one).assert("ttl", "ge", 60)},

		{name: "dns: NXDOMAIN", want: "down dns_nxdomain", monitor: asks(rcode(nxdomain))},
		{name: "dns: SERVFAIL", want: "down dns_servfail", monitor: asks(rcode(servfail))},
		{name: "dns: REFUSED", want: "down dns_refused", monitor: asks(rcode(dnsmessage.RCodeRefused))},
		{name: "dns: no answer", want: "down dns_timeout", monitor: asks(silence)},
		{name: "dns: an answer that is too late", want: "down dns_timeout", monitor: asks(after(5*time.Second, one))},
		{name: "dns: no records", want: "down dns_nodata", monitor: asks(rcode(0))},
		{name: "dns: no AAAA", want: "down dns_nodata", monitor: asks(address("127.0.0.1")).config("record", "AAAA")},
		{name: "dns: an alias to nothing", want: "down dns_nxdomain", monitor: asks(func(q question) [][]byte {
			return [][]byte{q.reply(nxdomain, alias("shop.test.", "gone.test."))}
		})},
		{name: "dns: aliases in a circle", want: "down dns_loop", monitor: asks(func(q question) [][]byte {
			return [][]byte{q.reply(0, alias("shop.test.", "a.test."), alias("a.test.", "shop.test."))}
		})},
		{name: "dns: another address than wanted", want: "down dns_mismatch", monitor: asks(address("192.0.2.66")).assert("answer", "contains", "192.0.2.7")},
		{name: "dns: one address more than wanted", want: "down dns_mismatch", monitor: asks(address("192.0.2.7", "192.0.2.66")).assert("answer", "eq", []string{"192.0.2.7"})},
		{name: "dns: MX of another", want: "down dns_mismatch", monitor: asks(mail).config("record", "MX").assert("answer", "eq", []string{"10 mail.other.test"})},
		{name: "dns: NXDOMAIN wanted, and it exists", want: "down dns_mismatch", monitor: asks(one).assert("rcode", "eq", "NXDOMAIN")},
		{name: "dns: an answer for another name", want: "down dns_nodata", monitor: asks(func(q question) [][]byte {
			return [][]byte{q.reply(0, renamed("other.test.", q.records("127.0.0.1"))...)}
		})},
		{name: "dns: cut, TCP refused", want: "down dns_malformed", monitor: at(l.resolverOf(cut, nil))},
		{name: "dns: cut, TCP hangs", want: "down dns_timeout | down dns_malformed", monitor: at(l.resolverOf(cut, silence))},
		{name: "dns: bytes that are no answer", want: "down dns_malformed", monitor: asks(bytesOf(func(b []byte) []byte { return append(b[:2:2], 0xff, 0xff, 0xff) }))},
		{name: "dns: an answer that is cut off", want: "down dns_malformed", monitor: asks(bytesOf(func(b []byte) []byte { return b[:len(b)-6] }))},
		{name: "dns: a pointer that points at itself", want: "down dns_malformed", monitor: asks(func(q question) [][]byte {
			b := q.reply(0)
			b[7] = 1
			return [][]byte{append(b, 0xc0, byte(len(b)), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)}
		})},
		{name: "dns: nobody at the server", want: "down conn_refused | down dns_refused | down dns_timeout", monitor: at(l.refused())},
		{name: "dns: no route to the server", want: "down conn_unreachable | down dns_timeout", monitor: at(goneNet + ":53")},
		{name: "dns: over TLS, expired", want: "down tls_expired", monitor: secure(shows(l.pki.leaf(endsIn(-hour))))},
	}
}
