package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"vedette/internal/middleware"
	"vedette/internal/uptime"
)

// statusOf maps a kind of error to its HTTP status: the only such table.
func statusOf(k uptime.Kind) int {
	switch k {
	case uptime.Invalid:
		return http.StatusUnprocessableEntity
	case uptime.NotFound:
		return http.StatusNotFound
	case uptime.Conflict:
		return http.StatusConflict
	case uptime.Forbidden:
		return http.StatusForbidden
	case uptime.Unauthorized:
		return http.StatusUnauthorized
	case uptime.RateLimited:
		return http.StatusTooManyRequests
	case uptime.Unavailable:
		return http.StatusServiceUnavailable
	case uptime.Internal:
	}
	return http.StatusInternalServerError
}

// problem is err as its sender may read it. What is our own fault is kept for the
// log, and shown as the request's id.
func problem(ctx context.Context, err error) error {
	if se, ok := errors.AsType[huma.StatusError](err); ok {
		return se
	}
	status := statusOf(uptime.KindOf(err))
	m := &huma.ErrorModel{Status: status, Title: http.StatusText(status), Instance: instance(ctx)}
	e, _ := errors.AsType[*uptime.Error](err)
	switch {
	case status == http.StatusInternalServerError:
		middleware.Failed(ctx, err)
		m.Detail = "something went wrong here; the log has it under request id " + middleware.RequestID(ctx)
		return m
	case status == http.StatusServiceUnavailable:
		middleware.Failed(ctx, err)
		m.Detail = "a part of this installation does not answer; try again. /readyz names it, the log has it under request id " + middleware.RequestID(ctx)
	case status == http.StatusNotFound:
		m.Detail = "there is no such thing, or it is not yours"
	default:
		m.Detail = e.Message
		for _, f := range e.Fields {
			m.Errors = append(m.Errors, &huma.ErrorDetail{Location: f.Path, Message: f.Message})
		}
	}
	if e != nil && e.RetryAfter > 0 {
		return huma.ErrorWithHeaders(m, http.Header{"Retry-After": {strconv.Itoa(int(e.RetryAfter.Seconds()))}})
	}
	if status == http.StatusUnauthorized {
		return huma.ErrorWithHeaders(m, http.Header{"WWW-Authenticate": {"Bearer"}})
	}
	return m
}

func instance(ctx context.Context) string {
	return "urn:vedette:request:" + middleware.RequestID(ctx)
}

// writeProblem answers from a middleware, where no handler's return is at hand.
func writeProblem(api huma.API, ctx huma.Context, err error) {
	m, ok := errors.AsType[*huma.ErrorModel](err)
	if !ok {
		m = &huma.ErrorModel{Status: http.StatusInternalServerError, Title: http.StatusText(http.StatusInternalServerError)}
	}
	if he, ok := errors.AsType[huma.HeadersError](err); ok {
		for k, vs := range he.GetHeaders() {
			for _, v := range vs {
				ctx.SetHeader(k, v)
			}
		}
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(m.Status)
	_ = api.Marshal(ctx.BodyWriter(), "application/json", m) // the client is gone: nobody to tell
}

// cleanProblem makes the validator's problems like the service's: locations are
// paths inside the body, and no value is repeated, for it may be a secret.
func cleanProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	out := *m
	out.Instance = instance(ctx.Context())
	out.Errors = make([]*huma.ErrorDetail, 0, len(m.Errors))
	for _, d := range m.Errors {
		at := d.Location
		if inner, ok := strings.CutPrefix(at, "body."); ok {
			at = inner
		}
		out.Errors = append(out.Errors, &huma.ErrorDetail{Location: at, Message: d.Message})
	}
	return &out, nil
}

// preconditionFailed is the answer to an update made from a stale copy.
func preconditionFailed(ctx context.Context, err error) error {
	if !uptime.Is(err, uptime.Conflict) {
		return err
	}
	return &huma.ErrorModel{Status: http.StatusPreconditionFailed, Title: http.StatusText(http.StatusPreconditionFailed), Instance: instance(ctx),
		Detail: "it was changed since you read it; read it again, and send its ETag in If-Match"}
}
