package probe

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// diagnosePort listens on one port of several loopback addresses; nobody listens at
// those whose handler is nil, for as long as the test runs.
func diagnosePort(t *testing.T, handlers map[string]func(net.Listener)) uint16 {
	t.Helper()
	for range 50 {
		port, ok := diagnoseReserve(t, slices.Collect(maps.Keys(handlers)))
		if !ok {
			continue
		}
		for address, handle := range handlers {
			if handle == nil {
				continue
			}
			l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
			if err != nil {
				t.Fatal(err)
			}
			handle(l)
		}
		return uint16(port)
	}
	t.Fatal("no port is free on all addresses")
	return 0
}

// diagnoseReserve takes one port of all addresses, if none of them uses it.
func diagnoseReserve(t *testing.T, addresses []string) (port int, ok bool) {
	t.Helper()
	for _, address := range addresses {
		p, err := testenv.Reserve(address, port)
		if errors.Is(err, syscall.EADDRINUSE) {
			return 0, false
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		port = p.Number
	}
	return port, true
}

// diagnoseResolver answers with these addresses, for every name.
func diagnoseResolver(t *testing.T, addresses ...string) string {
	return dnsServer(t, func(id uint16, q dnsmessage.Question) []byte {
		var rr []dnsmessage.Resource
		for _, text := range addresses {
			a := netip.MustParseAddr(text)
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET}
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				rr = append(rr, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				rr = append(rr, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		return reply(id, q, dnsmessage.RCodeSuccess, rr...)
	})
}

func diagnoseCode(t *testing.T, code dnsmessage.RCode) string {
	return dnsServer(t, func(id uint16, q dnsmessage.Question) []byte { return reply(id, q, code) })
}

// diagnoseRun runs a check of shop.test as attempt n.
func diagnoseRun(t *testing.T, scheme string, port uint16, config map[string]any, a Attempt) Outcome {
	t.Helper()
	raw, _ := json.Marshal(config)
	m := uptime.Monitor{Type: "http", Target: scheme + "://shop.test:" + strconv.Itoa(int(port)), Config: raw, Timeout: 2 * time.Second}
	c, err := New(testEnv()).Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	out := c.Run(t.Context(), a)
	if took := time.Since(start); took > m.Timeout+2*time.Second {
		t.Errorf("took %s, want at most 2 s more than the timeout, %s", took, m.Timeout)
	}
	return out
}

func TestAConfirmedFailureSaysWhatElseWorks(t *testing.T) {
	t.Parallel()
	answering := func(status string) func(net.Listener) {
		return func(l net.Listener) {
			serveOn(t, l, says("HTTP/1.1 "+status+" x\r\nContent-Length: 0\r\n\r\n"))
		}
	}
	silent := func(t *testing.T) string {
		return dnsServer(t, func(uint16, dnsmessage.Question) []byte { return nil })
	}
	nobody := diagnosePort(t, map[string]func(net.Listener){"127.0.0.1": nil, "127.0.0.2": nil, "127.0.0.3": nil})
	v4only := diagnosePort(t, map[string]func(net.Listener){"127.0.0.1": answering("200"), "::1": nil})
	busy := diagnosePort(t, map[string]func(net.Listener){"127.0.0.1": answering("503"), "127.0.0.2": answering("503"), "127.0.0.3": nil})
	for name, tt := range map[string]struct {
		port    uint16
		config  map[string]any
		reason  uptime.Reason
		message string // its end
		lines   []string
	}{
		"all addresses refuse": {nobody, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")}, uptime.ConnRefused,
			" All 3 addresses refuse the connection.", []string{"127.0.0.1:* refuses the connection.", "127.0.0.2:* refuses the connection.", "127.0.0.3:* refuses the connection."}},
		"two are both": {nobody, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "127.0.0.2")}, uptime.ConnRefused,
			" Both addresses refuse the connection.", []string{"127.0.0.1:* refuses the connection.", "127.0.0.2:* refuses the connection."}},
		"one address has nothing beside it": {nobody, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1")}, uptime.ConnRefused, "refused the connection.", nil},
		"the other family answers": {v4only, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "::1"), "ip_version": "6"}, uptime.ConnRefused,
			" Only IPv6 fails; IPv4 answers.", []string{"127.0.0.1:* answers.", "[::1]:* refuses the connection."}},
		"an answer that is bad is not explained by a connection": {busy, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")}, uptime.HTTPStatus,
			"is not one of 200-299.", nil},
		"the second resolver knows better": {nobody, map[string]any{"resolver": diagnoseCode(t, dnsmessage.RCodeServerFailure), "second_resolver": diagnoseResolver(t, "192.0.2.7")}, uptime.DNSServFail,
			" The resolver answers SERVFAIL, the second one NOERROR (192.0.2.7).", []string{"The resolver answers SERVFAIL, the second one NOERROR (192.0.2.7)."}},
		"both resolvers agree": {nobody, map[string]any{"resolver": diagnoseCode(t, dnsmessage.RCodeNameError), "second_resolver": diagnoseCode(t, dnsmessage.RCodeNameError)}, uptime.DNSNXDomain,
			" Both resolvers answer NXDOMAIN.", []string{"Both resolvers answer NXDOMAIN."}},
		"the second resolver is silent": {nobody, map[string]any{"resolver": diagnoseCode(t, dnsmessage.RCodeNameError), "second_resolver": silent(t)}, uptime.DNSNXDomain,
			" The resolver answers NXDOMAIN, the second one nothing.", []string{"The resolver answers NXDOMAIN, the second one nothing."}},
		"the second resolver gives another address": {nobody, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1"), "second_resolver": diagnoseResolver(t, "127.0.0.9")}, uptime.ConnRefused,
			" The resolver answers NOERROR (127.0.0.1), the second one NOERROR (127.0.0.9).", []string{"The resolver answers NOERROR (127.0.0.1), the second one NOERROR (127.0.0.9)."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := diagnoseRun(t, "http", tt.port, tt.config, Attempt{})
			check(t, first, uptime.VerdictDown, tt.reason)
			if first.Evidence.Diagnosis != nil {
				t.Errorf("the first attempt has a diagnosis: %q", first.Evidence.Diagnosis)
			}
			out := diagnoseRun(t, "http", tt.port, tt.config, Attempt{Number: 1})
			check(t, out, uptime.VerdictDown, tt.reason)
			if !strings.HasSuffix(out.Message, tt.message) {
				t.Errorf("message %q, want it to end with %q", out.Message, tt.message)
			}
			got := slices.Sorted(slices.Values(out.Evidence.Diagnosis))
			for i := range got {
				got[i] = strings.Replace(got[i], ":"+strconv.Itoa(int(tt.port)), ":*", 1)
			}
			if tt.lines != nil && !slices.Equal(got, tt.lines) {
				t.Errorf("diagnosis %q, want %q", got, tt.lines)
			}
		})
	}
}

// A certificate that is wrong on one address of three: the check that meets it says so,
// those that meet the others are up.
func TestAWrongCertificateOnOneAddress(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	serving := func(cert tls.Certificate) func(net.Listener) {
		return func(l net.Listener) {
			serveOn(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), says(page("x")))
		}
	}
	good := chainOf(t, ca, nil)
	port := diagnosePort(t, map[string]func(net.Listener){
		"127.0.0.1": serving(chainOf(t, authority{}, nil)), "127.0.0.2": serving(good), "127.0.0.3": serving(good)})
	config := map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "127.0.0.2", "127.0.0.3"),
		"tls": map[string]any{"ca_pem": ca.pem(), "server_name": "127.0.0.1"}}
	var down []Outcome
	for n := 1; n <= 3; n++ {
		if out := diagnoseRun(t, "https", port, config, Attempt{Number: n}); out.Verdict == uptime.VerdictDown {
			down = append(down, out)
		}
	}
	if len(down) != 1 {
		t.Fatalf("%d of three checks, one for each address, are down; want 1: %+v", len(down), down)
	}
	check(t, down[0], uptime.VerdictDown, uptime.TLSSelfSigned)
	if want := " 1 of 3 addresses fails in TLS (tls_self_signed); the other 2 answer."; !strings.HasSuffix(down[0].Message, want) {
		t.Errorf("message %q, want it to end with %q", down[0].Message, want)
	}
}

// After a redirect from https to http, what else works is found out without TLS.
func TestADiagnosisSpeaksTLSWhereTheCheckDid(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	busy := func(l net.Listener) { serveOn(t, l, says("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")) }
	plain := diagnosePort(t, map[string]func(net.Listener){"127.0.0.1": busy, "127.0.0.2": busy})
	moves := func(l net.Listener) {
		serveOn(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}}),
			says("HTTP/1.1 302 x\r\nLocation: http://shop.test:"+strconv.Itoa(int(plain))+"\r\nContent-Length: 0\r\n\r\n"))
	}
	secure := diagnosePort(t, map[string]func(net.Listener){"127.0.0.1": moves, "127.0.0.2": moves})
	out := diagnoseRun(t, "https", secure, map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "127.0.0.2"),
		"tls": map[string]any{"ca_pem": ca.pem(), "server_name": "127.0.0.1"}}, Attempt{Diagnose: true})
	check(t, out, uptime.VerdictDown, uptime.HTTPStatus)
	if want := "127.0.0.2:" + strconv.Itoa(int(plain)) + " answers."; !slices.Contains(out.Evidence.Diagnosis, want) {
		t.Errorf("diagnosis %q, want %q in it", out.Evidence.Diagnosis, want)
	}
}

// Addresses that were pinged have no port to be shown.
func TestADiagnosisOfPingsShowsNoPort(t *testing.T) {
	t.Parallel()
	f := down(uptime.ConnTimeout, "silent")
	r := &session{}
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		r.trace.add(addrPort(netip.MustParseAddr(a), 0), f)
	}
	found := findings{trials: r.tryOthers(t.Context(), f)}
	if got, want := found.tell(f, r).lines, []string{"192.0.2.1 does not answer.", "2001:db8::1 does not answer."}; !slices.Equal(got, want) {
		t.Errorf("diagnosis %q, want %q", got, want)
	}
}

// What wants a failure, or was stopped, is not looked into; and nothing is left behind.
func TestADiagnosisEndsAndLeavesNothing(t *testing.T) {
	nobody := diagnosePort(t, map[string]func(net.Listener){"127.0.0.1": nil, "127.0.0.2": nil})
	config, _ := json.Marshal(map[string]any{"resolver": diagnoseResolver(t, "127.0.0.1", "127.0.0.2"), "second_resolver": diagnoseResolver(t, "127.0.0.3")})
	m := uptime.Monitor{Type: "http", Target: "http://shop.test:" + strconv.Itoa(int(nobody)), Config: config, Timeout: 2 * time.Second}
	c, err := New(testEnv()).Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 50 {
		if out := c.Run(t.Context(), Attempt{Number: 1}); len(out.Evidence.Diagnosis) != 3 {
			t.Fatalf("diagnosis %q, want three lines", out.Evidence.Diagnosis)
		}
	}
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines before, %d after 50 diagnoses", before, after)
	}
	m.Inverted = true
	if c, err = New(testEnv()).Compile(m); err != nil {
		t.Fatal(err)
	}
	if out := c.Run(t.Context(), Attempt{Number: 1}); out.Verdict != uptime.VerdictUp || out.Evidence.Diagnosis != nil {
		t.Errorf("inverted: got %s with diagnosis %q, want up without", out.Verdict, out.Evidence.Diagnosis)
	}
}
