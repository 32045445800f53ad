package probe

import (
	"slices"
	"strings"

	"vedette/internal/uptime"
)

// imapConfig is config of type imap.
type imapConfig struct {
	Security string `json:"security" enum:"none,starttls,tls" doc:"whether the connection stays in the clear, is upgraded by STARTTLS, or is TLS from the start (port 993)"`
	loginConfig
	SelectInbox bool      `json:"select_inbox" doc:"whether the inbox is opened after the login, which needs the store behind the server"`
	TLS         tlsConfig `json:"tls"`
	netConfig
}

// newIMAP is the type for servers that let mail be read.
func newIMAP() Type {
	return kind[imapConfig]{
		name:   "imap",
		about:  "Up means that the IMAP server greets, tells its capabilities and does all that is asked for: TLS, a login, opening the inbox.",
		target: hostPort(143),
		config: imapConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"banner":       textSource("banner", "the text of the greeting", uptime.Banner),
			"capabilities": listSource("capabilities", "what the server says it can do before the login, such as `IDLE`", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{
			{Title: "An IMAP server upgrades to TLS", Target: "imap.example.com", Config: `{"security": "starttls"}`},
			{
				Title: "A mailbox can be read", Target: "imap.example.com:993",
				Config: `{"security": "tls", "username": "monitor", "password": "s3cret-word", "select_inbox": true}`,
			},
		},
		compile: func(b *builder, cfg *imapConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			b.login(cfg.Username, cfg.Password, cfg.Security == "none" && !cfg.ClearText)
			b.base.secrets = addSecrets(b.base.secrets, imapQuoted(cfg.Password.Reveal()))
			if cfg.SelectInbox && cfg.Username == "" {
				b.problems.Add("config.select_inbox", "needs a username")
			}
			return b.check(cfg.run)
		},
	}
}

func (c *imapConfig) run(r *session) *fault {
	talk, f := r.converse(c.Security)
	if f != nil {
		return f
	}
	banner, f := talk.imapGreeting()
	if f != nil {
		return f
	}
	r.setText("banner", banner)
	if c.Security == "starttls" {
		if f := talk.imapUpgrade(); f != nil {
			return f
		}
		if f := talk.secure(); f != nil {
			return f
		}
	}
	capabilities, f := talk.imapCapabilities()
	if f != nil {
		return f
	}
	r.setList("capabilities", capabilities)
	if c.Username != "" {
		if f := c.login(talk, capabilities); f != nil {
			return f
		}
	}
	if c.SelectInbox {
		status, text, _, f := talk.imapAsk("SELECT INBOX", "the answer to SELECT")
		if f != nil {
			return f
		}
		if status != "OK" {
			return refused("the answer to SELECT", status+" "+text)
		}
	}
	talk.send(imapTag + " LOGOUT")
	return nil
}

// imapCapabilities asks anew; what a greeting lists may be from before TLS.
func (c *conversation) imapCapabilities() ([]string, *fault) {
	const what = "the answer to CAPABILITY"
	status, text, untagged, f := c.imapAsk("CAPABILITY", what)
	if f != nil {
		return nil, f
	}
	for _, line := range untagged {
		if words := strings.Fields(line); len(words) > 0 && strings.EqualFold(words[0], "CAPABILITY") && status == "OK" {
			return words[1:], nil
		}
	}
	return nil, refused(what, status+" "+text)
}

// login uses AUTHENTICATE PLAIN where there is one: LOGIN knows only ASCII.
func (c *imapConfig) login(talk *conversation, capabilities []string) *fault {
	const what = "the answer to the login"
	command := "LOGIN " + imapQuoted(c.Username) + " " + imapQuoted(c.Password.Reveal())
	can := func(what string) bool {
		return slices.ContainsFunc(capabilities, func(s string) bool { return strings.EqualFold(s, what) })
	}
	plain := can("AUTH=PLAIN")
	switch {
	case plain:
		command = "AUTHENTICATE PLAIN"
	case can("LOGINDISABLED"): // the password must not even be sent (RFC 9051 §6.2.3)
		return authFailed("it offers no AUTH=PLAIN and forbids LOGIN here (LOGINDISABLED)")
	}
	status, text, _, f := talk.imapAsk(command, what)
	if f == nil && status == "+" && plain {
		talk.send(saslPlain(c.Username, c.Password))
		status, text, _, f = talk.imapAnswer(what)
	}
	switch {
	case f != nil:
		return f
	case status == "OK":
		return nil
	case status == "NO" && !imapBusy(text):
		return authFailed(status + " " + text)
	}
	return refused(what, status+" "+text)
}

// imapBusy reports whether a refusal is not about the credentials (RFC 5530 §3).
func imapBusy(text string) bool {
	code, _, _ := strings.Cut(strings.TrimPrefix(strings.ToUpper(text), "["), "]")
	return strings.HasPrefix(text, "[") && slices.Contains([]string{"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"}, code)
}

// imapQuoted is a string of RFC 9051 §4.3.
func imapQuoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
