// Package api is the HTTP face: it translates requests into calls of package
// service and back, and decides nothing. Every route stands in one list
// (routes.go) with the permission it needs; one without does not start.
//
// Requests are strict: unknown fields, duplicate JSON keys and unknown query
// parameters are refused, and every wrong field is named in an RFC 9457
// application/problem+json. An error of our own shows the request's id and
// nothing else; the log has the rest under that id. The OpenAPI 3.1 document is
// served at /openapi.json and kept as testdata/openapi.golden.json.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"vedette/internal/middleware"
	"vedette/internal/service"
)

// prefix of every route of the API.
const prefix = "/api/v1"

// Check says whether something that this process needs is there.
type Check struct {
	Name string // "database", "queue"
	Ask  func(ctx context.Context) error
}

// Options of New. Service is required.
type Options struct {
	Service        *service.Service
	Hub            *Hub // wakes live streams; nil: they poll
	Ready          []Check
	Metrics        http.Handler // nil: no /metrics
	Web            http.Handler // serves / and /style.css; nil: neither
	Logger         *slog.Logger
	TrustedProxies []netip.Prefix
	Limiter        middleware.Limiter
	Secure         bool   // people reach this installation over TLS
	PerMinute      int    // requests a minute; see middleware.Options
	PublicURL      string // what heartbeats' URLs begin with, without a slash at the end; "" shows their paths
	Version        string
}

type server struct {
	svc     *service.Service
	hub     *Hub
	ready   []Check
	log     *slog.Logger
	limiter middleware.Limiter // nil: no limit
	public  string
}

// New makes the handler of everything the process serves over HTTP. Its error is
// a mistake in the list of routes.
func New(o Options) (http.Handler, error) {
	if o.Service == nil {
		return nil, errors.New("api: no service")
	}
	s := &server{svc: o.Service, hub: o.Hub, ready: o.Ready, log: o.Logger, limiter: o.Limiter, public: o.PublicURL}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.hub == nil {
		s.hub = NewHub()
	}
	mux := http.NewServeMux()
	document, err := s.mount(mux, o.Version)
	if err != nil {
		return nil, err
	}
	if err := s.mountPages(mux, document, o); err != nil {
		return nil, err
	}
	chain := middleware.Options{
		Credentials: o.Service, Limiter: o.Limiter, Logger: s.log, TrustedProxies: o.TrustedProxies,
		Secure: o.Secure, PerMinute: o.PerMinute,
	}
	return s.withPings(middleware.Plain(chain, s.pings()), middleware.Chain(chain, mux)), nil
}

// NewHealth is what a process without the role api serves: health, readiness and
// metrics, nothing else. Of the options it uses Service, Ready, Metrics and Logger.
func NewHealth(o Options) http.Handler {
	s := &server{ready: o.Ready, log: o.Logger}
	mux := http.NewServeMux()
	s.mountHealth(mux.Handle, o.Metrics)
	return middleware.Chain(middleware.Options{Credentials: o.Service, Logger: o.Logger, TrustedProxies: o.TrustedProxies}, mux)
}

// mount registers every route and returns the OpenAPI document.
func (s *server) mount(mux *http.ServeMux, version string) (*huma.OpenAPI, error) {
	api := humago.New(mux, configuration(version))
	for _, r := range s.routes() {
		if r.permission == service.Undeclared {
			return nil, errors.New("api: route " + r.method + " " + r.path + " declares no permission")
		}
		r.register(api, r)
	}
	return api.OpenAPI(), nil
}

func configuration(version string) huma.Config {
	if version == "" {
		version = "dev"
	}
	c := huma.DefaultConfig("Vedette", version)
	c.Info.Description = "An uptime monitor. Durations are strings with units (\"30s\"), instants RFC 3339 UTC, ids integers."
	c.DocsPath, c.SchemasPath, c.OpenAPIPath = "", "", "" // ours load nothing from elsewhere
	c.CreateHooks = nil
	c.RejectUnknownQueryParameters = true
	strict := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshalStrict}
	c.Formats = map[string]huma.Format{"application/json": strict, "json": strict}
	c.Transformers = []huma.Transformer{cleanProblem}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":     {Type: "http", Scheme: "bearer", Description: "An API key, vdt_…"},
		"session": {Type: "apiKey", In: "cookie", Name: "vedette_session", Description: "The cookie that POST /sessions sets"},
	}
	return c
}
