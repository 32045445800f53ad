package memqueue

import (
	"testing"

	"vedette/internal/queue"
	"vedette/internal/queue/queuetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queue.Broker {
		b := New(Options{})
		t.Cleanup(func() { _ = b.Close() })
		return b
	})
}

func BenchmarkCycle(b *testing.B) {
	queuetest.Bench(b, func(*testing.B) queue.Broker { return New(Options{}) })
}
