package queuetest

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"vedette/internal/queue"
)

// Bench measures full cycles (publish, receive, acknowledge) of 64-byte jobs on one
// goroutine, one at a time and in batches. An operation is one job; cpu-ns/op is
// what this process spent on it, without the server behind the queue.
func Bench(b *testing.B, open func(b *testing.B) queue.Broker) {
	for _, size := range []int{1, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			q := Open(b, open(b), "q", queue.Options{})
			items := make([]queue.Item, size)
			for i := range items {
				items[i].Body = make([]byte, 64)
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			for done := 0; done < b.N; {
				if err := q.Publish(context.Background(), items); err != nil {
					b.Fatal(err)
				}
				for left := size; left > 0; {
					msgs, err := q.Receive(context.Background(), left, time.Second)
					if err == nil {
						err = q.Ack(context.Background(), IDs(msgs))
					}
					if err != nil {
						b.Fatal(err)
					}
					left -= len(msgs)
				}
				done += size
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// cpu is what this process used so far, in user and system mode.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
