package service

import (
	"context"
	"time"

	"vedette/internal/uptime"
)

// ResultQuery selects results of one monitor, newest first.
type ResultQuery struct {
	From, To time.Time        // [From, To)
	Before   uptime.ResultKey // cursor; zero: from the newest
	Failing  bool             // only those that are not up
	Limit    int
}

// maxSpan bounds what one request may ask the database for.
const maxSpan = 400 * 24 * time.Hour

// Results lists attempts. Evidence is the owner's to see, not a viewer's.
func (s *Service) Results(ctx context.Context, a Actor, id int64, q ResultQuery) ([]uptime.CheckResult, error) {
	owner, err := a.may(Read)
	if err != nil {
		return nil, err
	}
	if err := checkSpan(q.From, q.To); err != nil {
		return nil, err
	}
	list, err := s.store.ListResults(ctx, owner, id, q.From, q.To, q.Before, q.Failing, q.Limit)
	if a.viewer() {
		for i := range list {
			list[i].Evidence = nil
		}
	}
	return list, err
}

// History is a monitor's uptime over a span, with its roll-ups and gaps.
type History struct {
	Uptime  uptime.Uptime
	Step    time.Duration // of Buckets
	Buckets []uptime.Bucket
	Gaps    []uptime.Gap
}

// Uptime is the time-weighted uptime in [from, to), by the hour or by the day.
func (s *Service) Uptime(ctx context.Context, a Actor, id int64, from, to time.Time, step time.Duration) (History, error) {
	h := History{Step: step}
	owner, err := a.may(Read)
	if err != nil {
		return h, err
	}
	if err := checkSpan(from, to); err != nil {
		return h, err
	}
	if step != time.Hour && step != 24*time.Hour {
		return h, uptime.InvalidField("query.step", "is neither 1h nor 24h")
	}
	if h.Uptime, err = s.store.Uptime(ctx, owner, id, from, to); err != nil {
		return h, err
	}
	if h.Buckets, err = s.store.Buckets(ctx, owner, id, from, to, step); err != nil {
		return h, err
	}
	h.Gaps, err = s.store.Gaps(ctx, owner, id, from, to)
	return h, err
}

func checkSpan(from, to time.Time) error {
	var p uptime.Problems
	if !from.Before(to) {
		p.Add("query.from", "is not before to")
	}
	if to.Sub(from) > maxSpan {
		p.Add("query.from", "ask for %d days at most", int(maxSpan.Hours()/24))
	}
	return p.Err()
}
