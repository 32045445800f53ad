package probe

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

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
	checks[0].Run(t.Context()) // opens what the runtime itself needs
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	a, b := checks[0].Run(t.Context()), checks[1].Run(t.Context())
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	c := checks[0].Run(t.Context())
	fmt.Println("child says", a.Verdict, a.Reason, b.Verdict, b.Reason, c.Verdict)
}
