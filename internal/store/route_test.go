package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

func route(a uptime.Alert, cs []uptime.Channel) []uptime.Delivery {
	return notify.Route("test", a, cs)
}

// channels makes enabled default channels of owner.
func channels(t *testing.T, e storetest.Env, owner int64, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := e.CreateChannel(t.Context(), uptime.Channel{OwnerID: owner, Name: name, Type: "webhook", Config: []byte(`{}`), Default: true, Enabled: name != "off"})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func routeAlerts(t *testing.T, e storetest.Env, terms uptime.ClaimTerms, ids ...int64) (claims []uptime.Claim) {
	t.Helper()
	routed, err := e.RouteAlerts(t.Context(), ids, terms, route)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routed {
		claims = append(claims, r.Claims...)
	}
	return claims
}

func TestRoutingClaimsWhatMayBeSentAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		channels(t, e, owner, "one", "two", "off")
		terms := uptime.ClaimTerms{Lease: time.Minute, Limit: 10, PerChannel: 2}
		outage := func(end bool) (alerts []int64) {
			m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
			alerts = e.Record(t, manager.Decide, storetest.Result(m, 0, down))[0].AlertIDs
			if end {
				alerts = append(alerts, e.Record(t, manager.Decide, storetest.Result(m, 1, up))[0].AlertIDs...)
			}
			return alerts
		}
		// An outage and its end, routed together: the end waits for the opening.
		both := outage(true)
		claims := routeAlerts(t, e, terms, both...)
		if len(claims) != 2 || claims[0].Alert.Kind != uptime.AlertOpened || claims[1].Alert.Kind != uptime.AlertOpened {
			t.Fatalf("claimed %+v, want the opening for each of two channels", claims)
		}
		for _, c := range claims {
			d, err := e.Delivery(t.Context(), owner, c.Delivery.ID)
			if err != nil || d.Status != uptime.DeliverySending || len(d.Log) != 1 || d.Log[0].Outcome != uptime.OutcomeUnknown || string(c.Channel.Config) != `{}` {
				t.Errorf("got %+v, %v, want it on record as being sent", d, err)
			}
		}
		if again := routeAlerts(t, e, terms, both...); len(again) != 0 {
			t.Errorf("routed again: %+v", again)
		}
		if more, err := e.ClaimDeliveries(t.Context(), terms); err != nil || len(more) != 0 {
			t.Errorf("claimed %+v, %v while the opening is being sent", more, err)
		}
		// Each channel has one place left; the third outage must wait.
		if claims := routeAlerts(t, e, terms, append(outage(false), outage(false)...)...); len(claims) != 2 {
			t.Errorf("claimed %d, want one for each channel", len(claims))
		}
		for _, c := range claims {
			if err := e.FinishDelivery(t.Context(), c, uptime.SendResult{Status: uptime.DeliveryDelivered}); err != nil {
				t.Fatal(err)
			}
		}
		ends, err := e.ClaimDeliveries(t.Context(), terms)
		if err != nil || len(ends) != 2 || ends[0].Alert.Kind != uptime.AlertResolved || ends[0].Attempt != 1 {
			t.Errorf("claimed %+v, %v, want the end of the first outage for each channel", ends, err)
		}
		if none := routeAlerts(t, e, uptime.ClaimTerms{PerChannel: 2}, outage(false)...); len(none) != 0 {
			t.Errorf("claimed %+v without any room", none)
		}
		if err := e.ReleaseClaims(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Two of each channel, the oldest first; the rest of the backlog waits.
		var names []string
		backlog, err := e.ClaimDeliveries(t.Context(), terms)
		for _, c := range backlog {
			names = append(names, c.Channel.Name)
		}
		slices.Sort(names)
		if err != nil || !slices.Equal(names, []string{"one", "one", "two", "two"}) {
			t.Errorf("claimed for %v, %v, want two of each channel", names, err)
		}
	})
}

func TestTwoNotifiersRouteEachAlertOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		channels(t, e, owner, "one", "two")
		var ids []int64
		for range 20 {
			m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
			ids = append(ids, e.Record(t, manager.Decide, storetest.Result(m, 0, down))[0].AlertIDs...)
		}
		var mu sync.Mutex
		claimed := map[int64]int{} // by delivery
		var all sync.WaitGroup
		for range 4 {
			s := e.Open(t)
			all.Go(func() {
				for chunk := range slices.Chunk(ids, 5) {
					routed, err := s.RouteAlerts(t.Context(), chunk, uptime.ClaimTerms{Lease: time.Minute, Limit: 7, PerChannel: 100}, route)
					if err != nil {
						t.Error(err)
					}
					more, err := s.ClaimDeliveries(t.Context(), uptime.ClaimTerms{Lease: time.Minute, Limit: 7, PerChannel: 100})
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, r := range routed {
						more = append(more, r.Claims...)
					}
					for _, c := range more {
						claimed[c.Delivery.ID]++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		for len(claimed) < 40 {
			rest, err := e.ClaimDeliveries(t.Context(), uptime.ClaimTerms{Lease: time.Minute, Limit: 7, PerChannel: 100})
			if err != nil || len(rest) == 0 {
				t.Fatalf("%d deliveries were claimed, %v, want 40", len(claimed), err)
			}
			for _, c := range rest {
				claimed[c.Delivery.ID]++
			}
		}
		for id, n := range claimed {
			if n != 1 {
				t.Errorf("delivery %d was claimed %d times", id, n)
			}
		}
	})
}

// TestTheEndIsNotRoutedBeforeItsOpening: the hint about the opening was lost, the one
// about the end was not.
func TestTheEndIsNotRoutedBeforeItsOpening(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		channels(t, e, owner, "one")
		m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
		e.Record(t, manager.Decide, storetest.Result(m, 0, down))
		end := e.Record(t, manager.Decide, storetest.Result(m, 1, up))[0].AlertIDs
		terms := uptime.ClaimTerms{Lease: time.Minute, Limit: 10, PerChannel: 4}
		for _, want := range []uptime.AlertKind{uptime.AlertOpened, uptime.AlertResolved} {
			claims := routeAlerts(t, e, terms, end...)
			if want == uptime.AlertResolved {
				var err error
				if claims, err = e.ClaimDeliveries(t.Context(), terms); err != nil {
					t.Fatal(err)
				}
			}
			if len(claims) != 1 || claims[0].Alert.Kind != want {
				t.Fatalf("claimed %+v, want %s alone", claims, want)
			}
			if err := e.FinishDelivery(t.Context(), claims[0], uptime.SendResult{Status: uptime.DeliveryDelivered}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
