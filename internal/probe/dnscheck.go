package probe

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"vedette/internal/uptime"
)

// maxAliases are followed from the name asked for to its records. Resolvers give up
// at 8 to 16.
const maxAliases = 16

// dnsConfig is the config of a DNS monitor.
type dnsConfig struct {
	Record    string    `json:"record" enum:"A,AAAA,CAA,CNAME,DNSKEY,DS,HTTPS,MX,NAPTR,NS,PTR,SOA,SRV,SVCB,TLSA,TXT" doc:"the type of record asked for; PTR takes an address as the target"`
	Server    string    `json:"server" doc:"the server that is asked: host or host:port for udp, tcp (53) and tls (853), an https:// URL for https; empty is the resolver of this installation"`
	Transport string    `json:"transport" enum:"udp,tcp,tls,https" doc:"how it is asked: udp goes on over TCP when the answer is cut, tls is DNS over TLS (RFC 7858), https DNS over HTTPS (RFC 8484)"`
	Recursion bool      `json:"recursion" doc:"whether the server is to ask other servers; false asks an authoritative server for what it knows itself"`
	TLS       tlsConfig `json:"tls"`
}

// newDNS is the "dns" check type.
func newDNS() Type {
	return kind[dnsConfig]{
		name: "dns",
		about: "Asks a DNS server for the records of a name. Up is an answer (NOERROR) with at least one record of the wanted type, behind aliases or not; " +
			"an assertion about rcode replaces the demand for NOERROR. A cut answer is asked for again over TCP, and answers that nobody asked for are passed over. " +
			"When the resolver of this installation answers nothing at all, the result is unknown; a silent server that the monitor names is down.",
		target: targetForm{"the name asked for, such as `shop.example`, or `.`; with record PTR an address or a name under `in-addr.arpa` or `ip6.arpa`", parseDNSName},
		config: dnsConfig{Record: "A", Transport: "udp", Recursion: true, TLS: defaultTLS()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"answer":        listSource("answer", "the values of the records as a zone file has them, without the dot at the end of names (`10 mail.example.org`); the strings of a TXT record are joined, without quotes", uptime.DNSMismatch),
			"rcode":         textSource("rcode", "the response code: `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`", uptime.DNSMismatch),
			"ttl":           numberSource("ttl", "the lowest time to live of the records and aliases, in seconds", " s", uptime.DNSMismatch),
			"authoritative": textSource("authoritative", "`true` when the server answers from its own zone", uptime.DNSMismatch),
			"flags":         listSource("flags", "the flags of the answer: `aa`, `tc`, `rd`, `ra`, `ad`, `cd`", uptime.DNSMismatch),
		}),
		examples: []uptime.CheckExample{{
			Title: "The mail servers of a domain are the two we run", Target: "shop.example", Config: `{"record":"MX","server":"192.0.2.53"}`,
			Assertions: `[{"source":"answer","op":"eq","value":["10 mail.shop.example","20 backup.shop.example"]},{"source":"ttl","op":"ge","value":60}]`,
		}, {
			Title: "A retired name stays gone", Target: "old.shop.example", Config: `{"server":"192.0.2.53"}`,
			Assertions: `[{"source":"rcode","op":"eq","value":"NXDOMAIN"}]`,
		}, {
			Title: "A resolver answers over TLS", Target: "shop.example", Config: `{"server":"dns.example","transport":"tls"}`,
		}},
		compile: compileDNS,
	}
}

// parseDNSName reads what a DNS monitor asks for. A root's dot is a name here.
func parseDNSName(raw string) (target, error) {
	if raw == "." {
		return target{host: "."}, nil
	}
	t, err := hostOnly("").parse(raw)
	if err != nil {
		return target{}, err
	}
	if _, ok := dns.IsDomainName(t.host); !ok {
		return target{}, fmt.Errorf("is not a name that DNS can hold: 63 bytes between dots and 255 in all")
	}
	return t, nil
}

// dnsCheck is a DNS monitor made ready.
type dnsCheck struct {
	name      string // fully qualified
	record    uint16
	recursion bool
	transport string
	server    target // whom the monitor names; zero: the installation's resolver
	own       string // the installation's resolver; "" is the system's
	ownRcode  bool   // some assertion judges the rcode
}

func compileDNS(b *builder, cfg *dnsConfig) Check {
	b.tls(cfg.TLS)
	c := &dnsCheck{
		name: dns.Fqdn(b.target.host), record: dns.StringToType[cfg.Record], recursion: cfg.Recursion,
		transport: cfg.Transport, own: b.env.Resolver, ownRcode: b.asserts("rcode"),
	}
	if address, err := netip.ParseAddr(b.target.host); err == nil {
		if c.record != dns.TypePTR {
			b.problems.Add("target", "must be a name; an address has only record PTR")
		}
		if c.name, err = dns.ReverseAddr(address.String()); err != nil {
			b.problems.Add("target", "is not an address that has a name in DNS")
		}
	}
	var err error
	switch {
	case cfg.Server == "" && (cfg.Transport == "tls" || cfg.Transport == "https"):
		err = fmt.Errorf("is missing; transport %s needs one", cfg.Transport)
	case cfg.Server == "":
	case cfg.Transport == "https":
		c.server, err = parseURL(cfg.Server, webSchemes[:1])
		b.base.tls.protocols = fetchProtocols
	case strings.HasPrefix(cfg.Server, "https://"):
		err = fmt.Errorf("is a URL; set config.transport to https")
	case cfg.Transport == "tls":
		c.server, err = splitHostPort(cfg.Server, 853)
	default:
		c.server, err = splitHostPort(cfg.Server, 53)
	}
	if err != nil {
		b.problems.Add("config.server", "%v", err)
	}
	b.base.label = clean(fmt.Sprintf("dns %s %s %s", cfg.Record, b.monitor.Target, cfg.Server), 2048)
	return b.check(c.probe)
}

// probe is one attempt.
func (c *dnsCheck) probe(r *session) *fault {
	f := (&dnsRun{dnsCheck: c, r: r}).resolve()
	if f == nil || f.verdict != uptime.VerdictDown || c.server.host != "" {
		return f
	}
	// Every other monitor asks this resolver too, so what is wrong with it is not the
	// name's fault. Its silence about one name may be.
	switch f.reason {
	case uptime.ConnRefused, uptime.ConnUnreach, uptime.ConnReset, uptime.ConnClosed:
		return unknown(uptime.OwnNetwork, "The DNS server of this machine does not work: %s", f.message)
	case uptime.DNSTimeout:
		if !(resolver{server: c.ownServer()}).alive(r.parent) {
			return unknown(uptime.OwnNetwork, "The DNS server of this machine answers nothing at all.")
		}
	}
	return f
}

// dnsRun is one attempt at work.
type dnsRun struct {
	*dnsCheck
	r *session
}

// resolve asks for the name, and for what it is an alias of when the server leaves
// that to the one who asks.
func (q *dnsRun) resolve() *fault {
	name, seen, ttl := q.name, map[string]bool{canonical(q.name): true}, uint32(1<<31-1)
	for {
		m, f := q.ask(name)
		if f != nil {
			return f
		}
		q.note(m)
		if m.Rcode != dns.RcodeSuccess {
			return q.rcodeFault(m.Rcode, name)
		}
		a := follow(m.Answer, name, q.record, seen)
		ttl = min(ttl, a.ttl)
		switch {
		case a.loop:
			return down(uptime.DNSLoop, "The name %s is an alias that leads back to itself, or over more than %d names.", q.name, maxAliases)
		case len(a.values) > 0:
			q.r.setList("answer", a.values)
			q.r.setNumber("ttl", float64(ttl))
			return nil
		case canonical(a.end) == canonical(name) || !q.recursion:
			return q.noData()
		}
		name = a.end
	}
}

// noData is the fault of an answer without what was asked for, unless the monitor
// wants another rcode than NOERROR: that tells more.
func (q *dnsRun) noData() *fault {
	for i := range q.r.assertions {
		if a := &q.r.assertions[i]; a.Source == "rcode" && !a.judge(&q.r.facts).ok {
			return nil // conclude tells it
		}
	}
	return down(uptime.DNSNoData, "The name %s exists and has no %s record.", q.name, dns.TypeToString[q.record])
}

// rcodeFault is what a response code other than NOERROR says.
func (q *dnsRun) rcodeFault(code int, name string) *fault {
	if q.ownRcode {
		return nil
	}
	switch code {
	case dns.RcodeNameError:
		return down(uptime.DNSNXDomain, "The name %s does not exist.", name)
	case dns.RcodeRefused:
		return down(uptime.DNSRefused, "The DNS server refuses to answer for %s.", name)
	}
	return down(uptime.DNSServFail, "The DNS server fails to answer for %s: %s.", name, rcodeText(code))
}

func rcodeText(code int) string {
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(code)
}

// note keeps what assertions and people may look at.
func (q *dnsRun) note(m *dns.Msg) {
	q.r.setText("rcode", rcodeText(m.Rcode))
	q.r.setText("authoritative", strconv.FormatBool(m.Authoritative))
	flags := []string{}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired},
		{"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled},
	} {
		if f.set {
			flags = append(flags, f.name)
		}
	}
	q.r.setList("flags", flags)
	body := rcodeText(m.Rcode) + " " + strings.Join(flags, " ") + "\n"
	for _, rr := range m.Answer {
		if len(body) > evidenceBody {
			break
		}
		body += rr.String() + "\n"
	}
	q.r.seen.Body = body
}

// answered is what the records of one answer say about a name.
type answered struct {
	values []string // of the records asked for
	ttl    uint32   // the lowest on the way
	end    string   // the name at the end of the aliases
	loop   bool
}

// follow goes from name over its aliases to its records of one type. Records of
// other names are nobody's business. seen holds the names that were met before.
func follow(rrs []dns.RR, name string, record uint16, seen map[string]bool) answered {
	a := answered{end: name, ttl: 1<<31 - 1}
	aliases := map[string]*dns.CNAME{}
	values := map[string][]dns.RR{}
	for _, rr := range rrs {
		owner := canonical(rr.Header().Name)
		if rr.Header().Rrtype == record {
			values[owner] = append(values[owner], rr)
		} else if alias, ok := rr.(*dns.CNAME); ok {
			aliases[owner] = alias
		}
	}
	for {
		here := canonical(a.end)
		for _, rr := range values[here] {
			a.ttl = min(a.ttl, rr.Header().Ttl)
			a.values = append(a.values, presentation(rr))
		}
		alias, ok := aliases[here]
		if a.values != nil || !ok {
			return a
		}
		a.end, a.ttl = alias.Target, min(a.ttl, alias.Hdr.Ttl)
		next := canonical(a.end)
		if seen[next] || len(seen) >= maxAliases {
			a.loop = true
			return a
		}
		seen[next] = true
	}
}

// presentation is the value of a record as a person writes it down.
func presentation(rr dns.RR) string {
	if txt, ok := rr.(*dns.TXT); ok {
		return plainValue(strings.Join(txt.Txt, ""))
	}
	value := strings.TrimPrefix(rr.String(), rr.Header().String())
	switch rr.(type) {
	case *dns.CNAME, *dns.NS, *dns.PTR, *dns.MX, *dns.SRV, *dns.SOA:
		value = strings.ToLower(value) // the case of a name says nothing, and some servers play with it
	case *dns.HTTPS, *dns.SVCB, *dns.NAPTR:
	default:
		return value
	}
	fields := strings.Split(value, " ")
	for i, f := range fields {
		if len(f) > 1 {
			fields[i] = strings.TrimSuffix(f, ".")
		}
	}
	return strings.Join(fields, " ")
}

// plainValue undoes the escapes of a zone file (RFC 1035 §5.1): \X and \DDD.
func plainValue(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}
