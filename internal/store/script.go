package store

import (
	"context"
	"database/sql"
	"slices"
)

// script is statements that are sent together. In a transaction of PostgreSQL they
// cost one round trip, and people wait for the transaction that tells of an outage;
// otherwise they are run one by one. They are carried out in order and each sees what
// those before it did; the first that fails ends the script.
type script struct {
	s     *Store
	ctx   context.Context
	db    querier
	steps []step
}

// step is one statement. Neither scan nor done may use the transaction.
type step struct {
	what string // for the error
	q    string
	stmt *sql.Stmt // q, where it is prepared
	args []any
	scan func(row) error            // for each row; nil for a statement that returns none
	done func(affected int64) error // after a statement without scan
}

func (s *Store) script(ctx context.Context, db querier) *script {
	return &script{s: s, ctx: ctx, db: db}
}

// add appends a statement.
func (c *script) add(what, q string, args []any, scan func(row) error) {
	c.steps = append(c.steps, step{what: what, q: q, args: args, scan: scan})
}

// lock appends the wait for other transactions that name the same lock.
func (c *script) lock(lock int64) {
	if q, args := c.s.d.serialise(lock); q != "" {
		c.add("wait for a lock", q, args, func(row) error { return nil })
	}
}

// valuesChunk is how many rows go into one statement: SQLite takes 32,766
// parameters, and the widest table of values has 15 columns.
const valuesChunk = 500

// values appends a statement that reads from v, a table of our own rows with the named
// columns, whose values are int64 or string. A statement about many rows costs one
// round trip and one plan, not one for each.
func (c *script) values(what, columns string, rows [][]any, statement string, scan func(row) error) {
	for chunk := range slices.Chunk(rows, valuesChunk) {
		with, args := c.s.d.values(columns, chunk)
		c.add(what, with+statement, args, scan)
	}
}

// run carries out what was added, which is then forgotten.
func (c *script) run() error {
	steps := c.steps
	c.steps = nil
	if len(steps) == 0 {
		return nil
	}
	if _, inside := c.db.(*sql.Tx); inside {
		if together := c.s.d.together(); together != nil {
			return together(c.ctx, steps)
		}
	}
	for i := range steps {
		if err := c.one(&steps[i]); err != nil {
			return wrap(steps[i].what, err)
		}
	}
	return nil
}

func (c *script) one(t *step) error {
	if t.scan != nil {
		return queryOn(c.ctx, c.db, t.q, t.args, t.scan)
	}
	var n int64
	var err error
	if tx, inside := c.db.(*sql.Tx); inside && t.stmt != nil {
		n, err = affected(tx.StmtContext(c.ctx, t.stmt).ExecContext(c.ctx, t.args...))
	} else {
		n, err = affected(c.db.ExecContext(c.ctx, t.q, t.args...))
	}
	if err == nil && t.done != nil {
		err = t.done(n)
	}
	return err
}

// lock waits for other transactions that name the same lock.
func (s *Store) lock(ctx context.Context, tx *sql.Tx, lock int64) error {
	c := s.script(ctx, tx)
	c.lock(lock)
	return c.run()
}
