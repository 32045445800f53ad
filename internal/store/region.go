package store

import (
	"context"
	"database/sql"
	"fmt"

	"vedette/internal/uptime"
)

// regionID is the small number that stands for a region's name in every result.
// An unknown name gets the next one.
func (s *Store) regionID(ctx context.Context, name string) (int64, error) {
	s.regionMu.Lock()
	id, ok := s.regions[name]
	s.regionMu.Unlock()
	if ok {
		return id, nil
	}
	return id, s.tx(ctx, "name a region", func(ctx context.Context, tx *sql.Tx) error {
		const insert = `INSERT INTO regions (id, name) SELECT coalesce(max(id), 0) + 1, cast($1 as text) FROM regions WHERE true ON CONFLICT (name) DO NOTHING`
		if _, err := tx.ExecContext(ctx, insert, name); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `SELECT id FROM regions WHERE name = $1`, name).Scan(&id); err != nil {
			return err
		}
		s.rememberRegion(name, id)
		return nil
	})
}

func (s *Store) rememberRegion(name string, id int64) {
	s.regionMu.Lock()
	defer s.regionMu.Unlock()
	s.regions[name] = id
}

// regionName is regionID's inverse; loadRegions has read all names that existed.
func (s *Store) regionName(id int64) string {
	if id == 0 {
		return uptime.DefaultRegion
	}
	s.regionMu.Lock()
	defer s.regionMu.Unlock()
	for name, known := range s.regions {
		if known == id {
			return name
		}
	}
	return fmt.Sprintf("region-%d", id)
}

// loadRegions reads names that other processes may have added.
func (s *Store) loadRegions(ctx context.Context) error {
	return s.query(ctx, "read the regions", `SELECT id, name FROM regions`, nil, func(r row) error {
		var id int64
		var name string
		if err := r.Scan(&id, &name); err != nil {
			return err
		}
		s.rememberRegion(name, id)
		return nil
	})
}
