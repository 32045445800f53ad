package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
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
	for failed, want := range map[uptime.Reason]uptime.Reason{uptime.ConnUnreach: uptime.OwnNetwork, uptime.ConnTimeout: uptime.OwnNetwork, uptime.ConnRefused: uptime.ReasonOK} {
		if ok, got, local := s.Check(t.Context(), failed, time.Now(), []string{"192.0.2.1", "127.0.0.1"}); got != want || ok != (want == uptime.ReasonOK) {
			t.Errorf("after %s: %q, %v, want %q", failed, got, local, want)
		}
	}
}

// In a network without a way out, a neighbour that does not answer is down.
func TestANeighbourIsJudgedWithoutAWayOut(t *testing.T) {
	t.Parallel()
	s := NewSelfCheck(nil, nil)
	s.at, s.lost = time.Now().Add(time.Hour), true // of a look that begins later than the failure
	if ok, got, _ := s.Check(t.Context(), uptime.ConnUnreach, time.Now(), []string{"127.0.0.1"}); !ok {
		t.Errorf("got %q, want the failure believed: there is a route to it", got)
	}
}

// sentinelDial answers for the sentinels that up says.
func sentinelDial(up func(address string) bool) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		if !up(address) {
			return nil, errors.New("no answer")
		}
		c, far := net.Pipe()
		return c, far.Close()
	}
}

func TestTwoSentinelsDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sentinels, up []string
		want          uptime.Reason
	}{
		"none is asked":               {nil, nil, uptime.ReasonOK},
		"the only one fails":          {[]string{"a:1"}, nil, uptime.OwnNetwork},
		"the only one answers":        {[]string{"a:1"}, []string{"a:1"}, uptime.ReasonOK},
		"one of two fails":            {[]string{"a:1", "b:1"}, []string{"b:1"}, uptime.ReasonOK},
		"both fail":                   {[]string{"a:1", "b:1"}, nil, uptime.OwnNetwork},
		"one of three fails":          {[]string{"a:1", "b:1", "c:1"}, []string{"b:1", "c:1"}, uptime.ReasonOK},
		"two of three fail":           {[]string{"a:1", "b:1", "c:1"}, []string{"b:1"}, uptime.OwnNetwork},
		"all of many answer as usual": {[]string{"a:1", "b:1", "c:1", "d:1"}, []string{"a:1", "b:1", "c:1", "d:1"}, uptime.ReasonOK},
	} {
		s := NewSelfCheck(c.sentinels, sentinelDial(func(address string) bool { return slices.Contains(c.up, address) }))
		for _, failed := range []uptime.Reason{uptime.ConnTimeout, uptime.HTTPStatus} {
			ok, got, local := s.Check(t.Context(), failed, time.Now(), []string{"127.0.0.1"})
			if got != c.want || ok != (c.want == uptime.ReasonOK) || len(local) < len(c.sentinels) {
				t.Errorf("%s, after %s: got %q with %v, want %q", name, failed, got, local, c.want)
			}
		}
	}
}

// What was fine a moment before a target fell silent says nothing, and what was wrong
// while the check ran is its reason though it is fine again.
func TestALookIsAsFreshAsTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := true
		s := NewSelfCheck([]string{"a:1", "b:1"}, sentinelDial(func(string) bool { return up }))
		check := func(failed uptime.Reason, ago time.Duration) uptime.Reason {
			_, reason, _ := s.Check(t.Context(), failed, time.Now().Add(-ago), []string{"127.0.0.1"})
			return reason
		}
		if got := check(uptime.ConnTimeout, time.Second); got != uptime.ReasonOK {
			t.Errorf("while all is well: got %q", got)
		}
		up = false
		if got := check(uptime.HTTPStatus, time.Second); got != uptime.ReasonOK {
			t.Errorf("after an answer, a moment later: got %q, want the look before to do", got)
		}
		if got := check(uptime.ConnTimeout, time.Second); got != uptime.OwnNetwork {
			t.Errorf("after silence, a moment later: got %q, want another look", got)
		}
		up = true
		time.Sleep(5 * time.Second)
		if got := check(uptime.ConnTimeout, 10*time.Second); got != uptime.OwnNetwork {
			t.Errorf("after a check in whose time the network was gone: got %q", got)
		}
		if got := check(uptime.ConnTimeout, time.Second); got != uptime.ReasonOK {
			t.Errorf("after a check that began later: got %q", got)
		}
	})
}

// Sentinels that do not answer take their time. It is not taken once for each of the
// checks that failed meanwhile: they would all wait, and no slot be checked any more.
func TestManyFailuresShareALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		s := NewSelfCheck([]string{"a:1"}, func(ctx context.Context, _, _ string) (net.Conn, error) {
			looks++
			<-ctx.Done()
			return nil, ctx.Err()
		})
		const failures = 100
		answered := make(chan time.Duration)
		for n := range failures {
			go func() {
				time.Sleep(time.Duration(n) * 10 * time.Millisecond)
				met := time.Now()
				if _, reason, _ := s.Check(t.Context(), uptime.ConnTimeout, met, nil); reason != uptime.OwnNetwork {
					t.Errorf("got %q, want that the network is gone", reason)
				}
				answered <- time.Since(met)
			}()
		}
		for range failures {
			if took := <-answered; took > 2*healthDial+healthGap {
				t.Errorf("a failure was judged after %s, want within two looks", took)
			}
		}
		if looks > 3 {
			t.Errorf("%d failures within a second took %d looks", failures, looks)
		}
	})
}

// Who is told to stop does not wait for its turn.
func TestALookIsNotWaitedForAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSelfCheck(nil, nil)
		s.turn <- struct{}{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if ok, reason, _ := s.Check(ctx, uptime.ConnTimeout, time.Now(), nil); ok || reason != uptime.Aborted {
			t.Errorf("got %q, want aborted", reason)
		}
	})
}
