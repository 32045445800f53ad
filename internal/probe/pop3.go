package probe

import (
	"strings"

	"vedette/internal/uptime"
)

// popConfig is config of type pop3.
type popConfig struct {
	Security string `json:"security" enum:"none,starttls,tls" doc:"whether the connection stays in the clear, is upgraded by STLS, or is TLS from the start (port 995)"`
	loginConfig
	TLS tlsConfig `json:"tls"`
	netConfig
}

// newPOP3 is the type for servers that mail is fetched from.
func newPOP3() Type {
	return kind[popConfig]{
		name:   "pop3",
		about:  "Up means that the POP3 server greets and does all that is asked for: TLS, a login. No message is fetched or deleted.",
		target: hostPort(110),
		config: popConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"banner":       textSource("banner", "the text of the greeting", uptime.Banner),
			"capabilities": listSource("capabilities", "the lines of the answer to CAPA before the login, such as `UIDL`; none if the server does not know CAPA", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{
			{Title: "A POP3 server upgrades to TLS", Target: "pop.example.com", Config: `{"security": "starttls"}`},
			{Title: "Mail can be fetched", Target: "pop.example.com:995", Config: `{"security": "tls", "username": "monitor", "password": "s3cret-word"}`},
		},
		compile: func(b *builder, cfg *popConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			b.login(cfg.Username, cfg.Password, cfg.Security == "none" && !cfg.ClearText)
			return b.check(cfg.run)
		},
	}
}

func (c *popConfig) run(r *session) *fault {
	talk, f := r.converse(c.Security)
	if f != nil {
		return f
	}
	banner, f := talk.popGreeting()
	if f != nil {
		return f
	}
	r.setText("banner", banner)
	if c.Security == "starttls" {
		if f := talk.popUpgrade(); f != nil {
			return f
		}
		if f := talk.secure(); f != nil {
			return f
		}
	}
	capabilities, f := talk.popCapabilities()
	if f != nil {
		return f
	}
	r.setList("capabilities", capabilities)
	if c.Username != "" {
		if f := c.login(talk); f != nil {
			return f
		}
	}
	talk.send("QUIT")
	return nil
}

// popCapabilities is RFC 2449 §5. A server may not know the command.
func (c *conversation) popCapabilities() ([]string, *fault) {
	const what = "the answer to CAPA"
	ok, _, f := c.popAsk("CAPA", what)
	if f != nil || !ok {
		return nil, f
	}
	var out []string
	for {
		line, f := c.line(what)
		if f != nil || line == "." {
			return out, f
		}
		out = append(out, line)
	}
}

func (c *popConfig) login(talk *conversation) *fault {
	for _, command := range []string{"USER " + c.Username, "PASS " + c.Password.Reveal()} {
		const what = "the answer to the login"
		ok, text, f := talk.popAsk(command, what)
		switch {
		case f != nil:
			return f
		case ok:
		case popBusy(text):
			return refused(what, "-ERR "+text)
		default:
			return authFailed(text)
		}
	}
	return nil
}

// popBusy reports whether a refusal is not about the credentials (RFC 2449 §8.1.1,
// RFC 3206 §4).
func popBusy(text string) bool {
	for _, code := range []string{"[IN-USE]", "[LOGIN-DELAY]", "[SYS/"} {
		if strings.HasPrefix(strings.ToUpper(text), code) {
			return true
		}
	}
	return false
}
