package redisqueue

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vedette/internal/queue"
	"vedette/internal/queue/queuetest"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// patience is how long anything may take on a machine that is busy with other tests.
const patience = 20 * time.Second

// behindProxy is a broker whose connections run through a proxy.
func behindProxy(t *testing.T) (*Broker, *testenv.Proxy, *testenv.RedisServer) {
	t.Helper()
	server := testenv.Redis(t)
	proxy := testenv.NewProxy(t, server.Addr)
	return open(t, "redis://"+proxy.Addr+"/0", "t:"), proxy, server
}

// calls are all that a queue and its broker are asked.
func calls(b *Broker, q queue.Queue) map[string]func(context.Context) error {
	m := queue.Message{ID: "r1-1"}
	return map[string]func(context.Context) error{
		"Publish": func(ctx context.Context) error { return q.Publish(ctx, queuetest.Items(0, 1)) },
		"Receive": func(ctx context.Context) error { _, err := q.Receive(ctx, 1, time.Second); return err },
		"Ack":     func(ctx context.Context) error { return q.Ack(ctx, []string{m.ID}) },
		"Extend":  func(ctx context.Context) error { return q.Extend(ctx, []string{m.ID}) },
		"Dead":    func(ctx context.Context) error { return q.Dead(ctx, m, "test") },
		"Stats":   func(ctx context.Context) error { _, err := q.Stats(ctx); return err },
		"Hint":    func(ctx context.Context) error { return b.Hint(ctx, "topic", "payload") },
		"Allow":   func(ctx context.Context) error { _, _, err := b.Allow(ctx, "key", 1, time.Second); return err },
		"Ping":    b.Ping,
	}
}

func TestUnreachableRedisIsUnavailableSoon(t *testing.T) {
	t.Parallel()
	moods := []struct {
		name  string
		spoil func(*testenv.Proxy)
	}{
		{"connections are cut and refused", (*testenv.Proxy).Cut},
		{"nothing passes", (*testenv.Proxy).BlackHole},
		{"replies are swallowed", (*testenv.Proxy).SwallowReplies},
		{"replies take ten seconds", func(p *testenv.Proxy) { p.Delay(10 * time.Second) }},
	}
	for _, mood := range moods {
		t.Run(mood.name, func(t *testing.T) {
			t.Parallel()
			b, proxy, _ := behindProxy(t)
			q := queuetest.Open(t, b, "q", queue.Options{})
			for name, call := range calls(b, q) {
				if err := call(t.Context()); err != nil {
					t.Fatalf("%s while all is well: %v", name, err)
				}
			}
			mood.spoil(proxy)
			var wg sync.WaitGroup
			for name, call := range calls(b, q) {
				wg.Go(func() {
					start := time.Now()
					err := call(t.Context())
					if took := time.Since(start); !uptime.Is(err, uptime.Unavailable) || took > callTimeout+2*time.Second {
						t.Errorf("%s: %v after %v, want an error of kind unavailable soon", name, err, took)
					}
				})
			}
			wg.Wait()
			proxy.Heal()
			for name, call := range calls(b, q) {
				eventually(t, name+" when all is well again", call)
			}
		})
	}
}

// eventually calls fn until it has no error.
func eventually(t *testing.T, what string, fn func(context.Context) error) {
	t.Helper()
	err := fn(t.Context())
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); err = fn(t.Context()) {
		if !uptime.Is(err, uptime.Unavailable) {
			break
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// journal is what receivers know of the messages.
type journal struct {
	mu       sync.Mutex
	received map[int]int          // guarded by mu: how often, by number
	done     map[string]time.Time // guarded by mu: when an acknowledgement was confirmed, by id
	again    []string             // guarded by mu: ids that came although they were done
}

// consume receives and acknowledges until ctx ends; it goes on after errors.
func (j *journal) consume(ctx context.Context, q queue.Queue) {
	for ctx.Err() == nil {
		asked := time.Now()
		msgs, err := q.Receive(ctx, 16, 50*time.Millisecond)
		if err != nil || len(msgs) == 0 {
			continue
		}
		j.mu.Lock()
		for _, m := range msgs {
			j.received[queuetest.Number(m)]++
			if at, ok := j.done[m.ID]; ok && asked.After(at) {
				j.again = append(j.again, m.ID)
			}
		}
		j.mu.Unlock()
		if q.Ack(ctx, queuetest.IDs(msgs)) != nil {
			continue // they come again
		}
		j.mu.Lock()
		for _, m := range msgs {
			j.done[m.ID] = time.Now()
		}
		j.mu.Unlock()
	}
}

// misbehave puts the proxy in one bad mood after the other until ctx ends.
func misbehave(ctx context.Context, r *rand.Rand, p *testenv.Proxy) {
	moods := []func(){p.Cut, p.SwallowReplies, p.BlackHole, func() { p.Delay(20 * time.Millisecond) }}
	for ctx.Err() == nil {
		moods[r.IntN(len(moods))]()
		pause(ctx, time.Duration(r.IntN(60))*time.Millisecond)
		p.Heal()
		pause(ctx, time.Duration(20+r.IntN(100))*time.Millisecond)
	}
	p.Heal()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func TestNothingTakenIsLostOnABadNetwork(t *testing.T) {
	t.Parallel()
	const least, most, batch = 3000, 60_000, 10 // goes on beyond the least until the network has failed a publication
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	b, proxy, server := behindProxy(t)
	q := queuetest.Open(t, b, "q", queue.Options{Lease: time.Second, MaxDeliveries: 1000})
	ctx, cancel := context.WithCancel(t.Context())
	trouble, calm := context.WithCancel(ctx)
	j := &journal{received: map[int]int{}, done: map[string]time.Time{}}
	var wg sync.WaitGroup
	wg.Go(func() { misbehave(trouble, rand.New(rand.NewPCG(seed, 0)), proxy) })
	for range 3 {
		wg.Go(func() { j.consume(ctx, q) })
	}
	failures, total := 0, 0
	for ; total < least || (failures == 0 && total < most); total += batch {
		for q.Publish(ctx, queuetest.Items(total, batch)) != nil {
			failures++
		}
		pause(ctx, 5*time.Millisecond)
	}
	calm()
	direct := queuetest.Open(t, open(t, server.URL, "t:"), "q", queue.Options{})
	eventually(t, "everything is done", func(ctx context.Context) error {
		s, err := direct.Stats(ctx)
		if err == nil && s != (queue.Stats{}) {
			pause(ctx, 10*time.Millisecond)
			return uptime.Errorf(uptime.Unavailable, "still there: %+v", s)
		}
		return err
	})
	cancel()
	wg.Wait()
	if len(j.received) != total || len(j.again) > 0 {
		t.Errorf("%d of %d messages came; came again when they were done: %v", len(j.received), total, j.again)
	}
	if failures == 0 {
		t.Error("the network was never bad enough to fail a publication: the test proves nothing")
	}
}

func TestSwallowedRepliesLoseNothing(t *testing.T) {
	t.Parallel()
	b, proxy, _ := behindProxy(t)
	q := queuetest.Open(t, b, "q", queue.Options{Lease: 500 * time.Millisecond, MaxDeliveries: 100}).(*Queue)
	swallow := func(what string, call func() error) {
		t.Helper()
		eventually(t, "ping", b.Ping) // a connection that is there already, so that the request itself is done
		proxy.SwallowReplies()
		if err := call(); !uptime.Is(err, uptime.Unavailable) {
			t.Fatalf("%s: %v, want an error of kind unavailable", what, err)
		}
		proxy.Heal()
	}
	receive := func() (msgs []queue.Message) {
		t.Helper()
		eventually(t, "receive", func(ctx context.Context) (err error) {
			msgs, err = q.Receive(ctx, 10, time.Second)
			if err == nil && len(msgs) == 0 {
				err = uptime.Errorf(uptime.Unavailable, "nothing came")
			}
			return err
		})
		return msgs
	}
	if err := q.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), queuetest.Items(7, 1)); err != nil {
		t.Fatal(err)
	}
	swallow("receive", func() error {
		_, err := q.read(t.Context(), 1, -1, q.routine, ">")
		return unavailable("receive", err)
	})
	msgs := receive()
	if queuetest.Number(msgs[0]) != 7 || msgs[0].Deliveries < 2 {
		t.Fatalf("came as %d, delivery %d, want 7, delivery 2 or more", queuetest.Number(msgs[0]), msgs[0].Deliveries)
	}
	swallow("acknowledge", func() error { return q.Ack(t.Context(), queuetest.IDs(msgs)) })
	eventually(t, "acknowledge again", func(ctx context.Context) error { return q.Ack(ctx, queuetest.IDs(msgs)) })
	swallow("publish", func() error { return q.Publish(t.Context(), queuetest.Items(8, 1)) })
	if msgs = receive(); queuetest.Number(msgs[0]) != 8 {
		t.Fatalf("came as %d, want 8", queuetest.Number(msgs[0]))
	}
}

func TestWatchSaysThatHintsMayBeLost(t *testing.T) {
	t.Parallel()
	b, proxy, _ := behindProxy(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	heard := make(chan string, 1000)
	wg.Go(func() { _ = b.Watch(ctx, "topic", func(p string) { heard <- p }) })
	defer wg.Wait()
	defer cancel()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("heard nothing, want %q", want)
		}
	}
	next("")
	for _, mood := range []func(){proxy.Cut, proxy.BlackHole} {
		mood()
		if err := b.Hint(ctx, "topic", "lost"); !uptime.Is(err, uptime.Unavailable) {
			t.Fatalf("hint: %v, want an error of kind unavailable", err)
		}
		if b.Ping(ctx) == nil {
			t.Fatal("the proxy lets through what it should not")
		}
		proxy.Cut() // what was black-holed ends as well, unanswered
		proxy.Heal()
		next("")
		eventually(t, "hint", func(ctx context.Context) error { return b.Hint(ctx, "topic", "heard") })
		next("heard")
	}
}
