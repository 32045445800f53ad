package testenv

import (
	"bytes"
	"io"
	"net"
	"net/mail"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// SMTPServer is a real mail server that keeps what it accepts.
type SMTPServer struct {
	Addr string

	mu       sync.Mutex
	messages []Message // guarded by mu
	reply    func(command string) *smtp.SMTPError
}

// Message is one accepted mail.
type Message struct {
	From   string
	To     []string
	Header mail.Header
	Raw    []byte
}

// SMTP starts a server for one test.
func SMTP(tb testing.TB) *SMTPServer {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &SMTPServer{Addr: ln.Addr().String()}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{s: s}, nil }))
	server.Domain = "mail.example.org"
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	tb.Cleanup(func() { _ = server.Close(); <-done })
	return s
}

// URL is the server in the form of --smtp.
func (s *SMTPServer) URL() string { return "smtp://" + s.Addr + "?tls=none&from=vedette@example.org" }

// Messages are those accepted so far.
func (s *SMTPServer) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Reply makes fn answer each MAIL, RCPT and DATA; nil accepts.
func (s *SMTPServer) Reply(fn func(command string) *smtp.SMTPError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = fn
}

func (s *SMTPServer) refuse(command string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reply == nil {
		return nil
	}
	if e := s.reply(command); e != nil {
		return e
	}
	return nil
}

type session struct {
	s *SMTPServer
	m Message
}

func (c *session) Reset()        { c.m = Message{} }
func (c *session) Logout() error { return nil }

func (c *session) Mail(from string, _ *smtp.MailOptions) error {
	c.m.From = from
	return c.s.refuse("MAIL")
}

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := c.s.refuse("RCPT"); err != nil {
		return err
	}
	c.m.To = append(c.m.To, to)
	return nil
}

func (c *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := c.s.refuse("DATA"); err != nil {
		return err
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	c.m.Header, c.m.Raw = parsed.Header, raw
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.messages = append(c.s.messages, c.m)
	return nil
}
