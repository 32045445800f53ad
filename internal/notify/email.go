package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	mail "github.com/wneessen/go-mail"

	"vedette/internal/uptime"
)

const maxRecipients = 20

// EmailOptions of an Email provider.
type EmailOptions struct {
	Server  *SMTPServer    // the installation's (--smtp); nil: each channel needs its own
	Dial    DialFunc       // required: every connection goes through it
	RootCAs *x509.CertPool // default: the system's
	Hello   string         // our name in EHLO; default: the host name
}

// Email sends alerts by SMTP, one message to all of a channel's addresses. It opens
// a connection per message, verifies certificates, and never sends credentials
// unencrypted. It is safe for concurrent use.
//
// Recipients are judged one by one. Those refused for good are noted in the log and
// do not hold up the others. While some are refused for now (greylisting), the
// delivery is repeated for them alone: who has accepted it is remembered in memory,
// so only a restart in between sends a repeat, under the same Message-ID.
type Email struct {
	opts EmailOptions
	mu   sync.Mutex // guards told
	told map[string][]string
}

// maxTold bounds how many unfinished deliveries remember who was told.
const maxTold = 1000

// NewEmail makes the provider of channels of type "email".
func NewEmail(o EmailOptions) *Email {
	return &Email{opts: o, told: map[string][]string{}}
}

// Type is the channel type.
func (*Email) Type() string { return "email" }

// emailConfig is an email channel's config.
type emailConfig struct {
	To     []string    `json:"to"`
	Server *SMTPServer `json:"server,omitempty"`
}

// storedServer spells the password out, which SMTPServer's own encoding never does.
type storedServer struct {
	SMTPServer
	Password string `json:"password,omitempty"`
}

// Check validates a config. Nothing is made, so nothing is revealed.
func (e *Email) Check(config []byte) ([]byte, map[string]string, error) {
	var c emailConfig
	if err := decodeStrict(config, &c); err != nil {
		return nil, nil, uptime.InvalidField("config", "%s", err)
	}
	var p uptime.Problems
	if len(c.To) == 0 || len(c.To) > maxRecipients {
		p.Add("config.to", "must hold 1 to %d mail addresses", maxRecipients)
	}
	for i, to := range c.To {
		if _, err := address(to); err != nil {
			p.Add(fmt.Sprintf("config.to[%d]", i), "%s", err)
		}
		if slices.Contains(c.To[:i], to) {
			p.Add(fmt.Sprintf("config.to[%d]", i), "is there twice")
		}
	}
	switch {
	case c.Server != nil:
		c.Server.check(&p, "config.server.")
	case e.opts.Server == nil:
		p.Add("config.server", "is required: this installation was started without --smtp")
	}
	if err := p.Err(); err != nil {
		return nil, nil, err
	}
	stored, err := encodeEmail(c, func(s uptime.Secret) string { return s.Reveal() })
	return stored, nil, err
}

// Redact hides the password of the channel's own server.
func (*Email) Redact(config []byte) ([]byte, error) {
	var c emailConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, errors.New("email config cannot be read")
	}
	return encodeEmail(c, uptime.Secret.String)
}

// encodeEmail writes a config, its password as show makes it.
func encodeEmail(c emailConfig, show func(uptime.Secret) string) ([]byte, error) {
	out := struct {
		To     []string      `json:"to"`
		Server *storedServer `json:"server,omitempty"`
	}{To: c.To}
	if c.Server != nil {
		out.Server = &storedServer{*c.Server, show(c.Server.Password)}
	}
	return json.Marshal(out)
}

// Send mails the alert once.
func (e *Email) Send(ctx context.Context, c uptime.Claim) Sent {
	var cfg emailConfig
	if err := decodeStrict(c.Channel.Config, &cfg); err != nil {
		return permanent("the channel's configuration cannot be used: " + scrub(err.Error()))
	}
	server := e.opts.Server
	if cfg.Server != nil {
		server = cfg.Server
	}
	if server == nil {
		return permanent("no mail server: this installation was started without --smtp, and the channel has no server of its own")
	}
	s := *server
	var p uptime.Problems
	if s.check(&p, "server."); len(p) > 0 {
		return permanent("the mail server's configuration cannot be used: " + p[0].Path + " " + p[0].Message)
	}
	msg, err := composeMail(c, s.From, cfg.To)
	if err != nil {
		return permanent("the mail cannot be composed: " + scrub(err.Error(), s.secrets()...))
	}
	session := smtpSession{server: s, msg: msg, to: e.untold(c.Delivery.Key, cfg.To)}
	sent := session.run(ctx, e.opts)
	e.remember(c.Delivery.Key, sent.Outcome, session.accepted)
	sent.Excerpt = scrub(sent.Excerpt, s.secrets()...)
	return sent
}

// secrets are the texts that must not appear in a log.
func (s *SMTPServer) secrets() []string {
	pass := s.Password.Reveal()
	return []string{pass, "\x00" + s.Username + "\x00" + pass}
}

// untold are those of to that have not accepted the delivery of that key yet; all
// of them when every one has, which is a resend somebody asked for.
func (e *Email) untold(key string, to []string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(to), func(a string) bool { return slices.Contains(e.told[key], a) })
	if len(left) == 0 {
		return to
	}
	return left
}

// remember notes who accepted a delivery that will be repeated for the others.
func (e *Email) remember(key string, o uptime.Outcome, accepted []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o == uptime.OutcomeAccepted || o == uptime.OutcomePermanent {
		delete(e.told, key)
		return
	}
	if len(accepted) == 0 {
		return
	}
	if len(e.told) >= maxTold {
		clear(e.told) // repeats to some are better than memory without bound
	}
	e.told[key] = append(e.told[key], accepted...)
}

// client makes a go-mail client that dials through our guard. conn is set to the
// connection it opened, for us to close: the client leaks it on a failed greeting.
func (s *SMTPServer) client(o EmailOptions, conn *net.Conn) (*mail.Client, error) {
	config := tlsConfig(s.Host, o.RootCAs)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := o.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		*conn = c
		if s.TLS != tlsWhole {
			return c, nil
		}
		tc := tls.Client(c, config)
		return tc, tc.HandshakeContext(ctx)
	}
	policy := mail.NoTLS
	if s.TLS == tlsStart {
		policy = mail.TLSMandatory
	}
	opts := []mail.Option{
		mail.WithPort(s.Port), mail.WithTLSPolicy(policy), mail.WithTLSConfig(config),
		mail.WithDialContextFunc(dial), mail.WithoutNoop(),
	}
	if o.Hello != "" {
		opts = append(opts, mail.WithHELO(o.Hello))
	}
	if s.Username != "" {
		opts = append(opts, mail.WithSMTPAuthCustom(&bestAuth{server: *s}))
	}
	return mail.NewClient(strings.Trim(s.Host, "[]"), opts...)
}
