package app

import (
	"context"
	"fmt"
	"io"
	"strings"

	"vedette/internal/config"
	"vedette/internal/obs"
	"vedette/internal/service"
	"vedette/internal/store"
	"vedette/internal/uptime"
)

// maxPassword bounds what is read from standard input.
const maxPassword = 4 << 10

// Version prints the version, alone.
func Version(out io.Writer) { fmt.Fprintln(out, obs.Version()) }

// Migrate brings the database to this version's schema.
func Migrate(ctx context.Context, cfg config.Storage, out io.Writer) error {
	return withService(ctx, cfg, func(*service.Service) error {
		fmt.Fprintln(out, "The database is up to date.")
		return nil
	})
}

// CreateUser makes an account; its password is the first line of in.
func CreateUser(ctx context.Context, cfg config.UserCreate, in io.Reader, out io.Writer) error {
	b, err := io.ReadAll(io.LimitReader(in, maxPassword))
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	password, _, _ := strings.Cut(string(b), "\n")
	return withService(ctx, cfg.Storage, func(s *service.Service) error {
		u, err := s.CreateUser(ctx, service.Local(), cfg.Email, strings.TrimSuffix(password, "\r"), uptime.Role(cfg.Role))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "user %d: %s, %s\n", u.ID, u.Email, u.Role)
		return nil
	})
}

// CreateAPIKey makes a key for an account and prints it, alone.
func CreateAPIKey(ctx context.Context, cfg config.APIKeyCreate, out io.Writer) error {
	return withService(ctx, cfg.Storage, func(s *service.Service) error {
		_, key, err := s.CreateAPIKeyFor(ctx, service.Local(), cfg.User, service.NewKey{Name: cfg.Name, Scope: uptime.Scope(cfg.Scope)})
		if uptime.Is(err, uptime.NotFound) {
			return fmt.Errorf("there is no user %s: make one with vedette user create", cfg.User)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(out, key)
		return nil
	})
}

// withService opens the store for one command, also while serve runs on it.
func withService(ctx context.Context, cfg config.Storage, fn func(*service.Service) error) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := cfg.Prepare(); err != nil {
		return err
	}
	key, err := loadKey(cfg)
	if err != nil {
		return err
	}
	s, err := openStore(ctx, cfg, key, store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	return fn(service.New(service.Options{Store: s}))
}
