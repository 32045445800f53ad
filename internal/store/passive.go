package store

import (
	"context"
	"database/sql"

	"vedette/internal/uptime"
)

// Members: see probe.Facts.
func (s *Store) Members(ctx context.Context, owner int64, ids []int64, tags []string) ([]uptime.Member, error) {
	// A group is a member only by its id: what a tag brings in can make no circle.
	const byTag = `(m.type <> 'group' AND EXISTS (SELECT 1 FROM monitor_tags t WHERE t.monitor_id = m.id AND t.tag = $2))`
	const q = `SELECT m.id, m.name, m.enabled, coalesce(s.verdict, 0) FROM monitors m LEFT JOIN monitor_states s ON s.monitor_id = m.id
 WHERE m.owner_id = $1 AND `
	var out []uptime.Member
	seen := map[int64]bool{}
	add := func(r row) error {
		var m uptime.Member
		var enabled int64
		if err := r.Scan(&m.ID, &m.Name, &enabled, &m.Verdict); err != nil {
			return err
		}
		m.Enabled = enabled != 0
		if !seen[m.ID] {
			seen[m.ID] = true
			out = append(out, m)
		}
		return nil
	}
	if len(ids) > 0 {
		in, args := s.d.in("m.id", 2, ids)
		if err := s.query(ctx, "read members", q+in+` ORDER BY m.id`, append([]any{owner}, args...), add); err != nil {
			return nil, err
		}
	}
	for _, tag := range tags {
		if err := s.query(ctx, "read members by tag", q+byTag+` ORDER BY m.id`, []any{owner, tag}, add); err != nil {
			return nil, err
		}
	}
	return out, nil
}

const setManualState = `INSERT INTO manual_states (monitor_id, verdict, message, set_at, user_id) VALUES ($1, $2, $3, $4, $5)
 ON CONFLICT (monitor_id) DO UPDATE SET verdict = excluded.verdict, message = excluded.message, set_at = excluded.set_at, user_id = excluded.user_id`

// SetManualState: see service.Monitors.
func (s *Store) SetManualState(ctx context.Context, owner, id int64, st uptime.ManualState) error {
	return s.tx(ctx, "set manual state", func(ctx context.Context, tx *sql.Tx) error {
		m, err := s.ownedMonitor(ctx, tx, owner, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, setManualState, m.ID, int64(st.Verdict), st.Message, micro(st.At), st.UserID)
		return err
	})
}

// ManualState: see probe.Facts.
func (s *Store) ManualState(ctx context.Context, monitorID int64) (st uptime.ManualState, err error) {
	const q = `SELECT verdict, message, set_at, user_id FROM manual_states WHERE monitor_id = $1`
	err = s.query(ctx, "read manual state", q, []any{monitorID}, func(r row) error {
		var at int64
		err := r.Scan(&st.Verdict, &st.Message, &at, &st.UserID)
		st.At = instant(at)
		return err
	})
	return st, err
}
