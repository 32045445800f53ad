package app

import (
	"context"
	"log/slog"
	"time"

	"vedette/internal/uptime"
)

// Pauses between attempts to reach a dependency at start.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// untilReady calls try until it succeeds or ctx ends, and says after each failure,
// in the log and on /readyz, what is awaited and why. It returns try's last error
// when ctx ends first, and at once one that waiting cannot mend (uptime.Invalid): an
// address that cannot be read, a database of a newer version.
func untilReady(ctx context.Context, log *slog.Logger, st *status, name string, try func(context.Context) error) error {
	st.set(name, "connecting")
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try(ctx)
		if err == nil {
			st.done(name)
			return nil
		}
		st.set(name, err.Error())
		if ctx.Err() != nil || uptime.Is(err, uptime.Invalid) {
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
