package schedule

import "github.com/prometheus/client_golang/prometheus"

// metrics of the scheduler and the auditor.
type metrics struct {
	leading  prometheus.Gauge
	monitors prometheus.Gauge
	jobs     prometheus.Counter
	failed   prometheus.Counter
	expired  prometheus.Counter
	lateness prometheus.Histogram
	missed   prometheus.Counter
	blind    prometheus.Gauge
}

// newMetrics makes the metrics and registers them with r unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns, sub = "vedette", "schedule"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	m := &metrics{
		leading:  gauge("leading", "1 while this scheduler holds the lease."),
		monitors: gauge("slots", "Monitors times regions that are scheduled."),
		jobs:     counter("jobs_total", "Jobs that a queue took."),
		failed:   counter("publish_failures_total", "Batches that a queue did not take."),
		expired:  counter("expired_total", "Jobs no queue took within their slot."),
		missed:   counter("missed_total", "Slots the auditor found without a verdict."),
		blind:    gauge("blind_monitors", "Monitors without a known verdict for 2.5 intervals."),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "lateness_seconds",
			Help: "From a slot's instant to its dispatch.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.leading, m.monitors, m.jobs, m.failed, m.expired, m.missed, m.blind, m.lateness} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
