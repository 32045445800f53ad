package worker

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

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
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		}
		b, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(b), "--- PASS") {
			t.Errorf("child: %v\n%s", err, b)
		}
		return
	}
	s := NewSelfCheck(nil, nil)
	for failed, want := range map[uptime.Reason]uptime.Reason{uptime.ConnUnreach: uptime.OwnNetwork, uptime.ConnRefused: uptime.ReasonOK} {
		if ok, got, local := s.Check(t.Context(), failed, []string{"192.0.2.1", "127.0.0.1"}); got != want || ok != (want == uptime.ReasonOK) {
			t.Errorf("after %s: %q, %v, want %q", failed, got, local, want)
		}
	}
}

// In a network without a way out, a neighbour that does not answer is down.
func TestANeighbourIsJudgedWithoutAWayOut(t *testing.T) {
	t.Parallel()
	s := NewSelfCheck(nil, nil)
	s.at, s.lost = time.Now(), true
	if ok, got, _ := s.Check(t.Context(), uptime.ConnUnreach, []string{"127.0.0.1"}); !ok {
		t.Errorf("got %q, want the failure believed: there is a route to it", got)
	}
}
