package service

import (
	"context"
	"crypto/subtle"
	"net/mail"
	"strings"

	"vedette/internal/uptime"
)

// OpenSetup makes a fresh one-time set-up token, valid in this process until the
// first administrator exists. The token is empty when there is a user already.
func (s *Service) OpenSetup(ctx context.Context) (token string, err error) {
	needed, err := s.NeedsSetup(ctx)
	if err != nil || !needed {
		return "", err
	}
	token = randomToken("setup_")
	s.setupMu.Lock()
	defer s.setupMu.Unlock()
	s.setupHash = tokenHash(token)
	return token, nil
}

// NeedsSetup reports whether there is no user yet.
func (s *Service) NeedsSetup(ctx context.Context) (bool, error) {
	n, err := s.store.CountUsers(ctx)
	return n == 0 && err == nil, err
}

// SetUp makes the first administrator for whoever has the one-time token. Of
// several at once the store lets one through; the others are a Conflict.
func (s *Service) SetUp(ctx context.Context, token, email, password, ip string) (uptime.User, error) {
	if err := s.throttle(ctx, "setup:"+ip, 30, loginWindow); err != nil {
		return uptime.User{}, err
	}
	needed, err := s.NeedsSetup(ctx)
	if err != nil {
		return uptime.User{}, err
	}
	if !needed {
		return uptime.User{}, uptime.Errorf(uptime.Conflict, "set-up is done: there is an administrator; log in")
	}
	s.setupMu.Lock()
	ok := s.setupHash != nil && subtle.ConstantTimeCompare(s.setupHash, tokenHash(token)) == 1
	s.setupMu.Unlock()
	if !ok {
		return uptime.User{}, uptime.InvalidField("token", "is not the set-up token that this process printed when it started")
	}
	u, err := s.Bootstrap(ctx, email, password)
	if err != nil {
		return uptime.User{}, err
	}
	s.setupMu.Lock()
	s.setupHash = nil
	s.setupMu.Unlock()
	return u, nil
}

// Bootstrap makes the first administrator without a token, for the operator's
// own options. Conflict if there is any user.
func (s *Service) Bootstrap(ctx context.Context, email, password string) (uptime.User, error) {
	u, err := s.newUser(ctx, email, password, uptime.RoleAdmin)
	if err != nil {
		return u, err
	}
	u, err = s.store.CreateFirstUser(ctx, u)
	if err == nil {
		s.log.InfoContext(ctx, "first administrator created", "user_id", u.ID)
	}
	return u, err
}

// CreateUser makes an account.
func (s *Service) CreateUser(ctx context.Context, a Actor, email, password string, role uptime.Role) (uptime.User, error) {
	if err := a.Authorise(Admin); err != nil {
		return uptime.User{}, err
	}
	u, err := s.newUser(ctx, email, password, role)
	if err != nil {
		return u, err
	}
	u, err = s.store.CreateUser(ctx, u)
	if err == nil {
		s.log.InfoContext(ctx, "user created", "user_id", u.ID, "role", string(role), "by_user_id", a.User.ID)
	}
	return u, err
}

// newUser validates an account and hashes its password.
func (s *Service) newUser(ctx context.Context, email, password string, role uptime.Role) (uptime.User, error) {
	var p uptime.Problems
	email = checkEmail(&p, email)
	checkPassword(&p, "password", password)
	switch role {
	case uptime.RoleAdmin, uptime.RoleEditor, uptime.RoleViewer:
	default:
		p.Add("role", "is none of admin, editor, viewer")
	}
	if err := p.Err(); err != nil {
		return uptime.User{}, err
	}
	hash, err := s.hash(ctx, password)
	return uptime.User{Email: email, PasswordHash: hash, Role: role}, err
}

// checkEmail returns the address in the form in which it is stored.
func checkEmail(p *uptime.Problems, email string) string {
	email = strings.ToLower(strings.TrimSpace(email))
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || len(email) > 254 || hasControl(email) {
		p.Add("email", "is not a mail address like ops@example.org")
	}
	return email
}

// ChangePassword sets a new password for whoever knows the old one, and ends all
// their sessions, this one included.
func (s *Service) ChangePassword(ctx context.Context, a Actor, old, new string) error {
	if err := a.Authorise(Credentials); err != nil {
		return err
	}
	if err := s.throttle(ctx, "password:"+decimal(a.User.ID), 10, loginWindow); err != nil {
		return err
	}
	var p uptime.Problems
	checkPassword(&p, "new_password", new)
	u, err := s.store.UserByID(ctx, a.User.ID)
	if err != nil {
		return err
	}
	ok, err := s.matches(ctx, u.PasswordHash, old)
	if err != nil {
		return err
	}
	if !ok {
		p.Add("password", "is not your present password")
	}
	if err := p.Err(); err != nil {
		return err
	}
	hash, err := s.hash(ctx, new)
	if err != nil {
		return err
	}
	return s.store.SetPassword(ctx, u.ID, hash)
}
