package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"vedette/internal/uptime"
)

const countAttempt = `INSERT INTO attempt_counters (key, window_start, count) VALUES ($1, $2, 1)
 ON CONFLICT (key) DO UPDATE SET
  count = CASE WHEN attempt_counters.window_start = excluded.window_start THEN attempt_counters.count + 1 ELSE 1 END,
  window_start = excluded.window_start
 RETURNING count`

// CountAttempt: see service.Users. Windows begin at multiples of their length.
func (s *Store) CountAttempt(ctx context.Context, key string, now time.Time, window time.Duration) (n int, err error) {
	err = s.tx(ctx, "count attempt", func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, countAttempt, key, micro(now.Truncate(window))).Scan(&n)
	})
	return n, err
}

// idempotencyTTL is how long an answer is kept for a repeat of its request.
const idempotencyTTL = 24 * time.Hour

// Idempotent: see service.Users.
func (s *Store) Idempotent(ctx context.Context, userID int64, key string, fingerprint []byte) (status int, body []byte, found bool, err error) {
	const q = `SELECT fingerprint, status, body FROM idempotency WHERE user_id = $1 AND key = $2 AND created_at > $3`
	var stored, text string
	err = s.query(ctx, "read stored answer", q, []any{userID, key, micro(uptime.Now().Add(-idempotencyTTL))}, func(r row) error {
		found = true
		return r.Scan(&stored, &status, &text)
	})
	if err == nil && found && stored != hex.EncodeToString(fingerprint) {
		return 0, nil, false, uptime.Errorf(uptime.Conflict, "this Idempotency-Key was used for another request")
	}
	return status, []byte(text), found, err
}

// SaveIdempotent: see service.Users.
func (s *Store) SaveIdempotent(ctx context.Context, userID int64, key string, fingerprint []byte, status int, body []byte) error {
	return s.exec(ctx, "store answer", `INSERT INTO idempotency (user_id, key, fingerprint, status, body, created_at) VALUES ($1, $2, $3, $4, $5, $6)
 ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, created_at = excluded.created_at
 WHERE idempotency.created_at <= $7`, userID, key, hex.EncodeToString(fingerprint), status, string(body), micro(uptime.Now()), micro(uptime.Now().Add(-idempotencyTTL)))
}
