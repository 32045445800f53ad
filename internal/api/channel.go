package api

import (
	"context"
	"encoding/json"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/uptime"
)

type channelBody struct {
	Name    string          `json:"name"`
	Type    string          `json:"type" doc:"email, webhook, …"`
	Config  json.RawMessage `json:"config" doc:"Owned by the type. A secret is read as ***; sent back so, it stays"`
	Default bool            `json:"default,omitempty" doc:"Used for every monitor of its owner"`
	Enabled *bool           `json:"enabled,omitempty" doc:"Default: true"`
}

func (b channelBody) channel() uptime.Channel {
	return uptime.Channel{Name: b.Name, Type: b.Type, Config: b.Config, Default: b.Default, Enabled: b.Enabled == nil || *b.Enabled}
}

type channelJSON struct {
	ID        int64             `json:"id"`
	Name      string            `json:"name"`
	Type      string            `json:"type"`
	Config    json.RawMessage   `json:"config"`
	Default   bool              `json:"default"`
	Enabled   bool              `json:"enabled"`
	Problem   string            `json:"problem,omitempty" doc:"Why the last sends failed for good"`
	Revision  int64             `json:"revision"`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	Reveal    map[string]string `json:"reveal,omitempty" doc:"What was made for you, shown only now: a webhook's signing secret"`
}

func showChannel(c uptime.Channel) channelJSON {
	return channelJSON{ID: c.ID, Name: c.Name, Type: c.Type, Config: c.Config, Default: c.Default, Enabled: c.Enabled,
		Problem: c.Problem, Revision: c.Revision, CreatedAt: c.CreatedAt.UTC(), UpdatedAt: c.UpdatedAt.UTC()}
}

type channelOut struct {
	ETag string `header:"ETag"`
	Body channelJSON
}

func (s *server) channels(ctx context.Context, in *Page) (*list[channelJSON], error) {
	after, err := in.id()
	if err != nil {
		return nil, err
	}
	rows, err := s.svc.Channels(ctx, middleware.Actor(ctx), after, in.Limit+1)
	return pageOf(rows, in.Limit, func(c uptime.Channel) string { return decimal(c.ID) }, showChannel), err
}

type channelIn struct {
	Once
	Body channelBody
}

func (s *server) createChannel(ctx context.Context, in *channelIn) (*channelOut, error) {
	body, err := doOnce(ctx, s.svc, "POST /channels", in.Once, func() (channelJSON, error) {
		c, reveal, err := s.svc.CreateChannel(ctx, middleware.Actor(ctx), in.Body.channel())
		out := showChannel(c)
		out.Reveal = reveal
		return out, err
	}, func(c channelJSON) channelJSON { c.Reveal = nil; return c })
	return &channelOut{etag(body.Revision), body}, err
}

func (s *server) channel(ctx context.Context, in *ByID) (*channelOut, error) {
	c, err := s.svc.Channel(ctx, middleware.Actor(ctx), in.ID)
	return &channelOut{etag(c.Revision), showChannel(c)}, err
}

type channelUpdate struct {
	ByID
	IfMatchHeader
	Body channelBody
}

func (s *server) updateChannel(ctx context.Context, in *channelUpdate) (*channelOut, error) {
	if _, err := s.svc.Channel(ctx, middleware.Actor(ctx), in.ID); err != nil {
		return nil, err
	}
	rev, err := in.revision(ctx)
	if err != nil {
		return nil, err
	}
	c := in.Body.channel()
	c.ID, c.Revision = in.ID, rev
	c, err = s.svc.UpdateChannel(ctx, middleware.Actor(ctx), c)
	return &channelOut{etag(c.Revision), showChannel(c)}, preconditionFailed(ctx, err)
}

func (s *server) deleteChannel(ctx context.Context, in *ByID) (*struct{}, error) {
	return nil, s.svc.DeleteChannel(ctx, middleware.Actor(ctx), in.ID)
}

type testOut struct {
	Body struct {
		DeliveryID int64 `json:"delivery_id" doc:"Its record says what came of it"`
	}
}

func (s *server) testChannel(ctx context.Context, in *ByID) (*testOut, error) {
	out := &testOut{}
	var err error
	out.Body.DeliveryID, err = s.svc.TestChannel(ctx, middleware.Actor(ctx), in.ID)
	return out, err
}
