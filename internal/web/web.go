// Package web serves the pages for people: for now one unadorned page at / that
// says what is running, where the API is described, and how to set up while there
// is no user. It needs no script and loads nothing from elsewhere; everything shown
// is escaped by html/template.
package web

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"

	"vedette/internal/uptime"
)

//go:embed home.html
var homeHTML string

//go:embed style.css
var styleCSS []byte

// Options of New.
type Options struct {
	Version    string
	Mode       string   // "embedded" or "scaled"
	Roles      []string // of this process
	Demo       bool
	NeedsSetup func(ctx context.Context) (bool, error)
	// OwnTrouble are the reasons of the open incidents about Vedette itself. The page
	// is public, so it tells no more of them.
	OwnTrouble func(ctx context.Context) ([]uptime.Reason, error)
}

// page is what home.html is written from.
type page struct {
	Options
	Setup   bool
	Unknown bool // the database did not answer
	Trouble []string
}

// troubles is what the page says of our own incidents.
var troubles = map[uptime.Reason]string{
	uptime.Undelivered:  "Alerts do not reach everybody who should be told.",
	uptime.Blind:        "Monitors have no verdict, because nobody looks at them.",
	uptime.OwnNetwork:   "The network or resolver of a worker does not work: its monitors are unknown, not down.",
	uptime.OwnResources: "A worker has no descriptors, ports or memory left: its monitors are unknown, not down.",
}

// New makes the handler of / and /style.css.
func New(o Options) (http.Handler, error) {
	t, err := template.New("home").Parse(homeHTML)
	if err != nil {
		return nil, fmt.Errorf("home.html: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = w.Write(styleCSS)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		p := page{Options: o}
		needed, err := o.NeedsSetup(r.Context())
		var own []uptime.Reason
		if err == nil {
			own, err = o.OwnTrouble(r.Context())
		}
		p.Setup, p.Unknown = needed, err != nil
		for _, reason := range own {
			p.Trouble = append(p.Trouble, cmp.Or(troubles[reason], "Vedette itself has a problem."))
		}
		var b bytes.Buffer
		if err := t.Execute(&b, p); err != nil {
			http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(b.Bytes())
	})
	return mux, nil
}
