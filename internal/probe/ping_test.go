package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"vedette/internal/guard"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// pingNetwork runs do on a thread that has a network of its own, with the loopback
// device up. The thread ends with do, so nothing else gets into that network.
func pingNetwork(do func()) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("a network of our own: %w", err)
			return
		}
		if err := pingIP("link set lo up"); err != nil {
			failed <- err
			return
		}
		do()
		failed <- nil
	}()
	return <-failed
}

// pingIP is ip(8) in the network of the calling thread.
func pingIP(commands ...string) error {
	for _, c := range commands {
		if b, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, b)
		}
	}
	return nil
}

// pingUp waits until a device carries packets, which it does a little after it was
// set up.
func pingUp(device string) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		b, err := exec.Command("ip", "link", "show", device).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip link: %w: %s", err, b)
		}
		if strings.Contains(string(b), "state UP") {
			return nil
		}
	}
	return fmt.Errorf("device %s does not come up", device)
}

// pingLab is two networks with a wire between them: ours (10.9.0.1, fd09::1) and a
// peer's (10.9.0.2, fd09::2), whose far network has prefixes it has no way to.
// privileged says whether ours must use raw sockets. far sets the peer up, near runs
// the check.
func pingLab(t *testing.T, privileged bool, far func(), near func()) {
	t.Helper()
	testenv.Install(t, "ip", "iproute2")
	peer, done := make(chan int, 1), make(chan struct{})
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		ended <- pingNetwork(func() {
			peer <- syscall.Gettid()
			<-ready
			err := pingIP("addr add 10.9.0.2/24 dev far", "addr add fd09::2/64 dev far nodad", "link set far up",
				"route add unreachable 10.8.0.0/24", "route add prohibit 10.7.0.0/24", "-6 route add unreachable fd08::/64", "-6 route add prohibit fd07::/64")
			for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
				err = errors.Join(err, os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0o644))
			}
			// Neither sends more than a few errors a second unless it is told so.
			err = errors.Join(err, os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0o644))
			if err != nil {
				t.Error(err)
			}
			if err := pingUp("far"); err != nil {
				t.Error(err)
			}
			if far != nil {
				far()
			}
			ready <- struct{}{}
			<-done
		})
	}()
	var tid int
	select {
	case tid = <-peer:
	case err := <-ended:
		t.Fatal(err)
	}
	err := pingNetwork(func() {
		groups := "0 2147483647"
		if privileged {
			groups = "1 0"
		}
		err := errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(groups), 0o644),
			pingIP("link add near type veth peer name far netns "+strconv.Itoa(tid), "addr add 10.9.0.1/24 dev near", "addr add fd09::1/64 dev near nodad", "link set near up",
				"route add 10.0.0.0/8 via 10.9.0.2", "-6 route add fd00::/8 via fd09::2"))
		ready <- struct{}{}
		<-ready
		err = errors.Join(err, pingUp("near"))
		if err != nil {
			t.Error(err)
			return
		}
		near()
	})
	close(done)
	if err := errors.Join(err, <-ended); err != nil {
		t.Error(err)
	}
}

func pingRun(t *testing.T, env Env, target string, timeout time.Duration, config string, assertions ...uptime.Assertion) Outcome {
	t.Helper()
	c, err := New(env).Compile(uptime.Monitor{Type: "ping", Target: target, Timeout: timeout, Config: json.RawMessage(config), Assertions: assertions})
	if err != nil {
		t.Errorf("Compile: %v", err)
		return Outcome{}
	}
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, timeout)
	}
	return out
}

// pingSilent makes the peer's system answer no ping.
func pingSilent(t *testing.T) {
	if err := os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0o644); err != nil {
		t.Error(err)
	}
}

// pingAnswers answers pings in the peer's place, with what answer makes of each.
func pingAnswers(t *testing.T, answer func(e *icmp.Echo, send func(*icmp.Echo))) func() {
	return func() {
		pingSilent(t)
		c, err := net.ListenPacket("ip4:icmp", "10.9.0.2")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				m, err := icmp.ParseMessage(protoICMP, b[:n])
				if err != nil || m.Type != ipv4.ICMPTypeEcho {
					continue
				}
				answer(m.Body.(*icmp.Echo), func(e *icmp.Echo) {
					wire, _ := (&icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: e}).Marshal(nil)
					_, _ = c.WriteTo(wire, from)
				})
			}
		}()
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	const quick = `{"packet_interval":"20ms"}`
	is := func(source, op string, v any) []uptime.Assertion {
		return []uptime.Assertion{assert(source, "", op, v)}
	}
	change := func(f func(*icmp.Echo)) func(*icmp.Echo, func(*icmp.Echo)) {
		return func(e *icmp.Echo, send func(*icmp.Echo)) { f(e); send(e) }
	}
	const up, bad = uptime.VerdictUp, uptime.VerdictDown
	for name, tt := range map[string]struct {
		target     string
		far        func()
		answer     func(*icmp.Echo, func(*icmp.Echo)) // instead of far
		config     string
		assertions []uptime.Assertion
		timeout    time.Duration
		verdict    uptime.Verdict
		reason     uptime.Reason
	}{
		"a host that answers is up":          {assertions: is("loss", "eq", 0), verdict: up},
		"over IPv6 too":                      {target: "fd09::2", assertions: is("rtt_max", "lt", "2s"), verdict: up},
		"loopback is up":                     {target: "127.0.0.1", verdict: up},
		"loopback over IPv6 is up":           {target: "::1", verdict: up},
		"large packets are up":               {config: `{"size":8000,"packet_interval":"20ms"}`, verdict: up},
		"one packet is up":                   {config: `{"count":1}`, assertions: is("loss", "eq", 0), verdict: up},
		"partial loss is up":                 {answer: odd, config: `{"count":4,"packet_interval":"20ms"}`, assertions: is("loss", "eq", 50), verdict: up},
		"loss until the deadline is up":      {answer: odd, config: `{"count":4,"packet_interval":"20ms"}`, timeout: short, assertions: is("loss", "eq", 50), verdict: up},
		"answers that come twice count once": {answer: func(e *icmp.Echo, send func(*icmp.Echo)) { send(e); send(e) }, assertions: is("loss", "eq", 0), verdict: up},
		"slow but in time is up":             {answer: func(e *icmp.Echo, send func(*icmp.Echo)) { time.AfterFunc(2*short, func() { send(e) }) }, assertions: is("rtt", "ge", "500ms"), verdict: up},
		"a forged answer first is up": {answer: func(e *icmp.Echo, send func(*icmp.Echo)) {
			send(&icmp.Echo{ID: e.ID, Seq: e.Seq, Data: make([]byte, len(e.Data))})
			time.AfterFunc(short, func() { send(e) })
		}, assertions: is("rtt", "ge", "200ms"), verdict: up},
		"loss over the asserted is down":  {answer: odd, config: `{"count":4,"packet_interval":"20ms"}`, assertions: is("loss", "le", 20), verdict: bad, reason: uptime.AssertFailed},
		"slower than asserted is down":    {answer: func(e *icmp.Echo, send func(*icmp.Echo)) { time.AfterFunc(short, func() { send(e) }) }, assertions: is("rtt", "lt", "100ms"), verdict: bad, reason: uptime.Slow},
		"silence is down":                 {far: func() { pingSilent(t) }, timeout: short, verdict: bad, reason: uptime.ConnTimeout},
		"answers with another id":         {answer: change(func(e *icmp.Echo) { e.ID ^= 1 }), timeout: short, verdict: bad, reason: uptime.ConnTimeout},
		"answers with another number":     {answer: change(func(e *icmp.Echo) { e.Seq += 100 }), timeout: short, verdict: bad, reason: uptime.ConnTimeout},
		"answers with other data":         {answer: change(func(e *icmp.Echo) { e.Data[9] ^= 1 }), timeout: short, verdict: bad, reason: uptime.ConnTimeout},
		"answers with less data":          {answer: change(func(e *icmp.Echo) { e.Data = e.Data[:8] }), timeout: short, verdict: bad, reason: uptime.ConnTimeout},
		"a router without a way":          {target: "10.8.0.1", verdict: bad, reason: uptime.ConnUnreach},
		"a router that forbids":           {target: "10.7.0.1", verdict: bad, reason: uptime.ConnUnreach},
		"a router without a way for IPv6": {target: "fd08::1", verdict: bad, reason: uptime.ConnUnreach},
		"a router that forbids IPv6":      {target: "fd07::1", verdict: bad, reason: uptime.ConnUnreach},
		"no way of our own":               {target: "192.0.2.1", verdict: bad, reason: uptime.ConnUnreach},
		"no way of our own for IPv6":      {target: "2001:db8::1", verdict: bad, reason: uptime.ConnUnreach},
	} {
		for kind, privileged := range map[string]bool{"unprivileged": false, "privileged": true} {
			if privileged && tt.verdict == bad && tt.assertions != nil {
				continue // what is asserted does not know the socket
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				far := tt.far
				if tt.answer != nil {
					far = pingAnswers(t, tt.answer)
				}
				target, timeout, config := tt.target, tt.timeout, tt.config
				if target == "" {
					target = "10.9.0.2"
				}
				if timeout == 0 {
					timeout = 5 * time.Second
				}
				if config == "" {
					config = quick
				}
				pingLab(t, privileged, far, func() {
					check(t, pingRun(t, testEnv(), target, timeout, config, tt.assertions...), tt.verdict, tt.reason)
				})
			})
		}
	}
}

// odd answers the first, third and so on.
func odd(e *icmp.Echo, send func(*icmp.Echo)) {
	if e.Seq%2 == 1 {
		send(e)
	}
}

func TestPingOfOneDeadAddressOfTwoIsUp(t *testing.T) {
	t.Parallel()
	// The look-up runs in a goroutine, so it asks in the network of the tests.
	resolver := dnsServer(t, func(id uint16, q dnsmessage.Question) []byte {
		if q.Type != dnsmessage.TypeA {
			return reply(id, q, dnsmessage.RCodeSuccess)
		}
		a, b := loopback("shop.test."), loopback("shop.test.")
		a.Body, b.Body = &dnsmessage.AResource{A: [4]byte{10, 9, 0, 9}}, &dnsmessage.AResource{A: [4]byte{10, 9, 0, 2}}
		return reply(id, q, dnsmessage.RCodeSuccess, a, b)
	})
	pingLab(t, false, nil, func() {
		env := testEnv()
		env.Resolver = resolver
		out := pingRun(t, env, "shop.test", 4*time.Second, `{"packet_interval":"20ms"}`)
		check(t, out, uptime.VerdictUp, "")
		if got := out.Evidence.Dialled; got != "10.9.0.2" {
			t.Errorf("dialled %s, want 10.9.0.2", got)
		}
	})
}

// Without a permission to send ICMP nothing is known of the target.
func TestPingWithoutPermissionIsUnknown(t *testing.T) {
	t.Parallel()
	err := pingNetwork(func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("1 0"), 0o644); err != nil {
			t.Error(err)
		}
		// The raw call changes this thread alone, which loses its capabilities with it.
		if _, _, n := syscall.RawSyscall(syscall.SYS_SETUID, 65534, 0, 0); n != 0 {
			t.Error(n)
		}
		for _, target := range []string{"127.0.0.1", "::1"} {
			out := pingRun(t, testEnv(), target, time.Second, "")
			check(t, out, uptime.VerdictUnknown, uptime.BadConfig)
			if !strings.Contains(out.Message, "net.ipv4.ping_group_range") || !strings.Contains(out.Message, "CAP_NET_RAW") {
				t.Errorf("message %q does not say how to mend it", out.Message)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPingAsksTheGuard(t *testing.T) {
	t.Parallel()
	env := testEnv()
	for _, g := range []*guard.Guard{
		guard.New(guard.Options{Policy: guard.Deny()}),
		guard.New(guard.Options{Policy: guard.Allow(), Own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}),
	} {
		env.Guard = g
		check(t, pingRun(t, env, "127.0.0.1", time.Second, ""), uptime.VerdictUnknown, uptime.Blocked)
	}
	env.Guard = guard.New(guard.Options{Policy: guard.Allow()})
	check(t, pingRun(t, env, "169.254.169.254", time.Second, ""), uptime.VerdictUnknown, uptime.Blocked)
}

func TestPingOfMorePacketsThanTimeIsRefused(t *testing.T) {
	t.Parallel()
	_, err := New(testEnv()).Compile(uptime.Monitor{Type: "ping", Target: "192.0.2.1", Timeout: time.Second, Config: json.RawMessage(`{"count":20}`)})
	if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != "config.count" {
		t.Errorf("Compile = %v, want a problem of config.count", err)
	}
}

func TestPingLeavesNothingBehind(t *testing.T) {
	before, files := runtime.NumGoroutine(), pingFiles(t)
	err := pingNetwork(func() {
		for range 20 {
			pingRun(t, testEnv(), "127.0.0.1", uptime.MinTimeout, `{"count":1}`)
			pingRun(t, testEnv(), "192.0.2.1", uptime.MinTimeout, `{"count":1}`)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if n := runtime.NumGoroutine(); n > before+5 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	if n := pingFiles(t); n > files+5 {
		t.Errorf("%d open files, %d before", n, files)
	}
}

func pingFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestThePingExampleWorks(t *testing.T) {
	t.Parallel()
	runExample(t, "ping", 0, "127.0.0.1", nil)
}
