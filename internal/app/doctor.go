package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"vedette/internal/config"
	"vedette/internal/notify"
	"vedette/internal/store"
)

// doctorTimeout bounds each of the doctor's questions.
const doctorTimeout = 10 * time.Second

// fewDescriptors is the number of open files below which a worker's default
// concurrency (one socket a check) does not fit.
const fewDescriptors = 4096

// Doctor asks everything that serve would stand on and prints a line for each,
// with the mend of what is wrong. The error says how many things are.
func Doctor(ctx context.Context, cfg config.Serve, out io.Writer) error {
	wrong := 0
	say := func(what string, err error) {
		if err == nil {
			fmt.Fprintf(out, "ok    %s\n", what)
			return
		}
		wrong++
		fmt.Fprintf(out, "WRONG %s: %v\n", what, err)
	}
	err := cfg.Validate()
	say("options", err)
	if err == nil {
		for _, q := range []struct {
			what string
			ask  func(context.Context, config.Serve) error
		}{
			{"data folder", func(_ context.Context, c config.Serve) error { return c.Prepare() }},
			{"sealing key and database", askDatabase}, {"queue", askQueue}, {"mail server", askMail}, {"open files", askDescriptors},
		} {
			ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
			say(q.what, q.ask(ctx, cfg))
			cancel()
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of the above must be mended", wrong)
	}
	return nil
}

// askDatabase opens the database with the key, which reads a sealed value if there is one.
func askDatabase(ctx context.Context, cfg config.Serve) error {
	key, err := loadKey(cfg.Storage)
	if err != nil {
		return err
	}
	s, err := openStore(ctx, cfg.Storage, key, store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.ListChannels(ctx, 0, 0, 1)
	return err
}

func askQueue(ctx context.Context, cfg config.Serve) error {
	b, err := openBroker(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return b.Close()
}

func askMail(ctx context.Context, cfg config.Serve) error {
	if cfg.SMTP == "" {
		return nil
	}
	server, err := notify.ParseSMTPURL(cfg.SMTP)
	if err != nil {
		return err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(server.Host, fmt.Sprint(server.Port)))
	if err != nil {
		return fmt.Errorf("%w: is --smtp right, and may this machine reach it?", err)
	}
	return c.Close()
}

func askDescriptors(_ context.Context, cfg config.Serve) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur < fewDescriptors || l.Cur < uint64(cfg.Concurrency)+512 {
		return errors.New("this process may open " + fmt.Sprint(l.Cur) + " files, and each check needs one: raise it (ulimit -n, LimitNOFILE) or lower --concurrency")
	}
	return nil
}
