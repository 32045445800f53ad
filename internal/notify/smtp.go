package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"vedette/internal/uptime"
)

// smtpSession is one connection that sends one message.
type smtpSession struct {
	server   SMTPServer
	msg      []byte
	to       []string
	accepted []string // recipients for whom the server took the message
	refused  []string // "address: reply" of those refused for good
	delayed  []string // the same of those refused for now
	code     int      // the last refusal's
}

// run connects, sends and says what came of it. ctx ends the session wherever it
// stands.
func (s *smtpSession) run(ctx context.Context, o EmailOptions) Sent {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var conn net.Conn
	dial := o.Dial
	o.Dial = func(dialCtx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(dialCtx, network, address)
		if err == nil {
			// go-mail watches ctx only while it dials; this covers all that follows.
			// Closing twice does no harm, and c lives no longer than this session.
			context.AfterFunc(ctx, func() { _ = c.Close() })
		}
		return c, err
	}
	client, err := s.server.client(o, &conn)
	if err != nil {
		return permanent("the mail server's configuration cannot be used")
	}
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	session, err := client.DialToSMTPClientWithContext(ctx)
	sent := s.transact(ctx, session, err)
	if conn != nil {
		sent.Peer = conn.RemoteAddr().String()
	}
	return sent
}

// transact speaks MAIL, RCPT and DATA on an open session.
func (s *smtpSession) transact(ctx context.Context, c *smtp.Client, err error) Sent {
	if err != nil {
		return s.judge(ctx, "connect", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.UpdateDeadline(time.Until(deadline))
	}
	if err := c.Mail("<" + s.server.From + ">"); err != nil {
		return s.judge(ctx, "sender", err)
	}
	taken, err := s.recipients(c)
	if err != nil {
		return s.judge(ctx, "recipient", err)
	}
	if len(taken) == 0 {
		_ = c.Quit()
		return s.verdict("")
	}
	w, err := c.Data()
	if err != nil {
		return s.judge(ctx, "message", err)
	}
	if _, err := w.Write(s.msg); err != nil {
		return s.judge(ctx, "message", err)
	}
	if err := w.Close(); err != nil {
		return s.afterData(ctx, err)
	}
	s.accepted = taken
	reply := ""
	if d, ok := w.(*smtp.DataCloser); ok {
		reply = d.ServerResponse()
	}
	_ = c.Quit() // the message is theirs already
	return s.verdict(reply)
}

// recipients offers every address and sorts them by the answer. An error is one of
// the connection, not of an address.
func (s *smtpSession) recipients(c *smtp.Client) ([]string, error) {
	var taken []string
	for _, to := range s.to {
		err := c.Rcpt("<" + to + ">")
		reply, isReply := errors.AsType[*textproto.Error](err)
		switch {
		case err == nil:
			taken = append(taken, to)
		case !isReply || reply.Code == 421: // 421: the server closes the session (RFC 5321 section 3.8)
			return nil, err
		case reply.Code >= 500:
			s.refused, s.code = append(s.refused, to+": "+reply.Error()), reply.Code
		default:
			s.delayed, s.code = append(s.delayed, to+": "+reply.Error()), reply.Code
		}
	}
	return taken, nil
}

// verdict weighs the recipients' answers: repeated while one is refused for now,
// accepted if somebody took it, else dead.
func (s *smtpSession) verdict(reply string) Sent {
	notes := slices.Concat(s.delayed, s.refused)
	switch {
	case len(s.delayed) > 0:
		text := "refused for now: " + strings.Join(notes, "; ")
		if len(s.accepted) > 0 {
			text += fmt.Sprintf("; accepted for %d others", len(s.accepted))
		}
		return Sent{Outcome: uptime.OutcomeTemporary, Code: s.code, Excerpt: text}
	case len(s.accepted) > 0:
		text := reply
		if len(notes) > 0 {
			text = "refused: " + strings.Join(notes, "; ") + "; accepted for the others: " + reply
		}
		return Sent{Outcome: uptime.OutcomeAccepted, Code: 250, Excerpt: text, ProviderID: cut(oneLine(reply), 128)}
	}
	return Sent{Outcome: uptime.OutcomePermanent, Code: s.code, Excerpt: "refused: " + strings.Join(notes, "; ")}
}

// judge says what an error before the end of the message means: RFC 5321 section
// 4.2.1, 4yz may be repeated and 5yz may not.
func (s *smtpSession) judge(ctx context.Context, step string, err error) Sent {
	if errors.Is(err, errClearText) || errors.Is(err, errNoMechanism) {
		return permanent(err.Error())
	}
	if r, ok := errors.AsType[*textproto.Error](err); ok {
		sent := Sent{Outcome: uptime.OutcomeTemporary, Code: r.Code, Excerpt: step + " refused: " + r.Error()}
		if r.Code >= 500 && r.Code <= 599 {
			sent.Outcome = uptime.OutcomePermanent
		}
		return sent
	}
	if ctx.Err() != nil {
		return failed(ctx.Err()) // we closed the connection; what it then said is no news
	}
	if step == "connect" && strings.Contains(err.Error(), "does not support STARTTLS") {
		return Sent{Outcome: uptime.OutcomeTemporary, Excerpt: "the mail server does not offer STARTTLS, and nothing is sent without it"}
	}
	return failed(err)
}

// afterData judges a missing or bad answer to the whole message. Without an answer
// the server may well have it: the outcome is unknown, and the message is sent
// again under the same Message-ID.
func (s *smtpSession) afterData(ctx context.Context, err error) Sent {
	sent := s.judge(ctx, "message", err)
	if sent.Code == 0 {
		sent.Outcome = uptime.OutcomeUnknown
		sent.Excerpt = "sent, but not confirmed: " + sent.Excerpt
	}
	return sent
}

var (
	errClearText   = errors.New("user and password are not sent over an unencrypted connection")
	errNoMechanism = errors.New("the mail server offers none of SCRAM-SHA-256, PLAIN and LOGIN to sign in")
)

// bestAuth picks the strongest mechanism that the server offers, once it is seen,
// and refuses to speak without TLS.
type bestAuth struct {
	server SMTPServer
	smtp.Auth
}

// Start chooses, and begins.
func (a *bestAuth) Start(info *smtp.ServerInfo) (string, []byte, error) {
	if !info.TLS {
		return "", nil, errClearText
	}
	user, pass := a.server.Username, a.server.Password.Reveal()
	offered := func(name string) bool {
		return slices.ContainsFunc(info.Auth, func(m string) bool { return strings.EqualFold(m, name) })
	}
	switch {
	case offered("SCRAM-SHA-256"):
		a.Auth = smtp.ScramSHA256Auth(user, pass)
	case offered("PLAIN"):
		a.Auth = smtp.PlainAuth("", user, pass, info.Name, false)
	case offered("LOGIN"):
		a.Auth = smtp.LoginAuth(user, pass, info.Name, false)
	default:
		return "", nil, errNoMechanism
	}
	return a.Auth.Start(info)
}

// Next goes on with the mechanism that Start chose.
func (a *bestAuth) Next(fromServer []byte, more bool) ([]byte, error) {
	return a.Auth.Next(bytes.Clone(fromServer), more)
}
