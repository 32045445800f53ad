package notify

import (
	"encoding/base64"
	"net/url"
	"strings"
	"unicode"

	"vedette/internal/uptime"
)

const maxExcerpt = 512 // bytes, as the delivery log keeps them

// scrub makes text from outside fit for logs and the delivery log: one line of
// valid, printable UTF-8 without any of the secrets, in whichever of the usual
// spellings a receiver may echo them, at most maxExcerpt bytes. Secrets go before
// the cut, so that none is left in half.
func scrub(text string, secrets ...string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for _, s := range secrets {
		if len(s) < 3 { // masking every "a" would hide the reply, not the secret
			continue
		}
		for _, form := range []string{
			s, url.QueryEscape(s), url.PathEscape(s),
			base64.StdEncoding.EncodeToString([]byte(s)),
			base64.RawURLEncoding.EncodeToString([]byte(s)),
		} {
			text = strings.ReplaceAll(text, form, uptime.Redacted)
		}
	}
	return cut(oneLine(text), maxExcerpt)
}

// oneLine replaces every run of white space, control and invisible formatting
// characters (those that turn text around included) by one space.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
	}), " ")
}

// cut shortens s to at most n bytes without cutting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const ellipsis = "…"
	n -= len(ellipsis)
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + ellipsis
}
