package store_test

import (
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// BenchmarkOutageToClaim is what stands between a failing answer and its first
// message: the failing result is stored and opens an incident, the alert is routed,
// the delivery is claimed, its outcome written.
func BenchmarkOutageToClaim(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			e := storetest.New(b, engine)
			owner := e.User(b, "outage@example.org").ID
			_, err := e.CreateChannel(b.Context(), uptime.Channel{OwnerID: owner, Name: "ops", Type: "webhook", Config: []byte(`{"url":"http://127.0.0.1/"}`), Enabled: true, Default: true})
			if err != nil {
				b.Fatal(err)
			}
			var record, route, claim, finish time.Duration
			for b.Loop() {
				b.StopTimer()
				m := e.Monitor(b, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
				e.Record(b, manager.Decide, storetest.Result(m, 0, up))
				b.StartTimer()
				begin := time.Now()
				recs := e.Record(b, manager.Decide, storetest.Result(m, 1, down))
				record += lap(&begin)
				for _, id := range recs[0].AlertIDs {
					if _, err := e.RouteAlert(b.Context(), id, func(a uptime.Alert, cs []uptime.Channel) []uptime.Delivery {
						return notify.Route("x", a, cs)
					}); err != nil {
						b.Fatal(err)
					}
				}
				route += lap(&begin)
				claims, err := e.ClaimDeliveries(b.Context(), "bench", time.Minute, 10, 4)
				if err != nil || len(claims) != 1 {
					b.Fatal(claims, err)
				}
				claim += lap(&begin)
				if err := e.FinishDelivery(b.Context(), claims[0], uptime.SendResult{Status: uptime.DeliveryDelivered}); err != nil {
					b.Fatal(err)
				}
				finish += lap(&begin)
			}
			for _, part := range []struct {
				name string
				d    time.Duration
			}{{"record", record}, {"route", route}, {"claim", claim}, {"finish", finish}} {
				b.ReportMetric(float64(part.d.Microseconds())/float64(b.N), part.name+"-µs")
			}
		})
	}
}

func lap(from *time.Time) time.Duration {
	now := time.Now()
	d := now.Sub(*from)
	*from = now
	return d
}
