package probe

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"vedette/internal/uptime"
)

const (
	// maxDNSRecords of one answer are read, the questions it repeats among them; one that
	// holds more is not an answer to a question of ours. A record may be 12 bytes long, a
	// question 6, and become a hundred times that.
	maxDNSRecords = 1000
	// dnsUDPSize is what we say we take over UDP: what passes every link unfragmented
	// (DNS Flag Day 2020).
	dnsUDPSize = 1232
	// dnsSends is how often a question is sent over UDP, which may lose it.
	dnsSends = 3
	// dnsResend is the longest wait before it is sent again; it is a quarter of the
	// timeout when that is shorter.
	dnsResend = 2 * time.Second
)

// question is one as it is sent.
type question struct {
	name   string
	record uint16
	id     uint16
	wire   []byte
}

// ask puts one question to the server, by the monitor's transport. A server that
// knows no EDNS is asked without: it says FORMERR (RFC 6891 §7) or, if it is old, NOTIMP
// (RFC 2671 §5.3).
func (q *dnsRun) ask(name string) (*dns.Msg, *fault) {
	m, f := q.exchange(name, true)
	if f == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) && m.IsEdns0() == nil {
		return q.exchange(name, false)
	}
	return m, f
}

func (q *dnsRun) exchange(name string, edns bool) (*dns.Msg, *fault) {
	ask, err := newQuestion(name, q.record, q.recursion, edns)
	if err != nil {
		return nil, unknown(uptime.BadConfig, "The question for %s cannot be written: %v.", clean(name, 300), err)
	}
	switch q.transport {
	case "https":
		return q.overHTTPS(ask)
	case "tcp", "tls":
		return q.overStream(ask)
	}
	m, f := q.overPackets(ask)
	if f != nil || !m.Truncated {
		return m, f
	}
	m, f = q.overStream(ask)
	if f != nil && f.verdict == uptime.VerdictDown && f.reason != uptime.DNSTimeout {
		return nil, down(uptime.DNSMalformed, "The DNS answer is cut, and the server does not give it over TCP: %s", f.message)
	}
	return m, f
}

func newQuestion(name string, record uint16, recursion, edns bool) (question, error) {
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	m := dns.Msg{Question: []dns.Question{{Name: dns.Fqdn(name), Qtype: record, Qclass: dns.ClassINET}}}
	m.Id, m.RecursionDesired = binary.BigEndian.Uint16(id[:]), recursion
	if edns {
		m.SetEdns0(dnsUDPSize, false)
	}
	wire, err := m.Pack()
	return question{name, record, m.Id, wire}, err
}

var (
	// errNotOurs is of an answer to another question: a forgery, or one that is late.
	errNotOurs = errors.New("answers another question")
	// errNoDNS is of bytes that are no answer of DNS at all.
	errNoDNS = errors.New("is no DNS answer")
	// errDNSBroken is of an answer to our question that cannot be read.
	errDNSBroken = errors.New("cannot be read")
)

// read reads an answer to this question.
func (ask *question) read(b []byte) (*dns.Msg, error) {
	m, err := readDNS(b)
	switch {
	case len(b) < 12 || b[2]&0x80 == 0: // a header is that long, and says that it answers
		return nil, errNoDNS
	case binary.BigEndian.Uint16(b) != ask.id && err != nil:
		return nil, errNoDNS
	case binary.BigEndian.Uint16(b) != ask.id:
		return nil, errNotOurs
	case err != nil:
		return nil, errDNSBroken
	}
	if len(m.Question) == 0 && (m.Rcode != dns.RcodeSuccess || m.Truncated) {
		return m, nil // some refuse without repeating the question
	}
	if len(m.Question) != 1 || canonical(m.Question[0].Name) != canonical(ask.name) ||
		m.Question[0].Qtype != ask.record || m.Question[0].Qclass != dns.ClassINET {
		return nil, errNotOurs
	}
	return m, nil
}

// readDNS reads a message. The library is lenient with one whose sections hold less
// than its header says; here only one that says it is cut may be so.
func readDNS(b []byte) (*dns.Msg, error) {
	if len(b) < 12 {
		return nil, errNoDNS
	}
	count := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	if count(4)+count(6)+count(8)+count(10) > maxDNSRecords {
		return nil, errDNSBroken
	}
	m := &dns.Msg{}
	err := m.Unpack(b)
	if m.Truncated {
		return m, nil
	}
	if err != nil || len(m.Answer) != count(6) || len(m.Ns) != count(8) || len(m.Extra) != count(10) {
		return nil, errDNSBroken
	}
	return m, nil
}

// overPackets asks over UDP. What does not answer the question is passed over, since
// anybody can send it; the socket is connected, so it gets nothing from elsewhere.
func (q *dnsRun) overPackets(ask question) (*dns.Msg, *fault) {
	conn, f := q.open("udp")
	if f != nil {
		return nil, f
	}
	b := make([]byte, 64<<10)
	junk := false
	begin := time.Now()
	defer func() { q.r.phases.FirstByte += time.Since(begin) }()
	for i := range dnsSends {
		if _, err := conn.Write(ask.wire); isTimeout(err) {
			break
		} else if err != nil {
			return nil, connectFault(q.r.parent, q.r.trace.dialled, err)
		}
		until := time.Now().Add(min(dnsResend, q.r.timeout/4))
		if i == dnsSends-1 || until.After(q.r.deadline) {
			until = q.r.deadline
		}
		_ = conn.SetReadDeadline(until)
		for {
			n, err := conn.Read(b)
			if isTimeout(err) {
				break
			}
			if errors.Is(err, errTooMuch) {
				return nil, down(uptime.DNSMalformed, "The server sent more than %d bytes, and no answer among them.", maxRead)
			}
			if err != nil {
				return nil, connectFault(q.r.parent, q.r.trace.dialled, err)
			}
			m, err := ask.read(b[:n])
			if err == nil {
				return m, nil
			}
			if errors.Is(err, errDNSBroken) {
				return nil, malformed()
			}
			junk = junk || errors.Is(err, errNoDNS)
		}
	}
	if f := ownFault(q.r.parent, nil); f != nil {
		return nil, f
	}
	if junk {
		return nil, down(uptime.DNSMalformed, "What the server sent is not a DNS answer.")
	}
	return nil, down(uptime.DNSTimeout, "The DNS server did not answer for %s within %s.", ask.name, q.r.timeout)
}

func malformed() *fault {
	return down(uptime.DNSMalformed, "The DNS answer cannot be read: it is cut or broken.")
}

// overStream asks over TCP, or TLS on it. Messages have their length before them
// (RFC 1035 §4.2.2).
func (q *dnsRun) overStream(ask question) (*dns.Msg, *fault) {
	conn, f := q.open("tcp")
	if f != nil {
		return nil, dnsFault(f)
	}
	if q.transport == "tls" {
		if conn, f = q.r.secure(conn, q.server.host, true); f != nil {
			return nil, f
		}
	}
	begin := time.Now()
	defer func() { q.r.phases.FirstByte += time.Since(begin) }()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(ask.wire))), ask.wire...)
	if _, err := conn.Write(framed); err != nil {
		return nil, dnsFault(q.r.talkFault(err, "the DNS answer"))
	}
	for {
		var size [2]byte
		_, err := io.ReadFull(conn, size[:])
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if err == nil {
			_, err = io.ReadFull(conn, b)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, malformed()
			}
		}
		if err != nil {
			return nil, dnsFault(q.r.talkFault(err, "the DNS answer"))
		}
		m, err := ask.read(b)
		if errors.Is(err, errNotOurs) {
			continue
		}
		if err != nil || m.Truncated { // there is no more room elsewhere
			return nil, malformed()
		}
		return m, nil
	}
}

// overHTTPS asks by POST.
func (q *dnsRun) overHTTPS(ask question) (*dns.Msg, *fault) {
	req, err := http.NewRequest(http.MethodPost, q.server.url.String(), bytes.NewReader(ask.wire))
	if err != nil {
		return nil, unknown(uptime.BadConfig, "The server's URL cannot be used.")
	}
	const mediaType = "application/dns-message"
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Accept", mediaType)
	answer, f := q.r.fetch(req, q.server, true, 64<<10, "the DNS answer")
	if f != nil {
		return nil, dnsFault(f)
	}
	if answer.status != http.StatusOK {
		return nil, down(uptime.HTTPStatus, "The DNS server answers with HTTP status %d.", answer.status)
	}
	m, err := ask.read(answer.body)
	if err != nil || m.Truncated || !strings.HasPrefix(answer.header.Get("Content-Type"), mediaType) {
		return nil, malformed()
	}
	return m, nil
}

// dnsFault tells a fault of a connection in the words of DNS.
func dnsFault(f *fault) *fault {
	if f.verdict != uptime.VerdictDown {
		return f
	}
	switch f.reason {
	case uptime.Timeout, uptime.ConnTimeout:
		return down(uptime.DNSTimeout, "The DNS server did not answer in time: %s", f.message)
	case uptime.Protocol, uptime.BodyTooLarge, uptime.BodyTruncated:
		return down(uptime.DNSMalformed, "%s", f.message)
	}
	return f
}

// open connects to the server. The installation's own resolver is not a target, so
// the guard has no say.
func (q *dnsRun) open(network string) (net.Conn, *fault) {
	switch {
	case q.server.host != "" && network == "udp":
		return q.r.packetsTo(q.server.host, q.server.port)
	case q.server.host != "":
		return q.r.connectTo(q.server.host, q.server.port)
	}
	server := q.ownServer()
	to, err := netip.ParseAddrPort(server)
	if err != nil {
		return nil, unknown(uptime.OwnNetwork, "This machine has no DNS server: /etc/resolv.conf names none.")
	}
	conn, err := dialDNS(q.r.ctx, nil, network, server)
	q.r.trace.dialled = to
	if err != nil {
		return nil, connectFault(q.r.parent, to, err)
	}
	_ = conn.SetDeadline(q.r.deadline)
	q.r.keep(conn)
	return &boundedConn{Conn: conn, left: maxRead}, nil
}

// ownServer is the resolver of this installation. The system's may change while we
// run.
func (c *dnsCheck) ownServer() string {
	if c.own != "" {
		return c.own
	}
	system, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(system.Servers) == 0 {
		return ""
	}
	return net.JoinHostPort(system.Servers[0], system.Port)
}
