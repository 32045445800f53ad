package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

	"vedette/internal/uptime"
)

// MonitorBody is what a person may say of a monitor.
type MonitorBody struct {
	Name       string             `json:"name"`
	Type       string             `json:"type" doc:"A check type: http, …"`
	Target     string             `json:"target,omitempty"`
	Interval   string             `json:"interval,omitempty" doc:"1s to 24h; default 1m" example:"30s"`
	Timeout    string             `json:"timeout,omitempty" doc:"100ms to 5m, not longer than the interval; default 10s" example:"10s"`
	Confirm    *ConfirmBody       `json:"confirm,omitempty"`
	Config     json.RawMessage    `json:"config,omitempty" doc:"Owned by the type. A secret is read as ***; sent back so, it stays"`
	Assertions []uptime.Assertion `json:"assertions,omitempty" nullable:"false"`
	Inverted   bool               `json:"inverted,omitempty" doc:"Up and down trade places"`
	Channels   []int64            `json:"channels,omitempty" nullable:"false" doc:"Who is told, beside the default channels"`
	Tags       []string           `json:"tags,omitempty" nullable:"false"`
	Regions    []string           `json:"regions,omitempty" nullable:"false" doc:"Default: [\"default\"]"`
	Enabled    *bool              `json:"enabled,omitempty" doc:"Default: true"`
}

// ConfirmBody is how many observations a verdict needs.
type ConfirmBody struct {
	Failures  *int   `json:"failures,omitempty" doc:"Further attempts that must fail before it is down, 0 to 10; default 2, and 0 for heartbeat, group and manual, which take nothing else"`
	Interval  string `json:"interval,omitempty" doc:"Wait between them, up to 5m; default 5s" example:"5s"`
	Successes *int   `json:"successes,omitempty" doc:"Good results in a row that end an incident, 1 to 10; default 1"`
}

// Monitor is b as the service takes it, defaults filled in. A text that is no duration is a problem.
func (b MonitorBody) Monitor() (uptime.Monitor, error) {
	var p uptime.Problems
	m := uptime.Monitor{
		Name: b.Name, Type: b.Type, Target: b.Target, Config: b.Config, Assertions: b.Assertions, Inverted: b.Inverted,
		ChannelIDs: b.Channels, Tags: b.Tags, Regions: b.Regions, Enabled: b.Enabled == nil || *b.Enabled,
		Interval: parseDuration(&p, "interval", b.Interval, uptime.DefaultInterval),
	}
	m.Timeout = parseDuration(&p, "timeout", b.Timeout, min(uptime.DefaultTimeout, max(m.Interval, uptime.MinTimeout)))
	m.Confirm = uptime.Confirm{Failures: 2, Interval: 5 * time.Second, Successes: 1}
	if uptime.Passive(m.Type) {
		m.Confirm.Failures = 0 // its probe refuses any other
	}
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

// DecodeBody reads what a person says of a monitor from a file. Unknown fields are
// refused.
func DecodeBody(data []byte) (MonitorBody, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var b MonitorBody
	if err := d.Decode(&b); err != nil {
		return b, uptime.Errorf(uptime.Invalid, "the monitor is not in the API's form: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return b, uptime.Errorf(uptime.Invalid, "something follows the monitor")
	}
	return b, nil
}

// Checked is b as a monitor that the API would take. What its probe thinks of it is
// not asked.
func (b MonitorBody) Checked() (uptime.Monitor, error) {
	m, err := b.Monitor()
	if err != nil {
		return m, err
	}
	var p uptime.Problems
	checkMonitor(&p, &m)
	return m, p.Err()
}

// parseDuration notes a problem unless s is a duration with its unit; empty takes
// the default.
func parseDuration(p *uptime.Problems, path, s string, otherwise time.Duration) time.Duration {
	if s == "" {
		return otherwise
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		p.Add(path, `write a duration with its unit, like "30s" or "1m30s"`)
		return otherwise
	}
	return d
}
