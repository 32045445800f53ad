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
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// group is the one consumer group of every stream.
const group = "vedette"

// callTimeout bounds a round trip; receiving waits up to a second longer.
const callTimeout = 3 * time.Second

// quickTimeout bounds what a person waits for and may go without: hints, limits.
const quickTimeout = time.Second

// Options of a Broker. URL is required.
type Options struct {
	URL      string       // redis://[user:password@]host:port/db
	Prefix   string       // of every key; default "vedette:"
	Consumer string       // names this process in the groups; unique; default random
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
	o.Consumer = cmp.Or(o.Consumer, rand.Text())
	opts, err := redis.ParseURL(o.URL)
	if err != nil {
		return nil, uptime.Errorf(uptime.Invalid, "the Redis URL cannot be read: write redis://host:6379/0") // its error may repeat the password
	}
	logging.Disable() // it writes to standard error past our log what every call returns as its error
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = 2*time.Second, callTimeout, callTimeout
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries, opts.DialerRetries = 1, 1
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
		consumerIdle: consumerIdle,
		cursors:      map[string]string{}, next: map[string]time.Time{}, tidied: map[string]time.Time{}}
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

// allow counts one use and says how many there were and how long the window lasts.
var allow = redis.NewScript(`local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {n, redis.call('PTTL', KEYS[1])}`)

// Allow: see queue.Broker. A window is at least a millisecond.
func (b *Broker) Allow(ctx context.Context, key string, n int, per time.Duration) (ok bool, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	got, err := allow.Run(ctx, b.c, []string{b.o.Prefix + "limit:" + key}, max(per.Milliseconds(), 1)).Int64Slice()
	if err != nil {
		return false, 0, unavailable("count a request", err)
	}
	return got[0] <= int64(n), time.Duration(got[1]) * time.Millisecond, nil
}

// gone reports that the stream or its group does not exist any more. Redis says
// UNBLOCKED to a reader that was waiting on a stream while it was removed.
func gone(err error) bool {
	return err != nil && (strings.HasPrefix(err.Error(), "NOGROUP") || strings.HasPrefix(err.Error(), "UNBLOCKED"))
}
