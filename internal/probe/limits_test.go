package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// childTarget names the target for the re-executed test binary.
const childTarget = "VEDETTE_TEST_FD_TARGET"

// A process without descriptors must say so of itself, not of its target. The
// limit would break other tests, so a child process takes it.
func TestNoDescriptorsLeftIsOurOwnFault(t *testing.T) {
	if target := os.Getenv(childTarget); target != "" {
		exhausted(t, target)
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoDescriptorsLeftIsOurOwnFault$", "-test.v")
	cmd.Env = append(os.Environ(), childTarget+"="+serve(t, says(page("x"))))
	b, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "child says unknown own_resources unknown own_resources up") {
		t.Errorf("child: %v\n%s", err, b)
	}
}

// childNetwork marks the re-executed test binary that is alone in a network of its
// own, which has nothing but the loopback device.
const childNetwork = "VEDETTE_TEST_OWN_NETWORK"

// Without local ports, and without a way to the DNS server, a check fails by what is
// ours. Both need a network that other tests do not share, so a child process has it.
func TestNoPortsAndNoWayToTheResolverAreOurOwnFault(t *testing.T) {
	if os.Getenv(childNetwork) != "" {
		alone(t)
		return
	}
	t.Parallel()
	testenv.Install(t, "ip", "iproute2")
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoPortsAndNoWayToTheResolverAreOurOwnFault$", "-test.v")
	cmd.Env = append(os.Environ(), childNetwork+"=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	b, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "--- PASS") {
		t.Errorf("child: %v\n%s", err, b)
	}
}

// alone checks from a network without a route.
func alone(t *testing.T) {
	if b, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	serveOnly := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, l, says(page("x")))
		return l.Addr().String()
	}
	v4, v6 := serveOnly("tcp4", "127.0.0.1:0"), serveOnly("tcp6", "[::1]:0")
	env := testEnv()
	env.Resolver = "198.51.100.53:53"
	verdict := func(target string) (uptime.Verdict, uptime.Reason) {
		c, err := New(env).Compile(uptime.Monitor{Type: "http", Target: "http://" + target, Timeout: 10 * short})
		if err != nil {
			t.Fatal(err)
		}
		out := c.Run(t.Context(), Attempt{})
		return out.Verdict, out.Reason
	}
	want := func(target string, verdictWanted uptime.Verdict, reasonWanted uptime.Reason) {
		t.Helper()
		if v, r := verdict(target); v != verdictWanted || r != reasonWanted {
			t.Errorf("%s: %s %s, want %s %s", target, v, r, verdictWanted, reasonWanted)
		}
	}
	want(v4, uptime.VerdictUp, uptime.ReasonOK)
	want(v6, uptime.VerdictUp, uptime.ReasonOK)
	want("shop.test:80", uptime.VerdictUnknown, uptime.OwnNetwork)
	want("[2001:db8::1]:80", uptime.VerdictDown, uptime.ConnUnreach) // what it means is the worker's to say

	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40000"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{v4, v6} { // the one port there is, for each family
		c, err := net.Dial("tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	want(v4, uptime.VerdictUnknown, uptime.OwnResources)
	want(v6, uptime.VerdictUnknown, uptime.OwnResources)
}

// exhausted checks an address and a name without descriptors, then the address
// with them back.
func exhausted(t *testing.T, target string) {
	_, port, _ := net.SplitHostPort(target)
	checks := []Check{}
	for _, host := range []string{target, "name.test:" + port} {
		c, err := New(testEnv()).Compile(uptime.Monitor{Type: "http", Target: "http://" + host, Timeout: 10 * short})
		if err != nil {
			t.Fatal(err)
		}
		checks = append(checks, c)
	}
	checks[0].Run(t.Context(), Attempt{}) // opens what the runtime itself needs
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	a, b := checks[0].Run(t.Context(), Attempt{}), checks[1].Run(t.Context(), Attempt{})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	c := checks[0].Run(t.Context(), Attempt{})
	fmt.Println("child says", a.Verdict, a.Reason, b.Verdict, b.Reason, c.Verdict)
}

func TestALargeBodyWaitsForRoomAndIsNeverDownForLackOfIt(t *testing.T) {
	t.Parallel()
	address := serve(t, says(page(strings.Repeat("x", 2*largeBody)+"needle")))
	compiled, err := New(testEnv()).Compile(uptime.Monitor{Type: "http", Target: "http://" + address, Timeout: 10 * short,
		Config: json.RawMessage(`{"max_body_bytes": 4194304}`), Assertions: []uptime.Assertion{assert("body", "", "contains", "needle")}})
	if err != nil {
		t.Fatal(err)
	}
	room := compiled.(*safeCheck).check.(*httpCheck).scratch.room
	if !room.TryAcquire(largeRoom) {
		t.Fatal("the room is not free at first")
	}
	check(t, compiled.Run(t.Context(), Attempt{}), uptime.VerdictUnknown, uptime.OwnResources)
	room.Release(largeRoom)
	check(t, compiled.Run(t.Context(), Attempt{}), uptime.VerdictUp, uptime.ReasonOK)
	if !room.TryAcquire(largeRoom) {
		t.Error("a check that has ended still holds room")
	}
}

// What a body takes beside itself is its text. Not parallel: others would be counted.
func TestDecodingTakesNoMoreThanTheText(t *testing.T) {
	body := bytes.Repeat([]byte("\x80"), 4<<20) // euro signs, of three bytes in UTF-8
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	text := asUTF8(body, "text/plain; charset=windows-1252")
	runtime.ReadMemStats(&after)
	if !bytes.Equal(text, bytes.Repeat([]byte("€"), 4<<20)) {
		t.Errorf("the text has %d bytes and is not 4 Mi euro signs", len(text))
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 14<<20 {
		t.Errorf("took %d KiB for a text of 12 MiB, want at most 14 MiB", took>>10)
	}
}
