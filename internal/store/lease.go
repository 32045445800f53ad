package store

import (
	"context"
	"database/sql"
	"time"

	"vedette/internal/uptime"
)

const holdLease = `INSERT INTO leases (name, holder, term, expires_at) VALUES ($1, $2, 1, $3)
 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
  term = CASE WHEN leases.holder = excluded.holder THEN leases.term ELSE leases.term + 1 END
 WHERE leases.holder = excluded.holder OR leases.expires_at < $4
 RETURNING term`

// HoldLease: see schedule.Store. Clocks of processes that share a database must
// agree to within a fraction of ttl.
func (s *Store) HoldLease(ctx context.Context, name, holder string, ttl time.Duration) (term int64, held bool, err error) {
	err = s.tx(ctx, "hold lease "+name, func(ctx context.Context, tx *sql.Tx) error {
		now := uptime.Now()
		err := tx.QueryRowContext(ctx, holdLease, name, holder, micro(now.Add(ttl)), micro(now)).Scan(&term)
		held = err == nil
		if err == sql.ErrNoRows { // somebody else has it
			return nil
		}
		return err
	})
	return term, held, err
}

// ReleaseLease: see schedule.Store.
func (s *Store) ReleaseLease(ctx context.Context, name, holder string) error {
	return s.tx(ctx, "release lease "+name, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE leases SET expires_at = 0 WHERE name = $1 AND holder = $2`, name, holder)
		return err
	})
}

// Progress: see schedule.Store.
func (s *Store) Progress(ctx context.Context, name string) (at time.Time, err error) {
	err = s.query(ctx, "read progress", `SELECT at FROM progress WHERE name = $1`, []any{name}, func(r row) error {
		var us int64
		err := r.Scan(&us)
		at = instant(us)
		return err
	})
	return at, err
}

const setProgress = `INSERT INTO progress (name, at) VALUES ($1, $2)
 ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE progress.at < excluded.at`

// SetProgress: see schedule.Store.
func (s *Store) SetProgress(ctx context.Context, name string, at time.Time) error {
	return s.tx(ctx, "note progress", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, setProgress, name, micro(at))
		return err
	})
}
