package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"vedette/internal/uptime"
)

// pingHash is what a token is looked up by. The token is random, so one SHA-256 is
// enough.
func pingHash(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}

const insertHeartbeat = `INSERT INTO heartbeats (monitor_id, token_hash, token) VALUES ($1, $2, $3) ON CONFLICT (monitor_id) DO NOTHING`

// ensureHeartbeat gives a monitor the URL that was made for it, unless it has one.
func (s *Store) ensureHeartbeat(ctx context.Context, tx *sql.Tx, m uptime.Monitor) error {
	token := m.PingToken.Reveal()
	if token == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, insertHeartbeat, m.ID, pingHash(token), s.sealPing(m.ID, token))
	return err
}

func (s *Store) sealPing(monitor int64, token string) string {
	return s.sealer.Seal([]byte(token), "heartbeats", "token", monitor)
}

// PingToken: see service.Heartbeats.
func (s *Store) PingToken(ctx context.Context, owner, id int64) (uptime.Secret, error) {
	const q = `SELECT h.token FROM heartbeats h JOIN monitors m ON m.id = h.monitor_id WHERE m.id = $1 AND ($2 = 0 OR m.owner_id = $2)`
	sealed := ""
	err := s.query(ctx, "read ping token", q, []any{id, owner}, func(r row) error { return r.Scan(&sealed) })
	if err != nil {
		return "", err
	}
	if sealed == "" {
		return "", notFound()
	}
	token, err := s.sealer.Open(sealed, "heartbeats", "token", id)
	return uptime.Secret(token), err
}

const replaceToken = `INSERT INTO heartbeats (monitor_id, token_hash, token) VALUES ($1, $2, $3)
 ON CONFLICT (monitor_id) DO UPDATE SET token_hash = excluded.token_hash, token = excluded.token`

// ReplacePingToken: see service.Heartbeats.
func (s *Store) ReplacePingToken(ctx context.Context, owner, id int64, token uptime.Secret) error {
	return s.tx(ctx, "replace ping token", func(ctx context.Context, tx *sql.Tx) error {
		m, err := s.ownedMonitor(ctx, tx, owner, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, replaceToken, m.ID, pingHash(token.Reveal()), s.sealPing(m.ID, token.Reveal()))
		return err
	})
}

// pinged is a heartbeat's row.
type pinged struct {
	id   int64 // of the monitor
	last uptime.Ping
	runs []uptime.Run
}

const pingedColumns = `h.monitor_id, h.last_id, h.last_at, h.last_kind, h.last_exit, h.last_run, h.runs`

func scanPinged(r row, more ...any) (p pinged, err error) {
	var at int64
	var runs string
	err = r.Scan(append([]any{&p.id, &p.last.ID, &at, &p.last.Kind, &p.last.ExitCode, &p.last.Run, &runs}, more...)...)
	if err != nil {
		return p, err
	}
	p.last.At = instant(at)
	return p, json.Unmarshal([]byte(runs), &p.runs)
}

const (
	selectByToken = `SELECT ` + pingedColumns + ` FROM heartbeats h WHERE h.token_hash = $1`
	selectPinged  = `SELECT m.enabled, coalesce(s.verdict, 0), m.type FROM monitors m LEFT JOIN monitor_states s ON s.monitor_id = m.id WHERE m.id = $1`
	insertPing    = `INSERT INTO pings (monitor_id, at, kind, exit_code, run, took_us, body) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`
	// trimPings keeps the newest of a monitor.
	trimPings       = `DELETE FROM pings WHERE monitor_id = $1 AND id <= (SELECT id FROM pings WHERE monitor_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`
	updateHeartbeat = `UPDATE heartbeats SET last_id = $2, last_at = $3, last_kind = $4, last_exit = $5, last_run = $6, runs = $7 WHERE monitor_id = $1`
)

// RecordPing: see service.Heartbeats. A token that is none is found out by a read,
// so that guessing does not hold up who writes.
func (s *Store) RecordPing(ctx context.Context, token string, p uptime.Ping) (out uptime.Pinged, err error) {
	known := false
	hash := pingHash(token)
	err = s.query(ctx, "find heartbeat", selectByToken, []any{hash}, func(row) error { known = true; return nil })
	if err == nil && !known {
		err = notFound()
	}
	if err != nil {
		return out, err
	}
	err = s.tx(ctx, "record ping", func(ctx context.Context, tx *sql.Tx) error {
		out = uptime.Pinged{}
		was, err := scanPinged(tx.QueryRowContext(ctx, selectByToken+s.d.forUpdate(), hash))
		if err != nil {
			return err
		}
		var verdict uptime.Verdict
		var enabled int64
		var typ string
		if err := tx.QueryRowContext(ctx, selectPinged, was.id).Scan(&enabled, &verdict, &typ); err != nil {
			return err
		}
		if typ != "heartbeat" { // it was one, and may be again
			return notFound()
		}
		out.Enabled = enabled != 0
		out.Changes = p.Kind.Ends() && (p.Kind != was.last.Kind || was.last.At.IsZero() || (p.Kind == uptime.PingSuccess) != verdict.Good())
		return s.keepPing(ctx, tx, was, p)
	})
	if err != nil || !out.Changes || !out.Enabled {
		return out, err
	}
	return s.entryOf(ctx, hash, out)
}

// entryOf adds the monitor's schedule, for who asks for a check.
func (s *Store) entryOf(ctx context.Context, hash string, out uptime.Pinged) (uptime.Pinged, error) {
	es, err := s.active(ctx, "read pinged monitor", `id = (SELECT monitor_id FROM heartbeats WHERE token_hash = $1)`, hash)
	if err != nil || len(es) == 0 {
		out.Changes = false // the next slot sees it
		return out, nil
	}
	out.Monitor = es[0]
	return out, nil
}

// keepPing writes the ping and what follows from it.
func (s *Store) keepPing(ctx context.Context, tx *sql.Tx, was pinged, p uptime.Ping) error {
	err := tx.QueryRowContext(ctx, insertPing, was.id, micro(p.At), int64(p.Kind), p.ExitCode, p.Run, p.Took.Microseconds(), p.Body).Scan(&p.ID)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, trimPings, was.id, uptime.MaxPings); err != nil || p.Kind == uptime.PingLog {
		return err
	}
	last := was.last
	if p.Kind.Ends() {
		last = p
	}
	_, err = tx.ExecContext(ctx, updateHeartbeat, was.id, last.ID, micro(last.At), int64(last.Kind), last.ExitCode, last.Run, jsonText(runsAfter(was.runs, p)))
	return err
}

// runsAfter are the open runs after p: a start opens one, in the place of one of the
// same id; the end of a run, or of we do not know which, closes; so does any failure,
// which tells of the job as a whole.
func runsAfter(runs []uptime.Run, p uptime.Ping) []uptime.Run {
	if p.Kind == uptime.PingFail || p.Kind == uptime.PingSuccess && p.Run == "" {
		return nil
	}
	runs = slices.DeleteFunc(slices.Clone(runs), func(r uptime.Run) bool { return r.ID == p.Run })
	if p.Kind == uptime.PingStart {
		runs = append(runs, uptime.Run{ID: p.Run, At: p.At})
	}
	return runs[max(0, len(runs)-uptime.MaxRuns):]
}

// ListPings: see service.Heartbeats.
func (s *Store) ListPings(ctx context.Context, owner, id, before int64, limit int) ([]uptime.Ping, error) {
	if _, err := s.Monitor(ctx, owner, id); err != nil {
		return nil, err
	}
	const q = `SELECT id, at, kind, exit_code, run, took_us, body FROM pings WHERE monitor_id = $1 AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3`
	var out []uptime.Ping
	err := s.query(ctx, "list pings", q, []any{id, before, limit}, func(r row) error {
		var p uptime.Ping
		var at, took int64
		err := r.Scan(&p.ID, &at, &p.Kind, &p.ExitCode, &p.Run, &took, &p.Body)
		p.At, p.Took = instant(at), time.Duration(took)*time.Microsecond
		out = append(out, p)
		return err
	})
	return out, err
}

// listening names the last instant at which some process could receive pings.
const listening = "listening"

// deafAfter is how old that may be: three times as long as between two notes of it.
const deafAfter = 30 * time.Second

// keepDeafSpans is longer than the longest period of a heartbeat.
const keepDeafSpans = 400 * 24 * time.Hour

// NoteListening: see service.Heartbeats.
func (s *Store) NoteListening(ctx context.Context, now time.Time, returned bool) error {
	return s.tx(ctx, "note listening", func(ctx context.Context, tx *sql.Tx) error {
		var at int64
		err := queryOn(ctx, tx, `SELECT at FROM progress WHERE name = $1`, []any{listening}, func(r row) error { return r.Scan(&at) })
		if err != nil {
			return err
		}
		if at != 0 && micro(now) > at && (returned || now.Sub(instant(at)) > deafAfter) {
			if _, err := tx.ExecContext(ctx, `INSERT INTO deaf_spans (started_at, ended_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, at, micro(now)); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, setProgress, listening, micro(now))
		return err
	})
}

// deafSpans are the spans since from in which no ping could be received, the present
// one among them.
func (s *Store) deafSpans(ctx context.Context, from, now time.Time) (out []uptime.Span, err error) {
	const q = `SELECT started_at, ended_at FROM deaf_spans WHERE ended_at > $1
 UNION ALL SELECT at, cast($2 as bigint) FROM progress WHERE name = $3 AND at < $4 ORDER BY 1`
	err = s.query(ctx, "read deaf spans", q, []any{micro(from), micro(now), listening, micro(now.Add(-deafAfter))}, func(r row) error {
		var start, end int64
		err := r.Scan(&start, &end)
		out = append(out, uptime.Span{From: instant(start), To: instant(end)})
		return err
	})
	return out, err
}

// Heartbeat: see probe.Facts.
func (s *Store) Heartbeat(ctx context.Context, monitorID int64) (b uptime.Heartbeat, err error) {
	const q = `SELECT ` + pingedColumns + `, coalesce(p.body, ''), m.created_at FROM heartbeats h JOIN monitors m ON m.id = h.monitor_id
 LEFT JOIN pings p ON p.id = h.last_id AND h.last_kind <> 0 WHERE h.monitor_id = $1`
	var from time.Time
	err = s.query(ctx, "read heartbeat", q, []any{monitorID}, func(r row) error {
		var created int64
		p, err := scanPinged(r, &b.Last.Body, &created)
		p.last.Body = b.Last.Body
		b.Last, b.Runs, from = p.last, p.runs, instant(created)
		return err
	})
	if err != nil {
		return b, err
	}
	if from.IsZero() {
		return b, notFound()
	}
	if !b.Last.At.IsZero() {
		from = b.Last.At
	}
	if len(b.Runs) > 0 && b.Runs[0].At.Before(from) {
		from = b.Runs[0].At
	}
	b.Deaf, err = s.deafSpans(ctx, from, uptime.Now())
	return b, err
}
