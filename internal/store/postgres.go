package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"vedette/internal/uptime"
)

type postgresDialect struct{}

func (s *Store) openPostgres(ctx context.Context, url string) error {
	s.d = postgresDialect{}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return uptime.Errorf(uptime.Invalid, "the PostgreSQL URL cannot be read: write postgres://user:password@host:5432/vedette") // its error may repeat the password
	}
	cfg.MaxConns = int32(s.opts.MaxConns)
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	cfg.ConnConfig.RuntimeParams["application_name"] = "vedette"
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = "10s"
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return &uptime.Error{Kind: uptime.Unavailable, Message: "connect to PostgreSQL", Err: err}
	}
	s.write = stdlib.OpenDBFromPool(pool)
	s.write.SetMaxIdleConns(0) // the pool keeps them
	s.read, s.close = s.write, pool.Close
	return nil
}

func (postgresDialect) kind(err error) (uptime.Kind, bool) {
	// A connection that ends under a commit is told in the second way too.
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || errors.Is(err, pgconn.ErrConnClosed) {
		return uptime.Unavailable, true
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return uptime.Internal, false
	}
	switch {
	case e.Code == "23505":
		return uptime.Conflict, true
	case e.Code[:2] == "08", e.Code[:2] == "40", e.Code[:2] == "53", e.Code[:2] == "55", e.Code[:2] == "57", e.Code[:2] == "58", e.Code == "25006":
		return uptime.Unavailable, true // connection, rollback, resources, lock, operator, system, read-only standby
	}
	return uptime.Internal, true
}

func (postgresDialect) retryable(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "40001", "40P01", "55P03": // rolled back, also when the commit says so
			return true
		case "57P01", "57P02", "57P03": // the server stops or starts: its transactions are gone
			return !errors.As(err, new(commitError))
		}
		return false
	}
	if errors.As(err, new(commitError)) {
		return false // it may have been done
	}
	_, network := errors.AsType[net.Error](err)
	return network || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

func (postgresDialect) in(column string, n int, ids []int64) (string, []any) {
	return fmt.Sprintf("%s = ANY($%d)", column, n), []any{ids}
}

const pgInsertResults = insertResultInto + `SELECT * FROM unnest($1::bigint[], $2::int[], $3::smallint[], $4::smallint[], $5::smallint[],
 $6::smallint[], $7::text[], $8::int[], $9::int[], $10::int[], $11::int[], $12::int[], $13::int[], $14::int[], $15::int[], $16::int[])
 ON CONFLICT DO NOTHING`

func (postgresDialect) values(columns string, rows [][]any) (string, []any) {
	var b strings.Builder
	b.WriteString("WITH v (" + columns + ") AS (SELECT * FROM unnest(")
	args := make([]any, len(rows[0]))
	for c, first := range rows[0] {
		if c > 0 {
			b.WriteString(", ")
		}
		if _, text := first.(string); text {
			args[c] = column[string](rows, c)
			fmt.Fprintf(&b, "$%d::text[]", c+1)
			continue
		}
		args[c] = column[int64](rows, c)
		fmt.Fprintf(&b, "$%d::bigint[]", c+1)
	}
	b.WriteString(")) ")
	return b.String(), args
}

// column is the values of column c.
func column[T any](rows [][]any, c int) []T {
	out := make([]T, len(rows))
	for i := range rows {
		out[i] = rows[i][c].(T)
	}
	return out
}

// inserts is empty: the driver prepares what it is given, and keeps it.
func (postgresDialect) inserts() []string { return nil }

func (postgresDialect) insertResults(rows []resultRow) (string, []any, int) {
	n := len(rows)
	// In the order of the key: its index is filled to the end that way.
	slices.SortFunc(rows, func(a, b resultRow) int { return a.r.ScheduledAt.Compare(b.r.ScheduledAt) })
	columns := make([][]int64, resultWidth)
	for c := range columns {
		columns[c] = make([]int64, n)
	}
	reasons := make([]string, n)
	for i := range rows {
		values, reason := rows[i].numbers()
		reasons[i] = reason
		for c, v := range values {
			columns[c][i] = v
		}
	}
	args := make([]any, resultWidth)
	for c := range args {
		args[c] = columns[c]
	}
	args[resultReason] = reasons
	return pgInsertResults, args, n
}

// findResults keeps the planner, by OFFSET 0, from reading whole partitions for what
// is a few look-ups by key, whatever it believes of a table of values.
func (postgresDialect) findResults() (bySlot, outside string) {
	const of = `SELECT ` + resultColumns + ` FROM v CROSS JOIN LATERAL (SELECT * FROM check_results c WHERE c.monitor_id = v.monitor AND `
	return of + `c.scheduled_at = v.at AND c.kind = 0 OFFSET 0) c`,
		of + `c.scheduled_at >= v.first AND c.scheduled_at <= v.last AND c.kind <> 0 OFFSET 0) c`
}

func (postgresDialect) forUpdate() string { return " FOR UPDATE" }
func (postgresDialect) serialise(lock int64) (string, []any) {
	return "SELECT pg_advisory_xact_lock($1)", []any{lock}
}

func (postgresDialect) relax() string { return "SET LOCAL synchronous_commit TO OFF" }

// together is the driver's batch, which database/sql does not know of: the steps go
// to the connection of the transaction that ctx is of.
func (postgresDialect) together() func(context.Context, []step) error { return sendTogether }

func sendTogether(ctx context.Context, steps []step) error {
	return connOf(ctx).Raw(func(conn any) (err error) {
		var b pgx.Batch
		for _, t := range steps {
			b.Queue(t.q, t.args...)
		}
		answers := conn.(*stdlib.Conn).Conn().SendBatch(ctx, &b)
		defer func() { err = errors.Join(err, answers.Close()) }()
		for _, t := range steps {
			if err := t.read(answers); err != nil {
				return wrap(t.what, err)
			}
		}
		return nil
	})
}

// read takes the answer to t.
func (t *step) read(answers pgx.BatchResults) error {
	if t.scan == nil {
		tag, err := answers.Exec()
		if err == nil && t.done != nil {
			err = t.done(tag.RowsAffected())
		}
		return err
	}
	rows, err := answers.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := t.scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (postgresDialect) like() string   { return "ILIKE" }
func (postgresDialect) postgres() bool { return true }
