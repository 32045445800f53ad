package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"vedette/internal/uptime"
)

const keyColumns = `k.id, k.user_id, k.name, k.prefix, k.scope, k.created_at, k.last_used_at, k.expires_at`

// keyDest are the places that keyColumns are scanned into; done finishes the key.
func keyDest(k *uptime.APIKey) (dest []any, done func()) {
	var created, used, expires int64
	return []any{&k.ID, &k.UserID, &k.Name, &k.Prefix, &k.Scope, &created, &used, &expires}, func() {
		k.CreatedAt, k.LastUsedAt, k.ExpiresAt = instant(created), instant(used), instant(expires)
	}
}

// CreateAPIKey: see service.Users.
func (s *Store) CreateAPIKey(ctx context.Context, k uptime.APIKey, keyHash []byte) (uptime.APIKey, error) {
	err := s.tx(ctx, "create API key", func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO api_keys (user_id, key_hash, name, prefix, scope, created_at, expires_at)
 VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`, k.UserID, hex.EncodeToString(keyHash), k.Name, k.Prefix, string(k.Scope),
			micro(k.CreatedAt), micro(k.ExpiresAt)).Scan(&k.ID)
	})
	return k, err
}

// APIKeyByHash: see service.Users.
func (s *Store) APIKeyByHash(ctx context.Context, keyHash []byte, now time.Time) (k uptime.APIKey, u uptime.User, err error) {
	const q = `SELECT ` + userColumns + `, ` + keyColumns + ` FROM api_keys k JOIN users u ON u.id = k.user_id
 WHERE k.key_hash = $1 AND (k.expires_at = 0 OR k.expires_at > $2)`
	found := false
	err = s.query(ctx, "read API key", q, []any{hex.EncodeToString(keyHash), micro(now)}, func(r row) (err error) {
		found = true
		dest, done := keyDest(&k)
		u, err = scanUser(r, dest...)
		done()
		return err
	})
	if err == nil && !found {
		err = notFound()
	}
	return k, u, err
}

// TouchAPIKey: see service.Users.
func (s *Store) TouchAPIKey(ctx context.Context, id int64, used time.Time) error {
	return s.exec(ctx, "touch API key", `UPDATE api_keys SET last_used_at = $2 WHERE id = $1`, id, micro(used))
}

// ListAPIKeys: see service.Users.
func (s *Store) ListAPIKeys(ctx context.Context, userID int64) ([]uptime.APIKey, error) {
	var out []uptime.APIKey
	err := s.query(ctx, "list API keys", `SELECT `+keyColumns+` FROM api_keys k WHERE k.user_id = $1 ORDER BY k.id`, []any{userID}, func(r row) error {
		var k uptime.APIKey
		dest, done := keyDest(&k)
		err := r.Scan(dest...)
		done()
		out = append(out, k)
		return err
	})
	return out, err
}

// DeleteAPIKey: see service.Users.
func (s *Store) DeleteAPIKey(ctx context.Context, userID, id int64) error {
	return s.tx(ctx, "delete API key", func(ctx context.Context, tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `DELETE FROM api_keys WHERE id = $1 AND user_id = $2`, id, userID))
		if err == nil && n == 0 {
			err = notFound()
		}
		return err
	})
}
