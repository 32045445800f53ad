package notify_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

// scene is a notifier at work in a bubble of virtual time.
type scene struct {
	store *memStore
	queue *memQueue
	prov  *scripted
	n     *notify.Notifier
	stop  func()
}

func start(t *testing.T, store *memStore, answer func(context.Context, uptime.Claim) notify.Sent, change ...func(*notify.Options)) *scene {
	t.Helper()
	s := &scene{store: store, queue: newMemQueue(), prov: &scripted{answer: answer}}
	o := notify.Options{Store: store, Queue: s.queue, Providers: []notify.Provider{s.prov}, Installation: "inst"}
	for _, f := range change {
		f(&o)
	}
	n, err := notify.New(o)
	if err != nil {
		t.Fatalf("new notifier: %v", err)
	}
	s.n = n
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	s.stop = func() {
		cancel()
		<-done
	}
	synctest.Wait()
	return s
}

func TestAnAlertIsSentTheMomentItIsHinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, newMemStore(channel(1), channel(2)), accept)
		defer s.stop()
		s.queue.hint(s.store.add(alert(uptime.AlertOpened, 7)))
		began := time.Now()
		synctest.Wait()
		log := s.prov.log()
		if len(log) != 2 || !log[0].at.Equal(began) {
			t.Fatalf("got %d sends, want 2 without any delay", len(log))
		}
		for id := 1; id <= 2; id++ {
			if d := s.store.delivery(id); d.Status != uptime.DeliveryDelivered || d.log[0].Outcome != uptime.OutcomeAccepted {
				t.Errorf("delivery %d: got %s, log %+v", id, d.Status, d.log)
			}
		}
		if s.queue.acked != 1 {
			t.Errorf("got %d acknowledged, want 1", s.queue.acked)
		}
	})
}

func TestAnAlertWhoseHintWasLostIsFoundBySweeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, newMemStore(channel(1)), accept)
		defer s.stop()
		s.store.add(alert(uptime.AlertOpened, 7))
		time.Sleep(5 * time.Second) // virtual: past one sweep
		synctest.Wait()
		if got := len(s.prov.log()); got != 1 {
			t.Fatalf("got %d sends, want 1", got)
		}
		s.store.add(alert(uptime.AlertOpened, 8))
		s.n.Wake()
		synctest.Wait()
		if got := len(s.prov.log()); got != 2 {
			t.Fatalf("after Wake: got %d sends, want 2 at once", got)
		}
	})
}

func TestAMessageThatCannotBeReadGoesToTheDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, newMemStore(channel(1)), accept)
		defer s.stop()
		_ = s.queue.Publish(t.Context(), itemsOf("junk"))
		synctest.Wait()
		if len(s.queue.dead) != 1 {
			t.Fatalf("got %d dead letters, want 1", len(s.queue.dead))
		}
	})
}

func TestTheResolveWaitsForTheOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, newMemStore(channel(1)), func(_ context.Context, c uptime.Claim) notify.Sent {
			if time.Since(began) < time.Minute {
				return notify.Sent{Outcome: uptime.OutcomeTemporary}
			}
			return notify.Sent{Outcome: uptime.OutcomeAccepted}
		})
		defer s.stop()
		s.queue.hint(s.store.add(alert(uptime.AlertOpened, 7)))
		s.queue.hint(s.store.add(alert(uptime.AlertResolved, 7)))
		time.Sleep(time.Hour)
		synctest.Wait()
		var kinds []uptime.AlertKind
		for _, x := range s.prov.log() {
			kinds = append(kinds, x.claim.Delivery.Kind)
		}
		if len(kinds) < 3 || kinds[len(kinds)-1] != uptime.AlertResolved || slices.Index(kinds, uptime.AlertResolved) != len(kinds)-1 {
			t.Fatalf("got %v, want openings until one is accepted, then one resolve", kinds)
		}
	})
}

func TestAnOutcomeThatWasNotRecordedIsSentAgainUnderTheSameKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(channel(1))
		store.failFinish = 1000 // the store is away for longer than the lease
		s := start(t, store, accept)
		defer s.stop()
		s.queue.hint(store.add(alert(uptime.AlertOpened, 7)))
		time.Sleep(65 * time.Second)
		store.mu.Lock()
		store.failFinish = 0
		store.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		log, d := s.prov.log(), store.delivery(1)
		if len(log) < 2 || log[0].claim.Delivery.Key != log[1].claim.Delivery.Key {
			t.Fatalf("got %d sends, want at least 2 with one key", len(log))
		}
		if d.Status != uptime.DeliveryDelivered || d.log[0].Outcome != uptime.OutcomeUnknown {
			t.Errorf("got %s and first attempt %s, want delivered and unknown", d.Status, d.log[0].Outcome)
		}
	})
}

func TestAShortFailureToRecordCausesNoRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(channel(1))
		store.failFinish = 4
		s := start(t, store, accept)
		defer s.stop()
		s.queue.hint(store.add(alert(uptime.AlertOpened, 7)))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got, d := len(s.prov.log()), store.delivery(1); got != 1 || d.Status != uptime.DeliveryDelivered {
			t.Fatalf("got %d sends and %s, want 1 and delivered", got, d.Status)
		}
	})
}

func TestAReceiverThatIsDownForADayIsTriedAndThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, newMemStore(channel(1)), refuse(uptime.OutcomeTemporary))
		defer s.stop()
		began := time.Now()
		s.queue.hint(s.store.add(alert(uptime.AlertOpened, 7)))
		time.Sleep(23*time.Hour + 50*time.Minute)
		synctest.Wait()
		if d := s.store.delivery(1); d.Status != uptime.DeliveryPending {
			t.Fatalf("before the horizon: got %s, want pending", d.Status)
		}
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		log, d := s.prov.log(), s.store.delivery(1)
		if d.Status != uptime.DeliveryDead || len(s.store.self()) != 1 {
			t.Fatalf("after the horizon: got %s and own incidents %q, want dead and one", d.Status, s.store.self())
		}
		if last := log[len(log)-1].at.Sub(began); last < 24*time.Hour {
			t.Errorf("last attempt after %s, want at least 24 h", last)
		}
		for i := 1; i < len(log); i++ {
			if gap := log[i].at.Sub(log[i-1].at); gap < time.Second || gap > 15*time.Minute+time.Second {
				t.Errorf("wait %d was %s, want 1 s to 15 min", i, gap)
			}
		}
		if gap := log[1].at.Sub(log[0].at); gap > 10*time.Second {
			t.Errorf("first repeat after %s, want at most 10 s", gap)
		}
	})
}

func TestAPermanentRefusalIsNotRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		kind uptime.AlertKind
		self int
	}{
		"an alert, and we say so": {uptime.AlertOpened, 1},
		"a test, in silence":      {uptime.AlertTest, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t, newMemStore(channel(1)), refuse(uptime.OutcomePermanent))
				defer s.stop()
				s.queue.hint(s.store.add(alert(c.kind, 7)))
				time.Sleep(time.Hour)
				synctest.Wait()
				if d := s.store.delivery(1); len(s.prov.log()) != 1 || d.Status != uptime.DeliveryDead || d.Cause != "refused" {
					t.Errorf("got %d sends, %s, %q; want 1, dead, refused", len(s.prov.log()), d.Status, d.Cause)
				}
				if got := s.store.self(); len(got) != c.self {
					t.Errorf("own incidents: got %q, want %d", got, c.self)
				}
			})
		})
	}
}

func TestOneHangingChannelDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, newMemStore(channel(1), channel(2)), func(ctx context.Context, c uptime.Claim) notify.Sent {
			if c.Channel.ID == 1 {
				<-ctx.Done()
				return notify.Sent{Outcome: uptime.OutcomeTemporary}
			}
			return notify.Sent{Outcome: uptime.OutcomeAccepted}
		}, func(o *notify.Options) { o.PerChannel = 2 })
		defer s.stop()
		began := time.Now()
		for i := range int64(100) {
			s.queue.hint(s.store.add(alert(uptime.AlertOpened, i+1)))
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		hung, good := 0, 0
		for _, x := range s.prov.log() {
			switch {
			case x.claim.Channel.ID == 1:
				hung++
			case x.at.Sub(began) < 5*time.Second:
				good++
			}
		}
		if good != 100 || hung != 2 {
			t.Fatalf("got %d sends of the good channel and %d of the hanging one, want 100 and 2", good, hung)
		}
	})
}

func TestTwoNotifiersSendEachDeliveryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(channel(1), channel(2))
		a, b := start(t, store, accept), start(t, store, accept)
		defer a.stop()
		defer b.stop()
		for i := range int64(50) {
			id := store.add(alert(uptime.AlertOpened, i+1))
			a.queue.hint(id)
			b.queue.hint(id)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(a.prov.log()) + len(b.prov.log()); got != 100 {
			t.Fatalf("got %d sends, want 100", got)
		}
	})
}

func TestAnOutcomeOfALostClaimIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(channel(1))
		release := make(chan struct{})
		// A provider that ignores its deadline stands for a process that was stopped.
		a := start(t, store, func(context.Context, uptime.Claim) notify.Sent {
			<-release
			return notify.Sent{Outcome: uptime.OutcomePermanent}
		}, func(o *notify.Options) { o.InFlight = 1 })
		a.queue.hint(store.add(alert(uptime.AlertOpened, 7)))
		synctest.Wait()
		time.Sleep(59 * time.Second)
		b := start(t, store, accept)
		time.Sleep(10 * time.Second)
		close(release)
		synctest.Wait()
		d := store.delivery(1)
		a.stop()
		b.stop()
		if d.Status != uptime.DeliveryDelivered || len(store.self()) != 0 {
			t.Fatalf("got %s and %q, want the second claim's outcome to stand", d.Status, store.self())
		}
	})
}

// TestAClaimThatMayNotBeOnRecordIsNotSent: the commit failed, or its answer was lost.
func TestAClaimThatMayNotBeOnRecordIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(channel(1))
		store.loseClaims = 1
		s := start(t, store, func(_ context.Context, c uptime.Claim) notify.Sent {
			if c.Attempt == 1 {
				return notify.Sent{Outcome: uptime.OutcomeTemporary}
			}
			return notify.Sent{Outcome: uptime.OutcomeAccepted}
		})
		defer s.stop()
		s.queue.hint(store.add(alert(uptime.AlertOpened, 7)))
		time.Sleep(time.Minute)
		synctest.Wait()
		var sent []int
		for _, x := range s.prov.log() {
			sent = append(sent, x.claim.Attempt)
		}
		if d := store.delivery(1); !slices.Equal(sent, []int{1, 3}) || d.Status != uptime.DeliveryDelivered {
			t.Fatalf("sent attempts %v, then %s; want 1, then 3 after the lease of the lost claim, and delivered", sent, d.Status)
		}
	})
}

// TestAProcessThatWasStoppedDoesNotSendWhatItsLeaseHasLeftToOthers is FAULTS 55: a
// notifier is stopped right after its claim, and goes on when another has sent.
func TestAProcessThatWasStoppedDoesNotSendWhatItsLeaseHasLeftToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore(channel(1))
		stopped := true
		a := start(t, store, accept, func(o *notify.Options) {
			o.Failpoint = func(name string) {
				if name == "claimed" && stopped {
					stopped = false
					time.Sleep(45 * time.Second)
				}
			}
		})
		defer a.stop()
		a.queue.hint(store.add(alert(uptime.AlertOpened, 7)))
		synctest.Wait()
		b := start(t, store, accept)
		defer b.stop()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		d := store.delivery(1)
		// Who claims it next may be either: only the stopped one's send stands still here.
		var sent []int
		for _, x := range append(a.prov.log(), b.prov.log()...) {
			sent = append(sent, x.claim.Attempt)
		}
		if !slices.Equal(sent, []int{2}) || d.Status != uptime.DeliveryDelivered || d.Attempts != 2 {
			t.Fatalf("sent attempts %v, %s after %d; want the second alone, delivered, 2", sent, d.Status, d.Attempts)
		}
		if d.log[0].Outcome == uptime.OutcomeAccepted || d.log[1].Outcome != uptime.OutcomeAccepted {
			t.Errorf("attempts: got %+v, want the second alone accepted", d.log)
		}
	})
}

func TestAnAlertForNobodyIsMadeVisible(t *testing.T) {
	off := channel(1)
	off.Enabled = false
	for name, c := range map[string]struct {
		channels []uptime.Channel
		self     int
		statuses []uptime.DeliveryStatus
	}{
		"no channel opens our own incident":        {nil, 1, nil},
		"switched-off channels are recorded as so": {[]uptime.Channel{off}, 0, []uptime.DeliveryStatus{uptime.DeliverySuppressed}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t, newMemStore(c.channels...), accept)
				defer s.stop()
				s.queue.hint(s.store.add(alert(uptime.AlertOpened, 7)))
				synctest.Wait()
				var got []uptime.DeliveryStatus
				for i := range s.store.deliveries {
					got = append(got, s.store.delivery(i+1).Status)
				}
				if len(s.store.self()) != c.self || !slices.Equal(got, c.statuses) {
					t.Errorf("got own incidents %q, deliveries %v; want %d, %v", s.store.self(), got, c.self, c.statuses)
				}
			})
		})
	}
}

func TestOurOwnIncidentIsResolvedWhenAlertsGetThroughAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := start(t, newMemStore(channel(1)), func(_ context.Context, c uptime.Claim) notify.Sent {
			if c.Delivery.IncidentID == 1 {
				return notify.Sent{Outcome: uptime.OutcomePermanent}
			}
			return notify.Sent{Outcome: uptime.OutcomeAccepted}
		})
		defer s.stop()
		s.queue.hint(s.store.add(alert(uptime.AlertOpened, 1)))
		time.Sleep(time.Minute)
		s.queue.hint(s.store.add(alert(uptime.AlertOpened, 2)))
		time.Sleep(58 * time.Minute)
		synctest.Wait()
		if got := s.store.self(); len(got) != 1 {
			t.Fatalf("%s after the loss: got %q, want it open still", time.Since(began), got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := s.store.self(); len(got) != 2 {
			t.Fatalf("an hour after the loss: got %q, want it resolved", got)
		}
	})
}

func TestStoppingWaitsForASendAndRecordsIt(t *testing.T) {
	for name, c := range map[string]struct {
		takes   time.Duration
		within  time.Duration
		outcome uptime.DeliveryStatus
	}{
		"a send that ends in time is delivered":     {3 * time.Second, 4 * time.Second, uptime.DeliveryDelivered},
		"a send that does not is due again at once": {time.Hour, 10 * time.Second, uptime.DeliveryPending},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t, newMemStore(channel(1)), func(ctx context.Context, _ uptime.Claim) notify.Sent {
					select {
					case <-ctx.Done():
						return notify.Sent{Outcome: uptime.OutcomeTemporary, Excerpt: fmt.Sprint(context.Cause(ctx))}
					case <-time.After(c.takes):
						return notify.Sent{Outcome: uptime.OutcomeAccepted}
					}
				})
				s.queue.hint(s.store.add(alert(uptime.AlertOpened, 7)))
				synctest.Wait()
				began := time.Now()
				s.stop()
				d := s.store.delivery(1)
				if time.Since(began) > c.within || d.Status != c.outcome || d.NextAt.After(time.Now()) {
					t.Errorf("stopped after %s with %s due %s; want within %s, %s, due", time.Since(began), d.Status, d.NextAt, c.within, c.outcome)
				}
			})
		})
	}
}

func TestAProviderThatPanicsHarmsNoOtherDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, newMemStore(channel(1), channel(2)), func(_ context.Context, c uptime.Claim) notify.Sent {
			if c.Channel.ID == 1 {
				panic("a bug")
			}
			return notify.Sent{Outcome: uptime.OutcomeAccepted}
		})
		defer s.stop()
		s.queue.hint(s.store.add(alert(uptime.AlertOpened, 7)))
		synctest.Wait()
		if a, b := s.store.delivery(1), s.store.delivery(2); a.Status != uptime.DeliveryPending || b.Status != uptime.DeliveryDelivered {
			t.Fatalf("got %s and %s, want pending and delivered", a.Status, b.Status)
		}
	})
}

func TestRouteGivesEachChannelOneDelivery(t *testing.T) {
	t.Parallel()
	a := alert(uptime.AlertOpened, 7)
	a.ID = 3
	ds := notify.Route("inst", a, []uptime.Channel{channel(9), channel(2), channel(9)})
	if len(ds) != 2 || ds[0].ChannelID != 2 || ds[1].ChannelID != 9 || ds[0].Key == ds[1].Key {
		t.Fatalf("got %+v, want channels 2 and 9 once each, with keys of their own", ds)
	}
}
