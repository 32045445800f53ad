package store

import (
	"context"
	"slices"
)

// valuesChunk is how many rows go into one statement: SQLite takes 32,766
// parameters, and the widest table of values has 15 columns.
const valuesChunk = 500

// execValues runs a statement that reads from v, a table of our own rows with the
// named columns, whose values are int64 or string. A statement about many rows costs
// one round trip and one plan, not one for each.
func (s *Store) execValues(ctx context.Context, db querier, columns string, rows [][]any, statement string) error {
	for chunk := range slices.Chunk(rows, valuesChunk) {
		with, args := s.d.values(columns, chunk)
		if _, err := db.ExecContext(ctx, with+statement, args...); err != nil {
			return err
		}
	}
	return nil
}

// queryValues is execValues for a statement that returns rows.
func (s *Store) queryValues(ctx context.Context, db querier, columns string, rows [][]any, statement string, scan func(row) error) error {
	for chunk := range slices.Chunk(rows, valuesChunk) {
		with, args := s.d.values(columns, chunk)
		if err := queryOn(ctx, db, with+statement, args, scan); err != nil {
			return err
		}
	}
	return nil
}
