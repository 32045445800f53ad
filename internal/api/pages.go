package api

import (
	"bytes"
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"vedette/internal/middleware"
	"vedette/internal/uptime"
)

// mountPages adds what is outside the API: health, metrics, the document, its
// readable form, and the web's pages.
func (s *server) mountPages(mux *http.ServeMux, document *huma.OpenAPI, o Options) error {
	spec, err := withConfigs(document, s.svc.CheckTypes())
	if err != nil {
		return err
	}
	docs, err := docsPage(document)
	if err != nil {
		return err
	}
	handle := func(pattern string, h http.Handler) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			middleware.Route(r.Context(), pattern)
			h.ServeHTTP(w, r)
		})
	}
	s.mountHealth(handle, o.Metrics)
	handle("GET /openapi.json", fixed("application/json", spec))
	handle("GET /docs", fixed("text/html; charset=utf-8", docs))
	if o.Web != nil {
		handle("GET /{$}", o.Web)
		handle("GET /style.css", o.Web)
	}
	handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allow := methods(mux, r); allow != "" {
			w.Header().Set("Allow", allow)
			middleware.Problem(w, r, http.StatusMethodNotAllowed, "this path takes "+allow+"; /docs lists what there is")
			return
		}
		middleware.Problem(w, r, http.StatusNotFound, "there is no such page here; /docs lists what there is")
	}))
	return nil
}

// methods are those that the request's path takes; empty when there is no such path.
func methods(mux *http.ServeMux, r *http.Request) string {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if _, pattern := mux.Handler(&http.Request{Method: m, URL: r.URL, Host: r.Host}); pattern != "/" {
			allow = append(allow, m)
		}
	}
	return strings.Join(allow, ", ")
}

// mountHealth adds what every process answers, whatever its roles.
func (s *server) mountHealth(handle func(string, http.Handler), metrics http.Handler) {
	handle("GET /healthz", fixed("text/plain; charset=utf-8", []byte("ok\n")))
	handle("GET /readyz", http.HandlerFunc(s.readyz))
	if metrics != nil {
		handle("GET /metrics", metricsGuard(metrics))
	}
}

func fixed(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
	})
}

// metricsGuard lets this machine in, and any administrator. A loopback connection
// that forwards for somebody else is not this machine.
func metricsGuard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
		local := middleware.ClientIP(r.Context()).IsLoopback() && !forwarded
		a := middleware.Actor(r.Context())
		if !local && a.User.Role != uptime.RoleAdmin {
			middleware.Problem(w, r, http.StatusUnauthorized, "send an administrator's API key, or ask from this machine")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readyz asks everything that this process needs, and names what is missing. Why
// it is missing is for the log.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	failed := make([]error, len(s.ready))
	var wg sync.WaitGroup
	for i, c := range s.ready {
		wg.Go(func() { failed[i] = c.Ask(ctx) })
	}
	wg.Wait()
	var out struct {
		Ready   bool     `json:"ready"`
		Missing []string `json:"missing"`
	}
	out.Ready, out.Missing = true, []string{}
	for i, err := range failed {
		if err != nil {
			out.Ready, out.Missing = false, append(out.Missing, s.ready[i].Name)
			middleware.Failed(r.Context(), err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !out.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(out) // the client is gone: nobody to tell
}

const docsHTML = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vedette: API</title><link rel="stylesheet" href="/style.css"></head><body><main>
<h1>Vedette: API</h1>
<p>The whole description is <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1). Send <code>Authorization: Bearer vdt_…</code>, or log in with <code>POST /api/v1/sessions</code>.
Errors are <code>application/problem+json</code> and name each wrong field.</p>
<table><thead><tr><th>Method</th><th>Path</th><th>What it does</th><th>Permission</th></tr></thead><tbody>
{{range .}}<tr><td><code>{{.Method}}</code></td><td><code>{{.Path}}</code></td><td>{{.Summary}}</td><td>{{index .Extensions "x-permission"}}</td></tr>
{{end}}</tbody></table></main></body></html>
`

// docsPage is the document as one table, without a script.
func docsPage(document *huma.OpenAPI) ([]byte, error) {
	var ops []*huma.Operation
	for _, item := range document.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if op != nil {
				ops = append(ops, op)
			}
		}
	}
	slices.SortFunc(ops, func(a, b *huma.Operation) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
	t, err := template.New("docs").Parse(docsHTML)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, ops)
	return b.Bytes(), err
}
