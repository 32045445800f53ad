package api

import (
	"context"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

type monitorsIn struct {
	Page
	Query   string   `query:"q" maxLength:"200" doc:"Part of name or target"`
	Tags    []string `query:"tag,explode" maxItems:"20" doc:"All of these tags"`
	Status  string   `query:"status" enum:"unknown,up,degraded,down"`
	Enabled string   `query:"enabled" enum:"true,false"`
	Type    string   `query:"type" maxLength:"50"`
}

func (s *server) monitors(ctx context.Context, in *monitorsIn) (*list[monitorJSON], error) {
	after, err := in.id()
	if err != nil {
		return nil, err
	}
	f := uptime.MonitorFilter{Query: in.Query, Tags: in.Tags, Type: in.Type, After: after, Limit: in.Limit + 1}
	if in.Status != "" {
		var v uptime.Verdict
		if err := v.UnmarshalText([]byte(in.Status)); err != nil {
			return nil, uptime.InvalidField("query.status", "%s", err)
		}
		f.Verdict = &v
	}
	f.Enabled = boolOf(in.Enabled)
	rows, err := s.svc.Monitors(ctx, middleware.Actor(ctx), f)
	return pageOf(rows, in.Limit, func(v uptime.MonitorView) string { return decimal(v.ID) }, showMonitor), err
}

func boolOf(s string) *bool {
	if s == "" {
		return nil
	}
	b := s == "true"
	return &b
}

type monitorOut struct {
	ETag string `header:"ETag"`
	Body monitorJSON
}

// monitorOut is v with its warnings: one that nobody hears of must not look well.
func (s *server) monitorOut(ctx context.Context, v uptime.MonitorView, err error) (*monitorOut, error) {
	if err != nil {
		return nil, err
	}
	out := &monitorOut{ETag: etag(v.Revision), Body: showMonitor(v)}
	warning, err := s.svc.Unheard(ctx, v)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		out.Body.Warnings = []string{warning}
	}
	out.Body.PingURL, err = s.pingURL(ctx, v)
	return out, err
}

type monitorIn struct {
	Once
	Body service.MonitorBody
}

func (s *server) createMonitor(ctx context.Context, in *monitorIn) (*monitorOut, error) {
	body, err := doOnce(ctx, s.svc, "POST /monitors", in.Once, func() (monitorJSON, error) {
		m, bad := in.Body.Monitor()
		if bad != nil {
			return monitorJSON{}, bad
		}
		v, err := s.svc.CreateMonitor(ctx, middleware.Actor(ctx), m)
		out, err := s.monitorOut(ctx, v, err)
		if err != nil {
			return monitorJSON{}, err
		}
		return out.Body, nil
	}, func(m monitorJSON) monitorJSON { m.PingURL = ""; return m })
	return &monitorOut{ETag: etag(body.Revision), Body: body}, err
}

func (s *server) monitor(ctx context.Context, in *ByID) (*monitorOut, error) {
	v, err := s.svc.Monitor(ctx, middleware.Actor(ctx), in.ID)
	return s.monitorOut(ctx, v, err)
}

type monitorUpdate struct {
	ByID
	IfMatchHeader
	Body service.MonitorBody
}

func (s *server) updateMonitor(ctx context.Context, in *monitorUpdate) (*monitorOut, error) {
	if _, err := s.svc.Monitor(ctx, middleware.Actor(ctx), in.ID); err != nil {
		return nil, err // what is not yours is not there, with or without a precondition
	}
	rev, err := in.revision(ctx)
	if err != nil {
		return nil, err
	}
	m, err := in.Body.Monitor()
	if err != nil {
		return nil, err
	}
	m.ID, m.Revision = in.ID, rev
	v, err := s.svc.UpdateMonitor(ctx, middleware.Actor(ctx), m)
	return s.monitorOut(ctx, v, preconditionFailed(ctx, err))
}

func (s *server) deleteMonitor(ctx context.Context, in *ByID) (*struct{}, error) {
	return nil, s.svc.DeleteMonitor(ctx, middleware.Actor(ctx), in.ID)
}

func (s *server) pause(ctx context.Context, in *ByID) (*monitorOut, error) {
	v, err := s.svc.SetEnabled(ctx, middleware.Actor(ctx), in.ID, false)
	return s.monitorOut(ctx, v, err)
}

func (s *server) resume(ctx context.Context, in *ByID) (*monitorOut, error) {
	v, err := s.svc.SetEnabled(ctx, middleware.Actor(ctx), in.ID, true)
	return s.monitorOut(ctx, v, err)
}

type checkOut struct {
	Body struct {
		ScheduledAt time.Time `json:"scheduled_at" doc:"The results will have this instant"`
	}
}

func (s *server) checkNow(ctx context.Context, in *ByID) (*checkOut, error) {
	out := &checkOut{}
	var err error
	out.Body.ScheduledAt, err = s.svc.CheckNow(ctx, middleware.Actor(ctx), in.ID)
	return out, err
}
