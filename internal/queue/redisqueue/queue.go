package redisqueue

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"vedette/internal/queue"
)

// field is the name of an entry's one value.
const field = "b"

// deadKept bounds the dead letters, which are to be looked at, not processed.
const deadKept = 10_000

// Queue is one named queue.
type Queue struct {
	b                     *Broker
	o                     queue.Options
	urgent, routine, dead string // keys of the streams

	consumerIdle time.Duration

	mu      sync.Mutex
	ready   bool                 // guarded by mu: the groups exist as far as we know
	cursors map[string]string    // guarded by mu: where XAUTOCLAIM goes on, by stream
	next    map[string]time.Time // guarded by mu: when a stream is searched again
	tidied  map[string]time.Time // guarded by mu: when idle consumers were looked for last
}

func (q *Queue) streams() []string { return []string{q.urgent, q.routine} }

// publish adds all entries, or none when they would not fit. KEYS: urgent, routine;
// ARGV: capacity, a number, then pairs of "1" or "0" (urgent) and body.
//
// Ids are Redis' milliseconds and a sequence that begins at 0 in a new stream, so one
// would come twice if a stream is lost and begun anew within a millisecond, and a
// late acknowledgement of the old message would remove the new one. An empty stream
// therefore begins at the number, which is random; unless it is behind the stream's
// last id already.
var publish = redis.NewScript(`local free, empty = tonumber(ARGV[1]) - (#ARGV - 2) / 2, {}
for _, key in ipairs(KEYS) do
  local n = redis.call('XLEN', key)
  free, empty[key] = free - n, n == 0
end
if free < 0 then return 0 end
local t = redis.call('TIME')
local first = t[1] .. string.format('%03d', math.floor(t[2] / 1000)) .. '-' .. ARGV[2]
for i = 3, #ARGV, 2 do
  local key = KEYS[2]
  if ARGV[i] == '1' then key = KEYS[1] end
  if not empty[key] or type(redis.pcall('XADD', key, first, 'b', ARGV[i + 1])) == 'table' then
    redis.call('XADD', key, '*', 'b', ARGV[i + 1])
  end
  empty[key] = false
end
return 1`)

// Publish: see queue.Queue. When the answer is lost the items may have been taken:
// every consumer is idempotent.
func (q *Queue) Publish(ctx context.Context, items []queue.Item) error {
	if len(items) == 0 {
		return nil
	}
	if len(items) > q.o.Capacity {
		return queue.ErrFull
	}
	args := make([]any, 0, 2+2*len(items))
	args = append(args, q.o.Capacity, rand.Int64())
	for _, item := range items {
		class := "0"
		if item.Urgent {
			class = "1"
		}
		args = append(args, class, item.Body)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	taken, err := publish.Run(ctx, q.b.c, []string{q.urgent, q.routine}, args...).Int()
	if err != nil {
		return unavailable("publish", err)
	}
	if taken == 0 {
		return queue.ErrFull
	}
	return nil
}

// Receive: see queue.Queue.
func (q *Queue) Receive(ctx context.Context, n int, wait time.Duration) ([]queue.Message, error) {
	if n <= 0 {
		return nil, nil
	}
	if err := q.prepare(ctx); err != nil {
		return nil, err
	}
	// Leases that ended are looked for now and then: urgent before routine, and those
	// before new messages. Otherwise one trip asks for all that is new.
	if n == 1 || q.searchDue() {
		for _, stream := range q.streams() {
			got, err := q.reclaim(ctx, stream, n)
			if err == nil && len(got) == 0 {
				got, err = q.read(ctx, n, -1, stream, ">")
			}
			if err != nil || len(got) > 0 {
				return got, q.forgotten(err)
			}
		}
	}
	wait = max(min(wait, time.Second, q.o.Lease/reclaimEvery), time.Millisecond) // 0 would wait for ever
	got, err := q.readBoth(ctx, n, wait)
	return got, q.forgotten(err)
}

// readBoth waits for new messages of either stream. Each is asked for half of n, and
// again for the rest only where there may be more.
func (q *Queue) readBoth(ctx context.Context, n int, wait time.Duration) ([]queue.Message, error) {
	half := max(n/2, 1)
	got, err := q.read(ctx, half, wait, q.urgent, q.routine, ">", ">")
	if err != nil {
		return nil, err
	}
	if len(got) > n { // one of each, and one was asked for
		q.giveBack(ctx, got[n:])
		return got[:n], nil
	}
	urgent := 0
	for urgent < len(got) && got[urgent].ID[0] == 'u' {
		urgent++
	}
	routine := got[urgent:]
	if urgent == half {
		more, err := q.read(ctx, n-len(got), -1, q.urgent, ">")
		if err != nil {
			return got, nil // what was taken is in hand; the fault will show again
		}
		got = slices.Concat(got[:urgent], more, routine)
	}
	if len(routine) == half && len(got) < n {
		more, err := q.read(ctx, n-len(got), -1, q.routine, ">")
		if err != nil {
			return got, nil
		}
		got = append(got, more...)
	}
	return got, nil
}

// giveBack ends the leases of messages that are too many, so that the next receiver
// takes them over. When that fails they come when their leases end.
func (q *Queue) giveBack(ctx context.Context, surplus []queue.Message) {
	ids := make([]string, len(surplus))
	for i, m := range surplus {
		ids[i] = m.ID
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := q.b.c.Pipeline()
	for stream, entries := range q.byStream(ids) {
		args := []any{"XCLAIM", stream, group, q.b.o.Consumer, 0}
		for _, e := range entries {
			args = append(args, e)
		}
		pipe.Do(ctx, append(args, "IDLE", q.o.Lease.Milliseconds()+1, "JUSTID")...)
		q.mu.Lock()
		delete(q.next, stream)
		q.mu.Unlock()
	}
	if _, err := pipe.Exec(ctx); err != nil {
		q.b.o.Logger.Warn("messages are not given back, their leases will end", slog.Int("messages", len(surplus)), slog.Any("error", err))
	}
}

// read is one XREADGROUP; a negative block does not wait.
func (q *Queue) read(ctx context.Context, n int, block time.Duration, streams ...string) ([]queue.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, max(block, 0)+callTimeout)
	defer cancel()
	res, err := q.b.c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: q.b.o.Consumer, Streams: streams, Count: int64(n), Block: block}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []queue.Message
	for _, s := range res {
		out = slices.Grow(out, len(s.Messages))
		for _, m := range s.Messages {
			out = append(out, message(s.Stream == q.urgent, m, 1))
		}
	}
	return out, nil
}

// An id tells which stream it is of: "u" or "r" before the entry's id.
func message(urgent bool, m redis.XMessage, deliveries int) queue.Message {
	class := "r"
	if urgent {
		class = "u"
	}
	body, _ := m.Values[field].(string)
	return queue.Message{ID: class + m.ID, Body: []byte(body), Deliveries: deliveries}
}

// locate splits an id into its stream and entry.
func (q *Queue) locate(id string) (stream, entry string, ok bool) {
	stream = q.urgent
	entry, ok = strings.CutPrefix(id, "u")
	if !ok {
		stream = q.routine
		entry, ok = strings.CutPrefix(id, "r")
	}
	ms, seq, dashed := strings.Cut(entry, "-")
	return stream, entry, ok && dashed && number(ms) && number(seq)
}

// number reports that s is what Redis takes for half of an entry's id: one that it
// does not take fails the whole call.
func number(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// byStream groups ids; those that are none of ours are dropped.
func (q *Queue) byStream(ids []string) map[string][]string {
	out := map[string][]string{}
	for _, id := range ids {
		if stream, entry, ok := q.locate(id); ok {
			out[stream] = append(out[stream], entry)
		}
	}
	return out
}

// prepare makes the groups, when they may be missing.
func (q *Queue) prepare(ctx context.Context) error {
	q.mu.Lock()
	ready := q.ready
	q.mu.Unlock()
	if ready {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, stream := range q.streams() {
		err := q.b.c.XGroupCreateMkStream(ctx, stream, group, "0").Err()
		if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return unavailable("make a consumer group", err)
		}
	}
	q.mu.Lock()
	q.ready = true
	q.mu.Unlock()
	return nil
}

// forgotten notes that Redis lost the groups, so that the next call makes them
// again, and gives other errors their kind.
func (q *Queue) forgotten(err error) error {
	if !gone(err) {
		return unavailable("receive", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = false
	clear(q.cursors)
	return nil
}

// Ack: see queue.Queue. Acknowledged entries are deleted, so that a stream's length
// is what waits and is in flight. Not in MULTI, which a Redis whose memory is full
// refuses, so that it would stay full; and deleted first, since a claim drops what
// is pending and deleted, whereas nobody would see what is there and acknowledged.
func (q *Queue) Ack(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := q.b.c.Pipeline()
	for stream, entries := range q.byStream(ids) {
		pipe.XDel(ctx, stream, entries...)
		pipe.XAck(ctx, stream, group, entries...)
	}
	_, err := pipe.Exec(ctx)
	return unavailable("acknowledge", err)
}

// Extend: see queue.Queue. XCLAIM JUSTID to oneself resets the idle time and leaves
// the count of deliveries alone.
func (q *Queue) Extend(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := q.b.c.Pipeline()
	for stream, entries := range q.byStream(ids) {
		pipe.XClaimJustID(ctx, &redis.XClaimArgs{Stream: stream, Group: group, Consumer: q.b.o.Consumer, Messages: entries})
	}
	_, err := pipe.Exec(ctx)
	if gone(err) {
		return nil
	}
	return unavailable("extend leases", err)
}

// bury moves an entry, unless it is done already, to the dead letters.
// KEYS: its stream, the dead one; ARGV: group, entry, body, cause, deliveries, kept.
var bury = redis.NewScript(`if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'b', ARGV[3], 'cause', ARGV[4], 'deliveries', ARGV[5])
return 1`)

// Dead: see queue.Queue.
func (q *Queue) Dead(ctx context.Context, m queue.Message, cause string) error {
	stream, entry, ok := q.locate(m.ID)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := bury.Run(ctx, q.b.c, []string{stream, q.dead}, group, entry, m.Body, cause, m.Deliveries, deadKept).Err()
	if gone(err) {
		return nil
	}
	return unavailable("bury a message", err)
}

// Stats: see queue.Queue.
func (q *Queue) Stats(ctx context.Context) (queue.Stats, error) {
	if err := q.prepare(ctx); err != nil {
		return queue.Stats{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var s queue.Stats
	for _, stream := range q.streams() {
		length, err := q.b.c.XLen(ctx, stream).Result()
		if err != nil {
			return s, unavailable("count messages", err)
		}
		pending, err := q.b.c.XPending(ctx, stream, group).Result()
		if err != nil {
			return s, q.forgotten(err)
		}
		s.InFlight += int(pending.Count)
		s.Waiting += int(max(length-pending.Count, 0)) // an acknowledgement may be half done
	}
	n, err := q.b.c.XLen(ctx, q.dead).Result()
	s.Dead = int(n)
	return s, unavailable("count dead letters", err)
}
