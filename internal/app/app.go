// Package app wires everything: it is the only place that knows every other
// package. New binds the listener and nothing else; Run reaches the database and
// the queue (waiting for them, visibly, as long as it takes), starts the roles of
// this process, and on a signal drains them in the order of the flow: nobody
// schedules, then nobody checks, then nobody records, then nobody sends.
//
// The commands of the command line that are not serve are here too, a file each.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"vedette/internal/config"
	"vedette/internal/guard"
	"vedette/internal/notify"
	"vedette/internal/obs"
)

// drain bounds how long a stopping process works on what it has in hand.
const drain = 10 * time.Second

// App is one process of Vedette. Several may live in one test.
type App struct {
	cfg    config.Serve
	policy guard.Policy       // of --private-targets
	smtp   *notify.SMTPServer // of --smtp; nil without
	out    io.Writer          // for people: the address, the set-up line
	log    *slog.Logger
	ln     net.Listener
	gate   gate
	status status
}

// Serve is New and Run.
func Serve(ctx context.Context, cfg config.Serve, stdout, stderr io.Writer) error {
	a, err := New(cfg, stdout, stderr)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// New validates cfg and binds the address, so that a mistake in either shows at
// once and a test may listen on port 0.
func New(cfg config.Serve, stdout, stderr io.Writer) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, out: stdout, log: obs.NewLogger(stderr, cfg.LogLevel, cfg.LogFormat)}
	a.gate.status = &a.status
	var err error
	if a.policy, err = guard.Parse(cfg.PrivateTargets); err != nil {
		return nil, config.UsageError("--private-targets: " + err.Error())
	}
	if cfg.SMTP != "" {
		server, err := notify.ParseSMTPURL(cfg.SMTP)
		if err != nil {
			return nil, config.UsageError("--smtp " + err.Error())
		}
		a.smtp = &server
	}
	if err := cfg.Prepare(); err != nil {
		return nil, err
	}
	if a.ln, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("--listen %s: %w: is another Vedette running? choose another address, or port 0 for a free one", cfg.Listen, err)
	}
	return a, nil
}

// Addr is where the API listens.
func (a *App) Addr() string { return a.ln.Addr().String() }

// Run serves until ctx ends or a role fails for good, and drains.
func (a *App) Run(ctx context.Context) error {
	server := &http.Server{Handler: &a.gate, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	g, ctx := errgroup.WithContext(ctx)
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	g.Go(func() error {
		if err := server.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		err := a.play(ctx)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if e := server.Shutdown(stop); e != nil {
			_ = server.Close()
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	fmt.Fprintf(a.out, "Vedette %s listens on http://%s\n", obs.Version(), a.Addr())
	err := g.Wait()
	a.log.Info("stopped")
	return err
}

// play reaches what the roles stand on and runs them until ctx ends.
func (a *App) play(ctx context.Context) error {
	p, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.prepare(ctx); err != nil {
		return err
	}
	return p.run(ctx)
}
