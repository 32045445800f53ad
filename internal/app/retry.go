package app

import (
	"context"
	"log/slog"
	"time"
)

// Pauses between attempts to reach a dependency at start.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// untilReady calls try until it succeeds or ctx ends, and says after each failure,
// in the log and on /readyz, what is awaited and why. It returns try's last error
// when ctx ends first.
func untilReady(ctx context.Context, log *slog.Logger, st *status, name string, try func(context.Context) error) error {
	st.set(name, "connecting")
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try(ctx)
		if err == nil {
			st.done(name)
			return nil
		}
		st.set(name, err.Error())
		if ctx.Err() != nil {
			return err
		}
		log.Warn("dependency not reachable yet, trying again", slog.String("dependency", name),
			slog.Duration("pause", pause), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
