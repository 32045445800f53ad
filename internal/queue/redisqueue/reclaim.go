package redisqueue

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"vedette/internal/queue"
)

// reclaimEvery is how often expired leases are looked for, as a share of the lease.
const reclaimEvery = 4

// reclaimCalls bounds how often one Receive goes on in the pending list before it
// looks at new messages.
const reclaimCalls = 4

// consumerIdle is how long a consumer that holds nothing may be silent until it is
// forgotten. Live ones ask every second, and are made again if they do not.
const consumerIdle = 10 * time.Minute

// searchDue reports that expired leases are to be looked for in a stream.
func (q *Queue) searchDue() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	return slices.ContainsFunc(q.streams(), func(stream string) bool { return !now.Before(q.next[stream]) })
}

// reclaim takes over messages whose lease is over. One call looks at no more than
// ten times what it may return, so the cursor is carried from call to call until the
// end of the pending list; then the list rests for a while.
func (q *Queue) reclaim(ctx context.Context, stream string, n int) ([]queue.Message, error) {
	for range reclaimCalls {
		q.mu.Lock()
		cursor, due := cmp.Or(q.cursors[stream], "0-0"), !time.Now().Before(q.next[stream])
		q.mu.Unlock()
		if !due {
			return nil, nil
		}
		claimed, next, err := q.claim(ctx, stream, cursor, n)
		if err != nil {
			return nil, err
		}
		q.mu.Lock()
		q.cursors[stream] = next
		if next == "0-0" {
			q.next[stream] = time.Now().Add(q.o.Lease / reclaimEvery)
		}
		q.mu.Unlock()
		if next == "0-0" {
			q.tidy(ctx, stream)
		}
		if len(claimed) > 0 {
			return q.counted(ctx, stream, claimed)
		}
	}
	return nil, nil
}

// claim is one XAUTOCLAIM.
func (q *Queue) claim(ctx context.Context, stream, cursor string, n int) ([]redis.XMessage, string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return q.b.c.XAutoClaim(ctx, &redis.XAutoClaimArgs{Stream: stream, Group: group, Consumer: q.b.o.Consumer,
		MinIdle: q.o.Lease, Start: cursor, Count: int64(n)}).Result()
}

// dismiss removes consumers that have not asked for long and hold nothing: removing
// one drops what it holds, so the question and the deed are one script.
var dismiss = redis.NewScript(`local n = 0
for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local is = {}
  for i = 1, #c, 2 do is[c[i]] = c[i + 1] end
  if is.pending == 0 and is.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is.name)
    n = n + 1
  end
end
return n`)

// tidy forgets the processes of long ago; every start makes a new consumer.
func (q *Queue) tidy(ctx context.Context, stream string) {
	q.mu.Lock()
	due := time.Since(q.tidied[stream]) > q.consumerIdle/10
	if due {
		q.tidied[stream] = time.Now()
	}
	q.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := dismiss.Run(ctx, q.b.c, []string{stream}, group, q.consumerIdle.Milliseconds()).Err()
	if err != nil && !gone(err) && ctx.Err() == nil {
		q.b.o.Logger.Warn("idle consumers are not removed", slog.Any("error", err))
	}
}

// counted asks how often each claimed message was delivered, and buries those that
// had their chances. The claim itself counts as a delivery.
func (q *Queue) counted(ctx context.Context, stream string, claimed []redis.XMessage) ([]queue.Message, error) {
	pipe := q.b.c.Pipeline()
	pending := make([]*redis.XPendingExtCmd, len(claimed))
	for i, m := range claimed {
		pending[i] = pipe.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: stream, Group: group, Start: m.ID, End: m.ID, Count: 1})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var out []queue.Message
	for i, m := range claimed {
		deliveries := 1
		if p := pending[i].Val(); len(p) == 1 {
			deliveries = int(p[0].RetryCount)
		}
		msg := message(stream == q.urgent, m, deliveries)
		if deliveries > q.o.MaxDeliveries {
			if err := q.Dead(ctx, msg, "its lease ended too often"); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, msg)
	}
	return out, nil
}
