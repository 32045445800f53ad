package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// news is what the people who are told have seen of one outage.
type news struct {
	t    testing.TB
	c    *cluster
	mail *testenv.SMTPServer
	hook *receiver
}

// opened and resolved count the outage's messages, repeats of one id once.
func (n news) opened() (mails, hooks int) {
	return n.mails("[DOWN]"), n.hook.count("incident.opened")
}

func (n news) resolved() (mails, hooks int) {
	return n.mails("[UP]"), n.hook.count("incident.resolved")
}

func (n news) mails(mark string) int {
	ids := map[string]bool{}
	for _, m := range n.mail.Messages() {
		if strings.Contains(m.Header.Get("Subject"), mark) {
			ids[m.Header.Get("Message-Id")] = true
		}
	}
	return len(ids)
}

// incidents are those about targets, by whether they are open.
func (n news) incidents() (open, closed int) {
	for _, i := range n.c.list("/api/v1/incidents") {
		if i["kind"] != "target" {
			continue
		}
		if i["resolved_at"] == nil {
			open++
			continue
		}
		closed++
	}
	return open, closed
}

// settle waits until both channels have the expected number of openings and
// recoveries, then checks that no more came and that incidents agree.
func (n news) settle(opened, resolved int) {
	n.t.Helper()
	eventually(n.t, 90*time.Second, fmt.Sprintf("%d openings and %d recoveries by mail and webhook", opened, resolved), func() bool {
		om, oh := n.opened()
		rm, rh := n.resolved()
		return om >= opened && oh >= opened && rm >= resolved && rh >= resolved
	})
	om, oh := n.opened()
	rm, rh := n.resolved()
	if om != opened || oh != opened || rm != resolved || rh != resolved {
		n.t.Errorf("openings: %d mails and %d webhooks, want %d; recoveries: %d mails and %d webhooks, want %d", om, oh, opened, rm, rh, resolved)
	}
	open, closed := n.incidents()
	if open != opened-resolved || closed != resolved {
		n.t.Errorf("incidents: %d open and %d closed, want %d and %d", open, closed, opened-resolved, resolved)
	}
}

func TestAnOutageIsToldOnceAndSoIsItsEnd(t *testing.T) {
	modes := map[string]func(testing.TB, string) *cluster{
		"embedded": func(t testing.TB, smtp string) *cluster { return embedded(t, smtp) },
		"scaled":   scaled,
	}
	for mode, begin := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			mail, hook, tg := testenv.SMTP(t), newReceiver(t), newTarget(t)
			c := begin(t, mail.URL())
			id := c.watch(tg, hook)
			n := news{t, c, mail, hook}

			tg.status.Store(http.StatusServiceUnavailable)
			n.settle(1, 0)
			c.until(id, "down")
			tg.status.Store(http.StatusOK)
			n.settle(1, 1)
			c.until(id, "up")
			n.repliesToItsOpening()
		})
	}
}

// repliesToItsOpening: the mail about the end answers the mail about the beginning.
func (n news) repliesToItsOpening() {
	n.t.Helper()
	var opening, answer string
	for _, m := range n.mail.Messages() {
		if strings.Contains(m.Header.Get("Subject"), "[DOWN]") {
			opening = m.Header.Get("Message-Id")
			continue
		}
		answer = m.Header.Get("In-Reply-To")
	}
	if opening == "" || opening != answer {
		n.t.Errorf("the recovery replies to %q, want %q", answer, opening)
	}
}

func TestKillingTheProcessAnywhereLosesNothingAndInventsNothing(t *testing.T) {
	t.Parallel()
	mail, hook, tg := testenv.SMTP(t), newReceiver(t), newTarget(t)
	c := embedded(t, mail.URL())
	id := c.watch(tg, hook)
	n := news{t, c, mail, hook}
	again := func() {
		t.Helper()
		c.procs["all"].kill()
		c.restart("all")
		c.ready()
	}

	again() // while all is well
	tg.status.Store(http.StatusServiceUnavailable)
	again() // while it fails, known or not
	n.settle(1, 0)
	again() // with an open incident: nobody is told again
	c.until(id, "down")
	tg.status.Store(http.StatusOK)
	again() // while it recovers
	n.settle(1, 1)
	again()
	c.until(id, "up")
	n.settle(1, 1)
}

func TestSIGTERMDrainsWithinTenSecondsAndLeavesNoFalseDown(t *testing.T) {
	t.Parallel()
	mail, hook, tg := testenv.SMTP(t), newReceiver(t), newTarget(t)
	c := embedded(t, mail.URL())
	id := c.watch(tg, hook)
	for round := range 3 {
		if took := c.procs["all"].stop(); took > 10*time.Second {
			t.Errorf("round %d: stopping took %s, want at most 10 s", round, took)
		}
		c.restart("all")
		c.ready()
		c.until(id, "up")
	}
	n := news{t, c, mail, hook}
	n.settle(0, 0)
}

// TestAnyOneOfEachMayDieAndTheQueueForgetAll is the promise of the scaled mode.
func TestAnyOneOfEachMayDieAndTheQueueForgetAll(t *testing.T) {
	t.Parallel()
	mail, hook, tg := testenv.SMTP(t), newReceiver(t), newTarget(t)
	c := scaled(t, mail.URL())
	id := c.watch(tg, hook)
	n := news{t, c, mail, hook}

	for _, role := range []string{"scheduler1", "worker1"} {
		c.procs[role].kill()
	}
	tg.status.Store(http.StatusServiceUnavailable)
	if err := c.redis.FlushAll(); err != nil {
		t.Fatal(err)
	}
	n.settle(1, 0)
	for _, role := range []string{"notifier1", "api1"} {
		c.procs[role].kill()
	}
	if err := c.pg.Restart(); err != nil {
		t.Fatal(err)
	}
	c.until(id, "down")
	tg.status.Store(http.StatusOK)
	if err := c.redis.FlushAll(); err != nil {
		t.Fatal(err)
	}
	n.settle(1, 1)
	for _, role := range []string{"scheduler1", "worker1", "notifier1", "api1"} {
		c.restart(role)
	}
	c.until(id, "up")
	n.settle(1, 1)
}
