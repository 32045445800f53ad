package api

import (
	"encoding/json"
	"time"

	"vedette/internal/uptime"
)

// monitorJSON is a monitor as it is read.
type monitorJSON struct {
	ID         int64              `json:"id"`
	Name       string             `json:"name"`
	Type       string             `json:"type"`
	Target     string             `json:"target"`
	Interval   string             `json:"interval"`
	Timeout    string             `json:"timeout"`
	Confirm    confirmJSON        `json:"confirm"`
	Config     json.RawMessage    `json:"config,omitempty" doc:"Secrets read as ***; absent for a viewer"`
	Assertions []uptime.Assertion `json:"assertions,omitempty" nullable:"false"`
	Inverted   bool               `json:"inverted"`
	Channels   []int64            `json:"channels" nullable:"false"`
	Tags       []string           `json:"tags" nullable:"false"`
	Regions    []string           `json:"regions" nullable:"false"`
	Enabled    bool               `json:"enabled"`
	Revision   int64              `json:"revision"`
	Problem    string             `json:"problem,omitempty" doc:"Why it cannot be run"`
	CreatedAt  time.Time          `json:"created_at"`
	UpdatedAt  time.Time          `json:"updated_at"`
	State      stateJSON          `json:"state"`
	IncidentID int64              `json:"incident_id,omitempty" doc:"The open one"`
	PingURL    string             `json:"ping_url,omitempty" doc:"Of a heartbeat, for those who manage it, when it is read alone: where its pings go. A secret"`
	Warnings   []string           `json:"warnings,omitempty" nullable:"false" doc:"What you probably did not mean"`
}

type confirmJSON struct {
	Failures  int    `json:"failures"`
	Interval  string `json:"interval"`
	Successes int    `json:"successes"`
}

type stateJSON struct {
	Verdict string     `json:"verdict" enum:"unknown,up,degraded,down"`
	Reason  string     `json:"reason,omitempty"`
	Message string     `json:"message,omitempty"`
	Since   *time.Time `json:"since"`
}

func showMonitor(v uptime.MonitorView) monitorJSON {
	m := v.Monitor
	return monitorJSON{
		ID: m.ID, Name: m.Name, Type: m.Type, Target: m.Target, Interval: m.Interval.String(), Timeout: m.Timeout.String(),
		Confirm: confirmJSON{m.Confirm.Failures, m.Confirm.Interval.String(), m.Confirm.Successes},
		Config:  m.Config, Assertions: m.Assertions, Inverted: m.Inverted,
		Channels: filled(m.ChannelIDs), Tags: filled(m.Tags), Regions: filled(m.Regions),
		Enabled: m.Enabled, Revision: m.Revision, Problem: m.Problem, CreatedAt: m.CreatedAt.UTC(), UpdatedAt: m.UpdatedAt.UTC(),
		State:      stateJSON{v.State.Verdict.String(), string(v.State.Reason), v.State.Message, instant(v.State.Since)},
		IncidentID: v.IncidentID,
	}
}

// filled is s, or an empty list: clients should not have to tell null from none.
func filled[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
