package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"vedette/internal/uptime"
)

type sqliteDialect struct{}

// openSQLite opens one connection that writes and four that only read. With a
// pool of writers most transactions would meet SQLITE_BUSY; with one, and BEGIN
// IMMEDIATE, only other programs can be in the way, and busy_timeout waits for them.
func (s *Store) openSQLite(path string) error {
	s.d = sqliteDialect{}
	dsn := func(pragmas ...string) string {
		q := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{
			fmt.Sprintf("busy_timeout(%d)", lockTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)", "temp_store(MEMORY)"}, pragmas...)}
		return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
	}
	var err error
	if s.write, err = sql.Open("sqlite", dsn("cache_size(-8000)", "wal_autocheckpoint(2000)")); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn("query_only(1)", "cache_size(-2000)")); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(4)
	return s.firstUse(path)
}

// lockTimeout is how long a lock of another program is waited for.
const lockTimeout = 10 * time.Second

// firstUse makes the file, before a reader opens it, and turns it to WAL. For that it
// must be alone, and two that want it at once are both told SQLITE_BUSY without the wait
// of busy_timeout, which could not end.
func (s *Store) firstUse(path string) error {
	for end := time.Now().Add(lockTimeout); ; <-time.After(20 * time.Millisecond) {
		_, err := s.write.Exec("SELECT 1")
		switch {
		case err == nil:
			return nil
		case !s.d.retryable(err):
			return &uptime.Error{Kind: uptime.Unavailable, Message: fmt.Sprintf("open %s: may this user write there?", path), Err: err}
		case time.Now().After(end):
			return &uptime.Error{Kind: uptime.Unavailable, Message: fmt.Sprintf("open %s: another program keeps it locked", path), Err: err}
		}
	}
}

func (sqliteDialect) kind(err error) (uptime.Kind, bool) {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return uptime.Internal, false
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return uptime.Conflict, true
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL:
		return uptime.Unavailable, true
	}
	return uptime.Internal, true
}

func (sqliteDialect) retryable(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}

func (sqliteDialect) in(column string, _ int, ids []int64) (string, []any) {
	return inList(column, ids), nil
}

// values has bare ? for parameters: to SQLite $N is a name, and both preparing and
// binding look through all names for each, which for 200 rows of 17 takes 60 ms.
func (sqliteDialect) values(columns string, rows [][]any) (string, []any) {
	args := make([]any, 0, len(rows)*len(rows[0]))
	for _, r := range rows {
		args = append(args, r...)
	}
	return "WITH v (" + columns + ") AS (VALUES " + marks(len(rows), len(rows[0])) + ") ", args
}

// marks are parameters for so many rows of so many columns.
func marks(rows, columns int) string {
	one := ",(" + strings.Repeat(",?", columns)[1:] + ")"
	return strings.Repeat(one, rows)[1:]
}

// insertSizes are the rows of the prepared inserts. Parsing a statement as long as a
// batch takes longer than inserting it, so a batch is made of these.
var insertSizes = []int{128, 16, 1}

var sqliteInserts = func() (qs []string) {
	for _, n := range insertSizes {
		qs = append(qs, insertResultInto+"VALUES "+marks(n, resultWidth)+" ON CONFLICT DO NOTHING")
	}
	return qs
}()

func (sqliteDialect) inserts() []string { return sqliteInserts }

func (sqliteDialect) insertResults(rows []resultRow) (string, []any, int) {
	size := 0
	for insertSizes[size] > len(rows) {
		size++
	}
	n := insertSizes[size]
	args := make([]any, 0, n*resultWidth)
	for i := range rows[:n] {
		args = rows[i].append(args)
	}
	return sqliteInserts[size], args, n
}

// findResults has CROSS JOIN to keep SQLite from beginning with the larger table.
func (sqliteDialect) findResults() (bySlot, outside string) {
	const of = `SELECT ` + resultColumns + ` FROM v CROSS JOIN check_results c `
	return of + `ON c.scheduled_at = v.at AND c.monitor_id = v.monitor AND c.kind = 0`,
		of + `INDEXED BY check_results_outside ON c.monitor_id = v.monitor AND c.scheduled_at >= v.first AND c.scheduled_at <= v.last AND c.kind <> 0`
}

func (sqliteDialect) forUpdate() string { return "" } // the one writer holds the database
// serialise: a transaction that writes has the database to itself.
func (sqliteDialect) serialise(int64) (string, []any) { return "", nil }

// relax: synchronous(NORMAL) does that for every commit, and loses none unless the
// machine itself stops.
func (sqliteDialect) relax() string { return "" }

func (sqliteDialect) together() func(context.Context, []step) error { return nil }

func (sqliteDialect) like() string   { return "LIKE" } // ASCII letters without regard to case
func (sqliteDialect) postgres() bool { return false }

// escapeLike keeps % and _ in a user's text from meaning anything (ESCAPE '\').
func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}
