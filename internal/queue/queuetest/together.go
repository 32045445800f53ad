package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/queue"
)

// once has many publishers and receivers at work on a queue that is often full.
func once(t *testing.T, b queue.Broker) {
	const publishers, receivers, batches, size = 4, 4, 40, 50
	const total = publishers * batches * size
	q := Open(t, b, "q", queue.Options{Capacity: 1000})
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	times := make([]atomic.Int32, total)
	var left atomic.Int32
	left.Store(total)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range batches {
				items := Items((p*batches+i)*size, size)
				for err := q.Publish(ctx, items); err != nil; err = q.Publish(ctx, items) {
					if !errors.Is(err, queue.ErrFull) || ctx.Err() != nil {
						t.Errorf("publish: %v", err)
						return
					}
				}
			}
		})
	}
	for range receivers {
		wg.Go(func() {
			for left.Load() > 0 && ctx.Err() == nil {
				msgs, err := q.Receive(ctx, 64, 50*time.Millisecond)
				if err == nil {
					err = q.Ack(ctx, IDs(msgs))
				}
				if err != nil {
					t.Errorf("receive: %v", err)
					return
				}
				for _, m := range msgs {
					times[Number(m)].Add(1)
					left.Add(-1)
				}
			}
		})
	}
	wg.Wait()
	for i := range times {
		if n := times[i].Load(); n != 1 {
			t.Fatalf("message %d came %d times", i, n)
		}
	}
	wantStats(t, q, queue.Stats{})
}

func endsSoon(t *testing.T, b queue.Broker) {
	q := Open(t, b, "q", queue.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = q.Receive(ctx, 1, time.Hour)
			}
		})
		wg.Go(func() { _ = b.Watch(ctx, "topic", func(string) {}) })
	}
	<-time.After(50 * time.Millisecond)
	cancel()
	start := time.Now()
	wg.Wait()
	if took := time.Since(start); took > 2500*time.Millisecond {
		t.Errorf("ended %v after its context", took)
	}
}

// hints repeats until all have heard, since a watcher may not be there yet.
func hints(t *testing.T, b queue.Broker) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var wg sync.WaitGroup
	heard := map[string]bool{}
	changed := make(chan struct{}, 1)
	for i := range 3 {
		wg.Go(func() {
			err := b.Watch(ctx, fmt.Sprintf("topic%d", i%2), func(payload string) {
				mu.Lock()
				defer mu.Unlock()
				heard[fmt.Sprintf("%d %s", i, payload)] = true
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			if err != nil {
				t.Errorf("watch: %v", err)
			}
		})
	}
	want := []string{"0 a", "1 b", "2 a"}
	all := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.ContainsFunc(want, func(s string) bool { return !heard[s] })
	}
	for deadline := time.Now().Add(patience); !all() && time.Now().Before(deadline); {
		for topic, payload := range map[string]string{"topic0": "a", "topic1": "b", "topic2": "c"} {
			if err := b.Hint(ctx, topic, payload); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	wg.Wait()
	for i := range 3 {
		delete(heard, fmt.Sprintf("%d ", i)) // hints may have been lost before it watched
	}
	if len(heard) != len(want) || !all() {
		t.Errorf("heard %v, want %v", heard, want)
	}
}

func limited(t *testing.T, b queue.Broker) {
	const n, per = 3, time.Second
	start := time.Now()
	for i := 1; i <= n+2; i++ {
		ok, after, err := b.Allow(t.Context(), "key", n, per)
		if err != nil || ok != (i <= n) {
			t.Fatalf("use %d of %d: %v, %v", i, n, ok, err)
		}
		if !ok && (after <= 0 || after > per) {
			t.Errorf("come back after %v, want within the window of %v", after, per)
		}
	}
	if ok, _, err := b.Allow(t.Context(), "other", n, per); err != nil || !ok {
		t.Errorf("another key: %v, %v", ok, err)
	}
	for { // the next window
		ok, after, err := b.Allow(t.Context(), "key", n, per)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			break
		}
		if time.Since(start) > patience {
			t.Fatal("no new window began")
		}
		<-time.After(after + time.Millisecond)
	}
	if took := time.Since(start); took < per-5*time.Millisecond {
		t.Errorf("a new window began after %v, want %v", took, per)
	}
}

func limitedTogether(t *testing.T, b queue.Broker) {
	const n, uses = 50, 400
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range uses / 8 {
				ok, _, err := b.Allow(t.Context(), "key", n, time.Minute)
				if err != nil {
					t.Errorf("allow: %v", err)
					return
				}
				if ok {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := passed.Load(); got != n {
		t.Errorf("%d uses passed, want %d", got, n)
	}
}
