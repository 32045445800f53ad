package probe

import (
	"encoding/json"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"vedette/internal/uptime"
)

// dnsServer answers every question over UDP with what answer makes of it.
func dnsServer(t *testing.T, answer func(id uint16, q dnsmessage.Question) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var p dnsmessage.Parser
			h, err := p.Start(b[:n])
			if err != nil {
				continue
			}
			q, err := p.Question()
			if err != nil {
				continue
			}
			if reply := answer(h.ID, q); reply != nil {
				_, _ = c.WriteTo(reply, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// reply packs an answer with the given code and resources.
func reply(id uint16, q dnsmessage.Question, code dnsmessage.RCode, rr ...dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, RecursionAvailable: true, RCode: code},
		Questions: []dnsmessage.Question{q}, Answers: rr,
	}
	b, _ := m.Pack()
	return b
}

func cname(from, to string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(from), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)},
	}
}

func loopback(name string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
	}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	const name = "shop.test."
	a := func(id uint16, q dnsmessage.Question, rr ...dnsmessage.Resource) []byte {
		if q.Type != dnsmessage.TypeA {
			rr = nil
		}
		return reply(id, q, dnsmessage.RCodeSuccess, rr...)
	}
	code := func(c dnsmessage.RCode) func(uint16, dnsmessage.Question) []byte {
		return func(id uint16, q dnsmessage.Question) []byte { return reply(id, q, c) }
	}
	_, port, err := net.SplitHostPort(serve(t, says(page("x"))))
	if err != nil {
		t.Fatal(err)
	}
	for test, tt := range map[string]struct {
		answer  func(uint16, dnsmessage.Question) []byte
		version string
		verdict uptime.Verdict
		reason  uptime.Reason
	}{
		"an address is up": {func(id uint16, q dnsmessage.Question) []byte { return a(id, q, loopback(name)) }, "any", uptime.VerdictUp, ""},
		"an alias with its address is": {func(id uint16, q dnsmessage.Question) []byte {
			return a(id, q, cname(name, "b.test."), loopback("b.test."))
		}, "any", uptime.VerdictUp, ""},
		"NXDOMAIN":                       {code(dnsmessage.RCodeNameError), "any", uptime.VerdictDown, uptime.DNSNXDomain},
		"SERVFAIL":                       {code(dnsmessage.RCodeServerFailure), "any", uptime.VerdictDown, uptime.DNSServFail},
		"REFUSED":                        {code(dnsmessage.RCodeRefused), "any", uptime.VerdictDown, uptime.DNSRefused},
		"no records":                     {code(dnsmessage.RCodeSuccess), "any", uptime.VerdictDown, uptime.DNSNoData},
		"no AAAA when IPv6 is asked for": {func(id uint16, q dnsmessage.Question) []byte { return a(id, q, loopback(name)) }, "6", uptime.VerdictDown, uptime.DNSNoData},
		"an address of another name is no address": {func(id uint16, q dnsmessage.Question) []byte { return a(id, q, loopback("other.test.")) }, "any", uptime.VerdictDown, uptime.DNSNoData},
		"an alias loop": {func(id uint16, q dnsmessage.Question) []byte {
			return reply(id, q, 0, cname(name, "b.test."), cname("b.test.", name))
		}, "any", uptime.VerdictDown, uptime.DNSLoop},
		"an answer that is cut off": {func(id uint16, q dnsmessage.Question) []byte { return reply(id, q, 0, loopback(name))[:40] }, "4", uptime.VerdictDown, uptime.DNSMalformed},
		"silence":                   {func(uint16, dnsmessage.Question) []byte { return nil }, "any", uptime.VerdictDown, uptime.DNSTimeout},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			cfg, _ := json.Marshal(map[string]string{"resolver": dnsServer(t, tt.answer), "ip_version": tt.version})
			out := run(t, uptime.Monitor{Target: "http://shop.test:" + port, Config: cfg, Timeout: 2 * short})
			check(t, out, tt.verdict, tt.reason)
		})
	}
}

// The installation's own resolver is asked by every monitor without one of its own.
func TestOurOwnResolverGoneIsUnknown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		resolver string
		verdict  uptime.Verdict
		reason   uptime.Reason
	}{
		"nobody listens": {udpClosed(t), uptime.VerdictUnknown, uptime.OwnNetwork},
		"it answers nothing at all": {dnsServer(t, func(uint16, dnsmessage.Question) []byte { return nil }),
			uptime.VerdictUnknown, uptime.OwnNetwork},
		"it answers all but this name": {dnsServer(t, func(id uint16, q dnsmessage.Question) []byte {
			if q.Type == dnsmessage.TypeNS {
				return reply(id, q, dnsmessage.RCodeRefused)
			}
			return nil
		}), uptime.VerdictDown, uptime.DNSTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testEnv()
			env.Resolver = tt.resolver
			c, err := New(env).Compile(uptime.Monitor{Type: "http", Target: "http://shop.test", Timeout: 2 * short})
			if err != nil {
				t.Fatal(err)
			}
			check(t, c.Run(t.Context(), Attempt{}), tt.verdict, tt.reason)
		})
	}
}
