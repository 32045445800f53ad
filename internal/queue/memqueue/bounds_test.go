package memqueue

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/queue"
	"vedette/internal/queue/queuetest"
)

func TestDeadLettersAreCountedAndTheLastOnesKept(t *testing.T) {
	t.Parallel()
	const n = deadKept + 500
	q := queuetest.Open(t, New(Options{}), "q", queue.Options{}).(*Queue)
	if err := q.Publish(t.Context(), queuetest.Items(0, n)); err != nil {
		t.Fatal(err)
	}
	msgs, err := q.Receive(t.Context(), n, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if err := q.Dead(t.Context(), m, "test"); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := q.Stats(t.Context()); s != (queue.Stats{Dead: n}) {
		t.Errorf("stats are %+v, want %d dead", s, n)
	}
	if len(q.dead) != deadKept || queuetest.Number(q.dead[deadKept-1].m) != n-1 {
		t.Errorf("%d are kept, the last is %d; want %d, the last %d", len(q.dead), queuetest.Number(q.dead[len(q.dead)-1].m), deadKept, n-1)
	}
}

// TestADayAtConstantSize has a queue work for a day, with every tenth message
// abandoned and every seventh extended: what it keeps does not grow.
func TestADayAtConstantSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := queuetest.Open(t, New(Options{}), "q", queue.Options{}).(*Queue)
		end := time.Now().Add(24 * time.Hour)
		for i := 0; time.Now().Before(end); i++ {
			if err := q.Publish(t.Context(), queuetest.Items(i, 1)); err != nil {
				t.Fatal(err)
			}
			msgs, err := q.Receive(t.Context(), 10, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs {
				id := []string{m.ID}
				if n := queuetest.Number(m); n%7 == 0 {
					_ = q.Extend(t.Context(), id)
				}
				if queuetest.Number(m)%10 != 0 {
					_ = q.Ack(t.Context(), id)
				}
			}
			if _, err := q.Receive(t.Context(), 1, time.Second); err != nil { // a second passes, or a message returns
				t.Fatal(err)
			}
			if len(q.leases) > 4096 || len(q.held) > 200 || len(q.routine) > 200 {
				t.Fatalf("after %d messages: %d leases, %d held, %d waiting", i, len(q.leases), len(q.held), len(q.routine))
			}
		}
		if q.died == 0 || len(q.dead) > deadKept {
			t.Errorf("%d died, %d kept", q.died, len(q.dead))
		}
	})
}

func TestABusyWatcherIsToldThatHintsWereLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		busy := make(chan struct{})
		heard := map[string]int{}
		wg.Go(func() {
			_ = b.Watch(ctx, "topic", func(p string) {
				<-busy
				heard[p]++
			})
		})
		synctest.Wait()
		for range 5 * watcherRoom { // never blocks
			if err := b.Hint(ctx, "topic", "x"); err != nil {
				t.Fatal(err)
			}
		}
		close(busy)
		synctest.Wait()
		cancel()
		wg.Wait()
		if heard[""] != 1 || heard["x"] < watcherRoom {
			t.Errorf("heard %v, want %d hints or one more, and once that some were lost", heard, watcherRoom)
		}
	})
}

func TestWindowsThatAreOverAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		long, _, _ := b.Allow(t.Context(), "long", 1, time.Hour)
		for i := range 5 * windowsKept {
			if i%windowsKept == 0 {
				<-time.After(2 * time.Second)
			}
			if _, _, err := b.Allow(t.Context(), strconv.Itoa(i), 1, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(b.windows); n > 2*windowsKept {
			t.Errorf("%d windows are kept", n)
		}
		if again, _, _ := b.Allow(t.Context(), "long", 1, time.Hour); !long || again {
			t.Errorf("the long window let through %v and %v, want the first only", long, again)
		}
	})
}

func TestCloseLetsWatchersReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.Watch(t.Context(), "topic", func(string) {}) })
		synctest.Wait()
		for range 2 {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if b.Ping(t.Context()) == nil {
			t.Error("a closed broker answers")
		}
	})
}
