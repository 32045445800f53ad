package worker

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"vedette/internal/uptime"
)

// childNetwork marks the re-executed test binary that is in a network of its own.
const childNetwork = "VEDETTE_TEST_OWN_NETWORK"

// On a machine without any route it is not the targets that cannot be reached; what
// answers that it refuses, on this machine itself, is still believed.
func TestNoWayOutIsOurOwnFault(t *testing.T) {
	if os.Getenv(childNetwork) == "" {
		t.Parallel()
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoWayOutIsOurOwnFault$", "-test.v")
		cmd.Env = append(os.Environ(), childNetwork+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		b, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(b), "--- PASS") {
			t.Errorf("child: %v\n%s", err, b)
		}
		return
	}
	s := NewSelfCheck(nil, nil)
	for failed, want := range map[uptime.Reason]uptime.Reason{uptime.ConnUnreach: uptime.OwnNetwork, uptime.ConnRefused: uptime.ReasonOK} {
		if ok, got, local := s.Check(t.Context(), failed); got != want || ok != (want == uptime.ReasonOK) {
			t.Errorf("after %s: %q, %v, want %q", failed, got, local, want)
		}
	}
}
