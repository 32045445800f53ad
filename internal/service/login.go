package service

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"vedette/internal/uptime"
)

// Throttles of log-in. The window ends by itself, so nobody is locked out for
// ever: the tight limit is per account and address, so that a stranger who guesses
// does not lock the owner out, and a wide one per account bounds many addresses.
const (
	loginWindow       = 15 * time.Minute
	loginsPerPair     = 10
	loginsPerIP       = 100
	loginsPerAccount  = 200
	sessionTouchEvery = time.Minute
)

// Credential is a secret that was just made: its owner sees it once.
type Credential struct {
	Token     string
	ExpiresAt time.Time // zero: never
}

// LogIn opens a session. Unknown address and wrong password are told apart
// neither by the answer nor by the time it takes.
func (s *Service) LogIn(ctx context.Context, email, password, ip string) (uptime.User, Credential, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	if hasControl(email) { // no database takes a NUL
		return uptime.User{}, Credential{}, uptime.InvalidField("email", "holds a control character")
	}
	if len(email) > 254 || utf8.RuneCountInString(password) > maxPassword {
		return uptime.User{}, Credential{}, errLogIn()
	}
	for _, t := range []struct {
		key string
		max int
	}{{"login:" + email + ":" + ip, loginsPerPair}, {"login-ip:" + ip, loginsPerIP}, {"login-account:" + email, loginsPerAccount}} {
		if err := s.throttle(ctx, t.key, t.max, loginWindow); err != nil {
			return uptime.User{}, Credential{}, err
		}
	}
	u, err := s.store.UserByEmail(ctx, email)
	known := err == nil
	if err != nil && !uptime.Is(err, uptime.NotFound) {
		return uptime.User{}, Credential{}, err
	}
	if !known {
		u.PasswordHash = s.decoy
	}
	ok, err := s.matches(ctx, u.PasswordHash, password)
	if err != nil {
		return uptime.User{}, Credential{}, err
	}
	if !ok || !known {
		return uptime.User{}, Credential{}, errLogIn()
	}
	c, err := s.OpenSession(ctx, u)
	return u, c, err
}

func errLogIn() error {
	return uptime.Errorf(uptime.Unauthorized, "mail address or password is wrong")
}

// OpenSession makes a session for a user who has just proved who they are. Its
// token is always fresh: a token that a browser brought along is never taken over.
func (s *Service) OpenSession(ctx context.Context, u uptime.User) (Credential, error) {
	now, token := uptime.Now(), randomToken("")
	sess, err := s.store.CreateSession(ctx, uptime.Session{
		UserID: u.ID, CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(s.limits.SessionTotal),
	}, tokenHash(token))
	return Credential{Token: token, ExpiresAt: sess.ExpiresAt}, err
}

// touchLimit bounds how long a request waits to note that its key or session was
// used: while something else holds the database, people can read at least.
const touchLimit = 250 * time.Millisecond

var errTouchLimit = errors.New("the database takes no note of a use now")

// BySession is who a session's token stands for; Unauthorized when it is over.
func (s *Service) BySession(ctx context.Context, token string) (Actor, error) {
	now := uptime.Now()
	sess, u, err := s.store.SessionByHash(ctx, tokenHash(token), now)
	if uptime.Is(err, uptime.NotFound) {
		return Actor{}, uptime.Errorf(uptime.Unauthorized, "the session is over; log in")
	}
	if err != nil {
		return Actor{}, err
	}
	idle := now.Sub(sess.SeenAt)
	if idle > s.limits.SessionIdle || !now.Before(sess.ExpiresAt) {
		return Actor{}, uptime.Errorf(uptime.Unauthorized, "the session is over; log in")
	}
	if idle > sessionTouchEvery {
		touch, cancel := context.WithTimeoutCause(ctx, touchLimit, errTouchLimit)
		defer cancel()
		if err := s.store.TouchSession(touch, sess.ID, now); err != nil {
			s.log.WarnContext(ctx, "session not touched", "session_id", sess.ID, "error", err)
		}
	}
	u.PasswordHash = ""
	return Actor{User: u, Scope: uptime.ScopeWrite, SessionID: sess.ID}, nil
}

// LogOut ends the actor's session.
func (s *Service) LogOut(ctx context.Context, a Actor) error {
	if err := a.Authorise(Credentials); err != nil {
		return err
	}
	return s.store.DeleteSession(ctx, a.SessionID)
}
