package probe

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// digestHashes are the algorithms of RFC 7616 in the order of our choice.
var digestHashes = []struct {
	name string
	hash func(string) string
}{
	{"SHA-512-256", func(s string) string { h := sha512.Sum512_256([]byte(s)); return hex.EncodeToString(h[:]) }},
	{"SHA-256", func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }},
	{"MD5", func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }},
}

// challenge is one way in which a server asks for a digest.
type challenge map[string]string

// digestChallenges are those among the values of WWW-Authenticate. Several
// challenges may stand in one value, with the same comma between them that separates
// their parameters (RFC 9110 §11.6.1).
func digestChallenges(values []string) []challenge {
	var out []challenge
	for _, value := range values {
		var current challenge // nil: of another scheme
		for _, item := range splitQuoted(value) {
			if scheme, rest := cutScheme(item); scheme != "" {
				if current = nil; strings.EqualFold(scheme, "Digest") {
					current = challenge{}
					out = append(out, current)
				}
				item = rest
			}
			name, v, ok := strings.Cut(item, "=")
			if current != nil && ok {
				current[strings.ToLower(strings.TrimSpace(name))] = unquote(strings.TrimSpace(v))
			}
		}
	}
	return out
}

// cutScheme takes the scheme off an item with which a challenge begins; it is "" of
// others, a parameter with space around its = (RFC 9110 §11.2) and an empty item
// (§5.6.1.2) among them.
func cutScheme(item string) (scheme, rest string) {
	end := strings.IndexAny(item, " \t=")
	if end < 0 {
		return item, ""
	}
	rest = strings.TrimLeft(item[end:], " \t")
	if strings.HasPrefix(rest, "=") {
		return "", item
	}
	return item[:end], rest
}

// splitQuoted splits at the commas outside quotes.
func splitQuoted(s string) []string {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[start:]))
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// digestLogin answers the challenges of one response.
type digestLogin struct{ username, password, method, uri, cnonce string }

// answer is the value of Authorization for the best of the challenges, "" when none is
// one we know. Of the protections asked for (qop) it takes "auth", or none as servers
// of RFC 2069 do; "auth-int" is not spoken.
func (d digestLogin) answer(challenges []challenge) string {
	for _, h := range digestHashes {
		for _, c := range challenges {
			algorithm, sess := strings.ToUpper(c["algorithm"]), false
			if algorithm == "" {
				algorithm = "MD5"
			}
			algorithm, sess = strings.CutSuffix(algorithm, "-SESS")
			qops := strings.FieldsFunc(strings.ToLower(c["qop"]), func(r rune) bool { return r == ',' || r == ' ' })
			if algorithm == h.name && c["nonce"] != "" && (len(qops) == 0 || slices.Contains(qops, "auth")) {
				return d.header(c, h.hash, sess, len(qops) > 0)
			}
		}
	}
	return ""
}

func (d digestLogin) header(c challenge, hash func(string) string, sess, qop bool) string {
	const count = "00000001" // a connection and a nonce are used once
	secret := hash(d.username + ":" + c["realm"] + ":" + d.password)
	if sess {
		secret = hash(secret + ":" + c["nonce"] + ":" + d.cnonce)
	}
	request := hash(d.method + ":" + d.uri)
	middle := ":" + c["nonce"] + ":"
	if qop {
		middle += count + ":" + d.cnonce + ":auth:"
	}
	out := fmt.Sprintf(`Digest username=%s, realm=%s, nonce=%s, uri=%s, response="%s"`,
		quote(d.username), quote(c["realm"]), quote(c["nonce"]), quote(d.uri), hash(secret+middle+request))
	if a := c["algorithm"]; a != "" {
		out += ", algorithm=" + a
	}
	if o, ok := c["opaque"]; ok {
		out += ", opaque=" + quote(o)
	}
	if qop {
		out += ", qop=auth, nc=" + count
	}
	if qop || sess {
		out += ", cnonce=" + quote(d.cnonce)
	}
	return out
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func newNonce() string { return rand.Text() }
