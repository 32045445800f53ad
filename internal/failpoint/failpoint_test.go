package failpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"vedette/internal/failpoint"
)

func TestNoSpecificationIsANilSetThatDoesNothing(t *testing.T) {
	// Not parallel: allocations are counted for the whole process.
	s, err := failpoint.Parse("")
	if s != nil || err != nil {
		t.Fatalf("got %v, %v; want nil, nil", s, err)
	}
	if err := s.Hit("record.before"); err != nil {
		t.Errorf("hit of a nil set: %v", err)
	}
	s.Release("record.before")
	if s.Hook("notify") != nil || s.Held("x") != nil {
		t.Error("a nil set has a hook")
	}
	if n := testing.AllocsPerRun(100, func() { _ = s.Hit("record.before") }); n != 0 {
		t.Errorf("a nil set allocates %v times a hit", n)
	}
}

func TestErrorFiresAtItsHitOnly(t *testing.T) {
	t.Parallel()
	s, err := failpoint.Parse("a=error@2|b=error")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, false, false} {
		if err := s.Hit("a"); errors.Is(err, failpoint.ErrInjected) != want {
			t.Errorf("hit %d of a: got %v, want an error: %v", i+1, err, want)
		}
	}
	if err := s.Hit("b"); !errors.Is(err, failpoint.ErrInjected) {
		t.Errorf("first hit of b: got %v, want an error", err)
	}
	if err := s.Hit("c"); err != nil {
		t.Errorf("a point that is not set: %v", err)
	}
}

func TestHoldLastsUntilItsRelease(t *testing.T) {
	t.Parallel()
	s, err := failpoint.Parse("stage.step=hold")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Hook("stage")("step")
	}()
	<-s.Held("stage.step")
	select {
	case <-done:
		t.Fatal("the hold ended by itself")
	default:
	}
	s.Release("stage.step")
	s.Release("stage.step") // a second release is harmless
	<-done
}

func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "a=", "=kill", "a=explode", "a=kill@0", "a=kill@-1", "a=kill@x", "a=kill|a=hold", "|", "a=kill@"} {
		if s, err := failpoint.Parse(text); err == nil {
			t.Errorf("%q was taken: %v", text, s)
		}
	}
}

func TestKillEndsTheProcessWithoutGoodbye(t *testing.T) {
	t.Parallel()
	if text := failpoint.Environment(); text != "" {
		s, err := failpoint.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Hit("here")
		os.Exit(0) // a survivor: the parent fails
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillEndsTheProcessWithoutGoodbye$")
	cmd.Env = append(os.Environ(), "VEDETTE_FAILPOINTS=here=kill@1")
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("child: got %v, want death by SIGKILL", err)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("child: got %v, want death by SIGKILL", exit)
	}
}
