package probe

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// chronyServer is chrony, which is told not to touch the clock; more are lines of its
// configuration.
func chronyServer(t *testing.T, more string) *testenv.Program {
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "chronyd", Package: "chrony", Host: testenv.DatagramHost,
		Prepare: func(s *testenv.Program) error {
			conf := fmt.Sprintf("port %d\nbindaddress %s\nallow 127.0.0.0/8\ncmdport 0\nbindcmdaddress /\npidfile %s/pid\n%s", s.Port, testenv.DatagramHost, s.Dir, more)
			return os.WriteFile(filepath.Join(s.Dir, "conf"), []byte(conf), 0o644)
		},
		Args: func(s *testenv.Program) []string {
			return []string{"-x", "-d", "-u", "root", "-f", filepath.Join(s.Dir, "conf")}
		},
		Ready: func(s *testenv.Program) error {
			c, err := net.Dial("udp", s.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Write(append([]byte{4<<3 | 3}, make([]byte, 47)...))
			_, err = c.Read(make([]byte, 48))
			return err
		},
	})
}

// udpTalker answers each datagram with those of handle.
func udpTalker(handle func(question []byte) [][]byte) func(*testing.T) string {
	return func(t *testing.T) string {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				for _, answer := range handle(b[:n]) {
					_, _ = c.WriteTo(answer, from)
				}
			}
		}()
		return c.LocalAddr().String()
	}
}

// udpClosed is a port that no datagram is taken at. It stays so: a socket holds it that
// takes datagrams from one other address only.
func udpClosed(t *testing.T) string {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// ntpAnswer is a good answer to a question, by a clock that is ahead of ours.
func ntpAnswer(question []byte, ahead time.Duration) []byte {
	b := make([]byte, 48)
	b[0], b[1] = 4<<3|4, 2
	copy(b[12:], "\x7f\x00\x00\x01")
	copy(b[24:32], question[40:48])
	now := time.Now().Add(ahead)
	stamp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/uint64(time.Second)
	binary.BigEndian.PutUint64(b[32:], stamp)
	binary.BigEndian.PutUint64(b[40:], stamp)
	return b
}

func TestNTP(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	chrony, lost := chronyServer(t, "local stratum 5\n"), chronyServer(t, "")
	runExample(t, "ntp", 0, chrony.Addr, nil)
	// fake is a server that knows the time and then differs from one by change.
	fake := func(ahead time.Duration, change func(b []byte) []byte) func(*testing.T) string {
		return udpTalker(func(q []byte) [][]byte { return [][]byte{change(ntpAnswer(q, ahead))} })
	}
	set := func(i int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[i:], v); return b }
	}
	as := func(b []byte) []byte { return b }
	number := func(source, op string, v float64) []uptime.Assertion {
		return []uptime.Assertion{assert(source, "", op, v)}
	}
	asked, late := 0, []byte(nil)
	talkCases(t, "ntp", map[string]talkCase{
		"chrony knows the time":             {server: at(chrony.Addr), verdict: up},
		"chrony has its stratum":            {server: at(chrony.Addr), assertions: number("stratum", "eq", 5), verdict: up},
		"chrony announces no leap second":   {server: at(chrony.Addr), assertions: number("leap", "eq", 0), verdict: up},
		"a clock a minute ahead":            {server: fake(time.Minute, as), assertions: number("offset_ms", "gt", 55e3), verdict: up},
		"a clock a minute behind":           {server: fake(-time.Minute, as), assertions: number("offset_ms", "lt", -55e3), verdict: up},
		"a clock behind the end of the era": {server: fake(20*365*24*time.Hour, as), assertions: number("offset_ms", "gt", 6e11), verdict: up},
		"an older version":                  {server: fake(0, set(0, 3<<3|4)), verdict: up},
		"a leap second ahead":               {server: fake(0, set(0, 1<<6|4<<3|4)), verdict: up},
		"longer than it need be":            {server: fake(0, func(b []byte) []byte { return append(b, make([]byte, 20)...) }), verdict: up},
		"a forged answer, then the real one": {server: udpTalker(func(q []byte) [][]byte {
			forged := ntpAnswer(q, time.Hour)
			forged[24]++
			return [][]byte{forged, ntpAnswer(q, 0)}
		}), assertions: number("offset_ms", "lt", 60e3), verdict: up},
		"the first question gets lost": {server: udpTalker(func(q []byte) [][]byte {
			if asked++; asked == 1 {
				return nil
			}
			return [][]byte{ntpAnswer(q, 0)}
		}), timeout: 3 * time.Second, verdict: up},
		"an answer slower than we ask again": {server: udpTalker(func(q []byte) [][]byte {
			first := late
			late = append([]byte(nil), q...)
			if first == nil {
				return nil
			}
			return [][]byte{ntpAnswer(first, 0)}
		}), timeout: 3 * time.Second, verdict: up},
		"the offset is too large":       {server: fake(time.Minute, as), assertions: number("offset_ms", "le", 500), verdict: down, reason: uptime.AssertFailed},
		"the stratum is too high":       {server: at(chrony.Addr), assertions: number("stratum", "le", 3), verdict: down, reason: uptime.AssertFailed},
		"chrony without a source":       {server: at(lost.Addr), verdict: down, reason: uptime.NotReady},
		"a leap indicator of alarm":     {server: fake(0, set(0, 3<<6|4<<3|4)), verdict: down, reason: uptime.NotReady},
		"stratum 16":                    {server: fake(0, set(1, 16)), verdict: down, reason: uptime.NotReady},
		"a kiss of death":               {server: fake(0, func(b []byte) []byte { return set(1, 0)(set(12, []byte("DENY")...)(b)) }), verdict: down, reason: uptime.NotReady},
		"no time in the answer":         {server: fake(0, set(40, make([]byte, 8)...)), verdict: down, reason: uptime.Protocol},
		"an answer to another question": {server: fake(0, func(b []byte) []byte { b[24] ^= 1; return b }), timeout: short, verdict: down, reason: uptime.Protocol},
		"an answer cut short":           {server: fake(0, func(b []byte) []byte { return b[:47] }), timeout: short, verdict: down, reason: uptime.Protocol},
		"the question sent back":        {server: udpTalker(func(q []byte) [][]byte { return [][]byte{q} }), timeout: short, verdict: down, reason: uptime.Protocol},
		"garbage":                       {server: udpTalker(func([]byte) [][]byte { return [][]byte{[]byte("hello")} }), timeout: short, verdict: down, reason: uptime.Protocol},
		"silence":                       {server: udpTalker(func([]byte) [][]byte { return nil }), timeout: short, verdict: down, reason: uptime.Timeout},
		"nothing listens":               {server: udpClosed, verdict: down, reason: uptime.ConnRefused},
	})
}

func TestNTPLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "ntp", "", udpClosed, udpTalker(func([]byte) [][]byte { return nil }), udpTalker(func(q []byte) [][]byte { return [][]byte{q} }))
}

func TestNTPHasNoOptionsButThoseOfTheNetwork(t *testing.T) {
	t.Parallel()
	s := New(testEnv())
	if _, err := s.Compile(uptime.Monitor{Type: "ntp", Target: "ntp.example.com", Config: json.RawMessage(`{"version": 3}`)}); err == nil {
		t.Error("an option that is none was taken")
	}
}

func FuzzNTP(f *testing.F) {
	question := make([]byte, 48)
	f.Add(ntpAnswer(question, 0))
	f.Add([]byte{})
	f.Add(make([]byte, 48))
	f.Fuzz(func(t *testing.T, answer []byte) {
		p, err := parseNTP(answer, []ntpQuestion{{}})
		if err != nil {
			return
		}
		p.sent, p.got = time.Now(), time.Now()
		r := &session{base: &base{}, seen: new(uptime.Evidence)}
		f := p.judge(r)
		if synchronised := p.stratum > 0 && p.stratum < 16 && p.leap != 3 && p.answered != 0; (f == nil) != synchronised {
			t.Errorf("judge = %+v for %+v", f, p)
		}
		if ms := r.facts.number["offset_ms"]; ms < -2.2e12 || ms > 2.2e12 {
			t.Errorf("offset of %f ms, want at most 68 years", ms)
		}
	})
}
