package api

import (
	"context"
	"net/http"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

type userJSON struct {
	ID        int64     `json:"id"`
	Email     string    `json:"email"`
	Role      string    `json:"role" enum:"admin,editor,viewer"`
	CreatedAt time.Time `json:"created_at"`
}

func showUser(u uptime.User) userJSON {
	return userJSON{u.ID, u.Email, string(u.Role), u.CreatedAt.UTC()}
}

type setupStateOut struct {
	Body struct {
		Needed bool `json:"needed"`
	}
}

func (s *server) setupState(ctx context.Context, _ *struct{}) (*setupStateOut, error) {
	out := &setupStateOut{}
	var err error
	out.Body.Needed, err = s.svc.NeedsSetup(ctx)
	return out, err
}

type setupIn struct {
	Body struct {
		Token    string `json:"token" doc:"The one-time token that serve printed"`
		Email    string `json:"email"`
		Password string `json:"password" doc:"12 characters at least"`
		APIKey   string `json:"api_key_name,omitempty" doc:"Also make an API key of this name that may write, and show it once"`
	}
}

type setupOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      struct {
		User   userJSON `json:"user"`
		APIKey string   `json:"api_key,omitempty" doc:"Shown only here"`
	}
}

func (s *server) setUp(ctx context.Context, in *setupIn) (*setupOut, error) {
	u, err := s.svc.SetUp(ctx, in.Body.Token, in.Body.Email, in.Body.Password, middleware.ClientIP(ctx).String())
	if err != nil {
		return nil, err
	}
	out := &setupOut{}
	out.Body.User = showUser(u)
	c, err := s.svc.OpenSession(ctx, u)
	if err != nil {
		return nil, err
	}
	out.SetCookie = *middleware.SessionCookie(ctx, c.Token, c.ExpiresAt)
	if in.Body.APIKey == "" {
		return out, nil
	}
	a, err := s.svc.BySession(ctx, c.Token)
	if err != nil {
		return nil, err
	}
	_, out.Body.APIKey, err = s.svc.CreateAPIKey(ctx, a, service.NewKey{Name: in.Body.APIKey, Scope: uptime.ScopeWrite})
	return out, err
}

type loginIn struct {
	Body struct {
		Email    string `json:"email"`
		Password string `json:"password"`
	}
}

type loginOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      struct {
		User      userJSON  `json:"user"`
		ExpiresAt time.Time `json:"expires_at"`
	}
}

func (s *server) logIn(ctx context.Context, in *loginIn) (*loginOut, error) {
	u, c, err := s.svc.LogIn(ctx, in.Body.Email, in.Body.Password, middleware.ClientIP(ctx).String())
	if err != nil {
		return nil, err
	}
	out := &loginOut{SetCookie: *middleware.SessionCookie(ctx, c.Token, c.ExpiresAt)}
	out.Body.User, out.Body.ExpiresAt = showUser(u), c.ExpiresAt
	return out, nil
}

type cookieOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

func (s *server) logOut(ctx context.Context, _ *struct{}) (*cookieOut, error) {
	out := &cookieOut{SetCookie: *middleware.SessionCookie(ctx, "", time.Time{})}
	return out, s.svc.LogOut(ctx, middleware.Actor(ctx))
}

type meOut struct {
	Body struct {
		User  userJSON `json:"user"`
		Scope string   `json:"scope" enum:"read,write"`
	}
}

func (s *server) me(ctx context.Context, _ *struct{}) (*meOut, error) {
	a, out := middleware.Actor(ctx), &meOut{}
	out.Body.User, out.Body.Scope = showUser(a.User), string(a.Scope)
	return out, nil
}

type passwordIn struct {
	Body struct {
		Password    string `json:"password" doc:"The present one"`
		NewPassword string `json:"new_password" doc:"12 characters at least"`
	}
}

func (s *server) changePassword(ctx context.Context, in *passwordIn) (*cookieOut, error) {
	out := &cookieOut{SetCookie: *middleware.SessionCookie(ctx, "", time.Time{})}
	return out, s.svc.ChangePassword(ctx, middleware.Actor(ctx), in.Body.Password, in.Body.NewPassword)
}

type userIn struct {
	Body struct {
		Email    string `json:"email"`
		Password string `json:"password" doc:"12 characters at least"`
		Role     string `json:"role" enum:"admin,editor,viewer"`
	}
}

type userOut struct{ Body userJSON }

func (s *server) createUser(ctx context.Context, in *userIn) (*userOut, error) {
	u, err := s.svc.CreateUser(ctx, middleware.Actor(ctx), in.Body.Email, in.Body.Password, uptime.Role(in.Body.Role))
	return &userOut{showUser(u)}, err
}

type keyJSON struct {
	ID         int64      `json:"id"`
	Name       string     `json:"name"`
	Prefix     string     `json:"prefix"`
	Scope      string     `json:"scope" enum:"read,write"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	Key        string     `json:"key,omitempty" doc:"The key itself; shown only when it is made"`
}

func showKey(k uptime.APIKey) keyJSON {
	return keyJSON{ID: k.ID, Name: k.Name, Prefix: k.Prefix, Scope: string(k.Scope), CreatedAt: k.CreatedAt.UTC(),
		LastUsedAt: instant(k.LastUsedAt), ExpiresAt: instant(k.ExpiresAt)}
}

func (s *server) apiKeys(ctx context.Context, _ *struct{}) (*list[keyJSON], error) {
	keys, err := s.svc.APIKeys(ctx, middleware.Actor(ctx))
	return pageOf(keys, len(keys), nil, showKey), err
}

type keyIn struct {
	Once
	Body struct {
		Name      string    `json:"name"`
		Scope     string    `json:"scope,omitempty" enum:"read,write" doc:"Default: read"`
		ExpiresAt time.Time `json:"expires_at,omitzero" doc:"Default: never"`
	}
}

type keyOut struct{ Body keyJSON }

func (s *server) createAPIKey(ctx context.Context, in *keyIn) (*keyOut, error) {
	k, err := doOnce(ctx, s.svc, "POST /api-keys", in.Once, func() (keyJSON, error) {
		k, text, err := s.svc.CreateAPIKey(ctx, middleware.Actor(ctx), service.NewKey{
			Name: in.Body.Name, Scope: uptime.Scope(in.Body.Scope), ExpiresAt: in.Body.ExpiresAt})
		out := showKey(k)
		out.Key = text
		return out, err
	}, func(k keyJSON) keyJSON { k.Key = ""; return k })
	return &keyOut{k}, err
}

func (s *server) deleteAPIKey(ctx context.Context, in *ByID) (*struct{}, error) {
	return nil, s.svc.DeleteAPIKey(ctx, middleware.Actor(ctx), in.ID)
}
