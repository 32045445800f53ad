package api

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"vedette/internal/middleware"
	"vedette/internal/service"
)

// route is one line of the list.
type route struct {
	method, path string
	permission   service.Permission
	summary      string
	status       int // of success; 0: 200, or 204 without a body
	register     func(huma.API, route)
}

// on makes a route whose handler is h. Its errors become problems here and
// nowhere else.
func on[I, O any](method, path string, p service.Permission, summary string, h func(context.Context, *I) (*O, error)) route {
	return route{method: method, path: path, permission: p, summary: summary, register: func(api huma.API, r route) {
		huma.Register(api, r.operation(api), func(ctx context.Context, in *I) (*O, error) {
			out, err := h(ctx, in)
			if err != nil {
				return nil, problem(ctx, err)
			}
			return out, nil
		})
	}}
}

// created makes a route answer 201, accepted 202.
func created(r route) route  { r.status = http.StatusCreated; return r }
func accepted(r route) route { r.status = http.StatusAccepted; return r }

var notLetters = regexp.MustCompile(`[^a-z]+`)

// operation describes the route to the validator and to the document. Who asks is
// authorised before anything of the request is read.
func (r route) operation(api huma.API) huma.Operation {
	op := huma.Operation{
		OperationID:   strings.Trim(notLetters.ReplaceAllString(strings.ToLower(r.method+r.path), "-"), "-"),
		Method:        r.method,
		Path:          prefix + r.path,
		Summary:       r.summary,
		Description:   "Permission: " + r.permission.String() + ".",
		Tags:          []string{strings.Split(strings.TrimPrefix(r.path, "/"), "/")[0]},
		DefaultStatus: r.status,
		Extensions:    map[string]any{"x-permission": r.permission.String()},
		Middlewares: huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
			middleware.Route(ctx.Context(), prefix+r.path)
			err := middleware.Actor(ctx.Context()).Authorise(r.permission)
			if err == nil {
				err = checkQuery(ctx)
			}
			if err != nil {
				writeProblem(api, ctx, problem(ctx.Context(), err))
				return
			}
			next(ctx)
		}},
	}
	if r.permission != service.Public {
		op.Security = []map[string][]string{{"key": {}}, {"session": {}}}
	}
	return op
}
