package store

import (
	"context"
	"database/sql"

	"vedette/internal/uptime"
)

const channelColumns = `c.id, c.owner_id, c.name, c.type, c.config, c.is_default, c.enabled, c.problem, c.revision, c.created_at, c.updated_at`

// scanChannel reads channelColumns and opens the config.
func (s *Store) scanChannel(r row) (c uptime.Channel, err error) {
	var sealed string
	var standard, enabled, created, updated int64
	err = r.Scan(&c.ID, &c.OwnerID, &c.Name, &c.Type, &sealed, &standard, &enabled, &c.Problem, &c.Revision, &created, &updated)
	if err != nil {
		return c, err
	}
	c.Default, c.Enabled, c.CreatedAt, c.UpdatedAt = standard != 0, enabled != 0, instant(created), instant(updated)
	c.Config, err = s.sealer.Open(sealed, "channels", "config", c.ID)
	return c, err
}

// CreateChannel: see service.Channels.
func (s *Store) CreateChannel(ctx context.Context, c uptime.Channel) (uptime.Channel, error) {
	err := s.tx(ctx, "create channel", func(ctx context.Context, tx *sql.Tx) error {
		now := uptime.Now()
		c.Revision, c.CreatedAt, c.UpdatedAt, c.Problem = 1, now, now, ""
		err := tx.QueryRowContext(ctx, `INSERT INTO channels (owner_id, name, type, config, is_default, enabled, revision, created_at, updated_at)
 VALUES ($1, $2, $3, '', $4, $5, 1, $6, $6) RETURNING id`, c.OwnerID, c.Name, c.Type, bit(c.Default), bit(c.Enabled), micro(now)).Scan(&c.ID)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE channels SET config = $2 WHERE id = $1`, c.ID, s.sealer.Seal(c.Config, "channels", "config", c.ID))
		return err
	})
	return c, err
}

const oneChannel = `SELECT ` + channelColumns + ` FROM channels c WHERE c.id = $1 AND ($2 = 0 OR c.owner_id = $2)`

// UpdateChannel: see service.Channels.
func (s *Store) UpdateChannel(ctx context.Context, owner int64, c uptime.Channel) (uptime.Channel, error) {
	err := s.tx(ctx, "update channel", func(ctx context.Context, tx *sql.Tx) error {
		old, err := s.scanChannel(tx.QueryRowContext(ctx, oneChannel+s.d.forUpdate(), c.ID, owner))
		if err != nil {
			return err
		}
		if old.Revision != c.Revision {
			return uptime.Errorf(uptime.Conflict, "channel %d was changed meanwhile: read it again", c.ID)
		}
		c.OwnerID, c.CreatedAt, c.UpdatedAt, c.Problem = old.OwnerID, old.CreatedAt, uptime.Now(), ""
		_, err = tx.ExecContext(ctx, `UPDATE channels SET name = $2, type = $3, config = $4, is_default = $5, enabled = $6, problem = '',
 revision = revision + 1, updated_at = $7 WHERE id = $1`, c.ID, c.Name, c.Type, s.sealer.Seal(c.Config, "channels", "config", c.ID),
			bit(c.Default), bit(c.Enabled), micro(c.UpdatedAt))
		return err
	})
	c.Revision++
	return c, err
}

// DeleteChannel: see service.Channels.
func (s *Store) DeleteChannel(ctx context.Context, owner, id int64) error {
	return s.tx(ctx, "delete channel", func(ctx context.Context, tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `DELETE FROM channels WHERE id = $1 AND ($2 = 0 OR owner_id = $2)`, id, owner))
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound()
		}
		_, err = tx.ExecContext(ctx, `UPDATE deliveries SET status = 'suppressed', cause = 'channel deleted', done_at = $2, token = ''
 WHERE channel_id = $1 AND status IN ('pending', 'sending')`, id, micro(uptime.Now()))
		return err
	})
}

// Channel: see service.Channels.
func (s *Store) Channel(ctx context.Context, owner, id int64) (uptime.Channel, error) {
	out, err := s.channelsWhere(ctx, s.read, `c.id = $1 AND ($2 = 0 OR c.owner_id = $2)`, id, owner)
	if err != nil || len(out) == 0 {
		if err == nil {
			err = notFound()
		}
		return uptime.Channel{}, err
	}
	return out[0], nil
}

// ListChannels: see service.Channels.
func (s *Store) ListChannels(ctx context.Context, owner, after int64, limit int) ([]uptime.Channel, error) {
	return s.channelsWhere(ctx, s.read, `c.id > $1 AND ($2 = 0 OR c.owner_id = $2) ORDER BY c.id LIMIT $3`, after, owner, limit)
}

func (s *Store) channelsWhere(ctx context.Context, db querier, where string, args ...any) ([]uptime.Channel, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out []uptime.Channel
	c := s.script(ctx, db)
	c.channels(where, args, func(channel uptime.Channel) { out = append(out, channel) })
	return out, s.fail("read channels", c.run())
}

// channels appends the reading of channels c.
func (c *script) channels(where string, args []any, fn func(uptime.Channel)) {
	c.add("read channels", `SELECT `+channelColumns+` FROM channels c WHERE `+where, args, func(r row) error {
		channel, err := c.s.scanChannel(r)
		if err == nil {
			fn(channel)
		}
		return err
	})
}
