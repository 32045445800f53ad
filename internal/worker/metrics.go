package worker

import "github.com/prometheus/client_golang/prometheus"

// metrics of a worker.
type metrics struct {
	checks     *prometheus.CounterVec // verdict, reason
	starved    prometheus.Counter
	leaked     prometheus.Counter
	dead       prometheus.Counter
	unrecorded prometheus.Counter
	lag        prometheus.Histogram
}

// newMetrics makes the metrics and registers them with r unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "vedette", Subsystem: "worker", Name: name, Help: help}
	}
	m := &metrics{
		checks:     prometheus.NewCounterVec(opts("checks_total", "Attempts by verdict and reason; the reason of up is empty."), []string{"verdict", "reason"}),
		starved:    prometheus.NewCounter(opts("starved_total", "Checks that got no place in time.")),
		leaked:     prometheus.NewCounter(opts("leaked_total", "Probes that ignored their end.")),
		dead:       prometheus.NewCounter(opts("dead_letters_total", "Messages that are no job.")),
		unrecorded: prometheus.NewCounter(opts("unrecorded_total", "Tries to store a result that failed.")),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "vedette", Subsystem: "worker", Name: "start_lag_seconds",
			Help: "From dequeue to start.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.checks, m.starved, m.leaked, m.dead, m.unrecorded, m.lag} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
