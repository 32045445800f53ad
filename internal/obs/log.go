// Package obs is how Vedette is observed: its logger, its metrics registry and its
// version. Every box of the diagram is handed what it makes; nothing here is global.
//
// Logs are slog records: JSON for machines, tinted lines on a terminal. Secrets do
// not reach them, because their type redacts itself; levels mean what the house
// style says (error: someone must act). Nothing here can fail at run time: a level
// or format that is not known reads as the default.
package obs

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// NewLogger writes records of at least level (debug, info, warn, error; info for
// anything else) to w. format is "json", "text", or "auto" (and anything else):
// text if w is a terminal, else JSON. Text is coloured on a terminal only, and not
// when NO_COLOR is set (no-color.org).
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo
	}
	terminal := isTerminal(w)
	if format == "json" || (format != "text" && !terminal) {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: readable}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: least, TimeFormat: time.TimeOnly, ReplaceAttr: readable,
		NoColor: !terminal || os.Getenv("NO_COLOR") != ""}))
}

// isTerminal reports whether a person reads w as it is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// readable keeps times in UTC and writes durations as Go spells them: "1.5s"
// needs no unit in its key.
func readable(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		return slog.Time(a.Key, a.Value.Time().UTC())
	case a.Value.Kind() == slog.KindDuration:
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}
