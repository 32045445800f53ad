package notify

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"

	mail "github.com/wneessen/go-mail"

	"vedette/internal/uptime"
)

//go:embed templates
var templates embed.FS

// composeMail writes the mail that tells c's alert: text and HTML, threaded, and
// byte for byte the same on every attempt. Its Message-ID is the delivery's key at
// the sender's domain, and a resolve refers to the Message-ID that the opening had.
// Auto-Submitted keeps vacation replies away (RFC 3834).
func composeMail(c uptime.Claim, from string, to []string) ([]byte, error) {
	words := write(c.Alert)
	text, html, err := render(words)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(c.Delivery.Key))
	m := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithBoundary("part-"+hex.EncodeToString(sum[:12])))
	if err := m.FromFormat("Vedette", from); err != nil {
		return nil, err
	}
	if err := m.To(to...); err != nil {
		return nil, err
	}
	m.Subject(oneLine(words.Subject))
	m.SetDateWithValue(c.Alert.CreatedAt.UTC())
	m.SetMessageIDWithValue(messageID(c.Delivery.Key, from))
	if opening := uptime.OpeningKey(c.Delivery.Key); opening != "" {
		m.SetGenHeader(mail.HeaderInReplyTo, "<"+messageID(opening, from)+">")
		m.SetGenHeader(mail.HeaderReferences, "<"+messageID(opening, from)+">")
	}
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader("X-Vedette-Event", string(c.Alert.Kind))
	m.SetBodyString(mail.TypeTextPlain, text)
	m.AddAlternativeString(mail.TypeTextHTML, html)
	var b bytes.Buffer
	_, err = m.WriteTo(&b)
	return b.Bytes(), err
}

// messageID is a key as the inside of a Message-ID, at the sender's domain.
func messageID(key, from string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, key)
	_, domain, _ := strings.Cut(from, "@")
	return safe + "@" + domain
}

// render fills both templates.
func render(m message) (text, html string, err error) {
	tt, err := texttemplate.New("mail.txt").Funcs(texttemplate.FuncMap{"quote": quote}).ParseFS(templates, "templates/mail.txt")
	if err != nil {
		return "", "", err
	}
	ht, err := htmltemplate.ParseFS(templates, "templates/mail.html")
	if err != nil {
		return "", "", err
	}
	var tb, hb bytes.Buffer
	if err := tt.Execute(&tb, m); err != nil {
		return "", "", err
	}
	if err := ht.Execute(&hb, m); err != nil {
		return "", "", err
	}
	return tb.String(), hb.String(), nil
}

// quote sets foreign text off, line by line.
func quote(s string) string { return "  | " + strings.ReplaceAll(s, "\n", "\n  | ") }
