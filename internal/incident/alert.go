package incident

import (
	"time"

	"vedette/internal/uptime"
)

// alertBody is the snapshot of an incident that an alert tells. The incident's ID
// may be 0 still: the store fills it in.
func alertBody(in *uptime.Incident, m *uptime.Monitor, evidence *uptime.Evidence) uptime.AlertBody {
	b := uptime.AlertBody{
		Incident: uptime.AlertIncident{
			ID: in.ID, Kind: in.Kind, Reason: in.Reason, Message: in.Message,
			LastGoodAt: instant(in.LastGoodAt), FirstBadAt: in.FirstBadAt, ConfirmedAt: in.ConfirmedAt, ResolvedAt: instant(in.ResolvedAt),
		},
		Monitor:  uptime.AlertMonitor{ID: m.ID, Name: m.Name, Type: m.Type, Target: uptime.PublicTarget(m.Target), Tags: append([]string{}, m.Tags...)},
		Evidence: evidence,
	}
	if in.Open() && in.LastGood != nil {
		b.Difference = uptime.Difference(&in.LastGood.Evidence, evidence)
	}
	if !in.Open() {
		b.Incident.Seconds = int64(in.ResolvedAt.Sub(in.FirstBadAt) / time.Second)
	}
	return b
}

// instant is nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// sentence is what a timeline says of a cause.
func sentence(reason uptime.Reason, message string) string {
	if message == "" {
		return string(reason)
	}
	return string(reason) + ": " + message
}
