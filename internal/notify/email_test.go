package notify_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

// mailServer is an SMTP server on a real socket that answers as its script says
// and keeps what it took.
type mailServer struct {
	addr   string
	script map[string]string // verb, or "RCPT address", to reply; "drop" closes
	wg     sync.WaitGroup
	mu     sync.Mutex // guards all below
	mails  []taken
	lines  []string
}

type taken struct {
	to   []string
	data string
}

func newMailServer(t *testing.T, script map[string]string) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{addr: l.Addr().String(), script: script}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.wg.Wait()
	})
	return s
}

// say writes the scripted reply for key, or def; false when the session ends.
func (s *mailServer) say(c net.Conn, key, def string) bool {
	s.mu.Lock()
	reply, ok := s.script[key]
	s.mu.Unlock()
	if !ok {
		reply = def
	}
	if reply == "drop" {
		return false
	}
	if reply == "hang" {
		_, _ = io.Copy(io.Discard, c) // until the client goes
		return false
	}
	_, err := io.WriteString(c, reply+"\r\n")
	return err == nil && !strings.HasPrefix(reply, "421")
}

func (s *mailServer) serve(c net.Conn) {
	defer c.Close()
	if !s.say(c, "greeting", "220 mail.test") {
		return
	}
	in := bufio.NewReader(c)
	var to []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		key, def := verb, "250 ok"
		switch verb {
		case "EHLO":
			def = "250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN"
		case "RCPT":
			key = "RCPT " + line[strings.Index(line, "<")+1:strings.Index(line, ">")]
			if s.reply(key) == "" {
				to = append(to, strings.TrimPrefix(key, "RCPT "))
			}
		case "DATA":
			if s.reply("DATA") == "" {
				_, _ = io.WriteString(c, "354 go\r\n")
				data := readData(in)
				s.mu.Lock()
				s.mails = append(s.mails, taken{to, data})
				s.mu.Unlock()
				key, def = "message", "250 queued as 4711"
			}
		case "QUIT":
			s.say(c, verb, "221 bye")
			return
		}
		if !s.say(c, key, def) {
			return
		}
	}
}

func (s *mailServer) reply(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.script[key]
}

func readData(in *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

func (s *mailServer) got() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]taken(nil), s.mails...)
}

// dial leads every name to s.
func (s *mailServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return dial(ctx, "tcp", s.addr)
}

func mailClaim(a uptime.Alert, to ...string) uptime.Claim {
	cfg, _ := json.Marshal(map[string]any{"to": to})
	return uptime.Claim{Attempt: 1, Alert: a, Delivery: uptime.Delivery{ID: 1, Key: uptime.DeliveryKey("inst", a, 3)},
		Channel: uptime.Channel{ID: 3, Name: "Ops", Type: "email", Config: cfg, Enabled: true}}
}

func plain() *notify.SMTPServer {
	return &notify.SMTPServer{Host: "mail.test", TLS: "none", From: "vedette@mail.test"}
}

func TestMailReplies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script  map[string]string
		outcome uptime.Outcome
		code    int
	}{
		"accepted":                       {nil, uptime.OutcomeAccepted, 250},
		"accepted, then a rude goodbye":  {map[string]string{"QUIT": "drop"}, uptime.OutcomeAccepted, 250},
		"too busy to greet":              {map[string]string{"greeting": "421 busy"}, uptime.OutcomeTemporary, 421},
		"refused at the greeting":        {map[string]string{"greeting": "554 go away"}, uptime.OutcomePermanent, 554},
		"closed before the greeting":     {map[string]string{"greeting": "drop"}, uptime.OutcomeTemporary, 0},
		"EHLO unknown, HELO does":        {map[string]string{"EHLO": "502 what"}, uptime.OutcomeAccepted, 250},
		"EHLO and HELO refused":          {map[string]string{"EHLO": "550 no", "HELO": "550 no"}, uptime.OutcomePermanent, 550},
		"sender delayed":                 {map[string]string{"MAIL": "451 later"}, uptime.OutcomeTemporary, 451},
		"sender refused":                 {map[string]string{"MAIL": "550 no"}, uptime.OutcomePermanent, 550},
		"mailbox busy":                   {map[string]string{"RCPT a@mail.test": "450 busy"}, uptime.OutcomeTemporary, 450},
		"mailbox unknown":                {map[string]string{"RCPT a@mail.test": "550 unknown " + canary}, uptime.OutcomePermanent, 550},
		"closing at the recipient":       {map[string]string{"RCPT a@mail.test": "421 closing"}, uptime.OutcomeTemporary, 421},
		"DATA delayed":                   {map[string]string{"DATA": "451 later"}, uptime.OutcomeTemporary, 451},
		"DATA refused":                   {map[string]string{"DATA": "554 no"}, uptime.OutcomePermanent, 554},
		"message delayed":                {map[string]string{"message": "452 full"}, uptime.OutcomeTemporary, 452},
		"message refused":                {map[string]string{"message": "554 spam"}, uptime.OutcomePermanent, 554},
		"closed after the whole message": {map[string]string{"message": "drop"}, uptime.OutcomeUnknown, 0},
		"a reply that is none":           {map[string]string{"MAIL": "hello"}, uptime.OutcomeTemporary, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newMailServer(t, c.script)
			server := plain()
			server.Password = canary
			p := notify.NewEmail(notify.EmailOptions{Server: server, Dial: srv.dial})
			s := p.Send(t.Context(), mailClaim(opened(), "a@mail.test"))
			if s.Outcome != c.outcome || s.Code != c.code || s.Peer != srv.addr {
				t.Errorf("got %s, %d, peer %s, %q; want %s, %d, %s", s.Outcome, s.Code, s.Peer, s.Excerpt, c.outcome, c.code, srv.addr)
			}
			if s.Excerpt == "" {
				t.Error("no excerpt")
			}
			noSecret(t, s)
		})
	}
}

func TestAMailServerThatHangsEndsByTheDeadline(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"greeting", "EHLO", "MAIL", "DATA", "message"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			srv := newMailServer(t, map[string]string{step: "hang"})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			p := notify.NewEmail(notify.EmailOptions{Server: plain(), Dial: srv.dial})
			s := p.Send(ctx, mailClaim(opened(), "a@mail.test"))
			want := uptime.OutcomeTemporary
			if step == "message" {
				want = uptime.OutcomeUnknown
			}
			if s.Outcome != want || !strings.Contains(s.Excerpt, "no answer in time") {
				t.Errorf("got %s %q, want %s, no answer in time", s.Outcome, s.Excerpt, want)
			}
		})
	}
}

func TestRecipientsAreJudgedOneByOne(t *testing.T) {
	t.Parallel()
	srv := newMailServer(t, map[string]string{"RCPT gone@mail.test": "550 gone", "RCPT grey@mail.test": "450 come again"})
	p := notify.NewEmail(notify.EmailOptions{Server: plain(), Dial: srv.dial})
	c := mailClaim(opened(), "a@mail.test", "gone@mail.test", "grey@mail.test")
	first := p.Send(t.Context(), c)
	if first.Outcome != uptime.OutcomeTemporary || !strings.Contains(first.Excerpt, "grey@mail.test") {
		t.Fatalf("first attempt: got %s %q, want temporary for grey", first.Outcome, first.Excerpt)
	}
	srv.mu.Lock()
	delete(srv.script, "RCPT grey@mail.test")
	srv.mu.Unlock()
	second := p.Send(t.Context(), c)
	if second.Outcome != uptime.OutcomeAccepted || !strings.Contains(second.Excerpt, "gone@mail.test: 550") {
		t.Fatalf("second attempt: got %s %q, want accepted and the refusal noted", second.Outcome, second.Excerpt)
	}
	got := srv.got()
	if len(got) != 2 || fmt.Sprint(got[0].to) != "[a@mail.test]" || fmt.Sprint(got[1].to) != "[grey@mail.test]" {
		t.Fatalf("recipients of the two mails: %+v", got)
	}
	if got[0].data != got[1].data {
		t.Error("the repeat differs from the first mail")
	}
}

func TestTheResolveRepliesToTheOpening(t *testing.T) {
	t.Parallel()
	srv := newMailServer(t, nil)
	p := notify.NewEmail(notify.EmailOptions{Server: plain(), Dial: srv.dial})
	p.Send(t.Context(), mailClaim(opened(), "a@mail.test"))
	p.Send(t.Context(), mailClaim(resolved(), "a@mail.test"))
	var heads []mail.Header
	for _, m := range srv.got() {
		msg, err := mail.ReadMessage(strings.NewReader(m.data))
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, msg.Header)
	}
	id := heads[0].Get("Message-ID")
	if id == "" || heads[1].Get("In-Reply-To") != id || heads[1].Get("References") != id || heads[1].Get("Message-ID") == id {
		t.Fatalf("opening %q; resolve %q replies to %q", id, heads[1].Get("Message-ID"), heads[1].Get("In-Reply-To"))
	}
	if heads[0].Get("Bcc") != "" || heads[0].Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("head of the opening: %v", heads[0])
	}
	if d, err := heads[0].Date(); err != nil || !d.Equal(opened().CreatedAt) {
		t.Errorf("Date %v, %v, want the alert's", d, err)
	}
}

func TestMailsAreAsWritten(t *testing.T) {
	t.Parallel()
	for name, a := range alerts() {
		srv := newMailServer(t, nil)
		p := notify.NewEmail(notify.EmailOptions{Server: plain(), Dial: srv.dial})
		if s := p.Send(context.Background(), mailClaim(a, "a@mail.test")); s.Outcome != uptime.OutcomeAccepted {
			t.Fatalf("%s: %+v", name, s)
		}
		data := srv.got()[0].data
		if strings.Contains(strings.ReplaceAll(data, "\r\n", ""), "\n") {
			t.Errorf("%s: a line ends without CR", name)
		}
		subject, text, html := parts(t, data)
		golden(t, "mail_"+name+".txt", []byte("Subject: "+subject+"\n\n"+text))
		golden(t, "mail_"+name+".html", []byte(html))
	}
}

func TestCredentialsAreNeverSentUnencrypted(t *testing.T) {
	t.Parallel()
	srv := newMailServer(t, nil)
	server := plain()
	server.Username, server.Password = "user", canary
	starttls := *server
	starttls.TLS = "starttls"
	for name, s := range map[string]*notify.SMTPServer{"tls none": server, "STARTTLS not offered": &starttls} {
		p := notify.NewEmail(notify.EmailOptions{Server: s, Dial: srv.dial})
		sent := p.Send(t.Context(), mailClaim(opened(), "a@mail.test"))
		if sent.Outcome == uptime.OutcomeAccepted {
			t.Errorf("%s: the mail was sent", name)
		}
		noSecret(t, sent)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, l := range srv.lines {
		if strings.HasPrefix(l, "AUTH") || strings.HasPrefix(l, "MAIL") {
			t.Errorf("said %q in clear text", l)
		}
	}
}

func TestEmailCheck(t *testing.T) {
	t.Parallel()
	with := notify.NewEmail(notify.EmailOptions{Server: plain(), Dial: dial})
	without := notify.NewEmail(notify.EmailOptions{Dial: dial})
	for name, c := range map[string]struct {
		p             *notify.Email
		config, field string
	}{
		"an address":                    {with, `{"to":["ops@example.org"]}`, ""},
		"a server of its own":           {without, `{"to":["o@e.org"],"server":{"host":"m.e.org","username":"u","password":"` + canary + `"}}`, ""},
		"no server at all":              {without, `{"to":["o@e.org"]}`, "config.server"},
		"nobody":                        {with, `{"to":[]}`, "config.to"},
		"a name with the address":       {with, `{"to":["Ops <o@e.org>"]}`, "config.to[0]"},
		"two addresses in one":          {with, `{"to":["a@e.org, b@e.org"]}`, "config.to[0]"},
		"a line break":                  {with, `{"to":["a@e.org\r\nBcc: b@e.org"]}`, "config.to[0]"},
		"a smuggled parameter":          {with, `{"to":["a@e.org> SIZE=1"]}`, "config.to[0]"},
		"the same twice":                {with, `{"to":["a@e.org","a@e.org"]}`, "config.to[1]"},
		"an unknown field":              {with, `{"to":["a@e.org"],"cc":[]}`, "config"},
		"credentials in clear text":     {with, `{"to":["o@e.org"],"server":{"host":"m.e.org","tls":"none","username":"u","password":"` + canary + `"}}`, "config.server.tls"},
		"an unknown encryption":         {with, `{"to":["o@e.org"],"server":{"host":"m.e.org","tls":"maybe"}}`, "config.server.tls"},
		"a host with a path":            {with, `{"to":["o@e.org"],"server":{"host":"m.e.org/x"}}`, "config.server.host"},
		"a port out of range":           {with, `{"to":["o@e.org"],"server":{"host":"m.e.org","port":70000}}`, "config.server.port"},
		"a sender that is no address":   {with, `{"to":["o@e.org"],"server":{"host":"m.e.org","from":"x"}}`, "config.server.from"},
		"a redacted password came back": {with, `{"to":["o@e.org"],"server":{"host":"m.e.org","password":"***"}}`, "config.server.password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored, _, err := c.p.Check([]byte(c.config))
			checkField(t, err, c.field)
			if c.field != "" {
				return
			}
			if strings.Contains(c.config, canary) != bytes.Contains(stored, []byte(canary)) {
				t.Errorf("stored %s", stored)
			}
			again, _, err := c.p.Check(stored)
			if err != nil || !bytes.Equal(again, stored) {
				t.Errorf("what was stored does not check: %s, %v", again, err)
			}
			if shown, err := c.p.Redact(stored); err != nil || bytes.Contains(shown, []byte(canary)) {
				t.Errorf("redacted %s, %v", shown, err)
			}
		})
	}
}
