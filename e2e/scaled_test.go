package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// metrics is what the named process says of itself, "" if it does not answer.
func (c *cluster) metrics(name string) string {
	resp, err := c.http.Get("http://" + c.procs[name].addr(c.t.Context()) + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(b)
}

// TestTheScaledModeGoesOnWhateverStopsInIt has one installation, two processes of
// each role, go through what happens to processes and to Redis. Its targets work
// except where a step says so: nothing else may ever be told as down, and each slot
// of each monitor ends with one verdict.
func TestTheScaledModeGoesOnWhateverStopsInIt(t *testing.T) {
	t.Parallel()
	const rounds = 12 // of outages, with two flushes each; 50 would take two minutes
	mail, hook, tg := testenv.SMTP(t), newReceiver(t), newTarget(t)
	c := scaled(t, mail.URL())
	watched := c.watch(tg, hook)
	n := news{t, c, mail, hook}
	steady := newTarget(t)
	ids := append(c.every(5, newSlow(t), nil), c.every(1, steady.URL, nil)...)
	step := func(name string, run func()) {
		t.Log(name)
		run()
		c.account(ids...)
		c.neverDown(ids...)
	}

	step("a rolling restart", func() {
		for range 2 {
			for _, name := range []string{"worker1", "scheduler1", "notifier1", "worker2", "scheduler2", "notifier2"} {
				if took := c.procs[name].stop(); took > 10*time.Second {
					t.Errorf("stopping %s took %s, want at most 10 s", name, took)
				}
				c.restart(name)
				eventually(t, 60*time.Second, name+" is back", func() bool { return c.metrics(name) != "" })
			}
		}
		n.settle(0, 0)
	})
	step("Redis forgets all at any moment of outages and their ends", func() {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		for range rounds {
			for _, to := range []struct {
				status  int
				verdict string
			}{{http.StatusServiceUnavailable, "down"}, {http.StatusOK, "up"}} {
				tg.status.Store(int64(to.status))
				elapse(t, time.Now(), time.Duration(r.IntN(1500))*time.Millisecond)
				if err := c.redis.FlushAll(); err != nil {
					t.Fatal(err)
				}
				c.until(watched, to.verdict)
			}
		}
		n.settle(rounds, rounds)
	})
	step("the scheduler that leads, and a worker, stop for longer than their leases", func() {
		both := []string{"scheduler1", "scheduler2"}
		var was string
		eventually(t, 30*time.Second, "a scheduler leads", func() bool { was = c.leader(both...); return was != "" })
		begin := time.Now()
		c.procs[was].pause()
		c.procs["worker1"].pause()
		other := both[1-slices.Index(both, was)]
		eventually(t, 60*time.Second, "the other scheduler leads", func() bool { return c.leader(other) != "" })
		from := time.Now()
		eventually(t, 60*time.Second, "slots go on", func() bool { return c.history(ids[5]).count(from, "up", "") > 3 })
		elapse(t, begin, 32*time.Second) // the lease of a job
		c.procs[was].resume()
		c.procs["worker1"].resume()
		eventually(t, 30*time.Second, "one leads, and it is not the one that was away", func() bool { return c.leader(was) == "" && c.leader(other) != "" })
		for _, id := range ids {
			c.until(id, "up")
		}
	})
	step("no worker is left", func() {
		c.procs["worker1"].kill()
		c.procs["worker2"].kill()
		killed := time.Now()
		for _, id := range ids { // 2.5 intervals, the timeout, and the auditor's slack
			c.until(id, "unknown")
		}
		if took := time.Since(killed); took > 25*time.Second {
			t.Errorf("it took %s until the monitors were unknown, want 2.5 intervals and a slack of 15 s", took)
		}
		from, to := killed.Add(3*time.Second), time.Now()
		var up struct {
			Ratio *float64
			Up    string
		}
		c.must("GET", fmt.Sprintf("/api/v1/monitors/%d/uptime?from=%s&to=%s", ids[5], from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)), nil, &up)
		if up.Ratio != nil || up.Up != "0s" {
			t.Errorf("uptime of the time in which nobody looked: ratio %v, up %s, want none", up.Ratio, up.Up)
		}
		hits, again := steady.hits.Load(), time.Now()
		c.restart("worker1")
		c.restart("worker2")
		for _, id := range ids {
			c.until(id, "up")
		}
		elapse(t, again, 5*time.Second)
		if got, slots := steady.hits.Load()-hits, int64(time.Since(again)/time.Second)+2; got > slots {
			t.Errorf("the target was asked %d times in %s, want %d at most: old slots are not run late", got, time.Since(again), slots)
		}
	})
	step("Redis is out of reach", func() {
		c.setEntry(c.procs["api1"].addr(t.Context())) // the balancer sends nobody to an API that is not ready
		c.wire.Cut()
		cut := time.Now()
		for _, id := range ids {
			c.until(id, "unknown")
		}
		c.wire.Heal()
		for _, id := range ids {
			c.until(id, "up")
		}
		eventually(t, 60*time.Second, "the scheduler's own words are on record", func() bool { return c.history(ids[5]).count(cut, "unknown", "queue_failed") > 0 })
		n.settle(rounds, rounds)
	})
}
