package notify

import "github.com/prometheus/client_golang/prometheus"

// metrics of the notifier. Labels are of closed sets: nothing a user named.
type metrics struct {
	routed     *prometheus.CounterVec // result: routed, suppressed, nobody
	swept      prometheus.Counter
	attempts   *prometheus.CounterVec // type, outcome
	dead       *prometheus.CounterVec // type
	unrecorded prometheus.Counter
	inFlight   prometheus.Gauge
	latency    *prometheus.HistogramVec // type
	age        prometheus.Histogram
}

// newMetrics makes the metrics and registers them with r unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns, sub = "vedette", "notify"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}
	}
	m := &metrics{
		routed:     prometheus.NewCounterVec(counter("alerts_total", "Alerts by what the router made of them."), []string{"result"}),
		swept:      prometheus.NewCounter(counter("alerts_swept_total", "Alerts that were found by the sweep, not through the queue.")),
		attempts:   prometheus.NewCounterVec(counter("attempts_total", "Attempts to send, by outcome."), []string{"type", "outcome"}),
		dead:       prometheus.NewCounterVec(counter("dead_total", "Deliveries that were given up."), []string{"type"}),
		unrecorded: prometheus.NewCounter(counter("unrecorded_total", "Tries to record an outcome that the store did not take.")),
		inFlight:   prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "in_flight", Help: "Sends under way."}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "attempt_seconds",
			Help: "Time of one attempt.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"type"}),
		age: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "alert_age_seconds",
			Help: "From the alert's commit to its acceptance by a channel.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 12)}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.routed, m.swept, m.attempts, m.dead, m.unrecorded, m.inFlight, m.latency, m.age} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
