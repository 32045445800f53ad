package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"vedette/internal/uptime"
)

//go:embed migrations
var migrations embed.FS

// migrateTimeout bounds the wait for another process that is migrating.
const migrateTimeout = 5 * time.Minute

// Migrate brings the schema to this version. Any number of processes may call it
// at once: in PostgreSQL the others wait for a session lock, in SQLite for the
// write lock. A database of a newer version is refused.
func (s *Store) Migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if !s.d.postgres() {
		return s.migrateSQLite(ctx)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	p, err := s.provider(goose.DialectPostgres, "migrations/postgres", s.write, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if err := s.up(ctx, p); err != nil {
		return err
	}
	return s.makePartitions(ctx, uptime.Now())
}

// migrateSQLite tries again when another process holds the database, whose
// migration makes ours a no-op.
func (s *Store) migrateSQLite(ctx context.Context) error {
	for {
		p, err := s.provider(goose.DialectSQLite3, "migrations/sqlite", s.write)
		if err == nil {
			err = s.up(ctx, p)
		}
		if err == nil || uptime.Is(err, uptime.Invalid) {
			return err
		}
		current, e := s.schemaVersion(ctx)
		if e == nil && current == latest("migrations/sqlite") {
			return nil
		}
		if !s.d.retryable(err) && current == 0 && e == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Store) schemaVersion(ctx context.Context) (v int64, err error) {
	err = s.write.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version").Scan(&v)
	return v, err
}

// latest is the number of migrations in dir: they are numbered without gaps.
func latest(dir string) int64 {
	names, err := fs.Glob(migrations, dir+"/*.sql")
	if err != nil {
		return 0 // the pattern is a constant
	}
	return int64(len(names))
}

func (s *Store) provider(d goose.Dialect, dir string, db *sql.DB, opts ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d, db, files, opts...)
}

func (s *Store) up(ctx context.Context, p *goose.Provider) error {
	if _, err := p.Up(ctx); err != nil {
		return s.fail("migrate the database", err)
	}
	version, target, err := p.GetVersions(ctx)
	if err != nil {
		return s.fail("read the schema's version", err)
	}
	if version > target {
		return uptime.Errorf(uptime.Invalid, "the database has schema %d, and this Vedette knows %d: start the newer version again, or restore the backup made before the upgrade", version, target)
	}
	return nil
}

// partitionsAhead is how many days of check_results exist before they are needed.
const partitionsAhead = 7

// makePartitions makes the days around now, PostgreSQL only. There is no default
// partition: a row outside would hide there from retention.
func (s *Store) makePartitions(ctx context.Context, now time.Time) error {
	if !s.d.postgres() {
		return nil
	}
	return s.tx(ctx, "make partitions", func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx, lockPartitions); err != nil {
			return err
		}
		for d := -2; d <= partitionsAhead; d++ {
			day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, d)
			stmt := fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF check_results FOR VALUES FROM (%d) TO (%d)",
				partitionName(day), day.UnixMicro(), day.AddDate(0, 0, 1).UnixMicro())
			if _, err := tx.ExecContext(ctx, stmt); err != nil {
				return wrap(partitionName(day), err)
			}
		}
		return nil
	})
}

func partitionName(day time.Time) string { return "check_results_" + day.Format("20060102") }
