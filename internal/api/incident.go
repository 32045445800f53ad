package api

import (
	"context"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

type incidentJSON struct {
	ID             int64            `json:"id"`
	Kind           string           `json:"kind" enum:"target,self"`
	MonitorID      int64            `json:"monitor_id,omitempty"`
	MonitorName    string           `json:"monitor_name,omitempty"`
	Open           bool             `json:"open"`
	Reason         string           `json:"reason"`
	Message        string           `json:"message"`
	LastGoodAt     *time.Time       `json:"last_good_at"`
	FirstBadAt     time.Time        `json:"first_bad_at"`
	ConfirmedAt    *time.Time       `json:"confirmed_at"`
	NotifiedAt     *time.Time       `json:"notified_at"`
	AcknowledgedAt *time.Time       `json:"acknowledged_at"`
	AcknowledgedBy int64            `json:"acknowledged_by,omitempty"`
	ResolvedAt     *time.Time       `json:"resolved_at"`
	Resolution     string           `json:"resolution,omitempty"`
	Opening        *uptime.Evidence `json:"opening_evidence,omitempty"`
	Recovery       *uptime.Evidence `json:"recovery_evidence,omitempty"`
	Evidence       *evidenceJSON    `json:"evidence,omitempty" doc:"What was seen before and at the beginning; of one incident, and not for a viewer"`
	Timeline       []lineJSON       `json:"timeline,omitempty" nullable:"false"`
	Deliveries     []deliveryJSON   `json:"deliveries,omitempty" nullable:"false"`
}

// evidenceJSON is the first failing check beside the last good one.
type evidenceJSON struct {
	FirstBad   *uptime.Sight `json:"first_bad" doc:"The opening evidence, with its time"`
	LastGood   *uptime.Sight `json:"last_good,omitempty" doc:"A check from before, about an hour older than last_good_at at most; absent if none was kept"`
	Difference []string      `json:"difference" nullable:"false" doc:"What changed between the two, a sentence each"`
}

func showEvidence(d service.IncidentDetail) *evidenceJSON {
	i := d.Incident
	if i.Opening == nil {
		return nil
	}
	return &evidenceJSON{&uptime.Sight{At: i.FirstBadAt.UTC(), Evidence: *i.Opening}, i.LastGood, filled(d.Difference)}
}

type lineJSON struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	UserID int64     `json:"user_id,omitempty"`
	Text   string    `json:"text,omitempty"`
}

func showLine(e uptime.Event) lineJSON {
	return lineJSON{e.ID, e.At.UTC(), e.Kind, e.UserID, e.Text}
}

func showIncident(i uptime.Incident) incidentJSON {
	return incidentJSON{
		ID: i.ID, Kind: string(i.Kind), MonitorID: i.MonitorID, MonitorName: i.MonitorName, Open: i.Open(),
		Reason: string(i.Reason), Message: i.Message, LastGoodAt: instant(i.LastGoodAt), FirstBadAt: i.FirstBadAt.UTC(),
		ConfirmedAt: instant(i.ConfirmedAt), NotifiedAt: instant(i.NotifiedAt), AcknowledgedAt: instant(i.AcknowledgedAt),
		AcknowledgedBy: i.AcknowledgedBy, ResolvedAt: instant(i.ResolvedAt), Resolution: i.Resolution,
		Opening: i.Opening, Recovery: i.Recovery,
	}
}

type incidentsIn struct {
	Page
	MonitorID int64  `query:"monitor_id" minimum:"1"`
	Open      string `query:"open" enum:"true,false"`
}

func (s *server) incidents(ctx context.Context, in *incidentsIn) (*list[incidentJSON], error) {
	before, err := in.id()
	if err != nil {
		return nil, err
	}
	rows, err := s.svc.Incidents(ctx, middleware.Actor(ctx), uptime.IncidentFilter{
		MonitorID: in.MonitorID, Open: boolOf(in.Open), Before: before, Limit: in.Limit + 1})
	return pageOf(rows, in.Limit, func(i uptime.Incident) string { return decimal(i.ID) }, showIncident), err
}

type monitorIncidentsIn struct {
	ByID
	Page
	Open string `query:"open" enum:"true,false"`
}

func (s *server) monitorIncidents(ctx context.Context, in *monitorIncidentsIn) (*list[incidentJSON], error) {
	return s.incidents(ctx, &incidentsIn{Page: in.Page, MonitorID: in.ID, Open: in.Open})
}

type incidentOut struct{ Body incidentJSON }

func (s *server) incident(ctx context.Context, in *ByID) (*incidentOut, error) {
	d, err := s.svc.Incident(ctx, middleware.Actor(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	out := &incidentOut{showIncident(d.Incident)}
	out.Body.Evidence = showEvidence(d)
	for _, e := range d.Timeline {
		out.Body.Timeline = append(out.Body.Timeline, showLine(e))
	}
	for _, x := range d.Deliveries {
		out.Body.Deliveries = append(out.Body.Deliveries, showDelivery(x))
	}
	return out, nil
}

func (s *server) acknowledge(ctx context.Context, in *ByID) (*incidentOut, error) {
	i, err := s.svc.Acknowledge(ctx, middleware.Actor(ctx), in.ID)
	return &incidentOut{showIncident(i)}, err
}

type commentIn struct {
	ByID
	Once
	Body struct {
		Text string `json:"text"`
	}
}

type commentOut struct{ Body lineJSON }

func (s *server) comment(ctx context.Context, in *commentIn) (*commentOut, error) {
	line, err := doOnce(ctx, s.svc, "POST /incidents/"+decimal(in.ID)+"/comments", in.Once, func() (lineJSON, error) {
		e, err := s.svc.Comment(ctx, middleware.Actor(ctx), in.ID, in.Body.Text)
		return showLine(e), err
	}, whole)
	return &commentOut{line}, err
}
