package service

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// CheckTypes describes every check type. It is no secret: docs/checks.md says the same.
func (s *Service) CheckTypes() []uptime.CheckType { return s.probes.Describe() }

// CreateMonitor stores a monitor that the actor will own.
func (s *Service) CreateMonitor(ctx context.Context, a Actor, m uptime.Monitor) (uptime.MonitorView, error) {
	if err := a.Authorise(Write); err != nil {
		return uptime.MonitorView{}, err
	}
	m.ID, m.Revision, m.OwnerID = 0, 0, a.User.ID
	if err := s.checkMonitor(ctx, &m, nil); err != nil {
		return uptime.MonitorView{}, err
	}
	if err := s.roomForMonitor(ctx, a); err != nil {
		return uptime.MonitorView{}, err
	}
	m, err := s.store.CreateMonitor(ctx, m)
	if err != nil {
		return uptime.MonitorView{}, err
	}
	s.monitorChanged(ctx, m.ID, nil)
	return s.view(a, uptime.MonitorView{Monitor: m, State: uptime.State{MonitorID: m.ID}})
}

func (s *Service) roomForMonitor(ctx context.Context, a Actor) error {
	if a.User.Role == uptime.RoleAdmin {
		return nil
	}
	n, err := s.store.CountMonitors(ctx, a.User.ID)
	if err != nil {
		return err
	}
	if n >= s.limits.Monitors {
		return uptime.Errorf(uptime.Conflict, "you have %d monitors, as many as an account may have", n)
	}
	return nil
}

// UpdateMonitor replaces what a user may change, if m.Revision is still the stored
// one; else Conflict.
func (s *Service) UpdateMonitor(ctx context.Context, a Actor, m uptime.Monitor) (uptime.MonitorView, error) {
	owner, err := a.may(Write)
	if err != nil {
		return uptime.MonitorView{}, err
	}
	old, err := s.store.Monitor(ctx, owner, m.ID)
	if err != nil {
		return uptime.MonitorView{}, err
	}
	m.OwnerID = old.OwnerID
	if err := s.checkMonitor(ctx, &m, old.Config); err != nil {
		return uptime.MonitorView{}, err
	}
	return s.replace(ctx, a, owner, m)
}

func (s *Service) replace(ctx context.Context, a Actor, owner int64, m uptime.Monitor) (uptime.MonitorView, error) {
	m, alerts, err := s.store.UpdateMonitor(ctx, owner, m)
	if err != nil {
		return uptime.MonitorView{}, err
	}
	s.monitorChanged(ctx, m.ID, alerts)
	return s.Monitor(ctx, a, m.ID)
}

// checkMonitor validates m whole and completes it; stored is the config whose
// secrets an update may refer to.
func (s *Service) checkMonitor(ctx context.Context, m *uptime.Monitor, stored json.RawMessage) error {
	var p uptime.Problems
	checkMonitor(&p, m)
	m.Config = restoreSecrets(&p, m.Config, stored)
	if !slices.Contains(s.probes.Types(), m.Type) {
		p.Add("type", "is none of %s", strings.Join(s.probes.Types(), ", "))
		return p.Err()
	}
	if err := merge(&p, s.probes.Validate(*m)); err != nil {
		return err
	}
	if err := s.checkMembers(ctx, &p, m); err != nil {
		return err
	}
	if m.Type == "heartbeat" {
		m.PingToken = uptime.Secret(randomToken("")) // for one that has none yet
	}
	return p.Err()
}

func (s *Service) monitorChanged(ctx context.Context, id int64, alerts []int64) {
	s.hint(ctx, uptime.TopicMonitors, decimal(id))
	s.told(ctx, alerts)
}

// Monitor is one monitor as the actor may see it.
func (s *Service) Monitor(ctx context.Context, a Actor, id int64) (uptime.MonitorView, error) {
	owner, err := a.may(Read)
	if err != nil {
		return uptime.MonitorView{}, err
	}
	v, err := s.store.Monitor(ctx, owner, id)
	if err != nil {
		return v, err
	}
	return s.view(a, v)
}

// Monitors lists monitors by ascending id; the filter's owner is the actor's.
func (s *Service) Monitors(ctx context.Context, a Actor, f uptime.MonitorFilter) ([]uptime.MonitorView, error) {
	owner, err := a.may(Read)
	if err != nil {
		return nil, err
	}
	f.OwnerID = owner
	list, err := s.store.ListMonitors(ctx, f)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i], err = s.view(a, list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// view is v without secrets, and for a viewer also without its config and the
// parts of its target that often hold tokens.
func (s *Service) view(a Actor, v uptime.MonitorView) (uptime.MonitorView, error) {
	if a.viewer() {
		v.Config, v.Assertions, v.Target = nil, nil, withoutQuery(v.Target)
		return v, nil
	}
	c, err := s.probes.Redact(v.Type, v.Config)
	if err != nil {
		// A type or config of another version: parked (Problem says so), and still listed.
		c = json.RawMessage(`{}`)
	}
	v.Config, v.PingToken = c, ""
	return v, nil
}

func withoutQuery(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return target
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// DeleteMonitor removes a monitor and its results.
func (s *Service) DeleteMonitor(ctx context.Context, a Actor, id int64) error {
	owner, err := a.may(Write)
	if err != nil {
		return err
	}
	alerts, err := s.store.DeleteMonitor(ctx, owner, id)
	if err == nil {
		s.monitorChanged(ctx, id, alerts)
	}
	return err
}

// SetEnabled pauses or resumes a monitor. A repeat changes nothing.
func (s *Service) SetEnabled(ctx context.Context, a Actor, id int64, enabled bool) (uptime.MonitorView, error) {
	owner, err := a.may(Write)
	if err != nil {
		return uptime.MonitorView{}, err
	}
	for range 3 { // somebody else may write between our read and our write
		v, err := s.store.Monitor(ctx, owner, id)
		if err != nil {
			return v, err
		}
		if v.Enabled == enabled {
			return s.view(a, v)
		}
		v.Monitor.Enabled = enabled
		out, err := s.replace(ctx, a, owner, v.Monitor)
		if !uptime.Is(err, uptime.Conflict) {
			return out, err
		}
	}
	return uptime.MonitorView{}, uptime.Errorf(uptime.Conflict, "the monitor is being changed by somebody else; try again")
}

// CheckNow asks for one check in every region of the monitor. It returns the
// instant under which the results will be found.
func (s *Service) CheckNow(ctx context.Context, a Actor, id int64) (time.Time, error) {
	owner, err := a.may(Write)
	if err != nil {
		return time.Time{}, err
	}
	v, err := s.store.Monitor(ctx, owner, id)
	if err != nil {
		return time.Time{}, err
	}
	if !v.Enabled {
		return time.Time{}, uptime.Errorf(uptime.Conflict, "the monitor is paused; resume it first")
	}
	if err := s.throttle(ctx, "check:"+decimal(a.User.ID), s.limits.ChecksNow, time.Minute); err != nil {
		return time.Time{}, err
	}
	at := uptime.Now()
	return at, s.checkAt(ctx, at, id, v.Revision, v.Interval, v.Regions)
}

// checkAt asks for one check in each region, under the instant at.
func (s *Service) checkAt(ctx context.Context, at time.Time, id, revision int64, interval time.Duration, regions []string) error {
	for _, region := range regions {
		j := uptime.Job{MonitorID: id, Region: region, ScheduledAt: at, Kind: uptime.KindManual, Revision: revision, Expires: at.Add(max(interval, time.Minute))}
		if err := s.checkNow(ctx, j); err != nil {
			return uptime.Errorf(uptime.Unavailable, "the check cannot be queued now; try again: %w", err)
		}
	}
	return nil
}

// Unheard says why nobody would be told of this monitor's incidents; empty when
// somebody is. It keeps a page from being lost in silence.
func (s *Service) Unheard(ctx context.Context, v uptime.MonitorView) (string, error) {
	cs, err := s.store.ListChannels(ctx, v.OwnerID, 0, 1000)
	if err != nil {
		return "", err
	}
	for _, c := range cs {
		if c.Enabled && (c.Default || slices.Contains(v.ChannelIDs, c.ID)) {
			return "", nil
		}
	}
	return "nobody is told when this monitor goes down: name an enabled channel in \"channels\", or make one with \"default\": true", nil
}
