package service

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"vedette/internal/uptime"
)

// maxGroups bounds how many groups are looked through for a circle.
const maxGroups = 200

// checkMembers finds members of a group that are not its owner's, and circles. Two
// groups that are saved at once may still end up in one; then each sees the other's
// last state, which does no harm but for being no use.
func (s *Service) checkMembers(ctx context.Context, p *uptime.Problems, m *uptime.Monitor) error {
	seen := map[int64]bool{}
	for i, id := range s.probes.Members(m.Type, m.Config) {
		path := fmt.Sprintf("config.members[%d]", i)
		if id == m.ID {
			p.Add(path, "is this group itself; take it out")
			continue
		}
		member, err := s.store.Monitor(ctx, m.OwnerID, id)
		if uptime.Is(err, uptime.NotFound) {
			p.Add(path, "there is no monitor %d of this monitor's owner; take it out", id)
			continue
		}
		if err != nil {
			return err
		}
		contains, err := s.contains(ctx, member.Monitor, m.ID, seen)
		if err != nil {
			return err
		}
		if contains {
			p.Add(path, "monitor %d is a group that this one is a member of, itself or through others; take one out of the other", id)
		}
	}
	return nil
}

// contains reports whether a group has a monitor among its members or theirs. It
// gives up, with true, where there are more groups than anybody can oversee.
func (s *Service) contains(ctx context.Context, group uptime.Monitor, id int64, seen map[int64]bool) (bool, error) {
	if id == 0 || seen[group.ID] {
		return false, nil
	}
	seen[group.ID] = true
	for _, member := range s.probes.Members(group.Type, group.Config) {
		if member == id || len(seen) > maxGroups {
			return true, nil
		}
		v, err := s.store.Monitor(ctx, group.OwnerID, member)
		if uptime.Is(err, uptime.NotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if found, err := s.contains(ctx, v.Monitor, id, seen); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// PingToken is the secret end of a heartbeat's URL, for those who manage it; empty
// for anybody else, and for other types.
func (s *Service) PingToken(ctx context.Context, a Actor, v uptime.MonitorView) (uptime.Secret, error) {
	owner, err := a.may(Private)
	if err != nil || v.Type != "heartbeat" {
		return "", nil
	}
	return s.store.PingToken(ctx, owner, v.ID)
}

// RotatePingToken gives a heartbeat a new URL; the old one is refused from now on.
func (s *Service) RotatePingToken(ctx context.Context, a Actor, id int64) (uptime.MonitorView, error) {
	v, owner, err := s.ofType(ctx, a, id, "heartbeat", "has a URL for pings")
	if err != nil {
		return v, err
	}
	if err := s.store.ReplacePingToken(ctx, owner, id, uptime.Secret(randomToken(""))); err != nil {
		return v, err
	}
	return s.view(a, v)
}

// ofType is a monitor that the actor may change, if it is of the type.
func (s *Service) ofType(ctx context.Context, a Actor, id int64, typ, what string) (v uptime.MonitorView, owner int64, err error) {
	if owner, err = a.may(Write); err != nil {
		return v, owner, err
	}
	if v, err = s.store.Monitor(ctx, owner, id); err == nil && v.Type != typ {
		err = uptime.Errorf(uptime.Conflict, "this monitor is of type %s; only one of type %s %s", v.Type, typ, what)
	}
	return v, owner, err
}

// tokenLength is that of randomToken without a prefix. What has another costs no query.
const tokenLength = 27

// RecordPing keeps a ping that came for token, NotFound if that is nobody's, and has
// the monitor looked at if its verdict may change. The ping's Body may be any bytes.
func (s *Service) RecordPing(ctx context.Context, token string, p uptime.Ping) error {
	if len(token) != tokenLength {
		return uptime.Errorf(uptime.NotFound, "there is no such heartbeat")
	}
	p.At = uptime.Now()
	p.Body = storableBody(p.Body)
	got, err := s.store.RecordPing(ctx, token, p)
	if err != nil {
		if !uptime.Is(err, uptime.NotFound) {
			s.deaf.Store(true)
		}
		return err
	}
	if got.Changes && got.Enabled {
		m := got.Monitor
		if err := s.checkAt(ctx, p.At, m.MonitorID, m.Revision, m.Interval, m.Regions); err != nil {
			s.log.WarnContext(ctx, "pinged monitor waits for its next slot", slog.Int64("monitor_id", m.MonitorID), slog.Any("error", err))
		}
	}
	return nil
}

// storableBody is a body as a database takes it: UTF-8 without NUL, cut where a
// character ends.
func storableBody(b string) string {
	b = strings.ReplaceAll(strings.ToValidUTF8(b, "\uFFFD"), "\x00", "\uFFFD")
	if len(b) <= uptime.MaxPingBody {
		return b
	}
	n := uptime.MaxPingBody
	for !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// Pings are those of a monitor, newest first. A viewer sees no body: it may hold
// what only its owner should read.
func (s *Service) Pings(ctx context.Context, a Actor, id, before int64, limit int) ([]uptime.Ping, error) {
	owner, err := a.may(Read)
	if err != nil {
		return nil, err
	}
	list, err := s.store.ListPings(ctx, owner, id, before, limit)
	for i := range list {
		if a.viewer() {
			list[i].Body = ""
		}
	}
	return list, err
}

// Listening notes that this process can receive pings now. returned says that none
// could be received since the last note of it. It is called every few seconds by
// every process that takes pings: the span in which nobody did is no job's fault.
func (s *Service) Listening(ctx context.Context, returned bool) error {
	lost := s.deaf.Swap(false)
	err := s.store.NoteListening(ctx, uptime.Now(), returned || lost)
	if err != nil {
		s.deaf.Store(true)
	}
	return err
}

// maxStatus is the longest message of a state that a person sets, in characters.
const maxStatus = 500

// SetStatus says how a manual monitor is, and has that recorded.
func (s *Service) SetStatus(ctx context.Context, a Actor, id int64, st uptime.ManualState) (uptime.ManualState, error) {
	v, owner, err := s.ofType(ctx, a, id, "manual", "is set by hand")
	if err != nil {
		return st, err
	}
	var p uptime.Problems
	if st.Verdict == uptime.VerdictUnknown {
		p.Add("verdict", "choose up, degraded or down")
	}
	st.Message = strings.TrimSpace(st.Message)
	if utf8.RuneCountInString(st.Message) > maxStatus || hasControl(st.Message) {
		p.Add("message", "write %d characters at most, none of them a control character", maxStatus)
	}
	if err := p.Err(); err != nil {
		return st, err
	}
	if err := s.throttle(ctx, "check:"+decimal(a.User.ID), s.limits.ChecksNow, time.Minute); err != nil {
		return st, err
	}
	st.At, st.UserID = uptime.Now(), a.User.ID
	if err := s.store.SetManualState(ctx, owner, id, st); err != nil {
		return st, err
	}
	if v.Enabled {
		if err := s.checkAt(ctx, st.At, id, v.Revision, v.Interval, v.Regions); err != nil {
			s.log.WarnContext(ctx, "manual state waits for its next slot", slog.Int64("monitor_id", id), slog.Any("error", err))
		}
	}
	return st, nil
}
