package uptime

import (
	"net/url"
	"strings"
)

// PublicTarget is target without what may be a secret: user and password, the
// values of query parameters whose names suggest one, and the fragment. A target
// that is no URL (host:port) has none of those; one that cannot be read as a URL
// although it looks like one loses everything that could hold any.
func PublicTarget(target string) string {
	u, err := url.Parse(target)
	if err != nil || (u.Host == "" && strings.ContainsAny(target, "@?")) {
		scheme, rest, found := strings.Cut(target, "://")
		if !found {
			scheme, rest = "", target
		} else {
			scheme += "://"
		}
		rest, _, _ = strings.Cut(rest, "?")
		rest, _, _ = strings.Cut(rest, "#")
		return scheme + rest[strings.LastIndex(rest, "@")+1:]
	}
	if u.Host == "" {
		return target
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	u.RawQuery = publicQuery(u.RawQuery)
	return u.String()
}

// publicQuery keeps the order and spelling of a query and redacts values of names
// that suggest a secret.
func publicQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, hasValue := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if hasValue && (err != nil || suspicious(plain)) {
			pairs[i] = name + "=" + Redacted
		}
	}
	return strings.Join(pairs, "&")
}

// suspicious errs towards hiding: a hidden value costs a look at the monitor, a
// shown one may cost an account.
func suspicious(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"key", "token", "secret", "pass", "pwd", "auth", "sig", "cred", "session", "jwt", "code", "private", "access"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
