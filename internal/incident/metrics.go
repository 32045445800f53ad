package incident

import "github.com/prometheus/client_golang/prometheus"

// metrics of a recorder.
type metrics struct {
	quiet, judged prometheus.Counter
	transitions   *prometheus.CounterVec // to
	batch, flush  prometheus.Histogram
	blocked       prometheus.Counter
	retried       prometheus.Counter
	bisected      prometheus.Counter
	failed        prometheus.Counter
	dropped       prometheus.Counter
}

// newMetrics makes the metrics and registers them with r unless that is nil.
// inHand counts results that are not committed yet.
func newMetrics(r prometheus.Registerer, inHand func() float64) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "vedette", Subsystem: "recorder", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	results := prometheus.NewCounterVec(prometheus.CounterOpts(opts("results_total", "Results stored, by whether the state was looked at.")), []string{"path"})
	m := &metrics{
		quiet:       results.WithLabelValues("quiet"),
		judged:      results.WithLabelValues("judged"),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts(opts("transitions_total", "Changes of a monitor's verdict, by the new one.")), []string{"to"}),
		blocked:     counter("blocked_total", "Results that waited for room."),
		retried:     counter("retries_total", "Transactions that the store did not answer."),
		bisected:    counter("bisections_total", "Batches that were halved to find the row that broke them."),
		failed:      counter("failures_total", "Results that could not be stored."),
		dropped:     counter("hints_dropped_total", "Commits whose hint found no room; the sweep finds their alerts."),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "vedette", Subsystem: "recorder", Name: "batch_results",
			Help: "Results per batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "vedette", Subsystem: "recorder", Name: "flush_seconds",
			Help: "Time to store one batch, retries included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}),
	}
	if r == nil {
		return m
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("in_hand", "Results taken and not committed yet.")), inHand)
	r.MustRegister(results, m.transitions, m.blocked, m.retried, m.bisected, m.failed, m.dropped, m.batch, m.flush, waiting)
	return m
}
