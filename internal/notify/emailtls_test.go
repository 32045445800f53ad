package notify_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

// mailbox is a go-smtp backend that asks for user and canary.
type mailbox struct{ mails atomic.Int32 }

func (b *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailboxSession{box: b}, nil }

type mailboxSession struct {
	box    *mailbox
	signed bool
}

func (*mailboxSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailboxSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.signed = user == "user" && password == canary; !s.signed {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "not " + password}
		}
		return nil
	}), nil
}

func (s *mailboxSession) Mail(string, *smtp.MailOptions) error {
	if !s.signed {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (*mailboxSession) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s *mailboxSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	s.box.mails.Add(1)
	return err
}

func (*mailboxSession) Reset()        {}
func (*mailboxSession) Logout() error { return nil }

// certificate is one for example.com, and the pool that trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	return &tls.Config{Certificates: web.TLS.Certificates}, pool
}

func TestMailOverTLSWithASignIn(t *testing.T) {
	t.Parallel()
	config, pool := certificate(t)
	for name, c := range map[string]struct {
		mode, host, password string
		roots                *x509.CertPool
		outcome              uptime.Outcome
	}{
		"STARTTLS":                  {"starttls", "example.com", canary, pool, uptime.OutcomeAccepted},
		"TLS from the first byte":   {"tls", "example.com", canary, pool, uptime.OutcomeAccepted},
		"STARTTLS, wrong password":  {"starttls", "example.com", canary + "x", pool, uptime.OutcomePermanent},
		"STARTTLS, untrusted":       {"starttls", "example.com", canary, nil, uptime.OutcomeTemporary},
		"TLS, untrusted":            {"tls", "example.com", canary, nil, uptime.OutcomeTemporary},
		"STARTTLS, another's name":  {"starttls", "mail.test", canary, pool, uptime.OutcomeTemporary},
		"no TLS asked, but sign-in": {"none", "example.com", canary, pool, uptime.OutcomePermanent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := &mailbox{}
			srv := smtp.NewServer(box)
			srv.Domain, srv.TLSConfig = "mail.test", config
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			if c.mode == "tls" {
				l = tls.NewListener(l, config)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = srv.Serve(l)
			}()
			defer func() {
				_ = srv.Close()
				_ = l.Close() // the server may not have known it yet
				<-done
			}()
			p := notify.NewEmail(notify.EmailOptions{RootCAs: c.roots,
				Dial:   func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, addr) },
				Server: &notify.SMTPServer{Host: c.host, TLS: c.mode, Username: "user", Password: uptime.Secret(c.password), From: "v@example.com"}})
			s := p.Send(t.Context(), mailClaim(opened(), "a@example.com"))
			if s.Outcome != c.outcome || (box.mails.Load() == 1) != (c.outcome == uptime.OutcomeAccepted) {
				t.Errorf("got %s %d %q and %d mails, want %s", s.Outcome, s.Code, s.Excerpt, box.mails.Load(), c.outcome)
			}
			if strings.HasSuffix(name, "untrusted") && !strings.Contains(s.Excerpt, "certificate") {
				t.Errorf("excerpt %q does not name the certificate", s.Excerpt)
			}
			noSecret(t, s)
		})
	}
}
