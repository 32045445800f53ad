package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"vedette/internal/uptime"
)

const monitorColumns = `m.id, m.owner_id, m.name, m.type, m.target, m.interval_us, m.timeout_us, m.confirm_failures, m.confirm_interval,
 m.confirm_successes, m.assertions, m.inverted, m.regions, m.tags, m.enabled, m.revision, m.scheduled_since, m.problem, m.created_at, m.updated_at`

// scanMonitor reads monitorColumns and what follows them.
func scanMonitor(r row, more ...any) (m uptime.Monitor, err error) {
	var interval, timeout, confirm, inverted, enabled, since, created, updated int64
	var assertions, regions, tags string
	err = r.Scan(append([]any{&m.ID, &m.OwnerID, &m.Name, &m.Type, &m.Target, &interval, &timeout, &m.Confirm.Failures, &confirm,
		&m.Confirm.Successes, &assertions, &inverted, &regions, &tags, &enabled, &m.Revision, &since, &m.Problem, &created, &updated}, more...)...)
	if err != nil {
		return m, err
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	m.Interval, m.Timeout, m.Confirm.Interval = us(interval), us(timeout), us(confirm)
	m.Inverted, m.Enabled = inverted != 0, enabled != 0
	m.ScheduledSince, m.CreatedAt, m.UpdatedAt = instant(since), instant(created), instant(updated)
	for _, field := range []struct {
		text string
		into any
	}{{assertions, &m.Assertions}, {regions, &m.Regions}, {tags, &m.Tags}} {
		if err := json.Unmarshal([]byte(field.text), field.into); err != nil {
			return m, fmt.Errorf("monitor %d: %w", m.ID, err)
		}
	}
	return m, possible(m.Interval, m.Timeout)
}

// unreadable is what the owner of a row that makes no sense is told. Nothing of ours
// writes one; a person, a restored backup or another version may.
const unreadable = "Its stored definition cannot be read; save it again."

// possible refuses a schedule that nobody can keep: slots divide by the interval.
func possible(interval, timeout time.Duration) error {
	if interval <= 0 || interval > 366*24*time.Hour || timeout <= 0 {
		return fmt.Errorf("an interval of %s and a timeout of %s make no schedule", interval, timeout)
	}
	return nil
}

// Monitors: see worker.Store. One whose row cannot be read, or opened with our key,
// is parked and left out: it must not keep the others from being checked.
func (s *Store) Monitors(ctx context.Context, ids []int64) ([]uptime.Monitor, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	in, args := s.d.in("m.id", 1, ids)
	var out, broken []uptime.Monitor
	err := s.query(ctx, "read monitors", `SELECT `+monitorColumns+`, m.config FROM monitors m WHERE `+in, args, func(r row) error {
		var sealed string
		m, err := scanMonitor(r, &sealed)
		if m.ID == 0 {
			return err
		}
		if err == nil {
			m.Config, err = s.sealer.Open(sealed, "monitors", "config", m.ID)
		}
		if err != nil {
			s.log.Error("monitor cannot be read", slog.Int64("monitor_id", m.ID), slog.Any("error", err))
			broken = append(broken, m)
			return nil
		}
		out = append(out, m)
		return nil
	})
	for _, m := range broken {
		if err == nil {
			err = s.ParkMonitor(ctx, m.ID, m.Revision, unreadable)
		}
	}
	return out, err
}

// jsonText is v as TEXT; the lists and assertions it is used for always encode.
func jsonText[T any](v []T) string {
	if v == nil {
		v = []T{}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "[]"
	}
	return string(b)
}

const insertMonitor = `INSERT INTO monitors (owner_id, name, type, target, interval_us, timeout_us, confirm_failures, confirm_interval,
 confirm_successes, config, assertions, inverted, regions, tags, enabled, revision, scheduled_since, created_at, updated_at)
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', $10, $11, $12, $13, $14, 1, $15, $15, $15) RETURNING id`

// CreateMonitor: see service.Monitors.
func (s *Store) CreateMonitor(ctx context.Context, m uptime.Monitor) (uptime.Monitor, error) {
	err := s.tx(ctx, "create monitor", func(ctx context.Context, tx *sql.Tx) error {
		now := uptime.Now()
		m.Revision, m.ScheduledSince, m.CreatedAt, m.UpdatedAt, m.Problem = 1, now, now, now, ""
		err := tx.QueryRowContext(ctx, insertMonitor, m.OwnerID, m.Name, m.Type, m.Target, m.Interval.Microseconds(), m.Timeout.Microseconds(),
			m.Confirm.Failures, m.Confirm.Interval.Microseconds(), m.Confirm.Successes, jsonText(m.Assertions), bit(m.Inverted),
			jsonText(m.Regions), jsonText(m.Tags), bit(m.Enabled), micro(now)).Scan(&m.ID)
		if err != nil {
			return err
		}
		if err := s.sealMonitor(ctx, tx, m); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insertState+`id = $1`, m.ID); err != nil {
			return err
		}
		if err := s.ensureHeartbeat(ctx, tx, m); err != nil {
			return err
		}
		if err := saveSchedule(ctx, tx, &m); err != nil {
			return err
		}
		gap := uptime.Gap{MonitorID: m.ID, From: now, Cause: uptime.Pending} // until its first verdict
		if !m.Enabled {
			gap.Cause = uptime.Paused
		}
		if err := s.insertGaps(ctx, tx, gap); err != nil {
			return err
		}
		return s.linkMonitor(ctx, tx, m)
	})
	return m, err
}

// sealMonitor writes the config, bound to the row whose id is known only now.
func (s *Store) sealMonitor(ctx context.Context, tx *sql.Tx, m uptime.Monitor) error {
	_, err := tx.ExecContext(ctx, `UPDATE monitors SET config = $2 WHERE id = $1`, m.ID, s.sealer.Seal(m.Config, "monitors", "config", m.ID))
	return err
}

// linkMonitor writes its tags and channels anew, and the live event.
func (s *Store) linkMonitor(ctx context.Context, tx *sql.Tx, m uptime.Monitor) error {
	for _, q := range []string{`DELETE FROM monitor_tags WHERE monitor_id = $1`, `DELETE FROM monitor_channels WHERE monitor_id = $1`} {
		if _, err := tx.ExecContext(ctx, q, m.ID); err != nil {
			return err
		}
	}
	for _, tag := range m.Tags {
		if _, err := tx.ExecContext(ctx, `INSERT INTO monitor_tags (monitor_id, tag) VALUES ($1, $2) ON CONFLICT DO NOTHING`, m.ID, tag); err != nil {
			return err
		}
	}
	for _, channel := range m.ChannelIDs {
		n, err := affected(tx.ExecContext(ctx, `INSERT INTO monitor_channels (monitor_id, channel_id)
 SELECT $1, id FROM channels WHERE id = $2 AND owner_id = $3 ON CONFLICT DO NOTHING`, m.ID, channel, m.OwnerID))
		if err != nil {
			return err
		}
		if n == 0 {
			return uptime.InvalidField("channels", "there is no channel %d of this monitor's owner", channel)
		}
	}
	return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: m.OwnerID, Type: "monitor.changed", MonitorID: m.ID})
}

const updateMonitor = `UPDATE monitors SET name = $2, type = $3, target = $4, interval_us = $5, timeout_us = $6, confirm_failures = $7,
 confirm_interval = $8, confirm_successes = $9, config = $10, assertions = $11, inverted = $12, regions = $13, tags = $14, enabled = $15,
 revision = revision + 1, scheduled_since = $16, problem = '', updated_at = $17 WHERE id = $1 AND revision = $18`

// UpdateMonitor: see service.Monitors.
func (s *Store) UpdateMonitor(ctx context.Context, owner int64, m uptime.Monitor) (uptime.Monitor, []int64, error) {
	var alerts []int64
	err := s.tx(ctx, "update monitor", func(ctx context.Context, tx *sql.Tx) error {
		alerts = nil
		old, err := s.ownedMonitor(ctx, tx, owner, m.ID)
		if err != nil {
			return err
		}
		if old.Revision != m.Revision {
			return uptime.Errorf(uptime.Conflict, "monitor %d was changed meanwhile: read it again", m.ID)
		}
		now := uptime.Now()
		m.OwnerID, m.CreatedAt, m.UpdatedAt, m.ScheduledSince, m.Problem = old.OwnerID, old.CreatedAt, now, old.ScheduledSince, ""
		if m.Interval != old.Interval || m.Enabled != old.Enabled || !slices.Equal(m.Regions, old.Regions) {
			m.ScheduledSince = now
		}
		_, err = tx.ExecContext(ctx, updateMonitor, m.ID, m.Name, m.Type, m.Target, m.Interval.Microseconds(), m.Timeout.Microseconds(),
			m.Confirm.Failures, m.Confirm.Interval.Microseconds(), m.Confirm.Successes, s.sealer.Seal(m.Config, "monitors", "config", m.ID),
			jsonText(m.Assertions), bit(m.Inverted), jsonText(m.Regions), jsonText(m.Tags), bit(m.Enabled), micro(m.ScheduledSince), micro(now), m.Revision)
		if err != nil {
			return err
		}
		if err := s.ensureHeartbeat(ctx, tx, m); err != nil {
			return err
		}
		if err := saveSchedule(ctx, tx, &m); err != nil {
			return err
		}
		if err := s.linkMonitor(ctx, tx, m); err != nil {
			return err
		}
		alerts, err = s.switchMonitor(ctx, tx, old, m, now)
		return err
	})
	m.Revision++
	return m, alerts, err
}

// switchMonitor follows a change of Enabled: a paused monitor has no open incident
// and a gap; resumed, it begins as one never checked.
func (s *Store) switchMonitor(ctx context.Context, tx *sql.Tx, old, m uptime.Monitor, now time.Time) ([]int64, error) {
	if old.Enabled == m.Enabled {
		return nil, nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE gaps SET ended_at = $2 WHERE monitor_id = $1 AND ended_at = 0`, m.ID, micro(now)); err != nil {
		return nil, err
	}
	reset := uptime.Change{State: uptime.State{MonitorID: m.ID, Since: now}}
	if m.Enabled {
		reset.OpenGap = &uptime.Gap{MonitorID: m.ID, From: now, Cause: uptime.Pending}
		_, err := s.apply(ctx, tx, []decided{{&uptime.Facts{Monitor: m, State: uptime.State{Reason: uptime.Paused}}, reset}})
		return nil, err
	}
	reset.State.Reason, reset.OpenGap = uptime.Paused, &uptime.Gap{MonitorID: m.ID, From: now, Cause: uptime.Paused}
	if _, err := s.apply(ctx, tx, []decided{{&uptime.Facts{Monitor: m}, reset}}); err != nil {
		return nil, err
	}
	return s.closeIncident(ctx, tx, m, "monitor_paused", now)
}

// ownedMonitor locks a monitor that is owner's.
func (s *Store) ownedMonitor(ctx context.Context, tx *sql.Tx, owner, id int64) (uptime.Monitor, error) {
	return scanMonitor(tx.QueryRowContext(ctx, `SELECT `+monitorColumns+` FROM monitors m WHERE m.id = $1 AND ($2 = 0 OR m.owner_id = $2)`+s.d.forUpdate(), id, owner))
}

// DeleteMonitor: see service.Monitors. Its results go with retention: they are
// found by nobody once the monitor is gone.
func (s *Store) DeleteMonitor(ctx context.Context, owner, id int64) (alerts []int64, err error) {
	err = s.tx(ctx, "delete monitor", func(ctx context.Context, tx *sql.Tx) error {
		m, err := s.ownedMonitor(ctx, tx, owner, id)
		if err != nil {
			return err
		}
		if alerts, err = s.closeIncident(ctx, tx, m, "monitor_deleted", uptime.Now()); err != nil {
			return err
		}
		for _, q := range []string{`DELETE FROM gaps WHERE monitor_id = $1`, `DELETE FROM rollups WHERE monitor_id = $1`, `DELETE FROM last_good WHERE monitor_id = $1`, `DELETE FROM monitors WHERE id = $1`} {
			if _, err := tx.ExecContext(ctx, q, id); err != nil {
				return err
			}
		}
		return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: m.OwnerID, Type: "monitor.deleted", MonitorID: id})
	})
	return alerts, err
}

// ParkMonitor: see worker.Store. Nobody looks at a parked monitor, so nothing is
// known of it from now on; an incident that is open stays so until somebody does.
func (s *Store) ParkMonitor(ctx context.Context, id, revision int64, problem string) error {
	return s.tx(ctx, "park monitor", func(ctx context.Context, tx *sql.Tx) error {
		now := uptime.Now()
		n, err := affected(tx.ExecContext(ctx, `UPDATE monitors SET problem = $3 WHERE id = $1 AND revision = $2 AND problem = ''`, id, revision, problem))
		if err != nil || n == 0 {
			return err
		}
		read := s.script(ctx, tx)
		states := read.lockStates([]int64{id})
		c := uptime.Change{State: uptime.State{MonitorID: id, Reason: uptime.BadConfig, Message: problem, Since: now},
			OpenGap: &uptime.Gap{MonitorID: id, From: now, Cause: uptime.BadConfig}}
		read.openGaps([]int64{id}, func(uptime.Gap) { c.OpenGap = nil })
		if err := read.run(); err != nil {
			return err
		}
		f := uptime.Facts{Monitor: uptime.Monitor{ID: id}, State: states[id]}
		if err := tx.QueryRowContext(ctx, `SELECT owner_id FROM monitors WHERE id = $1`, id).Scan(&f.Monitor.OwnerID); err != nil {
			return err
		}
		_, err = s.apply(ctx, tx, []decided{{&f, c}})
		return err
	})
}

// Seen: see worker.Store. It reads no more rows than there are slots.
func (s *Store) Seen(ctx context.Context, id, revision int64, slots []time.Time) (seen bool, err error) {
	at := make([]int64, len(slots))
	for i, slot := range slots {
		at[i] = micro(slot)
	}
	in, args := s.d.in("scheduled_at", 4, at)
	err = s.query(ctx, "look for verdicts", `SELECT count(*) FROM check_results WHERE monitor_id = $1 AND revision = $2 AND verdict <> $3 AND `+in,
		append([]any{id, revision, int64(uptime.VerdictUnknown)}, args...), func(r row) error {
			n := 0
			err := r.Scan(&n)
			seen = n > 0
			return err
		})
	return seen, err
}

// RetryParked: see worker.Store. What a monitor's state says stays until its check says
// something else.
func (s *Store) RetryParked(ctx context.Context) error {
	return s.tx(ctx, "retry parked monitors", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE monitors SET problem = '' WHERE problem <> ''`)
		return err
	})
}

// CountMonitors: see service.Monitors.
func (s *Store) CountMonitors(ctx context.Context, owner int64) (n int, err error) {
	err = s.query(ctx, "count monitors", `SELECT count(*) FROM monitors WHERE ($1 = 0 OR owner_id = $1)`, []any{owner}, func(r row) error { return r.Scan(&n) })
	return n, err
}

const selectViews = `SELECT ` + monitorColumns + `, m.config, coalesce(s.verdict, 0), coalesce(s.reason, ''), coalesce(s.message, ''), coalesce(s.since, 0),
 coalesce(s.regions, '[]'), coalesce((SELECT i.id FROM incidents i WHERE i.monitor_id = m.id AND i.kind = 'target' AND i.resolved_at = 0), 0)
 FROM monitors m LEFT JOIN monitor_states s ON s.monitor_id = m.id WHERE `

// Monitor: see service.Monitors.
func (s *Store) Monitor(ctx context.Context, owner, id int64) (uptime.MonitorView, error) {
	views, err := s.views(ctx, `m.id = $1 AND ($2 = 0 OR m.owner_id = $2)`, []any{id, owner})
	if err != nil {
		return uptime.MonitorView{}, err
	}
	if len(views) == 0 {
		return uptime.MonitorView{}, notFound()
	}
	return views[0], nil
}

// ListMonitors: see service.Monitors.
func (s *Store) ListMonitors(ctx context.Context, f uptime.MonitorFilter) ([]uptime.MonitorView, error) {
	where := []string{`m.id > $1`, `($2 = 0 OR m.owner_id = $2)`}
	args := []any{f.After, f.OwnerID}
	add := func(format string, values ...any) {
		n := make([]any, len(values))
		for i := range values {
			n[i] = len(args) + 1 + i
		}
		where, args = append(where, fmt.Sprintf(format, n...)), append(args, values...)
	}
	if f.Query != "" {
		like := "%" + escapeLike(f.Query) + "%"
		op := s.d.like()
		add(`(m.name `+op+` $%[1]d ESCAPE '\' OR m.target `+op+` $%[1]d ESCAPE '\')`, like)
	}
	for _, tag := range f.Tags {
		add(`EXISTS (SELECT 1 FROM monitor_tags t WHERE t.monitor_id = m.id AND t.tag = $%d)`, tag)
	}
	if f.Verdict != nil {
		audited, err := s.Progress(ctx, "audit")
		if err != nil {
			return nil, err
		}
		add(vouchedVerdict+` = $%[3]d`, micro(uptime.Now()), micro(audited), int64(*f.Verdict))
	}
	if f.Enabled != nil {
		add(`m.enabled = $%d`, bit(*f.Enabled))
	}
	if f.Type != "" {
		add(`m.type = $%d`, f.Type)
	}
	add(`TRUE ORDER BY m.id LIMIT $%d`, f.Limit)
	return s.views(ctx, strings.Join(where, " AND "), args)
}

// views reads monitors with their states, channels and the liveness rule applied.
func (s *Store) views(ctx context.Context, where string, args []any) ([]uptime.MonitorView, error) {
	audited, err := s.Progress(ctx, "audit")
	if err != nil {
		return nil, err
	}
	var out []uptime.MonitorView
	at := map[int64]int{}
	err = s.query(ctx, "read monitors", selectViews+where, args, func(r row) error {
		var v uptime.MonitorView
		var sealed, regions string
		var since int64
		m, err := scanMonitor(r, &sealed, &v.State.Verdict, &v.State.Reason, &v.State.Message, &since, &regions, &v.IncidentID)
		if m.ID == 0 {
			return err
		}
		if err != nil && m.Problem == "" {
			m.Problem = unreadable
		}
		if m.Config, err = s.sealer.Open(sealed, "monitors", "config", m.ID); err != nil && m.Problem == "" {
			m.Problem = "Its stored config cannot be opened; save it again."
		}
		v.Monitor, v.State.MonitorID, v.State.Since = m, m.ID, instant(since)
		if err := json.Unmarshal([]byte(regions), &v.State.Regions); err != nil {
			return err
		}
		vouch(&v, audited, uptime.Now())
		at[m.ID] = len(out)
		out = append(out, v)
		return nil
	})
	if err != nil || len(out) == 0 {
		return out, err
	}
	ids := make([]int64, 0, len(out))
	for _, v := range out {
		ids = append(ids, v.ID)
	}
	in, inArgs := s.d.in("monitor_id", 1, ids)
	err = s.query(ctx, "read channels of monitors", `SELECT monitor_id, channel_id FROM monitor_channels WHERE `+in+` ORDER BY monitor_id, channel_id`, inArgs, func(r row) error {
		var monitor, channel int64
		err := r.Scan(&monitor, &channel)
		out[at[monitor]].ChannelIDs = append(out[at[monitor]].ChannelIDs, channel)
		return err
	})
	return out, err
}

// auditGrace is how far the auditor's progress normally lies behind a slot's own
// deadline: see schedule.Auditor.
const auditGrace = 15 * time.Second

// vouch applies the liveness rule: when the auditor has not been heard of for 2.5
// intervals beyond its usual distance, nobody knows what the monitor is.
func vouch(v *uptime.MonitorView, audited, now time.Time) {
	if !v.Enabled || v.State.Verdict == uptime.VerdictUnknown {
		return
	}
	if audited.Before(v.State.Since) {
		audited = v.State.Since // nothing was due before
	}
	if now.Sub(audited) <= vouchLimit(v) {
		return
	}
	v.State.Verdict, v.State.Reason, v.State.Since = uptime.VerdictUnknown, uptime.Blind, audited
	v.State.Message = "No scheduler has vouched for this monitor's checks since then."
}

func vouchLimit(v *uptime.MonitorView) time.Duration {
	return v.Interval*5/2 + v.Interval + v.Timeout + auditGrace
}

// vouchedVerdict is the verdict after vouch, in SQL: of now and the audit's progress.
var vouchedVerdict = `CASE WHEN m.enabled = 1 AND $%[1]d - CASE WHEN s.since > $%[2]d THEN s.since ELSE $%[2]d END
 > m.interval_us * 7 / 2 + m.timeout_us + ` + strconv.FormatInt(auditGrace.Microseconds(), 10) + ` THEN 0 ELSE coalesce(s.verdict, 0) END`

const selectActive = `SELECT id, owner_id, revision, interval_us, timeout_us, confirm_failures, confirm_interval, confirm_successes, scheduled_since, regions
 FROM monitors WHERE enabled = 1 AND problem = '' AND `

func scanEntry(r row) (e uptime.ScheduleEntry, err error) {
	var interval, timeout, confirm, since int64
	var regions string
	err = r.Scan(&e.MonitorID, &e.OwnerID, &e.Revision, &interval, &timeout, &e.Confirm.Failures, &confirm, &e.Confirm.Successes, &since, &regions)
	if err != nil {
		return e, err
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	e.Interval, e.Timeout, e.Confirm.Interval, e.Since = us(interval), us(timeout), us(confirm), instant(since)
	if err := possible(e.Interval, e.Timeout); err != nil {
		return e, err
	}
	if regions == defaultRegions {
		e.Regions = justDefault
		return e, nil
	}
	return e, json.Unmarshal([]byte(regions), &e.Regions)
}

// active reads entries. One that makes no sense is parked, as Monitors does it; then
// it reads again, since a short page would tell the scheduler that it was the last.
func (s *Store) active(ctx context.Context, what, where string, args ...any) (out []uptime.ScheduleEntry, err error) {
	var broken []uptime.ScheduleEntry
	err = s.query(ctx, what, selectActive+where, args, func(r row) error {
		e, err := scanEntry(r)
		switch {
		case err == nil:
			out = append(out, e)
		case e.MonitorID == 0:
			return err
		default:
			s.log.Error("monitor cannot be scheduled", slog.Int64("monitor_id", e.MonitorID), slog.Any("error", err))
			broken = append(broken, e)
		}
		return nil
	})
	for _, e := range broken {
		if err == nil {
			err = s.ParkMonitor(ctx, e.MonitorID, e.Revision, unreadable)
		}
	}
	if err == nil && len(broken) > 0 {
		return s.active(ctx, what, where, args...)
	}
	return out, err
}

// A million monitors of the default region share one list.
const defaultRegions = `["default"]`

var justDefault = []string{uptime.DefaultRegion}

// ActiveMonitors: see schedule.Store.
func (s *Store) ActiveMonitors(ctx context.Context, after int64, limit int) ([]uptime.ScheduleEntry, error) {
	return s.active(ctx, "read active monitors", `id > $1 ORDER BY id LIMIT $2`, after, limit)
}

// ActiveMonitor: see schedule.Store.
func (s *Store) ActiveMonitor(ctx context.Context, id int64) (e uptime.ScheduleEntry, ok bool, err error) {
	es, err := s.active(ctx, "read monitor", `id = $1`, id)
	if err != nil || len(es) == 0 {
		return e, false, err
	}
	return es[0], true, nil
}
