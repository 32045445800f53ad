package worker

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAHostWithoutAShareLeavesPlacesToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10, 2, 10)
		for i := range 5 {
			if got, want := g.enter(t.Context(), "hung", 1, false, time.Second), i < 2; got != want {
				t.Fatalf("enter %d of the hung host = %v, want %v", i, got, want)
			}
		}
		start := time.Now()
		if !g.enter(t.Context(), "fast", 1, false, time.Second) || time.Since(start) != 0 {
			t.Fatalf("the fast host waited %v", time.Since(start))
		}
	})
}
