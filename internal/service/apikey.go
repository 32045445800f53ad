package service

import (
	"context"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// keyPrefix begins every API key, so that scanners of leaked secrets know one.
const keyPrefix = "vdt_"

// NewKey is an API key to make.
type NewKey struct {
	Name      string
	Scope     uptime.Scope // zero: read
	ExpiresAt time.Time    // zero: never
}

// CreateAPIKey makes a key and returns its text, which is not kept.
func (s *Service) CreateAPIKey(ctx context.Context, a Actor, n NewKey) (uptime.APIKey, string, error) {
	if err := a.Authorise(Credentials); err != nil {
		return uptime.APIKey{}, "", err
	}
	return s.createKey(ctx, a.User, n)
}

// CreateAPIKeyFor makes a key for the user of an address, for the operator.
func (s *Service) CreateAPIKeyFor(ctx context.Context, a Actor, email string, n NewKey) (uptime.APIKey, string, error) {
	if err := a.Authorise(Admin); err != nil {
		return uptime.APIKey{}, "", err
	}
	u, err := s.store.UserByEmail(ctx, strings.ToLower(email))
	if err != nil {
		return uptime.APIKey{}, "", err
	}
	return s.createKey(ctx, u, n)
}

func (s *Service) createKey(ctx context.Context, u uptime.User, n NewKey) (uptime.APIKey, string, error) {
	var p uptime.Problems
	n.Name = checkName(&p, "name", n.Name)
	if n.Scope == "" {
		n.Scope = uptime.ScopeRead
	}
	if n.Scope != uptime.ScopeRead && n.Scope != uptime.ScopeWrite {
		p.Add("scope", "is neither read nor write")
	}
	now := uptime.Now()
	if !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(now) {
		p.Add("expires_at", "is past")
	}
	if err := p.Err(); err != nil {
		return uptime.APIKey{}, "", err
	}
	text := randomToken(keyPrefix)
	k := uptime.APIKey{
		UserID: u.ID, Name: n.Name, Prefix: text[:len(keyPrefix)+6], Scope: n.Scope, CreatedAt: now,
	}
	if !n.ExpiresAt.IsZero() {
		k.ExpiresAt = uptime.Instant(n.ExpiresAt)
	}
	k, err := s.store.CreateAPIKey(ctx, k, tokenHash(text))
	return k, text, err
}

// ByAPIKey is who a key stands for; Unauthorized when there is no such key.
func (s *Service) ByAPIKey(ctx context.Context, text string) (Actor, error) {
	now := uptime.Now()
	unknown := uptime.Errorf(uptime.Unauthorized, "the API key is unknown, expired or revoked")
	if !strings.HasPrefix(text, keyPrefix) || len(text) > 128 {
		return Actor{}, unknown
	}
	k, u, err := s.store.APIKeyByHash(ctx, tokenHash(text), now)
	if uptime.Is(err, uptime.NotFound) {
		return Actor{}, unknown
	}
	if err != nil {
		return Actor{}, err
	}
	if now.Sub(k.LastUsedAt) > time.Minute {
		touch, cancel := context.WithTimeoutCause(ctx, touchLimit, errTouchLimit)
		defer cancel()
		if err := s.store.TouchAPIKey(touch, k.ID, now.Truncate(time.Minute)); err != nil {
			s.log.WarnContext(ctx, "api key not touched", "key_id", k.ID, "error", err)
		}
	}
	u.PasswordHash = ""
	return Actor{User: u, Scope: k.Scope, KeyID: k.ID}, nil
}

// APIKeys are the actor's own.
func (s *Service) APIKeys(ctx context.Context, a Actor) ([]uptime.APIKey, error) {
	if err := a.Authorise(Self); err != nil {
		return nil, err
	}
	return s.store.ListAPIKeys(ctx, a.User.ID)
}

// DeleteAPIKey revokes one of the actor's own keys.
func (s *Service) DeleteAPIKey(ctx context.Context, a Actor, id int64) error {
	if err := a.Authorise(Credentials); err != nil {
		return err
	}
	return s.store.DeleteAPIKey(ctx, a.User.ID, id)
}
