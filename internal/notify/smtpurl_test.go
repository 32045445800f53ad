package notify_test

import (
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"vedette/internal/notify"
)

// parts takes a mail apart into subject, text and HTML, with LF line ends.
func parts(t *testing.T, data string) (subject, text, html string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	var bodies [2]string
	for i := range bodies {
		p, err := r.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		bodies[i] = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	return subject, bodies[0], bodies[1]
}

func TestParseSMTPURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]notify.SMTPServer{
		"smtp://127.0.0.1:2525":                                   {Host: "127.0.0.1", Port: 2525, TLS: "none", From: "vedette@localhost"},
		"smtp://mail.example.org":                                 {Host: "mail.example.org", Port: 587, TLS: "starttls", From: "vedette@mail.example.org"},
		"smtps://u:p%40ss@mail.example.org":                       {Host: "mail.example.org", Port: 465, TLS: "tls", Username: "u", Password: "p@ss", From: "vedette@mail.example.org"},
		"smtp://mail.example.org:25?tls=none&from=me@example.org": {Host: "mail.example.org", Port: 25, TLS: "none", From: "me@example.org"},
	} {
		got, err := notify.ParseSMTPURL(raw)
		if err != nil || got != want {
			t.Errorf("%s: got %#v, %v; want %#v", raw, got, err, want)
		}
	}
}

func TestParseSMTPURLSaysWhatToMendAndHidesThePassword(t *testing.T) {
	t.Parallel()
	for raw, mend := range map[string]string{
		"":                        "must begin with smtp://",
		"http://mail.example.org": "must begin with smtp://",
		"smtp://":                 "host",
		"smtp://u:" + canary + "%zz@mail.example.org": "percent-encoded",
		"smtp://u:" + canary + "/x@mail.example.org":  "percent-encoded",
		"smtp://u:" + canary + "#x@mail.example.org":  "percent-encoded",
		"smtp://mail.example.org:99999":               "port",
		"smtp://mail.example.org?tls=maybe":           "tls",
		"smtp://mail.example.org?tls=tls":             "smtps://",
		"smtps://mail.example.org?tls=none":           "contradict",
		"smtp://mail.example.org?form=x":              "form",
		"smtp://mail.example.org?from=x":              "from",
		"smtp://u:" + canary + "@127.0.0.1":           "never sent unencrypted",
	} {
		_, err := notify.ParseSMTPURL(raw)
		if err == nil || !strings.Contains(err.Error(), mend) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want …%s… without the password", raw, err, mend)
		}
	}
}
