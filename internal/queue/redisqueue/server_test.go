package redisqueue

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"vedette/internal/queue"
	"vedette/internal/queue/queuetest"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// TestQueueGoesOnAfterEveryFlush has receivers at work, waiting and in between, while
// everything they know disappears 50 times.
func TestQueueGoesOnAfterEveryFlush(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	server := testenv.Redis(t)
	q := queuetest.Open(t, open(t, server.URL, "t:"), "q", queue.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	got := make(chan int, 100_000)
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				msgs, err := q.Receive(ctx, 10, time.Second)
				if err == nil {
					err = q.Extend(ctx, queuetest.IDs(msgs))
				}
				if err == nil {
					err = q.Ack(ctx, queuetest.IDs(msgs))
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("a flush is an error to the receiver: %v", err)
					return
				}
				for _, m := range msgs {
					got <- queuetest.Number(m)
				}
			}
		})
	}
	for round := range 50 {
		for range r.IntN(4) {
			if err := q.Publish(ctx, queuetest.Items(-1000, 1+r.IntN(20))); err != nil {
				t.Fatal(err)
			}
		}
		pause(ctx, time.Duration(r.IntN(20))*time.Millisecond)
		if err := server.FlushAll(); err != nil {
			t.Fatal(err)
		}
		items := queuetest.Items(round, 1)
		items[0].Urgent = round%2 == 0
		if err := q.Publish(ctx, items); err != nil {
			t.Fatal(err)
		}
		await(t, got, round)
	}
	cancel()
	wg.Wait()
}

// TestQueueGoesOnWithoutItsGroups has somebody remove the consumer groups by hand, with
// all leases in them, and leave the rest (FAULTS 12): what was in hand comes again.
func TestQueueGoesOnWithoutItsGroups(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q := queuetest.Open(t, open(t, server.URL, "t:"), "q", queue.Options{})
	if err := q.Publish(t.Context(), queuetest.Items(0, 3)); err != nil {
		t.Fatal(err)
	}
	if got := some(t, q); len(got) != 3 {
		t.Fatalf("received %d messages, want 3", len(got))
	}
	o, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	defer c.Close()
	for _, stream := range q.(*Queue).streams() {
		if n, err := c.XGroupDestroy(t.Context(), stream, group).Result(); n != 1 || err != nil {
			t.Fatalf("%s had %d groups, %v", stream, n, err)
		}
	}
	if err := q.Publish(t.Context(), queuetest.Items(3, 1)); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for deadline := time.Now().Add(patience); len(seen) < 4 && time.Now().Before(deadline); {
		msgs, err := q.Receive(t.Context(), 10, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			seen[queuetest.Number(m)] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("received %v, want the three that were in hand and the new one", seen)
	}
}

// await reads numbers until want comes.
func await(t *testing.T, got <-chan int, want int) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case n := <-got:
			if n == want {
				return
			}
		case <-timeout:
			t.Fatalf("message %d, published after a flush, did not come", want)
		}
	}
}

// TestIDsAreNotUsedAgainAfterAFlush flushes within the millisecond of an id: a late
// acknowledgement must not hit another message.
func TestIDsAreNotUsedAgainAfterAFlush(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q := queuetest.Open(t, open(t, server.URL, "t:"), "q", queue.Options{})
	seen := map[string]int{}
	for round := range 500 {
		if err := q.Publish(t.Context(), queuetest.Items(round, 2)); err != nil {
			t.Fatal(err)
		}
		for _, m := range some(t, q) {
			if was, ok := seen[m.ID]; ok {
				t.Fatalf("%s was message %d and is message %d", m.ID, was, queuetest.Number(m))
			}
			seen[m.ID] = queuetest.Number(m)
		}
		if err := server.FlushAll(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueueGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	b := open(t, server.URL, "t:")
	q := queuetest.Open(t, b, "q", queue.Options{})
	for round := range 5 {
		server.Stop()
		for name, call := range calls(b, q) {
			if err := call(t.Context()); !uptime.Is(err, uptime.Unavailable) {
				t.Errorf("%s while Redis is down: %v, want an error of kind unavailable", name, err)
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "publish", func(ctx context.Context) error { return q.Publish(ctx, queuetest.Items(round, 1)) })
		eventually(t, "receive", func(ctx context.Context) error {
			msgs, err := q.Receive(ctx, 1, time.Second)
			if err == nil && (len(msgs) != 1 || queuetest.Number(msgs[0]) != round) {
				return uptime.Errorf(uptime.Unavailable, "%d came, want message %d", len(msgs), round)
			}
			return err
		})
	}
}

func TestAnotherProcessTakesOverWhatOneLeft(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	o := queue.Options{Lease: 200 * time.Millisecond}
	first := queuetest.Open(t, open(t, server.URL, "t:"), "q", o)
	second := queuetest.Open(t, open(t, server.URL, "t:"), "q", o)
	if err := first.Publish(t.Context(), queuetest.Items(0, 1)); err != nil {
		t.Fatal(err)
	}
	left := some(t, first)
	taken := some(t, second)
	if taken[0].ID != left[0].ID || taken[0].Deliveries != 2 {
		t.Errorf("taken over as %q, delivery %d, want %q, delivery 2", taken[0].ID, taken[0].Deliveries, left[0].ID)
	}
	for _, q := range []queue.Queue{first, second} { // the one that lost its lease wakes up first
		if err := q.Ack(t.Context(), queuetest.IDs(left)); err != nil {
			t.Error(err)
		}
	}
	if s, err := second.Stats(t.Context()); err != nil || s != (queue.Stats{}) {
		t.Errorf("stats are %+v, %v, want none", s, err)
	}
}

// some receives until something comes.
func some(t *testing.T, q queue.Queue) []queue.Message {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		msgs, err := q.Receive(t.Context(), 10, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(msgs) > 0 {
			return msgs
		}
	}
	t.Fatal("nothing came")
	return nil
}

func TestOnlyIdleConsumersWithNothingInHandAreForgotten(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	o := queue.Options{Lease: 300 * time.Millisecond}
	process := func(name string) *Queue {
		b, err := New(t.Context(), Options{URL: server.URL, Consumer: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return queuetest.Open(t, b, "q", o).(*Queue)
	}
	holds, idle, alive := process("holds"), process("idle"), process("alive")
	if err := idle.Publish(t.Context(), queuetest.Items(0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := idle.Ack(t.Context(), queuetest.IDs(some(t, idle))); err != nil {
		t.Fatal(err)
	}
	if err := idle.Publish(t.Context(), queuetest.Items(1, 1)); err != nil {
		t.Fatal(err)
	}
	some(t, holds)
	if _, err := alive.Receive(t.Context(), 1, 0); err != nil {
		t.Fatal(err)
	}
	<-time.After(100 * time.Millisecond)
	alive.consumerIdle = 50 * time.Millisecond
	alive.tidy(t.Context(), alive.routine)
	consumers, err := alive.b.c.XInfoConsumers(t.Context(), alive.routine, group).Result()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range consumers {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, "holds") || slices.Contains(names, "idle") {
		t.Errorf("consumers are %v, want holds and not idle", names)
	}
	if got := some(t, alive); queuetest.Number(got[0]) != 1 {
		t.Errorf("message %d was taken over, want 1", queuetest.Number(got[0]))
	}
	if err := idle.Publish(t.Context(), queuetest.Items(2, 1)); err != nil {
		t.Fatal(err)
	}
	if got := some(t, idle); queuetest.Number(got[0]) != 2 {
		t.Errorf("a forgotten consumer received message %d, want 2", queuetest.Number(got[0]))
	}
}

func TestEvictionPolicyIsNamedAtStart(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	admin := open(t, server.URL, "t:").c
	for policy, want := range map[string]bool{"noeviction": false, "allkeys-lru": true} {
		if err := admin.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		b, err := New(t.Context(), Options{URL: server.URL, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Close()
		if got := strings.Contains(log.String(), "level=ERROR") && strings.Contains(log.String(), policy); got != want {
			t.Errorf("policy %s: logged %q, want an error logged: %v", policy, log.String(), want)
		}
	}
}

func TestFullMemoryRefusesAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	b := open(t, server.URL, "t:")
	q := queuetest.Open(t, b, "q", queue.Options{})
	if err := q.Publish(t.Context(), queuetest.Items(0, 3)); err != nil {
		t.Fatal(err)
	}
	got := some(t, q)
	if err := b.c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), queuetest.Items(3, 5)); !uptime.Is(err, uptime.Unavailable) {
		t.Errorf("publish: %v, want an error of kind unavailable", err)
	}
	if err := q.Ack(t.Context(), queuetest.IDs(got[:1])); err != nil {
		t.Errorf("acknowledge: %v", err)
	}
	if err := q.Dead(t.Context(), got[1], "test"); err != nil {
		t.Errorf("bury: %v", err)
	}
	if err := b.c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	s, err := q.Stats(t.Context())
	if err != nil || s != (queue.Stats{InFlight: 1, Dead: 1}) {
		t.Errorf("stats are %+v, %v, want 1 in flight and 1 dead", s, err)
	}
}

func TestAnEntryOfSomebodyElseDoesNotStopTheQueue(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	b := open(t, server.URL, "t:")
	q := queuetest.Open(t, b, "q", queue.Options{}).(*Queue)
	if err := b.c.XAdd(t.Context(), &redis.XAddArgs{Stream: q.routine, Values: []any{"version", 9, "x", "y"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), queuetest.Items(1, 1)); err != nil {
		t.Fatal(err)
	}
	got := some(t, q)
	if len(got) != 2 || len(got[0].Body) != 0 || queuetest.Number(got[1]) != 1 {
		t.Fatalf("received %v", got)
	}
	if err := q.Dead(t.Context(), got[0], "unknown version"); err != nil {
		t.Fatal(err)
	}
}

func TestURLThatCannotBeReadIsNotRepeated(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), Options{URL: "redis://user:hunter2@host:port/0"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v, want one without the password", err)
	}
}
