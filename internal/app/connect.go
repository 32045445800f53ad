package app

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"vedette/internal/config"
	"vedette/internal/queue"
	"vedette/internal/queue/memqueue"
	"vedette/internal/queue/redisqueue"
	"vedette/internal/seal"
	"vedette/internal/store"
)

// loadKey finds the sealing key: given, or in its file, which is made on first use.
func loadKey(cfg config.Storage) ([]byte, error) {
	if cfg.Key == "" {
		key, err := seal.LoadOrCreateKey(cfg.KeyPath())
		if err != nil {
			return nil, fmt.Errorf("sealing key %s: %w", cfg.KeyPath(), err)
		}
		return key, nil
	}
	key, err := base64.StdEncoding.DecodeString(cfg.Key)
	if err != nil || len(key) != 32 {
		return nil, config.UsageError("VEDETTE_KEY is not 32 bytes in base64: make one with head -c 32 /dev/urandom | base64")
	}
	return key, nil
}

// installation is the id that tells two installations apart to a receiver of
// their webhooks. It follows from the key, which every process shares.
func installation(key []byte) string {
	sum := sha256.Sum256(append([]byte("vedette installation"), key...))
	return hex.EncodeToString(sum[:6])
}

// openStore opens the database and brings its schema up to date. o says what is
// special about this process's use of it; the zero value will do for a command.
func openStore(ctx context.Context, cfg config.Storage, key []byte, o store.Options) (*store.Store, error) {
	var err error
	if o.Sealer, err = seal.New(key); err != nil {
		return nil, err
	}
	o.Database, o.Installation = cfg.DatabaseURL(), installation(key)
	s, err := store.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openBroker(ctx context.Context, cfg config.Serve, log *slog.Logger) (queue.Broker, error) {
	if cfg.Embedded() {
		return memqueue.New(memqueue.Options{}), nil
	}
	return redisqueue.New(ctx, redisqueue.Options{URL: cfg.Queue, Consumer: holder(), Logger: log})
}

// holder names this process in leases and to the queue.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), randomSuffix())
}

// connect waits for the database and the queue.
func (a *App) connect(ctx context.Context) (*process, error) {
	key, err := loadKey(a.cfg.Storage)
	if err != nil {
		return nil, err
	}
	p := &process{App: a, holder: holder(), installation: installation(key)}
	if a.cfg.SQLite() && p.lockData() {
		p.holder = "alone"
	}
	err = untilReady(ctx, a.log, &a.status, "database", func(ctx context.Context) (err error) {
		p.store, err = openStore(ctx, a.cfg.Storage, key, store.Options{Logger: a.log, KeepResults: a.cfg.KeepResults, KeepHourly: a.cfg.KeepHourly})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = untilReady(ctx, a.log, &a.status, "queue", func(ctx context.Context) (err error) {
		p.broker, err = openBroker(ctx, a.cfg, a.log)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.store.Close())
	}
	return p, nil
}

// lockData reports whether this process is the only one on its SQLite database; the
// kernel gives the lock back when it ends, however it ends. Then what its former life
// held is its own again at once: the scheduler's lease and deliveries under way. A
// second process on the same database goes on as several on PostgreSQL do.
func (p *process) lockData() bool {
	path := filepath.Join(p.cfg.Data, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			p.lock = f
			return true
		}
		err = errors.Join(err, f.Close())
	}
	p.log.Warn("another process uses this database, leases keep them apart", slog.String("lock", path), slog.Any("error", err))
	return false
}
