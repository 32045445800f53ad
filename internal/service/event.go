package service

import (
	"context"

	"vedette/internal/uptime"
)

// Events returns the actor's events after a point, oldest first, and the point up
// to which it looked, others' events included. Fewer than limit looked at means
// that there are no more for now.
func (s *Service) Events(ctx context.Context, a Actor, after int64, limit int) (mine []uptime.LiveEvent, upTo int64, err error) {
	owner, err := a.may(Read)
	if err != nil {
		return nil, after, err
	}
	all, err := s.store.EventsAfter(ctx, after, limit)
	if err != nil {
		return nil, after, err
	}
	for _, e := range all {
		after = e.ID
		if owner == 0 || e.OwnerID == owner {
			mine = append(mine, e)
		}
	}
	return mine, after, nil
}

// LastEvent is the newest event's id: where a stream without a past begins.
func (s *Service) LastEvent(ctx context.Context, a Actor) (int64, error) {
	if err := a.Authorise(Read); err != nil {
		return 0, err
	}
	return s.store.LastEventID(ctx)
}
