package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/mail"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

// The demo's outage: it works for demoUp, fails for demoDown, and so on.
const (
	demoUp   = 15 * time.Second
	demoDown = 20 * time.Second
)

// demo is a local target that breaks now and then, and a mail server that prints
// what it receives, so that a newcomer sees the whole of the product work without
// an account anywhere. Both live on loopback and end with the process.
type demo struct {
	out    io.Writer
	target *http.Server
	mail   *smtp.Server
	url    string // of the target
	smtp   notify.SMTPServer
	broken atomic.Bool
}

// startDemo listens for both; run serves them.
func startDemo(out io.Writer) (*demo, func(context.Context) error, error) {
	d := &demo{out: out}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("demo target: %w", err)
	}
	post, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = web.Close()
		return nil, nil, fmt.Errorf("demo mail server: %w", err)
	}
	d.url = "http://" + web.Addr().String()
	if d.smtp, err = notify.ParseSMTPURL("smtp://" + post.Addr().String() + "?tls=none&from=vedette@demo.example"); err != nil {
		return nil, nil, errors.Join(err, web.Close(), post.Close())
	}
	d.target = &http.Server{Handler: http.HandlerFunc(d.serve), ReadHeaderTimeout: 5 * time.Second}
	d.mail = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &demoMail{out: out}, nil }))
	d.mail.Domain = "demo.example"
	run := func(ctx context.Context) error {
		go func() { _ = d.target.Serve(web) }()
		go func() { _ = d.mail.Serve(post) }()
		d.flap(ctx)
		return errors.Join(d.target.Close(), d.mail.Close())
	}
	return d, run, nil
}

func (d *demo) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/slow":
		select {
		case <-time.After(400 * time.Millisecond):
		case <-r.Context().Done():
		}
	case r.URL.Path == "/flaky" && d.broken.Load():
		http.Error(w, "the demo's database is on holiday", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"status":"up","service":"vedette demo"}`+"\n")
}

// flap breaks and mends the target until ctx ends.
func (d *demo) flap(ctx context.Context) {
	for span := demoUp; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(span):
		}
		broken := !d.broken.Load()
		d.broken.Store(broken)
		if broken {
			fmt.Fprintf(d.out, "demo: the flaky target now answers 503, for %s\n", demoDown)
			span = demoDown
			continue
		}
		fmt.Fprintf(d.out, "demo: the flaky target works again, for %s\n", demoUp)
		span = demoUp
	}
}

// monitors are what the demo watches, for owner.
func (d *demo) monitors(owner int64) []uptime.Monitor {
	monitor := func(name, path, assertions string) uptime.Monitor {
		m := uptime.Monitor{OwnerID: owner, Name: name, Type: "http", Target: d.url + path, Interval: 2 * time.Second,
			Timeout: time.Second, Confirm: uptime.Confirm{Failures: 1, Interval: time.Second, Successes: 1},
			Config: json.RawMessage(`{}`), Regions: []string{uptime.DefaultRegion}, Tags: []string{"demo"}, Enabled: true}
		if assertions != "" {
			_ = json.Unmarshal([]byte(assertions), &m.Assertions) // a constant below; the demo's test reads it
		}
		return m
	}
	return []uptime.Monitor{
		monitor("Demo: steady", "/", `[{"source":"json","property":"$.status","op":"eq","value":"up"}]`),
		monitor("Demo: flaky", "/flaky", ""),
		monitor("Demo: slow", "/slow", `[{"source":"duration","op":"lt","value":"200ms","severity":"degraded"}]`),
	}
}

// channel is where the demo's mails go.
func (d *demo) channel(owner int64) uptime.Channel {
	return uptime.Channel{OwnerID: owner, Name: "Demo mail", Type: "email", Default: true, Enabled: true,
		Config: json.RawMessage(`{"to":["you@demo.example"]}`)}
}

// demoMail prints each mail's subject and its first lines.
type demoMail struct {
	out io.Writer
	to  string
}

func (s *demoMail) Reset()                                    {}
func (s *demoMail) Logout() error                             { return nil }
func (s *demoMail) Mail(string, *smtp.MailOptions) error      { return nil }
func (s *demoMail) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = to; return nil }

func (s *demoMail) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		subject = m.Header.Get("Subject")
	}
	_, _ = io.Copy(io.Discard, m.Body)
	fmt.Fprintf(s.out, "demo: mail to %s: %s\n", s.to, subject)
	return nil
}
