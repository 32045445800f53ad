package redisqueue

import (
	"crypto/rand"
	"testing"

	"vedette/internal/queue"
	"vedette/internal/queue/queuetest"
	"vedette/internal/testenv"
)

// open connects to the server at url, for one test.
func open(tb testing.TB, url, prefix string) *Broker {
	tb.Helper()
	b, err := New(tb.Context(), Options{URL: url, Prefix: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

func TestContract(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	queuetest.Run(t, func(t *testing.T) queue.Broker { return open(t, server.URL, rand.Text()+":") })
}

func BenchmarkCycle(b *testing.B) {
	server := testenv.Redis(b)
	queuetest.Bench(b, func(b *testing.B) queue.Broker { return open(b, server.URL, rand.Text()+":") })
}
