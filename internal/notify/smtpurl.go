package notify

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"

	"vedette/internal/uptime"
)

// How the way to an SMTP server is encrypted.
const (
	tlsStart = "starttls" // required: without it nothing is sent
	tlsWhole = "tls"      // from the first byte (RFC 8314)
	tlsNone  = "none"
)

// SMTPServer is a mail server and how to use it. The JSON form is the "server" of
// an email channel's config.
type SMTPServer struct {
	Host     string        `json:"host"`
	Port     int           `json:"port,omitempty"` // default: 465 with tls, else 587
	Username string        `json:"username,omitempty"`
	Password uptime.Secret `json:"password,omitempty"`
	// TLS is starttls, tls or none. Default: starttls, but none for a loopback host.
	// Credentials are never sent with none.
	TLS  string `json:"tls,omitempty"`
	From string `json:"from,omitempty"` // an address; default: vedette@host
}

// ParseSMTPURL reads the --smtp option: smtp://user:password@host:port or
// smtps://…, with ?from=address and ?tls=starttls|none. User and password are
// percent-encoded. Errors say what to mend and never repeat the password.
func ParseSMTPURL(raw string) (SMTPServer, error) {
	u, err := url.Parse(raw)
	if err != nil { // url's own text would repeat the credentials
		return SMTPServer{}, errors.New("is not a URL; write smtp://user:password@host:587, with special characters of user and password percent-encoded")
	}
	s := SMTPServer{Host: u.Hostname(), Username: u.User.Username()}
	if p, ok := u.User.Password(); ok {
		s.Password = uptime.Secret(p)
	}
	if u.Port() != "" {
		s.Port, err = strconv.Atoi(u.Port())
		if err != nil {
			return SMTPServer{}, errors.New("the port is not a number")
		}
	}
	if u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return SMTPServer{}, errors.New("has something after the port; write smtp://user:password@host:587, with special characters of user and password percent-encoded")
	}
	query := u.Query()
	s.From, s.TLS = query.Get("from"), query.Get("tls")
	query.Del("from")
	query.Del("tls")
	for k := range query {
		return SMTPServer{}, fmt.Errorf("has an unknown parameter %q; known are from and tls", k)
	}
	switch u.Scheme {
	case "smtp":
		if s.TLS == tlsWhole {
			return SMTPServer{}, errors.New("write smtps:// for TLS from the first byte")
		}
	case "smtps":
		if s.TLS != "" && s.TLS != tlsWhole {
			return SMTPServer{}, errors.New("smtps:// and tls= contradict each other; write smtp://")
		}
		s.TLS = tlsWhole
	default:
		return SMTPServer{}, errors.New("must begin with smtp:// or smtps://")
	}
	var p uptime.Problems
	s.check(&p, "")
	if len(p) > 0 {
		return SMTPServer{}, fmt.Errorf("%s %s", p[0].Path, p[0].Message)
	}
	return s, nil
}

// check fills defaults and adds what is wrong to p, under prefix.
func (s *SMTPServer) check(p *uptime.Problems, prefix string) {
	if s.Host == "" || strings.ContainsAny(s.Host, " /@\\#?") || hasControl(s.Host) {
		p.Add(prefix+"host", "must be the name or address of a mail server")
	}
	loopback := isLoopback(s.Host)
	switch s.TLS {
	case "":
		s.TLS = tlsStart
		if loopback {
			s.TLS = tlsNone
		}
	case tlsStart, tlsWhole, tlsNone:
	default:
		p.Add(prefix+"tls", "must be starttls, tls or none")
	}
	if s.Port == 0 {
		s.Port = 587
		if s.TLS == tlsWhole {
			s.Port = 465
		}
	}
	if s.Port < 0 || s.Port > 65535 {
		p.Add(prefix+"port", "must be between 1 and 65535")
	}
	if hasControl(s.Username) || hasControl(s.Password.Reveal()) {
		p.Add(prefix+"username", "must not hold control characters, and neither must the password")
	}
	if s.Username != "" && s.TLS == tlsNone {
		p.Add(prefix+"tls", "must be starttls or tls: user and password are never sent unencrypted")
	}
	if s.Password == uptime.Redacted {
		p.Add(prefix+"password", "is redacted; give the password itself")
	}
	if s.From == "" {
		s.From = defaultFrom(s.Host)
	}
	if _, err := address(s.From); err != nil {
		p.Add(prefix+"from", "%s", err)
	}
}

// defaultFrom is the sender for a server that names none.
func defaultFrom(host string) string {
	if net.ParseIP(host) != nil || !strings.Contains(host, ".") {
		return "vedette@localhost"
	}
	return "vedette@" + host
}

// isLoopback reports whether host is this machine, by what is written.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// address is a plain mail address, one per field: no name, no list, no controls,
// nothing that an SMTP command could take for a parameter.
func address(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || a.Address != s || strings.ContainsAny(s, "<> \"") || hasControl(s) || len(s) > 254 {
		return "", errors.New("must be one plain mail address, like ops@example.org")
	}
	return a.Address, nil
}

// hasControl reports whether s holds a character that could end a header or line.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\uFFFD'
	})
}

// tlsConfig verifies certificates against roots (nil: the system's).
func tlsConfig(host string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
}
