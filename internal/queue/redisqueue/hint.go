package redisqueue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Hint tells every process that watches topic, through Pub/Sub.
func (b *Broker) Hint(ctx context.Context, topic, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
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
