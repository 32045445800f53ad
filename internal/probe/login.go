package probe

import (
	"encoding/base64"
	"strings"

	"vedette/internal/uptime"
)

// loginConfig are the options of text protocols with a login that may, in a network
// one trusts, go over the wire as it is.
type loginConfig struct {
	Username  string        `json:"username" max:"255" doc:"whom to log in as; empty is no login"`
	Password  uptime.Secret `json:"password" max:"1024" doc:"the password of username"`
	ClearText bool          `json:"clear_text_login" doc:"whether the password may be sent although security is none"`
}

// login notes what is wrong with credentials, and has them blotted out in the form in
// which they are sent, too. clear says that they would be sent in clear text, and that
// nobody allowed it.
func (b *builder) login(username string, password uptime.Secret, clear bool) {
	for path, v := range map[string]string{"config.username": username, "config.password": password.Reveal()} {
		if strings.ContainsAny(v, "\r\n\x00") {
			b.problems.Add(path, "must not hold a line break or NUL")
		}
	}
	if username != "" {
		b.base.secrets = addSecrets(b.base.secrets, base64Of(password.Reveal()), saslPlain(username, password))
	}
	switch {
	case username == "" && password != "":
		b.problems.Add("config.username", "is missing; a password needs its user")
	case username != "" && clear:
		b.problems.Add("config.security", "must be starttls or tls, since a password would be sent in clear text")
	}
}

// authFailed is the fault of a login that was refused.
func authFailed(answer string) *fault {
	return down(uptime.AuthFailed, "The server refused the login: %s.", clean(answer, 150))
}

// saslPlain are the credentials as RFC 4616 sends them.
func saslPlain(username string, password uptime.Secret) string {
	return base64Of("\x00" + username + "\x00" + password.Reveal())
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
