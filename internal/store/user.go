package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"vedette/internal/uptime"
)

const userColumns = `u.id, u.email, u.password_hash, u.role, u.created_at`

func scanUser(r row, more ...any) (u uptime.User, err error) {
	var created int64
	err = r.Scan(append([]any{&u.ID, &u.Email, &u.PasswordHash, &u.Role, &created}, more...)...)
	u.CreatedAt = instant(created)
	return u, err
}

// CreateFirstUser: see service.Users. In PostgreSQL an advisory lock makes those
// who come at once wait for each other; SQLite has one writer anyway.
func (s *Store) CreateFirstUser(ctx context.Context, u uptime.User) (uptime.User, error) {
	err := s.tx(ctx, "create the first user", func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx, lockFirstUser); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM users`).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return uptime.Errorf(uptime.Conflict, "there is a user already")
		}
		return insertUser(ctx, tx, &u)
	})
	return u, err
}

func insertUser(ctx context.Context, tx *sql.Tx, u *uptime.User) error {
	u.CreatedAt = uptime.Now()
	return tx.QueryRowContext(ctx, `INSERT INTO users (email, password_hash, role, created_at) VALUES ($1, $2, $3, $4) RETURNING id`,
		u.Email, u.PasswordHash, string(u.Role), micro(u.CreatedAt)).Scan(&u.ID)
}

// CreateUser: see service.Users.
func (s *Store) CreateUser(ctx context.Context, u uptime.User) (uptime.User, error) {
	err := s.tx(ctx, "create user", func(ctx context.Context, tx *sql.Tx) error { return insertUser(ctx, tx, &u) })
	if uptime.Is(err, uptime.Conflict) {
		return u, &uptime.Error{Kind: uptime.Conflict, Message: "the address is taken", Fields: []uptime.Field{{Path: "email", Message: "there is a user with this address"}}}
	}
	return u, err
}

// CountUsers: see service.Users.
func (s *Store) CountUsers(ctx context.Context) (n int, err error) {
	err = s.query(ctx, "count users", `SELECT count(*) FROM users`, nil, func(r row) error { return r.Scan(&n) })
	return n, err
}

// UserByID: see service.Users.
func (s *Store) UserByID(ctx context.Context, id int64) (uptime.User, error) {
	return s.oneUser(ctx, `u.id = $1`, id)
}

// UserByEmail: see service.Users.
func (s *Store) UserByEmail(ctx context.Context, email string) (uptime.User, error) {
	return s.oneUser(ctx, `u.email = $1`, email)
}

func (s *Store) oneUser(ctx context.Context, where string, arg any) (u uptime.User, err error) {
	found := false
	err = s.query(ctx, "read user", `SELECT `+userColumns+` FROM users u WHERE `+where, []any{arg}, func(r row) (err error) {
		found = true
		u, err = scanUser(r)
		return err
	})
	if err == nil && !found {
		err = notFound()
	}
	return u, err
}

// SetPassword: see service.Users.
func (s *Store) SetPassword(ctx context.Context, id int64, hash string) error {
	return s.tx(ctx, "set password", func(ctx context.Context, tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1`, id, hash))
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound()
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM sessions WHERE user_id = $1`, id)
		return err
	})
}

// CreateSession: see service.Users.
func (s *Store) CreateSession(ctx context.Context, v uptime.Session, tokenHash []byte) (uptime.Session, error) {
	err := s.tx(ctx, "create session", func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO sessions (user_id, token_hash, created_at, seen_at, expires_at) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
			v.UserID, hex.EncodeToString(tokenHash), micro(v.CreatedAt), micro(v.SeenAt), micro(v.ExpiresAt)).Scan(&v.ID)
	})
	return v, err
}

// SessionByHash: see service.Users.
func (s *Store) SessionByHash(ctx context.Context, tokenHash []byte, now time.Time) (v uptime.Session, u uptime.User, err error) {
	const q = `SELECT ` + userColumns + `, s.id, s.created_at, s.seen_at, s.expires_at FROM sessions s JOIN users u ON u.id = s.user_id
 WHERE s.token_hash = $1 AND s.expires_at > $2`
	found := false
	err = s.query(ctx, "read session", q, []any{hex.EncodeToString(tokenHash), micro(now)}, func(r row) (err error) {
		var created, seen, expires int64
		found = true
		u, err = scanUser(r, &v.ID, &created, &seen, &expires)
		v.UserID, v.CreatedAt, v.SeenAt, v.ExpiresAt = u.ID, instant(created), instant(seen), instant(expires)
		return err
	})
	if err == nil && !found {
		err = notFound()
	}
	return v, u, err
}

// TouchSession: see service.Users.
func (s *Store) TouchSession(ctx context.Context, id int64, seen time.Time) error {
	return s.exec(ctx, "touch session", `UPDATE sessions SET seen_at = $2 WHERE id = $1`, id, micro(seen))
}

// DeleteSession: see service.Users.
func (s *Store) DeleteSession(ctx context.Context, id int64) error {
	return s.exec(ctx, "delete session", `DELETE FROM sessions WHERE id = $1`, id)
}

// exec runs one statement in a transaction of its own.
func (s *Store) exec(ctx context.Context, what, q string, args ...any) error {
	return s.tx(ctx, what, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, q, args...)
		return err
	})
}
