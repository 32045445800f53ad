package api

import (
	"context"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/uptime"
)

type deliveryJSON struct {
	ID          int64         `json:"id"`
	Key         string        `json:"key" doc:"webhook-id, and the left side of a mail's Message-ID"`
	Kind        string        `json:"kind"`
	IncidentID  int64         `json:"incident_id,omitempty"`
	ChannelID   int64         `json:"channel_id"`
	ChannelName string        `json:"channel_name"`
	ChannelType string        `json:"channel_type"`
	Status      string        `json:"status" enum:"pending,sending,delivered,dead,suppressed"`
	Cause       string        `json:"cause,omitempty"`
	Attempts    int           `json:"attempts"`
	NextAt      *time.Time    `json:"next_at"`
	CreatedAt   time.Time     `json:"created_at"`
	DoneAt      *time.Time    `json:"done_at"`
	Log         []attemptJSON `json:"log,omitempty" nullable:"false"`
}

type attemptJSON struct {
	Number     int        `json:"number"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Outcome    string     `json:"outcome" enum:"unknown,accepted,temporary,permanent"`
	Peer       string     `json:"peer,omitempty"`
	Code       int        `json:"code,omitempty"`
	Excerpt    string     `json:"excerpt,omitempty"`
	ProviderID string     `json:"provider_id,omitempty"`
	Latency    string     `json:"latency"`
}

func showDelivery(d uptime.Delivery) deliveryJSON {
	out := deliveryJSON{
		ID: d.ID, Key: d.Key, Kind: string(d.Kind), IncidentID: d.IncidentID, ChannelID: d.ChannelID, ChannelName: d.ChannelName,
		ChannelType: d.ChannelType, Status: string(d.Status), Cause: d.Cause, Attempts: d.Attempts,
		CreatedAt: d.CreatedAt.UTC(), DoneAt: instant(d.DoneAt),
	}
	if !d.Status.Final() {
		out.NextAt = instant(d.NextAt)
	}
	for _, a := range d.Log {
		out.Log = append(out.Log, attemptJSON{a.Number, a.StartedAt.UTC(), instant(a.FinishedAt), string(a.Outcome), a.Peer, a.Code,
			a.Excerpt, a.ProviderID, a.Latency.String()})
	}
	return out
}

type deliveriesIn struct {
	Page
	IncidentID int64  `query:"incident_id" minimum:"1"`
	ChannelID  int64  `query:"channel_id" minimum:"1"`
	Status     string `query:"status" enum:"pending,sending,delivered,dead,suppressed"`
}

func (s *server) deliveries(ctx context.Context, in *deliveriesIn) (*list[deliveryJSON], error) {
	before, err := in.id()
	if err != nil {
		return nil, err
	}
	rows, err := s.svc.Deliveries(ctx, middleware.Actor(ctx), uptime.DeliveryFilter{
		IncidentID: in.IncidentID, ChannelID: in.ChannelID, Status: uptime.DeliveryStatus(in.Status), Before: before, Limit: in.Limit + 1})
	return pageOf(rows, in.Limit, func(d uptime.Delivery) string { return decimal(d.ID) }, showDelivery), err
}

type deliveryOut struct{ Body deliveryJSON }

func (s *server) delivery(ctx context.Context, in *ByID) (*deliveryOut, error) {
	d, err := s.svc.Delivery(ctx, middleware.Actor(ctx), in.ID)
	return &deliveryOut{showDelivery(d)}, err
}

func (s *server) resend(ctx context.Context, in *ByID) (*deliveryOut, error) {
	d, err := s.svc.Resend(ctx, middleware.Actor(ctx), in.ID)
	return &deliveryOut{showDelivery(d)}, err
}
