// Package store keeps the truth: every statement of SQL there is, over one schema
// in two dialects, SQLite for one machine and PostgreSQL for several. It is the
// box under every stage, and implements the small interfaces that they declare.
//
// Nothing in it decides: RecordResults, for one, is a transaction around a
// decision that is made elsewhere. Instants are BIGINT Unix microseconds of Go's
// clock with 0 for "never", durations microseconds, JSON is TEXT. Drivers' errors
// leave it as the kinds of package uptime: Unavailable when the database does not
// answer, which is never a verdict about anybody's service.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"vedette/internal/seal"
	"vedette/internal/uptime"
)

// Options of a Store. Database and Sealer are required.
type Options struct {
	Database string // "sqlite:FILE" or "postgres://…"
	Sealer   *seal.Sealer
	Logger   *slog.Logger // default: discards
	MaxConns int          // to PostgreSQL; default 16. SQLite has one writer and four readers.

	// Installation is the random id of this installation, for the keys of test deliveries.
	Installation string

	KeepResults time.Duration // default 30 days
	KeepHourly  time.Duration // default 397 days (13 months)
}

// Store is safe for concurrent use.
type Store struct {
	write  *sql.DB // SQLite: one connection, BEGIN IMMEDIATE
	read   *sql.DB // SQLite: query_only; PostgreSQL: the same as write
	d      dialect
	sealer *seal.Sealer
	log    *slog.Logger
	opts   Options
	close  func()

	insertsMu sync.Mutex
	inserts   map[string]*sql.Stmt // guarded by insertsMu until it is set: by text

	regionMu sync.Mutex
	regions  map[string]int64 // guarded by regionMu: name → id, never changes once known
}

// callTimeout bounds one transaction or query; a database that accepts and never
// answers must not stop a loop for ever.
const callTimeout = 20 * time.Second

var errCallTimeout = errors.New("the database did not answer within 20 s")

// Open connects, and fails with Unavailable when the database does not answer.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Sealer == nil {
		return nil, errors.New("store needs a sealer")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.KeepResults == 0 {
		o.KeepResults = 30 * 24 * time.Hour
	}
	if o.KeepHourly == 0 {
		o.KeepHourly = 397 * 24 * time.Hour
	}
	if o.MaxConns == 0 {
		o.MaxConns = 16
	}
	s := &Store{sealer: o.Sealer, log: o.Logger, opts: o, regions: map[string]int64{uptime.DefaultRegion: 0}}
	var err error
	if path, ok := strings.CutPrefix(o.Database, "sqlite:"); ok {
		err = s.openSQLite(path)
	} else {
		err = s.openPostgres(ctx, o.Database)
	}
	if err != nil {
		return nil, err
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends every connection.
func (s *Store) Close() error {
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	if s.close != nil {
		s.close()
	}
	return err
}

// Ping says whether the database answers, for writing.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var one int
	return s.fail("ping the database", s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// txTries bounds how often a transaction is begun anew after a conflict with another.
const txTries = 6

// tx runs fn in one transaction, and again after a serialisation failure, a
// deadlock or a connection that was lost before the commit was sent. fn must not
// keep what it learnt in a try that failed. When the answer to a commit is lost the
// outcome is unknown and the error says Unavailable: every writer is idempotent.
func (s *Store) tx(ctx context.Context, what string, fn func(ctx context.Context, tx *sql.Tx) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	for try := 1; ; try++ {
		err := s.txOnce(ctx, fn)
		if err == nil || try == txTries || ctx.Err() != nil || !s.d.retryable(err) {
			return s.fail(what, err)
		}
		select {
		case <-ctx.Done():
			return s.fail(what, err)
		case <-time.After(time.Duration(rand.Int64N(int64(5*time.Millisecond) << try))):
		}
	}
}

// txOnce waits for a connection as long as ctx lives. A transaction that has begun
// is not cut by a caller who leaves: it is short, a context that ends inside one
// leaves SQLite's driver in doubt, and it has the deadline in any case.
func (s *Store) txOnce(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadlineCause(context.WithoutCancel(ctx), deadline, errCallTimeout)
	defer cancel()
	ctx = context.WithValue(ctx, connKey{}, conn)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it reports only that
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return commitError{err}
	}
	return nil
}

// connKey is where the context of a transaction has its connection.
type connKey struct{}

func connOf(ctx context.Context) *sql.Conn { return ctx.Value(connKey{}).(*sql.Conn) }

// commitError is an error of the commit itself: unless the database said that it
// rolled back, nobody knows what became of the transaction.
type commitError struct{ error }

// Unwrap returns the driver's error.
func (e commitError) Unwrap() error { return e.error }

// query runs a read and calls scan for each row.
func (s *Store) query(ctx context.Context, what, q string, args []any, scan func(row) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.fail(what, queryOn(ctx, s.read, q, args, scan))
}

// row is what a scan function reads: *sql.Row or *sql.Rows.
type row interface{ Scan(dest ...any) error }

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row
	ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error)
}

func queryOn(ctx context.Context, db querier, q string, args []any, scan func(row) error) error {
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// fail names the operation and gives a driver's error its kind.
func (s *Store) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*uptime.Error](err); ok {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return notFound()
	}
	return &uptime.Error{Kind: s.kind(err), Message: what, Err: err}
}

// kind is Unavailable only for what says that the database did not answer. An error
// of our own (a value that cannot be encoded, say) is Internal: repeating it is vain.
func (s *Store) kind(err error) uptime.Kind {
	if k, ok := s.d.kind(err); ok {
		return k
	}
	if _, network := errors.AsType[net.Error](err); network || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return uptime.Unavailable
	}
	return uptime.Internal
}

// notFound is the one answer for what does not exist and what is not yours.
func notFound() error { return uptime.Errorf(uptime.NotFound, "not found") }

// micro is an instant as it is stored; the zero time is 0.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// instant is micro's inverse.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// bit is a boolean as it is stored.
func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
