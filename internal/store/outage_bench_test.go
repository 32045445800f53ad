package store_test

import (
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// BenchmarkOutageToClaim is what stands between a failing answer and its first
// message: the failing result is stored and opens an incident, the alert is routed
// and its delivery claimed; then its outcome is written.
func BenchmarkOutageToClaim(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			e := storetest.New(b, engine)
			owner := e.User(b, "outage@example.org").ID
			_, err := e.CreateChannel(b.Context(), uptime.Channel{OwnerID: owner, Name: "ops", Type: "webhook", Config: []byte(`{"url":"http://127.0.0.1/"}`), Enabled: true, Default: true})
			if err != nil {
				b.Fatal(err)
			}
			var record, route, finish time.Duration
			for b.Loop() {
				b.StopTimer()
				m := e.Monitor(b, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
				e.Record(b, manager.Decide, storetest.Result(m, 0, up))
				b.StartTimer()
				begin := time.Now()
				recs := e.Record(b, manager.Decide, storetest.Result(m, 1, down))
				record += lap(&begin)
				routed, err := e.RouteAlerts(b.Context(), recs[0].AlertIDs, uptime.ClaimTerms{Lease: time.Minute, Limit: 10, PerChannel: 4},
					func(a uptime.Alert, cs []uptime.Channel) []uptime.Delivery { return notify.Route("x", a, cs) })
				if err != nil || len(routed) != 1 || len(routed[0].Claims) != 1 {
					b.Fatal(routed, err)
				}
				route += lap(&begin)
				if err := e.FinishDelivery(b.Context(), routed[0].Claims[0], uptime.SendResult{Status: uptime.DeliveryDelivered}); err != nil {
					b.Fatal(err)
				}
				finish += lap(&begin)
			}
			for _, part := range []struct {
				name string
				d    time.Duration
			}{{"record", record}, {"route", route}, {"finish", finish}} {
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
