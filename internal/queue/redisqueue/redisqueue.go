// Package redisqueue is the queue of the scaled mode, on Redis Streams with one
// consumer group. A queue is three streams: urgent, routine and dead. An entry is
// removed when it is acknowledged, so the length of a stream is what waits and is
// in flight together, which is the bound; nothing is ever trimmed.
//
// Redis may lose everything at any moment (a restart, FLUSHALL): groups are made
// again when they are found missing, and what was lost is derived again by its
// publisher. A Redis that does not answer makes every call fail with Unavailable
// within seconds.
package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// group is the one consumer group of every stream.
const group = "vedette"

// callTimeout bounds a round trip; receiving waits up to a second longer.
const callTimeout = 3 * time.Second

// Options of a Broker. URL is required.
type Options struct {
	URL      string       // redis://[user:password@]host:port/db
	Prefix   string       // of every key; default "vedette:"
	Consumer string       // names this process in the groups; unique
	Logger   *slog.Logger // default: discards
}

// Broker is one connection pool. It is safe for concurrent use.
type Broker struct {
	c      *redis.Client
	o      Options
	mu     sync.Mutex
	queues map[string]*Queue // guarded by mu
}

// New connects. It fails with Unavailable when Redis does not answer, and warns
// when Redis may evict what it holds.
func New(ctx context.Context, o Options) (*Broker, error) {
	if o.Prefix == "" {
		o.Prefix = "vedette:"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	opts, err := redis.ParseURL(o.URL)
	if err != nil {
		return nil, errors.New("the Redis URL cannot be read: write redis://host:6379/0") // its error may repeat the password
	}
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = 2*time.Second, callTimeout, callTimeout
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries = 1
	b := &Broker{c: redis.NewClient(opts), o: o, queues: map[string]*Queue{}}
	if err := b.Ping(ctx); err != nil {
		return nil, errors.Join(err, b.c.Close())
	}
	b.checkPolicy(ctx)
	return b, nil
}

// checkPolicy warns of an eviction policy that would throw jobs away. Managed
// services may refuse the question; then nothing is said.
func (b *Broker) checkPolicy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := b.c.ConfigGet(ctx, "maxmemory-policy").Result()
	if policy := got["maxmemory-policy"]; err == nil && policy != "" && policy != "noeviction" {
		b.o.Logger.Error("redis may evict jobs and leases: set maxmemory-policy noeviction", slog.String("maxmemory_policy", policy))
	}
}

// unavailable gives an error of Redis its kind.
func unavailable(what string, err error) error {
	if err == nil {
		return nil
	}
	return &uptime.Error{Kind: uptime.Unavailable, Message: what, Err: err}
}

// Queue opens a queue by name.
func (b *Broker) Queue(name string, o queue.Options) (queue.Queue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[name]; q != nil {
		return q, nil
	}
	// The braces keep a queue's streams in one slot of a cluster.
	key := func(part string) string { return fmt.Sprintf("%s{%s}:%s", b.o.Prefix, name, part) }
	q := &Queue{b: b, o: o.Defaults(), urgent: key("urgent"), routine: key("routine"), dead: key("dead"),
		cursors: map[string]string{}, next: map[string]time.Time{}}
	b.queues[name] = q
	return q, nil
}

// Ping says whether Redis answers.
func (b *Broker) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return unavailable("ask Redis", b.c.Ping(ctx).Err())
}

// Close ends every connection.
func (b *Broker) Close() error { return b.c.Close() }

// Hint tells every process that watches topic, through Pub/Sub.
func (b *Broker) Hint(ctx context.Context, topic, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return unavailable("hint", b.c.Publish(ctx, b.o.Prefix+"hint:"+topic, payload).Err())
}

// Watch: see queue.Broker. Pub/Sub forgets who was away, so every reconnection is
// told as a lost hint.
func (b *Broker) Watch(ctx context.Context, topic string, fn func(payload string)) error {
	for ctx.Err() == nil {
		b.watchOnce(ctx, b.o.Prefix+"hint:"+topic, fn)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// watchOnce follows the topic until the connection fails.
func (b *Broker) watchOnce(ctx context.Context, topic string, fn func(payload string)) {
	sub := b.c.Subscribe(ctx, topic)
	defer sub.Close()
	if _, err := sub.ReceiveTimeout(ctx, callTimeout); err != nil {
		return
	}
	fn("")
	for silent := 0; ctx.Err() == nil; {
		m, err := sub.ReceiveTimeout(ctx, time.Second)
		switch m := m.(type) {
		case *redis.Message:
			silent = 0
			fn(m.Payload)
			continue
		case *redis.Pong:
			silent = 0
			continue
		}
		if err == nil {
			continue
		}
		// A second without a hint: ask whether the other side is still there.
		if !isTimeout(err) || silent > 3 || sub.Ping(ctx) != nil {
			return
		}
		silent++
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// allow counts one use and says how many there were and how long the window lasts.
var allow = redis.NewScript(`local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {n, redis.call('PTTL', KEYS[1])}`)

// Allow counts one use of key, in every process, and reports whether it is among
// the first n of the present window of length per; if not, how long until the next.
func (b *Broker) Allow(ctx context.Context, key string, n int, per time.Duration) (ok bool, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := allow.Run(ctx, b.c, []string{b.o.Prefix + "limit:" + key}, per.Milliseconds()).Int64Slice()
	if err != nil || len(got) != 2 {
		return false, 0, unavailable("count a request", errors.Join(err, nil))
	}
	return got[0] <= int64(n), time.Duration(got[1]) * time.Millisecond, nil
}

// noGroup reports that the stream or its group is gone.
func noGroup(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOGROUP") }
