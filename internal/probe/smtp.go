package probe

import (
	"net/mail"
	"slices"
	"strings"

	"vedette/internal/uptime"
)

// smtpConfig is config of type smtp.
type smtpConfig struct {
	Security string        `json:"security" enum:"none,starttls,tls" doc:"whether the connection stays in the clear, is upgraded by STARTTLS, or is TLS from the start (port 465)"`
	Helo     string        `json:"helo" max:"255" doc:"the name we greet with; empty is our address"`
	Username string        `json:"username" max:"255" doc:"whom to log in as; empty is no login. A password is never sent in clear text"`
	Password uptime.Secret `json:"password" max:"1024" doc:"the password of username"`
	MailFrom string        `json:"mail_from" max:"254" doc:"the sender to announce; empty with a rcpt_to is the empty sender of bounces"`
	RcptTo   string        `json:"rcpt_to" max:"254" doc:"the recipient whose acceptance is asked for; no message is sent. A server that greylists refuses at first"`
	TLS      tlsConfig     `json:"tls"`
	netConfig
}

// newSMTP is the type for servers that take mail.
func newSMTP() Type {
	return kind[smtpConfig]{
		name: "smtp",
		about: "Up means that the mail server greets, answers EHLO and does all that is asked for: TLS, a login, a sender and a recipient it accepts. " +
			"No message is ever sent.",
		target: hostPort(25),
		config: smtpConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"banner":       textSource("banner", "the text of the greeting", uptime.Banner),
			"capabilities": listSource("capabilities", "the extensions of the last EHLO, such as `SIZE 10240000`", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{
			{
				Title: "A mail server upgrades to TLS", Target: "mx.example.com", Config: `{"security": "starttls"}`,
				Assertions: `[{"source": "capabilities", "op": "matches", "value": "^SIZE "}]`,
			},
			{
				Title: "A relay takes mail from us", Target: "relay.example.com:587",
				Config: `{"security": "starttls", "username": "monitor", "password": "s3cret-word", "mail_from": "monitor@example.com", "rcpt_to": "postmaster@example.com"}`,
			},
		},
		compile: func(b *builder, cfg *smtpConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			b.login(cfg.Username, cfg.Password, cfg.Security == "none")
			if cfg.Helo != "" && (plainTarget(cfg.Helo) != nil) {
				b.problems.Add("config.helo", "must be a host name or an address in brackets")
			}
			for path, v := range map[string]string{"config.mail_from": cfg.MailFrom, "config.rcpt_to": cfg.RcptTo} {
				if v != "" && !plainMailbox(v) {
					b.problems.Add(path, "must be a plain address, such as name@example.com")
				}
			}
			return b.check(cfg.run)
		},
	}
}

// plainMailbox reports whether s can stand between < and > of a command: no name
// beside it, no quotes, nothing that would end the address and begin a parameter.
func plainMailbox(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) })
}

func (c *smtpConfig) run(r *session) *fault {
	talk, f := r.converse(c.Security)
	if f != nil {
		return f
	}
	banner, f := talk.smtpGreeting()
	if f != nil {
		return f
	}
	r.setText("banner", banner)
	extensions, f := talk.smtpHello(c.Helo)
	if f == nil && c.Security == "starttls" {
		extensions, f = c.upgrade(talk)
	}
	if f != nil {
		return f
	}
	r.setList("capabilities", extensions)
	if c.Username != "" {
		if f := c.login(talk, extensions); f != nil {
			return f
		}
	}
	if c.MailFrom != "" || c.RcptTo != "" {
		if f := c.envelope(talk); f != nil {
			return f
		}
	}
	talk.send("QUIT")
	return nil
}

// upgrade goes on in TLS and says EHLO again: what was learnt before it may be forged
// (RFC 3207 §4.2).
func (c *smtpConfig) upgrade(talk *conversation) ([]string, *fault) {
	if f := talk.smtpUpgrade(); f != nil {
		return nil, f
	}
	if f := talk.secure(); f != nil {
		return nil, f
	}
	return talk.smtpHello(c.Helo)
}

// login is RFC 4954, with PLAIN if the server has it, else LOGIN.
func (c *smtpConfig) login(talk *conversation, extensions []string) *fault {
	const what = "the answer to AUTH"
	var offered []string
	for _, e := range extensions {
		if words := strings.Fields(strings.ToUpper(e)); len(words) > 1 && words[0] == "AUTH" {
			offered = words[1:]
		}
	}
	var lines []string // what is sent, each line after a 334
	switch {
	case slices.Contains(offered, "PLAIN"):
		lines = []string{"AUTH PLAIN " + saslPlain(c.Username, c.Password)}
	case slices.Contains(offered, "LOGIN"):
		lines = []string{"AUTH LOGIN", base64Of(c.Username), base64Of(c.Password.Reveal())}
	default:
		return authFailed("it offers neither AUTH PLAIN nor AUTH LOGIN")
	}
	for i, line := range lines {
		p, f := talk.ask(line, what)
		last := i == len(lines)-1
		switch {
		case f != nil:
			return f
		case last && p.code == 235, !last && p.code == 334:
		case p.code >= 500:
			return authFailed(p.String())
		default: // 4xx: it cannot tell now; any other code is none of AUTH
			return refused(what, p.String())
		}
	}
	return nil
}

// envelope names a sender and a recipient, and leaves it at that.
func (c *smtpConfig) envelope(talk *conversation) *fault {
	p, f := talk.ask("MAIL FROM:<"+c.MailFrom+">", "the answer to MAIL FROM")
	if f != nil {
		return f
	}
	if p.code != 250 {
		return refused("the answer to MAIL FROM", p.String())
	}
	if c.RcptTo == "" {
		return nil
	}
	p, f = talk.ask("RCPT TO:<"+c.RcptTo+">", "the answer to RCPT TO")
	if f == nil && p.code != 250 && p.code != 251 {
		f = refused("the answer to RCPT TO", p.String())
	}
	return f
}
