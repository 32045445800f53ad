package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"vedette/internal/uptime"
)

// dialect is where the engines differ. Everything else is one text of SQL.
type dialect interface {
	// kind of an error that is the driver's; false for any other.
	kind(err error) (uptime.Kind, bool)
	// retryable reports that nothing was done: another transaction was in the way, or
	// the connection was lost before the commit.
	retryable(err error) bool
	// in is a condition that column is one of ids, and its argument(s), numbered from n.
	in(column string, n int, ids []int64) (string, []any)
	// values is a WITH clause that makes rows the table v (columns). See script.values.
	values(columns string, rows [][]any) (string, []any)
	// insertResults is the batch insert of check_results. It may take fewer rows than it
	// is given; taken says how many.
	insertResults(rows []resultRow) (q string, args []any, taken int)
	// inserts are the texts that insertResults returns, which are prepared once.
	inserts() []string
	// findResults are the queries of results by v (monitor, at), their slots, and of those
	// outside a slot by v (monitor, first, last).
	findResults() (bySlot, outside string)
	// forUpdate locks the rows of a select, in the order it names them.
	forUpdate() string
	// like compares without regard to case.
	like() string
	// serialise makes transactions that name the same lock wait for each other until
	// they end; no statement where they do so anyway.
	serialise(lock int64) (q string, args []any)
	// relax lets the commit of results that changed nothing return before it is on disk
	// (docs/decisions/0004); no statement where every commit does.
	relax() string
	// together carries out the statements of a transaction in one round trip; nil where
	// there is none to save. See script.
	together() func(ctx context.Context, steps []step) error
	postgres() bool
}

// Advisory locks of PostgreSQL that transactions hold to their end; any numbers will do.
const (
	lockPartitions = 7_301_974 + iota
	lockFirstUser
	lockClaims
	lockEvents
	lockDrops
)

// inList writes ids into the statement: they are our own integers.
func inList(column string, ids []int64) string {
	var b strings.Builder
	b.WriteString(column)
	b.WriteString(" IN (")
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(id, 10))
	}
	b.WriteByte(')')
	return b.String()
}

// affected is how many rows a statement changed.
func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
