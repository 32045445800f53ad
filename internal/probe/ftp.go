package probe

import (
	"vedette/internal/uptime"
)

// ftpConfig is config of type ftp.
type ftpConfig struct {
	Security string `json:"security" enum:"none,starttls,tls" doc:"whether the connection stays in the clear, is upgraded by AUTH TLS, or is TLS from the start (port 990)"`
	loginConfig
	Anonymous bool      `json:"anonymous" doc:"whether to log in as anonymous"`
	TLS       tlsConfig `json:"tls"`
	netConfig
}

// newFTP is the type for file servers. It never opens a data connection: where that
// would go is the server's choice, and not the monitor's target.
func newFTP() Type {
	return kind[ftpConfig]{
		name:   "ftp",
		about:  "Up means that the FTP server greets and does all that is asked for: TLS, a login. No data connection is opened.",
		target: hostPort(21),
		config: ftpConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"banner": textSource("banner", "the text of the greeting", uptime.Banner),
		}),
		examples: []uptime.CheckExample{
			{Title: "A public file server lets everybody in", Target: "ftp.example.com", Config: `{"anonymous": true}`},
			{Title: "A file server takes a login", Target: "ftp.example.com", Config: `{"security": "starttls", "username": "monitor", "password": "s3cret-word"}`},
		},
		compile: func(b *builder, cfg *ftpConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			b.login(cfg.Username, cfg.Password, cfg.Security == "none" && !cfg.ClearText)
			if cfg.Anonymous && cfg.Username != "" {
				b.problems.Add("config.anonymous", "excludes a username")
			}
			return b.check(cfg.run)
		},
	}
}

func (c *ftpConfig) run(r *session) *fault {
	talk, f := r.converse(c.Security)
	if f != nil {
		return f
	}
	banner, f := talk.ftpGreeting()
	if f != nil {
		return f
	}
	r.setText("banner", banner)
	if c.Security == "starttls" {
		if f := talk.ftpUpgrade(); f != nil {
			return f
		}
		if f := talk.secure(); f != nil {
			return f
		}
	}
	switch {
	case c.Anonymous:
		f = talk.ftpLogin("anonymous", "vedette@") // RFC 1635 asks for an address
	case c.Username != "":
		f = talk.ftpLogin(c.Username, c.Password.Reveal())
	}
	if f != nil {
		return f
	}
	talk.send("QUIT")
	return nil
}

// ftpLogin is RFC 959 §5.4: a server may want no password, or, rarely, an account.
func (c *conversation) ftpLogin(username, password string) *fault {
	const what = "the answer to the login"
	p, f := c.ask("USER "+username, what)
	if f == nil && p.code == 331 {
		p, f = c.ask("PASS "+password, what)
	}
	switch {
	case f != nil:
		return f
	case p.code == 230, p.code == 202, p.code == 232: // 232: TLS has said who we are (RFC 4217 §9)
		return nil
	case p.code >= 500 || p.code == 331 || p.code == 332:
		return authFailed(p.String())
	}
	return refused(what, p.String())
}
