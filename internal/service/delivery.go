package service

import (
	"context"

	"vedette/internal/uptime"
)

// Deliveries lists deliveries, newest first; the filter's owner is the actor's.
func (s *Service) Deliveries(ctx context.Context, a Actor, f uptime.DeliveryFilter) ([]uptime.Delivery, error) {
	owner, err := a.may(Read)
	if err != nil {
		return nil, err
	}
	f.OwnerID = owner
	return s.store.ListDeliveries(ctx, f)
}

// Delivery is one delivery with every attempt. What receivers answered is the
// owner's to see, not a viewer's.
func (s *Service) Delivery(ctx context.Context, a Actor, id int64) (uptime.Delivery, error) {
	owner, err := a.may(Read)
	if err != nil {
		return uptime.Delivery{}, err
	}
	d, err := s.store.Delivery(ctx, owner, id)
	if a.viewer() {
		for i := range d.Log {
			d.Log[i].Excerpt = ""
		}
	}
	return d, err
}

// Resend makes a finished delivery due again under its old key.
func (s *Service) Resend(ctx context.Context, a Actor, id int64) (uptime.Delivery, error) {
	owner, err := a.may(Write)
	if err != nil {
		return uptime.Delivery{}, err
	}
	d, err := s.store.Resend(ctx, owner, id)
	if err == nil {
		s.told(ctx, []int64{d.AlertID})
	}
	return d, err
}
