package probe

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// childLeak marks the re-executed test binary that makes the failing checks: other
// tests would open and close things meanwhile.
const childLeak = "VEDETTE_TEST_LEAK"

// Ten thousand checks that fail in every way leave nothing behind.
func TestFailingChecksLeaveNothingBehind(t *testing.T) {
	if os.Getenv(childLeak) != "" {
		failTenThousandTimes(t)
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFailingChecksLeaveNothingBehind$", "-test.v")
	cmd.Env = append(os.Environ(), childLeak+"=1")
	b, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "--- PASS") {
		t.Errorf("child: %v\n%s", err, b)
	}
}

// What may be left: goroutines and descriptors of targets that are just being closed,
// and memory that is kept for the next check (a scratch for each that ran at once,
// what the runtime has for them). A leak per check would be a thousand times that.
const (
	leakChecks     = 10_000
	leakAtOnce     = 200
	leftGoroutines = 20
	leftFiles      = 20
	leftHeap       = 16 << 20
)

func failTenThousandTimes(t *testing.T) {
	checks := leakingChecks(t)
	failAtOnce(t, checks, 1000) // what the first of their kind open stays open
	before := restingUse(t)
	failAtOnce(t, checks, leakChecks)
	var after use
	for end := time.Now().Add(5 * time.Second); ; {
		after = restingUse(t)
		if after.goroutines <= before.goroutines+leftGoroutines && after.files <= before.files+leftFiles || time.Now().After(end) {
			break
		}
		<-time.After(50 * time.Millisecond) // what they closed is being let go of
	}
	if n := after.goroutines - before.goroutines; n > leftGoroutines {
		t.Errorf("%d goroutines more than before, want %d at most", n, leftGoroutines)
	}
	if n := after.files - before.files; n > leftFiles {
		t.Errorf("%d descriptors more than before, want %d at most", n, leftFiles)
	}
	if n := int64(after.heap) - int64(before.heap); n > leftHeap {
		t.Errorf("%d KiB of heap more than before, want %d at most", n>>10, leftHeap>>10)
	}
	t.Logf("before %+v, after %+v", before, after)
}

// use is what this process holds.
type use struct {
	goroutines, files int
	heap              uint64
}

func restingUse(t *testing.T) use {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return use{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// leakingChecks are checks each of which fails in a way of its own.
func leakingChecks(t *testing.T) []Check {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	bomb := packed(strings.Repeat("\x00", 4<<20))
	large := strings.Repeat("x", 128<<10)
	raw := func(h func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		testenv.Serve(l, h)
		return l.Addr().String()
	}
	closed := talkClosed(t)
	needle := []uptime.Assertion{assert("body", "", "contains", "needle")}
	hangs := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	var out []Check
	for _, m := range []uptime.Monitor{
		{Target: "http://" + closed},
		{Target: "http://" + serve(t, resets(""))},
		{Target: "http://" + serve(t, says())},
		{Target: "http://" + serve(t, says("SSH-2.0-OpenSSH_9.6\r\n"))},
		{Target: "http://" + serve(t, says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))},
		{Target: "http://" + serve(t, says(chunked, "zz\r\n"))},
		{Target: "http://" + serve(t, resets(chunked+"3\r\nabc\r\n"))},
		{Target: "http://" + serve(t, says("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"))},
		{Target: "http://" + serve(t, says("HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")), Config: json.RawMessage(`{"max_redirects":2}`)},
		{Target: "http://" + serve(t, stalls("")), Timeout: uptime.MinTimeout},
		{Target: "http://" + serve(t, stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")), Timeout: uptime.MinTimeout},
		{Target: "http://" + serve(t, repeats("HTTP/1.1 200 OK\r\n", "X-Pad: 12345678\r\n"))},
		{Target: "http://" + serve(t, says(bomb)), Config: json.RawMessage(`{"max_body_bytes":65536}`), Assertions: needle},
		{Target: "http://" + serve(t, stalls("HTTP/1.1 200 OK\r\n\r\n"+large)), Config: json.RawMessage(`{"max_body_bytes":65536}`), Assertions: needle, Timeout: uptime.MinTimeout},
		{Target: "https://" + raw(hangs), Timeout: uptime.MinTimeout},
		{Target: "https://" + raw(func(c net.Conn) { _, _ = io.WriteString(c, "\x16\x03\x03\x00\x04garbage") })},
		{Target: "https://" + raw(func(c net.Conn) { testenv.Reset(c) })},
		{Target: "http://shop.test/", Timeout: uptime.MinTimeout, Config: json.RawMessage(`{"resolver":"` + udpClosed(t) + `"}`)},
	} {
		m.Type = "http"
		if m.Timeout == 0 {
			m.Timeout = 5 * time.Second
		}
		c, err := New(testEnv()).Compile(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// failAtOnce runs the checks in turn, n in all, leakAtOnce at a time.
func failAtOnce(t *testing.T, checks []Check, n int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range leakAtOnce {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if out := checks[i%len(checks)].Run(t.Context(), Attempt{Evidence: true}); out.Verdict == uptime.VerdictUp {
					t.Errorf("check %d is up", i%len(checks))
				}
			}
		})
	}
	wg.Wait()
}
