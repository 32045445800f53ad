package api

import (
	"context"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

// Span is the time that a request asks about; its default ends now.
type Span struct {
	From time.Time `query:"from" doc:"Default: a day before to"`
	To   time.Time `query:"to" doc:"Default: now"`
}

func (s Span) bounds() (from, to time.Time) {
	from, to = uptime.Instant(s.From), uptime.Instant(s.To)
	if s.To.IsZero() {
		to = uptime.Now().Add(time.Second) // a check that was asked for this moment is in
	}
	if s.From.IsZero() {
		from = to.Add(-24 * time.Hour)
	}
	return from, to
}

type resultJSON struct {
	Region      string            `json:"region"`
	ScheduledAt time.Time         `json:"scheduled_at"`
	Attempt     int               `json:"attempt"`
	Kind        string            `json:"kind" enum:"slot,first,manual,gap"`
	Verdict     string            `json:"verdict" enum:"unknown,up,degraded,down"`
	Reason      string            `json:"reason,omitempty"`
	Message     string            `json:"message,omitempty"`
	StartedAt   *time.Time        `json:"started_at"`
	Duration    string            `json:"duration"`
	Phases      map[string]string `json:"phases" doc:"dns, connect, tls, first_byte, transfer; only those that happened"`
	Superseded  bool              `json:"superseded,omitempty" doc:"Kept, and not judged: too late, or of an older revision"`
	Evidence    *uptime.Evidence  `json:"evidence,omitempty"`
}

func showResult(r uptime.CheckResult) resultJSON {
	kinds := [...]string{"slot", "first", "manual", "gap"}
	out := resultJSON{
		Region: r.Region, ScheduledAt: r.ScheduledAt.UTC(), Attempt: r.Attempt, Kind: kinds[min(int(r.Kind), len(kinds)-1)],
		Verdict: r.Verdict.String(), Reason: string(r.Reason), Message: r.Message, StartedAt: instant(r.StartedAt),
		Duration: r.Duration.String(), Phases: map[string]string{}, Superseded: r.Superseded, Evidence: r.Evidence,
	}
	for name, d := range map[string]time.Duration{"dns": r.Phases.DNS, "connect": r.Phases.Connect, "tls": r.Phases.TLS,
		"first_byte": r.Phases.FirstByte, "transfer": r.Phases.Transfer} {
		if d > 0 {
			out.Phases[name] = d.String()
		}
	}
	return out
}

type resultsIn struct {
	ByID
	Page
	Span
	Failing string `query:"failing" enum:"true,false" doc:"Only those that are not up"`
}

func (s *server) results(ctx context.Context, in *resultsIn) (*list[resultJSON], error) {
	before, err := parseResultCursor(in.ID, in.After)
	if err != nil {
		return nil, err
	}
	from, to := in.bounds()
	rows, err := s.svc.Results(ctx, middleware.Actor(ctx), in.ID, service.ResultQuery{
		From: from, To: to, Before: before, Failing: in.Failing == "true", Limit: in.Limit + 1})
	return pageOf(rows, in.Limit, func(r uptime.CheckResult) string { return resultCursor(r.ResultKey) }, showResult), err
}

type uptimeIn struct {
	ByID
	Span
	Step string `query:"step" enum:"1h,24h" default:"1h" doc:"Of the roll-ups"`
}

type bucketJSON struct {
	Start    time.Time `json:"start"`
	Up       int64     `json:"up"`
	Degraded int64     `json:"degraded"`
	Down     int64     `json:"down"`
	Unknown  int64     `json:"unknown"`
	Mean     string    `json:"mean"`
	P50      string    `json:"p50"`
	P95      string    `json:"p95"`
	P99      string    `json:"p99"`
}

type gapJSON struct {
	Region string     `json:"region,omitempty"`
	From   time.Time  `json:"from"`
	To     *time.Time `json:"to"`
	Cause  string     `json:"cause"`
}

type uptimeOut struct {
	Body struct {
		From      time.Time    `json:"from"`
		To        time.Time    `json:"to"`
		Ratio     *float64     `json:"ratio" doc:"up / (up + down), by time; null when nothing was observed"`
		Coverage  float64      `json:"coverage" doc:"Part of the time in which we could observe"`
		Up        string       `json:"up"`
		Down      string       `json:"down"`
		Unknown   string       `json:"unknown"`
		Paused    string       `json:"paused"`
		Incidents int          `json:"incidents"`
		Step      string       `json:"step"`
		Buckets   []bucketJSON `json:"buckets" nullable:"false"`
		Gaps      []gapJSON    `json:"gaps" nullable:"false"`
	}
}

func (s *server) uptime(ctx context.Context, in *uptimeIn) (*uptimeOut, error) {
	step, err := time.ParseDuration(in.Step)
	if err != nil {
		return nil, uptime.InvalidField("query.step", "is no duration")
	}
	from, to := in.bounds()
	h, err := s.svc.Uptime(ctx, middleware.Actor(ctx), in.ID, from, to, step)
	if err != nil {
		return nil, err
	}
	out, u := &uptimeOut{}, h.Uptime
	b := &out.Body
	b.From, b.To, b.Coverage, b.Incidents, b.Step = u.From.UTC(), u.To.UTC(), u.Coverage, u.Incidents, in.Step
	b.Up, b.Down, b.Unknown, b.Paused = u.Up.String(), u.Down.String(), u.Unknown.String(), u.Paused.String()
	if u.Up+u.Down > 0 {
		b.Ratio = &u.Ratio
	}
	b.Buckets, b.Gaps = []bucketJSON{}, []gapJSON{}
	for _, k := range h.Buckets {
		b.Buckets = append(b.Buckets, bucketJSON{k.Start.UTC(), k.Up, k.Degraded, k.Down, k.Unknown,
			micros(k.MeanMicro), micros(k.P50Micro), micros(k.P95Micro), micros(k.P99Micro)})
	}
	for _, g := range h.Gaps {
		b.Gaps = append(b.Gaps, gapJSON{g.Region, g.From.UTC(), instant(g.To), string(g.Cause)})
	}
	return out, nil
}

func micros(n int64) string { return (time.Duration(n) * time.Microsecond).String() }
