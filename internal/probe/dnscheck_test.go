package probe

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"vedette/internal/guard"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// dnsRunMonitor makes one check and fails the test if it takes longer than it may.
func dnsRunMonitor(t *testing.T, env Env, m uptime.Monitor, config map[string]any) Outcome {
	t.Helper()
	m.Type = "dns"
	if m.Timeout == 0 {
		m.Timeout = 5 * time.Second
	}
	m.Config, _ = json.Marshal(config)
	c, err := New(env).Compile(m)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > m.Timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, m.Timeout)
	}
	return out
}

// dnsFake is a DNS server that misbehaves on purpose; what a true one does is asked
// of BIND below. nil packets is silent, nil stream is a closed port.
type dnsFake struct {
	packets func(asked *dns.Msg, send func([]byte))
	stream  func(asked *dns.Msg, c net.Conn)
}

func (f dnsFake) start(t *testing.T) string {
	t.Helper()
	var u net.PacketConn
	var address string
	err := errors.New("never tried")
	for tries := 0; err != nil; tries++ { // until the port is free for both
		if tries == 20 {
			t.Fatal(err)
		}
		address = testenv.Addr(t)
		u, err = net.ListenPacket("udp", address)
	}
	t.Cleanup(func() { u.Close() })
	go f.servePackets(u)
	if f.stream != nil {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		testenv.Serve(l, f.serveStream)
	}
	return address
}

func (f dnsFake) servePackets(u net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := u.ReadFrom(b)
		if err != nil {
			return
		}
		asked := &dns.Msg{}
		if asked.Unpack(b[:n]) == nil && f.packets != nil {
			f.packets(asked, func(b []byte) { _, _ = u.WriteTo(b, from) })
		}
	}
}

func (f dnsFake) serveStream(c net.Conn) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	asked := &dns.Msg{}
	if _, err := io.ReadFull(c, b); err == nil && asked.Unpack(b) == nil {
		f.stream(asked, c)
	}
}

// dnsAnswer packs an answer with records written as in a zone file.
func dnsAnswer(asked *dns.Msg, code int, change func(*dns.Msg), records ...string) []byte {
	m := &dns.Msg{}
	m.SetRcode(asked, code)
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// dnsSays answers every question with the same records.
func dnsSays(code int, records ...string) dnsFake {
	return dnsFake{packets: func(asked *dns.Msg, send func([]byte)) { send(dnsAnswer(asked, code, nil, records...)) }}
}

// dnsZone answers with the records of the name asked for, and NXDOMAIN for others.
func dnsZone(zone map[string]string) dnsFake {
	return dnsFake{packets: func(asked *dns.Msg, send func([]byte)) {
		text, ok := zone[strings.ToLower(asked.Question[0].Name)]
		switch {
		case !ok:
			send(dnsAnswer(asked, dns.RcodeNameError, nil))
		case text == "":
			send(dnsAnswer(asked, 0, nil))
		default:
			send(dnsAnswer(asked, 0, nil, text))
		}
	}}
}

func dnsCut(asked *dns.Msg, send func([]byte)) {
	send(dnsAnswer(asked, 0, func(m *dns.Msg) { m.Truncated = true }))
}

func dnsFramed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

const dnsGood = "shop.test. 60 IN A 192.0.2.1"

func TestDNSAnswers(t *testing.T) {
	t.Parallel()
	// after sends some bytes before the good answer.
	after := func(before func(asked *dns.Msg) []byte) dnsFake {
		return dnsFake{packets: func(asked *dns.Msg, send func([]byte)) {
			send(before(asked))
			send(dnsAnswer(asked, 0, nil, dnsGood))
		}}
	}
	// cut says over UDP that the answer is cut.
	cut := func(stream func(*dns.Msg, net.Conn)) dnsFake { return dnsFake{packets: dnsCut, stream: stream} }
	raw := func(b func(asked *dns.Msg) []byte) dnsFake {
		return dnsFake{packets: func(asked *dns.Msg, send func([]byte)) { send(b(asked)) }}
	}
	// only answers over TCP.
	only := func(stream func(*dns.Msg, net.Conn)) dnsFake { return dnsFake{stream: stream} }
	good := func(asked *dns.Msg, c net.Conn) { _, _ = c.Write(dnsFramed(dnsAnswer(asked, 0, nil, dnsGood))) }
	holds := func(_ *dns.Msg, c net.Conn) { _, _ = c.Read(make([]byte, 1)) } // until the check closes it
	lost := func() dnsFake {
		var mu sync.Mutex
		times := 0
		return dnsFake{packets: func(asked *dns.Msg, send func([]byte)) {
			mu.Lock()
			defer mu.Unlock()
			if times++; times > 1 {
				send(dnsAnswer(asked, 0, nil, dnsGood))
			}
		}}
	}
	is := func(source, op string, value any) []uptime.Assertion {
		return []uptime.Assertion{assert(source, "", op, value)}
	}
	const up, bad = uptime.VerdictUp, uptime.VerdictDown
	type config = map[string]any
	for name, tt := range map[string]struct {
		server     dnsFake
		config     config
		assertions []uptime.Assertion
		timeout    time.Duration
		verdict    uptime.Verdict
		reason     uptime.Reason
	}{
		"an address is up":                      {server: dnsSays(0, dnsGood), verdict: up},
		"the asserted address is up":            {server: dnsSays(0, dnsGood), assertions: is("answer", "eq", "192.0.2.1"), verdict: up},
		"an alias with its address is up":       {server: dnsSays(0, "shop.test. 60 IN CNAME b.test.", "b.test. 60 IN A 192.0.2.1"), verdict: up},
		"an alias left to the one who asks is":  {server: dnsZone(map[string]string{"shop.test.": "shop.test. 60 IN CNAME b.test.", "b.test.": "b.test. 60 IN A 192.0.2.1"}), assertions: is("answer", "eq", "192.0.2.1"), verdict: up},
		"an alias asked for itself is up":       {server: dnsSays(0, "shop.test. 60 IN CNAME B.test."), config: config{"record": "CNAME"}, assertions: is("answer", "eq", "b.test"), verdict: up},
		"a name in other letters is up":         {server: dnsSays(0, "sHoP.tEsT. 60 IN A 192.0.2.1"), verdict: up},
		"cut, then fine over TCP is up":         {server: cut(good), verdict: up},
		"a forged id first is up":               {server: after(func(a *dns.Msg) []byte { b := dnsAnswer(a, 3, nil); b[0]++; return b }), verdict: up},
		"another question answered first is up": {server: after(func(a *dns.Msg) []byte { m := a.Copy(); m.Question[0].Name = "evil.test."; return dnsAnswer(m, 3, nil) }), verdict: up},
		"another type answered first is up":     {server: after(func(a *dns.Msg) []byte { m := a.Copy(); m.Question[0].Qtype = dns.TypeMX; return dnsAnswer(m, 3, nil) }), verdict: up},
		"our question sent back first is up":    {server: after(func(a *dns.Msg) []byte { b, _ := a.Pack(); return b }), verdict: up},
		"noise first is up":                     {server: after(func(*dns.Msg) []byte { return []byte("noise") }), verdict: up},
		"a lost question is sent again":         {server: lost(), timeout: 8 * short, verdict: up},
		"slow but in time is up": {server: dnsFake{packets: func(a *dns.Msg, send func([]byte)) {
			time.AfterFunc(2*short, func() { send(dnsAnswer(a, 0, nil, dnsGood)) })
		}}, verdict: up},
		"a server without EDNS is up": {server: dnsFake{packets: func(a *dns.Msg, send func([]byte)) {
			if a.IsEdns0() != nil {
				a.Extra = nil
				send(dnsAnswer(a, dns.RcodeFormatError, nil))
				return
			}
			send(dnsAnswer(a, 0, nil, dnsGood))
		}}, verdict: up},
		"an old server without EDNS is up": {server: dnsFake{packets: func(a *dns.Msg, send func([]byte)) {
			if a.IsEdns0() != nil {
				a.Extra = nil
				send(dnsAnswer(a, dns.RcodeNotImplemented, nil))
				return
			}
			send(dnsAnswer(a, 0, nil, dnsGood))
		}}, verdict: up},
		"TCP asked for is up":             {server: only(good), config: config{"transport": "tcp"}, verdict: up},
		"an asserted NXDOMAIN is up":      {server: dnsSays(dns.RcodeNameError), assertions: is("rcode", "eq", "NXDOMAIN"), verdict: up},
		"an asserted REFUSED is up":       {server: dnsSays(dns.RcodeRefused), assertions: is("rcode", "eq", "REFUSED"), verdict: up},
		"TXT strings are joined":          {server: dnsSays(0, `shop.test. 60 IN TXT "v=spf1 " "a \"b\" \195\188"`), config: config{"record": "TXT"}, assertions: is("answer", "eq", "v=spf1 a \"b\" ü"), verdict: up},
		"the lowest TTL counts":           {server: dnsSays(0, "shop.test. 5 IN CNAME b.test.", "b.test. 60 IN A 192.0.2.1"), assertions: is("ttl", "eq", 5), verdict: up},
		"an address backwards is its PTR": {server: dnsSays(0, "shop.test. 60 IN A 192.0.2.9", "1.2.0.192.in-addr.arpa. 60 IN PTR shop.test."), config: config{"record": "PTR"}, assertions: is("answer", "eq", "shop.test"), verdict: up},
		"noise and no answer":             {server: raw(func(*dns.Msg) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }), timeout: short, verdict: bad, reason: uptime.DNSMalformed},
		"an echo":                         {server: raw(func(a *dns.Msg) []byte { b, _ := a.Pack(); return b }), timeout: short, verdict: bad, reason: uptime.DNSMalformed},
		"only a forged id":                {server: raw(func(a *dns.Msg) []byte { b := dnsAnswer(a, 0, nil, dnsGood); b[0]++; return b }), timeout: short, verdict: bad, reason: uptime.DNSTimeout},
		"NXDOMAIN":                        {server: dnsSays(dns.RcodeNameError), verdict: bad, reason: uptime.DNSNXDomain},
		"SERVFAIL":                        {server: dnsSays(dns.RcodeServerFailure), verdict: bad, reason: uptime.DNSServFail},
		"REFUSED":                         {server: dnsSays(dns.RcodeRefused), verdict: bad, reason: uptime.DNSRefused},
		"REFUSED as a bare header":        {server: raw(func(a *dns.Msg) []byte { return append(dnsAnswer(a, 5, nil)[:4], make([]byte, 8)...) }), verdict: bad, reason: uptime.DNSRefused},
		"silence":                         {timeout: short, verdict: bad, reason: uptime.DNSTimeout},
		"no records":                      {server: dnsSays(0), verdict: bad, reason: uptime.DNSNoData},
		"no AAAA":                         {server: dnsSays(0, dnsGood), config: config{"record": "AAAA"}, verdict: bad, reason: uptime.DNSNoData},
		"records of another name only":    {server: dnsSays(0, "other.test. 60 IN A 192.0.2.1"), verdict: bad, reason: uptime.DNSNoData},
		"an alias without an address":     {server: dnsZone(map[string]string{"shop.test.": "shop.test. 60 IN CNAME b.test.", "b.test.": ""}), verdict: bad, reason: uptime.DNSNoData},
		"an alias of nothing":             {server: dnsSays(dns.RcodeNameError, "shop.test. 60 IN CNAME b.test."), verdict: bad, reason: uptime.DNSNXDomain},
		"an alias of nothing, asked for":  {server: dnsZone(map[string]string{"shop.test.": "shop.test. 60 IN CNAME b.test."}), verdict: bad, reason: uptime.DNSNXDomain},
		"an alias of itself":              {server: dnsSays(0, "shop.test. 60 IN CNAME shop.test."), verdict: bad, reason: uptime.DNSLoop},
		"aliases in a circle":             {server: dnsSays(0, "shop.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME shop.test."), verdict: bad, reason: uptime.DNSLoop},
		"a circle over several answers":   {server: dnsZone(map[string]string{"shop.test.": "shop.test. 60 IN CNAME b.test.", "b.test.": "b.test. 60 IN CNAME shop.test."}), verdict: bad, reason: uptime.DNSLoop},
		"aliases without end": {server: dnsFake{packets: func(a *dns.Msg, send func([]byte)) {
			send(dnsAnswer(a, 0, nil, a.Question[0].Name+" 60 IN CNAME a."+a.Question[0].Name))
		}}, verdict: bad, reason: uptime.DNSLoop},
		"the wrong address":      {server: dnsSays(0, dnsGood), assertions: is("answer", "eq", "192.0.2.2"), verdict: bad, reason: uptime.DNSMismatch},
		"one address too many":   {server: dnsSays(0, dnsGood, "shop.test. 60 IN A 192.0.2.6"), assertions: is("answer", "eq", "192.0.2.1"), verdict: bad, reason: uptime.DNSMismatch},
		"there, and wanted gone": {server: dnsSays(0, dnsGood), assertions: is("rcode", "eq", "NXDOMAIN"), verdict: bad, reason: uptime.DNSMismatch},
		"empty, and wanted gone": {server: dnsSays(0), assertions: is("rcode", "eq", "NXDOMAIN"), verdict: bad, reason: uptime.DNSMismatch},
		"empty, NOERROR wanted":  {server: dnsSays(0), assertions: is("rcode", "eq", "NOERROR"), verdict: bad, reason: uptime.DNSNoData},
		"not authoritative":      {server: dnsSays(0, dnsGood), assertions: is("authoritative", "eq", "true"), verdict: bad, reason: uptime.DNSMismatch},
		"cut off":                {server: raw(func(a *dns.Msg) []byte { b := dnsAnswer(a, 0, nil, dnsGood); return b[:len(b)-3] }), verdict: bad, reason: uptime.DNSMalformed},
		"a pointer to itself": {server: raw(func(a *dns.Msg) []byte {
			b := dnsAnswer(a, 0, nil, dnsGood)
			at := 12 + len("\x04shop\x04test\x00") + 4
			return append(b[:at], 0xc0, byte(at), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
		}), verdict: bad, reason: uptime.DNSMalformed},
		"fewer records than counted": {server: raw(func(a *dns.Msg) []byte { b := dnsAnswer(a, 0, nil, dnsGood); b[7] = 9; return b }), verdict: bad, reason: uptime.DNSMalformed},
		"a record of a wrong length": {server: raw(func(a *dns.Msg) []byte { b := dnsAnswer(a, 0, nil, dnsGood); b[len(b)-5] = 3; return b[:len(b)-1] }), verdict: bad, reason: uptime.DNSMalformed},
		"noise with our id": {server: raw(func(a *dns.Msg) []byte {
			return append(dnsAnswer(a, 0, nil)[:3], "\xff\xff\xff\xff\xff\xff\xff\xff\xffnoise"...)
		}), verdict: bad, reason: uptime.DNSMalformed},
		"cut, and nobody at TCP":  {server: cut(nil), verdict: bad, reason: uptime.DNSMalformed},
		"cut, and TCP closes":     {server: cut(func(*dns.Msg, net.Conn) {}), verdict: bad, reason: uptime.DNSMalformed},
		"cut, and half over TCP":  {server: cut(func(a *dns.Msg, c net.Conn) { _, _ = c.Write(dnsFramed(dnsAnswer(a, 0, nil, dnsGood))[:20]) }), verdict: bad, reason: uptime.DNSMalformed},
		"cut, and noise over TCP": {server: cut(func(_ *dns.Msg, c net.Conn) { _, _ = io.WriteString(c, "\x00\x05noise") }), verdict: bad, reason: uptime.DNSMalformed},
		"cut, and TCP hangs":      {server: cut(holds), timeout: short, verdict: bad, reason: uptime.DNSTimeout},
		"TCP asked for, nobody":   {config: config{"transport": "tcp"}, verdict: bad, reason: uptime.ConnRefused},
		"TCP asked for, closes":   {server: only(func(*dns.Msg, net.Conn) {}), config: config{"transport": "tcp"}, verdict: bad, reason: uptime.ConnClosed},
		"TCP asked for, silent":   {server: only(holds), config: config{"transport": "tcp"}, timeout: short, verdict: bad, reason: uptime.DNSTimeout},
		"TLS asked for, no TLS":   {server: only(func(_ *dns.Msg, c net.Conn) { _, _ = io.WriteString(c, "\x00\x05noise") }), config: config{"transport": "tls"}, timeout: short, verdict: bad, reason: uptime.TLSTimeout},
		"a flood of answers": {server: dnsFake{packets: func(a *dns.Msg, send func([]byte)) {
			b := append(dnsAnswer(a, 0, nil, dnsGood), make([]byte, 50<<10)...)
			b[0]++
			for range 200 { // 10 MB
				send(b)
			}
		}}, timeout: short, verdict: bad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.config == nil {
				tt.config = config{}
			}
			tt.config["server"] = tt.server.start(t)
			target := "shop.test"
			if tt.config["record"] == "PTR" {
				target = "192.0.2.1"
			}
			out := dnsRunMonitor(t, testEnv(), uptime.Monitor{Target: target, Assertions: tt.assertions, Timeout: tt.timeout}, tt.config)
			if tt.reason == "" && tt.verdict == bad { // a flood ends by size or by time
				tt.reason = out.Reason
				if out.Reason != uptime.DNSTimeout && out.Reason != uptime.DNSMalformed {
					t.Errorf("reason %s, want dns_timeout or dns_malformed", out.Reason)
				}
			}
			check(t, out, tt.verdict, tt.reason)
		})
	}
}

// An answer from another address than the server's was not sent by it.
func TestDNSAnswersFromElsewhereArePassedOver(t *testing.T) {
	t.Parallel()
	elsewhere, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 1500)
		n, from, err := server.ReadFrom(b)
		asked := &dns.Msg{}
		if err != nil || asked.Unpack(b[:n]) != nil {
			return
		}
		_, _ = elsewhere.WriteTo(dnsAnswer(asked, dns.RcodeNameError, nil), from)
		_, _ = server.WriteTo(dnsAnswer(asked, 0, nil, dnsGood), from)
	}()
	out := dnsRunMonitor(t, testEnv(), uptime.Monitor{Target: "shop.test"}, map[string]any{"server": server.LocalAddr().String()})
	check(t, out, uptime.VerdictUp, "")
}

func TestDNSOfThisInstallation(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		resolver, server string
		verdict          uptime.Verdict
		reason           uptime.Reason
	}{
		"ours works":                   {resolver: dnsSays(0, dnsGood).start(t), verdict: uptime.VerdictUp},
		"ours says NXDOMAIN":           {resolver: dnsSays(dns.RcodeNameError).start(t), verdict: uptime.VerdictDown, reason: uptime.DNSNXDomain},
		"ours answers nothing at all":  {resolver: dnsFake{}.start(t), verdict: uptime.VerdictUnknown, reason: uptime.OwnNetwork},
		"nobody listens at ours":       {resolver: udpClosed(t), verdict: uptime.VerdictUnknown, reason: uptime.OwnNetwork},
		"nobody listens at the target": {server: udpClosed(t), verdict: uptime.VerdictDown, reason: uptime.ConnRefused},
		"ours answers all but this name": {resolver: dnsFake{packets: func(a *dns.Msg, send func([]byte)) {
			if a.Question[0].Qtype == dns.TypeNS {
				send(dnsAnswer(a, dns.RcodeRefused, nil))
			}
		}}.start(t), verdict: uptime.VerdictDown, reason: uptime.DNSTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testEnv()
			env.Resolver = tt.resolver
			out := dnsRunMonitor(t, env, uptime.Monitor{Target: "shop.test", Timeout: 2 * short}, map[string]any{"server": tt.server})
			check(t, out, tt.verdict, tt.reason)
		})
	}
}

func TestDNSServersAreUnderTheGuardAndOursIsNot(t *testing.T) {
	t.Parallel()
	server := dnsFake{packets: dnsCut, stream: func(a *dns.Msg, c net.Conn) { _, _ = c.Write(dnsFramed(dnsAnswer(a, 0, nil, dnsGood))) }}.start(t)
	env := testEnv()
	env.Guard, env.Resolver = guard.New(guard.Options{Policy: guard.Deny()}), server
	for _, transport := range []string{"udp", "tcp", "tls"} {
		out := dnsRunMonitor(t, env, uptime.Monitor{Target: "shop.test"}, map[string]any{"server": server, "transport": transport})
		check(t, out, uptime.VerdictUnknown, uptime.Blocked)
	}
	out := dnsRunMonitor(t, env, uptime.Monitor{Target: "shop.test"}, map[string]any{"server": "https://" + server + "/dns-query", "transport": "https"})
	check(t, out, uptime.VerdictUnknown, uptime.Blocked)
	check(t, dnsRunMonitor(t, env, uptime.Monitor{Target: "shop.test"}, nil), uptime.VerdictUp, "")
}

func TestDNSOverHTTPSServersThatFail(t *testing.T) {
	t.Parallel()
	cert, roots, err := testenv.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		handle http.HandlerFunc
		reason uptime.Reason
	}{
		"404":           {http.NotFound, uptime.HTTPStatus},
		"a redirect":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, uptime.HTTPStatus},
		"a page":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, uptime.DNSMalformed},
		"no end":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 70<<10)) }, uptime.DNSMalformed},
		"no answer":     {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, uptime.DNSTimeout},
		"an early end":  {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, uptime.ConnClosed},
		"an empty page": {func(http.ResponseWriter, *http.Request) {}, uptime.DNSMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{Handler: tt.handle}
			t.Cleanup(func() { s.Close() })
			go func() { _ = s.Serve(l) }()
			env := testEnv()
			env.Roots = roots
			out := dnsRunMonitor(t, env, uptime.Monitor{Target: "shop.test", Timeout: 2 * short},
				map[string]any{"server": "https://" + l.Addr().String() + "/", "transport": "https"})
			check(t, out, uptime.VerdictDown, tt.reason)
		})
	}
}

func TestDNSChecksLeaveNothingBehind(t *testing.T) {
	server := dnsFake{packets: dnsCut, stream: func(_ *dns.Msg, c net.Conn) {}}.start(t)
	env := testEnv()
	failing := func(n int) {
		for range n {
			for _, transport := range []string{"udp", "tls"} {
				dnsRunMonitor(t, env, uptime.Monitor{Target: "shop.test", Timeout: uptime.MinTimeout}, map[string]any{"server": server, "transport": transport})
			}
		}
	}
	failing(3)
	before := runtime.NumGoroutine()
	failing(20)
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestDNSMonitorsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ target, config, path string }{
		"an address without PTR": {"192.0.2.1", `{}`, "target"},
		"a label too long":       {strings.Repeat("a", 64) + ".test", `{}`, "target"},
		"an unknown record":      {"a.test", `{"record":"ANY"}`, "config.record"},
		"TLS without a server":   {"a.test", `{"transport":"tls"}`, "config.server"},
		"HTTPS at a plain host":  {"a.test", `{"transport":"https","server":"dns.test"}`, "config.server"},
		"a URL for UDP":          {"a.test", `{"server":"https://dns.test/"}`, "config.server"},
		"a port that is none":    {"a.test", `{"server":"dns.test:0"}`, "config.server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(uptime.Monitor{Type: "dns", Target: tt.target, Config: json.RawMessage(tt.config)})
			e, ok := errors.AsType[*uptime.Error](err)
			if !ok || len(e.Fields) == 0 || e.Fields[0].Path != tt.path {
				t.Errorf("Compile = %v, want a problem of %s", err, tt.path)
			}
		})
	}
}

// bindZone has a record of every type, and names for what a resolver may meet.
const bindZone = `$TTL 300
@ IN SOA ns.shop.example. hostmaster.shop.example. 7 3600 600 86400 60
@ IN NS ns.shop.example.
@ IN A 192.0.2.1
@ IN AAAA 2001:db8::1
@ IN MX 10 mail.shop.example.
@ IN MX 20 Backup.shop.example.
@ IN TXT "v=spf1 mx " "-all"
@ IN CAA 0 issue "ca.example"
@ IN HTTPS 1 . alpn=h2
ns IN A 127.0.0.1
www IN CNAME shop.example.
lost IN CNAME nothing.shop.example.
_sip._tcp IN SRV 1 2 5060 sip.shop.example.
_dns IN SVCB 1 dns.shop.example. port=853
_443._tcp IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
num IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@shop.example!" .
ptr IN PTR host.shop.example.
sub IN NS ns.shop.example.
sub IN DS 1 8 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
key IN DNSKEY 256 3 8 AwEAAQ==
big IN TXT "BIG"
`

// startBind runs the real server for one zone: over UDP, TCP, TLS and HTTPS.
func startBind(t *testing.T) (plain, tlsAddr, httpsAddr string, env Env) {
	t.Helper()
	ca := newCA(t, authority{}, nil)
	leaf := chainOf(t, ca, nil)
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	tlsAddr, httpsAddr = testenv.Addr(t), testenv.Addr(t)
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	zone := strings.Replace(bindZone, `"BIG"`, strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 20), 1)
	s := testenv.Start(t, testenv.ProgramSpec{
		Binary: "named", Package: "bind9", User: "bind",
		Prepare: func(s *testenv.Program) error {
			config := fmt.Sprintf(`options { directory %q; pid-file none; session-keyfile none; recursion no; listen-on-v6 { none; };
 listen-on port %d { 127.0.0.1; }; listen-on port %s tls shop { 127.0.0.1; }; listen-on port %s tls shop http default { 127.0.0.1; };
 dnssec-validation no; };
controls { };
tls shop { cert-file "cert.pem"; key-file "key.pem"; };
zone "shop.example" { type primary; file "zone"; check-names ignore; };
`, s.Dir, s.Port, port(tlsAddr), port(httpsAddr))
			return errors.Join(
				os.WriteFile(filepath.Join(s.Dir, "named.conf"), []byte(config), 0o644),
				os.WriteFile(filepath.Join(s.Dir, "zone"), []byte(zone), 0o644),
				os.WriteFile(filepath.Join(s.Dir, "cert.pem"), inPEM("CERTIFICATE", leaf.Certificate[0]), 0o644),
				os.WriteFile(filepath.Join(s.Dir, "key.pem"), inPEM("PRIVATE KEY", key), 0o644),
			)
		},
		Args: func(s *testenv.Program) []string {
			return []string{"-g", "-n", "1", "-c", filepath.Join(s.Dir, "named.conf")}
		},
	})
	env = testEnv()
	env.Roots = rootsWith(nil)
	env.Roots.AddCert(ca.cert)
	return s.Addr, tlsAddr, "https://" + httpsAddr + "/dns-query", env
}

func TestDNSRecordsOfARealServer(t *testing.T) {
	t.Parallel()
	plain, overTLS, overHTTPS, env := startBind(t)
	const zone = "shop.example"
	for name, tt := range map[string]struct {
		target, record string
		want           []string
		reason         uptime.Reason
	}{
		"A":                      {zone, "A", []string{"192.0.2.1"}, ""},
		"AAAA":                   {zone, "AAAA", []string{"2001:db8::1"}, ""},
		"MX":                     {zone, "MX", []string{"10 mail.shop.example", "20 backup.shop.example"}, ""},
		"NS":                     {zone, "NS", []string{"ns.shop.example"}, ""},
		"SOA":                    {zone, "SOA", []string{"ns.shop.example hostmaster.shop.example 7 3600 600 86400 60"}, ""},
		"TXT":                    {zone, "TXT", []string{"v=spf1 mx -all"}, ""},
		"CAA":                    {zone, "CAA", []string{`0 issue "ca.example"`}, ""},
		"HTTPS":                  {zone, "HTTPS", []string{`1 . alpn="h2"`}, ""},
		"CNAME":                  {"www." + zone, "CNAME", []string{"shop.example"}, ""},
		"A behind an alias":      {"www." + zone, "A", []string{"192.0.2.1"}, ""},
		"SRV":                    {"_sip._tcp." + zone, "SRV", []string{"1 2 5060 sip.shop.example"}, ""},
		"SVCB":                   {"_dns." + zone, "SVCB", []string{`1 dns.shop.example port="853"`}, ""},
		"TLSA":                   {"_443._tcp." + zone, "TLSA", []string{"3 1 1 " + strings.Repeat("0123456789abcdef", 3) + "0123456789abcdef"}, ""},
		"NAPTR":                  {"num." + zone, "NAPTR", []string{`100 10 "u" "E2U+sip" "!^.*$!sip:info@shop.example!" .`}, ""},
		"PTR by name":            {"ptr." + zone, "PTR", []string{"host.shop.example"}, ""},
		"DS":                     {"sub." + zone, "DS", []string{"1 8 2 " + strings.Repeat("0123456789ABCDEF", 4)}, ""},
		"DNSKEY":                 {"key." + zone, "DNSKEY", []string{"256 3 8 AwEAAQ=="}, ""},
		"an answer beyond UDP":   {"big." + zone, "TXT", []string{strings.Repeat("x", 5000)}, ""},
		"a name that is not":     {"gone." + zone, "A", nil, uptime.DNSNXDomain},
		"an alias of nothing":    {"lost." + zone, "A", nil, uptime.DNSNXDomain},
		"a record that is not":   {"ns." + zone, "AAAA", nil, uptime.DNSNoData},
		"a zone of someone else": {"example.net", "A", nil, uptime.DNSRefused},
	} {
		for transport, server := range map[string]string{"udp": plain, "tcp": plain, "tls": overTLS, "https": overHTTPS} {
			t.Run(name+" over "+transport, func(t *testing.T) {
				t.Parallel()
				m := uptime.Monitor{Target: tt.target, Assertions: []uptime.Assertion{assert("answer", "", "eq", tt.want), assert("ttl", "", "eq", 300)}}
				verdict := uptime.VerdictUp
				if tt.reason != "" {
					m.Assertions, verdict = nil, uptime.VerdictDown
				}
				out := dnsRunMonitor(t, env, m, map[string]any{"record": tt.record, "server": server, "transport": transport, "recursion": false})
				check(t, out, verdict, tt.reason)
				if transport == "https" && out.Evidence.Protocol != "HTTP/2.0" {
					t.Errorf("spoke %s, want HTTP/2.0", out.Evidence.Protocol)
				}
			})
		}
	}
	t.Run("a certificate nobody trusts is down", func(t *testing.T) {
		t.Parallel()
		for transport, server := range map[string]string{"tls": overTLS, "https": overHTTPS} {
			out := dnsRunMonitor(t, testEnv(), uptime.Monitor{Target: zone}, map[string]any{"server": server, "transport": transport})
			check(t, out, uptime.VerdictDown, uptime.TLSUntrusted)
		}
	})
	t.Run("the examples", func(t *testing.T) {
		t.Parallel()
		at := func(server string) func(map[string]any) {
			return func(config map[string]any) { config["server"] = server }
		}
		runExample(t, "dns", 0, zone, at(plain))
		runExample(t, "dns", 1, "old."+zone, at(plain))
		runExample(t, "dns", 2, zone, func(config map[string]any) {
			config["server"], config["tls"] = overTLS, map[string]any{"skip_verify": true}
		})
	})
}

// A question of 6 bytes may point to a name of a thousand letters. Not parallel: it
// measures memory.
func TestDNSAnswersWithoutEndTakeLittleMemory(t *testing.T) {
	b := []byte{0, 1, 0x81, 0x80, 0x27, 0x10, 0, 0, 0, 0, 0, 0} // 10,000 questions
	for range 3 {
		b = append(append(b, 63), make([]byte, 63)...)
	}
	b = append(b, 0, 0, 1, 0, 1)
	for range 9_999 {
		b = append(b, 0xc0, 12, 0, 1, 0, 1)
	}
	ask := question{name: "shop.test.", record: dns.TypeA, id: 1}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ask.read(b)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("it was taken for an answer")
	}
	if kb := (after.TotalAlloc - before.TotalAlloc) >> 10; kb > 1<<10 {
		t.Errorf("an answer of %d bytes took %d KB", len(b), kb)
	}
}

// dnsSeeds are answers to start a fuzzer from: good ones, and one of each fault.
func dnsSeeds(f *testing.F, name string) {
	asked := &dns.Msg{}
	asked.SetQuestion(name, dns.TypeA)
	asked.Id = 1
	records := []string{name + " 60 IN A 192.0.2.1", name + " 60 IN CNAME b.test.", "b.test. 60 IN CNAME " + name,
		name + ` 60 IN TXT "a\"\200"`, name + ` 60 IN HTTPS 1 . alpn=h2`, name + " 60 IN SOA a. b. 1 2 3 4 5"}
	good := dnsAnswer(asked, 0, func(m *dns.Msg) { m.SetEdns0(1232, true) }, records...)
	f.Add(good)
	f.Add(good[:len(good)-9])
	f.Add(dnsAnswer(asked, dns.RcodeNameError, nil, records[1]))
	f.Add(dnsAnswer(asked, 0, func(m *dns.Msg) { m.Truncated = true }))
	f.Add(append(dnsAnswer(asked, 0, nil, records[0])[:27], 0xc0, 27, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1))
	f.Add([]byte{0, 1, 0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0})
}

// FuzzDNSAnswer reads whatever a server may send as the answer to a question.
func FuzzDNSAnswer(f *testing.F) {
	const name = "shop.test."
	dnsSeeds(f, name)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, record := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeHTTPS, dns.TypeSOA} {
			ask := question{name: name, record: record, id: 1}
			m, err := ask.read(b)
			if err != nil {
				continue
			}
			seen := map[string]bool{name: true}
			a := follow(m.Answer, name, record, seen)
			if len(a.values) > len(m.Answer) || len(seen) > maxAliases || a.loop && a.values != nil {
				t.Errorf("%d records gave %d values over %d names, loop %v", len(m.Answer), len(a.values), len(seen), a.loop)
			}
		}
	})
}

// FuzzResolverTap reads whatever the server of a look-up may send.
func FuzzResolverTap(f *testing.F) {
	dnsSeeds(f, "shop.test.")
	f.Fuzz(func(t *testing.T, b []byte) {
		tap := &dnsTap{host: "shop.test"}
		tap.message([2]byte{0, 1}, b)
		if len(tap.answers) > 1 {
			t.Errorf("one message gave the faults %v", tap.answers)
		}
	})
}
