package service

import (
	"context"
	"strings"
	"unicode/utf8"

	"vedette/internal/uptime"
)

// IncidentDetail is an incident with what happened around it.
type IncidentDetail struct {
	Incident   uptime.Incident
	Difference []string // from the last good check to the first bad one
	Timeline   []uptime.Event
	Deliveries []uptime.Delivery
}

// Incidents lists incidents, newest first; the filter's owner is the actor's.
func (s *Service) Incidents(ctx context.Context, a Actor, f uptime.IncidentFilter) ([]uptime.Incident, error) {
	owner, err := a.may(Read)
	if err != nil {
		return nil, err
	}
	if f.MonitorID != 0 { // a foreign monitor is NotFound, not an empty list
		if _, err := s.store.Monitor(ctx, owner, f.MonitorID); err != nil {
			return nil, err
		}
	}
	f.OwnerID = owner
	list, err := s.store.ListIncidents(ctx, f)
	for i := range list {
		list[i] = incidentView(a, list[i])
	}
	return list, err
}

// Incident is one incident. Evidence is the owner's to see, not a viewer's.
func (s *Service) Incident(ctx context.Context, a Actor, id int64) (IncidentDetail, error) {
	owner, err := a.may(Read)
	if err != nil {
		return IncidentDetail{}, err
	}
	var d IncidentDetail
	d.Incident, d.Timeline, d.Deliveries, err = s.store.Incident(ctx, owner, id)
	d.Incident = incidentView(a, d.Incident)
	if good := d.Incident.LastGood; good != nil {
		d.Difference = uptime.Difference(&good.Evidence, d.Incident.Opening)
	}
	return d, err
}

func incidentView(a Actor, i uptime.Incident) uptime.Incident {
	if a.viewer() {
		i.LastGood, i.Opening, i.Recovery = nil, nil, nil
	}
	return i
}

// Acknowledge notes that the actor takes care of an incident.
func (s *Service) Acknowledge(ctx context.Context, a Actor, id int64) (uptime.Incident, error) {
	owner, err := a.may(Write)
	if err != nil {
		return uptime.Incident{}, err
	}
	i, err := s.store.Acknowledge(ctx, owner, id, a.User.ID, uptime.Now())
	if err == nil {
		s.told(ctx, nil)
	}
	return i, err
}

// Comment adds a line to an incident's timeline.
func (s *Service) Comment(ctx context.Context, a Actor, id int64, text string) (uptime.Event, error) {
	owner, err := a.may(Write)
	if err != nil {
		return uptime.Event{}, err
	}
	text = strings.TrimSpace(text)
	visible := strings.NewReplacer("\n", "", "\t", "").Replace(text)
	if n := utf8.RuneCountInString(text); n == 0 || n > maxComment || hasControl(visible) {
		return uptime.Event{}, uptime.InvalidField("text", "write 1 to %d characters; of control characters only new line and tab", maxComment)
	}
	e, err := s.store.Comment(ctx, owner, id, a.User.ID, text, uptime.Now())
	if err == nil {
		s.told(ctx, nil)
	}
	return e, err
}
