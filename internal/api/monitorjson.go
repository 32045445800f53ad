package api

import (
	"encoding/json"
	"time"

	"vedette/internal/uptime"
)

// monitorBody is what a person may say of a monitor.
type monitorBody struct {
	Name       string             `json:"name"`
	Type       string             `json:"type" doc:"A check type: http, …"`
	Target     string             `json:"target,omitempty"`
	Interval   string             `json:"interval,omitempty" doc:"1s to 24h; default 1m" example:"30s"`
	Timeout    string             `json:"timeout,omitempty" doc:"100ms to 5m, not longer than the interval; default 10s" example:"10s"`
	Confirm    *confirmBody       `json:"confirm,omitempty"`
	Config     json.RawMessage    `json:"config,omitempty" doc:"Owned by the type. A secret is read as ***; sent back so, it stays"`
	Assertions []uptime.Assertion `json:"assertions,omitempty" nullable:"false"`
	Inverted   bool               `json:"inverted,omitempty" doc:"Up and down trade places"`
	Channels   []int64            `json:"channels,omitempty" nullable:"false" doc:"Who is told, beside the default channels"`
	Tags       []string           `json:"tags,omitempty" nullable:"false"`
	Regions    []string           `json:"regions,omitempty" nullable:"false" doc:"Default: [\"default\"]"`
	Enabled    *bool              `json:"enabled,omitempty" doc:"Default: true"`
}

type confirmBody struct {
	Failures  *int   `json:"failures,omitempty" doc:"Further attempts that must fail before it is down, 0 to 10; default 2"`
	Interval  string `json:"interval,omitempty" doc:"Wait between them, up to 5m; default 5s" example:"5s"`
	Successes *int   `json:"successes,omitempty" doc:"Good results in a row that end an incident, 1 to 10; default 1"`
}

// monitor is b as the service takes it. A text that is no duration is a problem.
func (b monitorBody) monitor() (uptime.Monitor, error) {
	var p uptime.Problems
	m := uptime.Monitor{
		Name: b.Name, Type: b.Type, Target: b.Target, Config: b.Config, Assertions: b.Assertions, Inverted: b.Inverted,
		ChannelIDs: b.Channels, Tags: b.Tags, Regions: b.Regions, Enabled: b.Enabled == nil || *b.Enabled,
		Interval: parseDuration(&p, "interval", b.Interval, uptime.DefaultInterval),
	}
	m.Timeout = parseDuration(&p, "timeout", b.Timeout, min(uptime.DefaultTimeout, max(m.Interval, uptime.MinTimeout)))
	m.Confirm = uptime.Confirm{Failures: 2, Interval: 5 * time.Second, Successes: 1}
	if c := b.Confirm; c != nil {
		m.Confirm.Interval = parseDuration(&p, "confirm.interval", c.Interval, m.Confirm.Interval)
		if c.Failures != nil {
			m.Confirm.Failures = *c.Failures
		}
		if c.Successes != nil {
			m.Confirm.Successes = *c.Successes
		}
	}
	if len(m.Config) == 0 {
		m.Config = json.RawMessage(`{}`)
	}
	return m, p.Err()
}

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
