package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// Of the guard's tests, 127.0.0.2 is the world and the rest of loopback is private.
const allowedHost = "127.0.0.2"

// guardLab has the same port open on a private address, where every byte is
// counted, and on the one that is allowed, and names that lead to both.
type guardLab struct {
	port    string
	private atomic.Int32 // connections that came where none may
	asked   atomic.Int32 // questions for rebind.test.
	set     *Set
	public  *Set // allows what guard.Deny allows
}

func newGuardLab(t *testing.T) *guardLab {
	t.Helper()
	lab := &guardLab{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lab.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	allowed, err := net.Listen("tcp", allowedHost+":"+lab.port)
	if err != nil {
		t.Fatal(err)
	}
	six, err := net.Listen("tcp6", "[::1]:"+lab.port)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{l, six} {
		t.Cleanup(func() { l.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				lab.private.Add(1)
				c.Close()
			}
		}()
	}
	serveOn(t, allowed, func(c net.Conn, head string) {
		if _, to, ok := strings.Cut(strings.Fields(head)[1], "?to="); ok {
			_, _ = io.WriteString(c, "HTTP/1.1 302 X\r\nLocation: "+to+"\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, page("allowed"))
	})
	policy, err := guard.Parse(allowedHost + "/32")
	if err != nil {
		t.Fatal(err)
	}
	resolver := dnsServer(t, lab.answer)
	lab.set = New(Env{Guard: guard.New(guard.Options{Policy: policy}), Resolver: resolver, AlwaysEvidence: true})
	lab.public = New(Env{Guard: guard.New(guard.Options{Policy: guard.Deny()}), Resolver: resolver, AlwaysEvidence: true})
	return lab
}

// answer is the DNS of the lab. Its answers may not be kept (TTL 0).
func (lab *guardLab) answer(id uint16, q dnsmessage.Question) []byte {
	if q.Type != dnsmessage.TypeA {
		return reply(id, q, dnsmessage.RCodeSuccess)
	}
	name := q.Name.String()
	a := func(last byte) dnsmessage.Resource {
		r := loopback(name)
		r.Body = &dnsmessage.AResource{A: [4]byte{127, 0, 0, last}}
		return r
	}
	switch name {
	case "allowed.test.":
		return reply(id, q, 0, a(2))
	case "private.test.", "localhost.":
		return reply(id, q, 0, a(1))
	case "alias.test.":
		return reply(id, q, 0, cname(name, "inner.test."), loopback("inner.test."))
	case "mixed.test.":
		return reply(id, q, 0, a(1), a(2))
	case "rebind.test.":
		return reply(id, q, 0, a(byte(1+lab.asked.Add(1)%2)))
	case "metadata.test.":
		r := loopback(name)
		r.Body = &dnsmessage.AResource{A: [4]byte{169, 254, 169, 254}}
		return reply(id, q, 0, r)
	}
	return reply(id, q, dnsmessage.RCodeNameError)
}

func (lab *guardLab) run(t *testing.T, s *Set, target string) (Outcome, error) {
	t.Helper()
	c, err := s.Compile(uptime.Monitor{Type: "http", Target: target, Timeout: 5 * time.Second})
	if err != nil {
		return Outcome{}, err
	}
	return c.Run(t.Context(), Attempt{}), nil
}

// privateNotations are ways to write, or to get at, an address that is private. %s is
// the port.
var privateNotations = []string{
	"127.0.0.1:%s", "127.0.0.3:%s", "2130706433:%s", "0x7f000001:%s", "0x7F.1:%s", "0X7f.0x0.0x0.0x1:%s", "017700000001:%s", "0177.0.0.1:%s",
	"127.1:%s", "127.0.1:%s", "127.0.0.1.:%s", "127.1.:%s", "0:%s", "0.0.0.0:%s", "127.0.0.01:%s", "[::1]:%s", "[::]:%s",
	"[0:0:0:0:0:0:0:1]:%s", "[::ffff:127.0.0.1]:%s", "[::ffff:7f00:1]:%s", "[::127.0.0.1]:%s", "[::1%%25lo]:%s", "[64:ff9b::7f00:1]:%s",
	"[2002:7f00:1::]:%s", "localhost:%s", "localhost.:%s", "LOCALHOST:%s", "１２７.0.0.1:%s", "127。0。0。1:%s", "①②⑦.①:%s", "２１３０７０６４３３:%s",
	"private.test:%s", "private.test.:%s", "alias.test:%s", "metadata.test:%s", "169.254.169.254:%s", "2852039166:%s", "[fd00:ec2::254]:%s",
	"127.0.0.2@127.0.0.1:%s", "user:pass@127.0.0.1:%s", "a:b@c@127.0.0.1:%s", `127.0.0.1\@127.0.0.2:%s`, `127.0.0.2\.127.0.0.1:%s`,
	"127.0.0.2%%2f@127.0.0.1:%s", "127.0.0.%%31:%s", "127.0.0.1%%00.test:%s", "127.0.0.1\x00.test:%s", " 127.0.0.1:%s", "127.0.0.1\t:%s", "127.0.0.1:%s:80", "[127.0.0.1]:%s",
}

// Every notation of a private address is refused when it is saved or blocked when it
// is dialled, in one way; not one connection comes through. So in a redirect.
func TestNoNotationReachesAPrivateAddress(t *testing.T) {
	t.Parallel()
	lab := newGuardLab(t)
	blocked := map[string]bool{}
	never := func(what string, out Outcome) {
		t.Helper()
		if out.Reason != uptime.Blocked && out.Reason != uptime.RedirectBad {
			t.Errorf("%s: %s %s (%s), want it blocked or refused", what, out.Verdict, out.Reason, out.Message)
		}
		if out.Reason == uptime.Blocked {
			blocked[fmt.Sprint(out.Verdict, out.Message)] = true
			if e := out.Evidence; e.Addresses != nil || e.Attempts != nil || e.Dialled != "" || e.Status != 0 {
				t.Errorf("%s: evidence %+v tells more than that it is blocked", what, e)
			}
		}
	}
	for _, notation := range privateNotations {
		host := fmt.Sprintf(notation, lab.port)
		for _, set := range []*Set{lab.set, lab.public} {
			if out, err := lab.run(t, set, "http://"+host+"/"); err == nil {
				never(host, out)
			} else if !uptime.Is(err, uptime.Invalid) {
				t.Errorf("%s: %v, want it refused as invalid", host, err)
			}
		}
		out, err := lab.run(t, lab.set, "http://"+allowedHost+":"+lab.port+"/?to=http://"+host+"/")
		if err == nil { // those of control characters do not stand in a target
			never("a redirect to "+host, out)
		}
	}
	if len(blocked) != 1 {
		t.Errorf("blocked targets are told in %d ways: %v", len(blocked), blocked)
	}
	if n := lab.private.Load(); n != 0 {
		t.Errorf("%d connections came to the private address", n)
	}
}

// A name whose address changes between two look-ups, or that has addresses of both
// kinds, is judged by the address that is dialled.
func TestNamesOfTwoFacesReachOnlyTheAllowedOne(t *testing.T) {
	t.Parallel()
	lab := newGuardLab(t)
	verdicts := map[uptime.Verdict]int{}
	for range 20 {
		out, err := lab.run(t, lab.set, "http://rebind.test:"+lab.port)
		if err != nil {
			t.Fatal(err)
		}
		if verdicts[out.Verdict]++; out.Verdict != uptime.VerdictUp && out.Reason != uptime.Blocked {
			t.Errorf("rebinding: %s %s", out.Verdict, out.Reason)
		}
	}
	if verdicts[uptime.VerdictUp] == 0 || verdicts[uptime.VerdictUnknown] == 0 {
		t.Errorf("verdicts %v, want both faces of the name to have shown", verdicts)
	}
	out, err := lab.run(t, lab.set, "http://mixed.test:"+lab.port)
	if err != nil || out.Verdict != uptime.VerdictUp || out.Evidence.Dialled != allowedHost+":"+lab.port {
		t.Errorf("mixed answers: %s %s at %s, %v, want the allowed address", out.Verdict, out.Reason, out.Evidence.Dialled, err)
	}
	if n := lab.private.Load(); n != 0 {
		t.Errorf("%d connections came to the private address", n)
	}
}

// What stands behind '#', '?' or '/' is no host, for us and for the dialler alike.
func TestOddCharactersDoNotMoveTheHost(t *testing.T) {
	t.Parallel()
	lab := newGuardLab(t)
	at := allowedHost + ":" + lab.port
	for _, target := range []string{"#@127.0.0.1:" + lab.port, "?@127.0.0.1:" + lab.port, "/@127.0.0.1:" + lab.port, "?x=127.0.0.1", "#.127.0.0.1"} {
		out, err := lab.run(t, lab.set, "http://"+at+target)
		if err != nil || out.Verdict != uptime.VerdictUp || out.Evidence.Dialled != at {
			t.Errorf("%s: %s %s, %v, want it up at %s", target, out.Verdict, out.Reason, err, at)
		}
	}
	for _, resolver := range []string{"127.0.0.1:53", "[::1]:53"} {
		c, err := lab.set.Compile(uptime.Monitor{Type: "http", Target: "http://allowed.test", Config: json.RawMessage(`{"resolver":"` + resolver + `"}`)})
		if err != nil {
			t.Fatal(err)
		}
		if out := c.Run(t.Context(), Attempt{}); out.Verdict != uptime.VerdictUnknown || out.Reason != uptime.Blocked {
			t.Errorf("a private resolver: %s %s, want it blocked", out.Verdict, out.Reason)
		}
	}
	if n := lab.private.Load(); n != 0 {
		t.Errorf("%d connections came to the private address", n)
	}
}
