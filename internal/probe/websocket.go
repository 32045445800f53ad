package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

// Bounds of a WebSocket check.
const (
	maxFrames = 1 << 20     // bytes of one message that is looked at
	farewell  = time.Second // how long a server may take to answer our goodbye; it is not judged
)

// websocketConfig is the config of a WebSocket monitor.
type websocketConfig struct {
	Headers     httpHeader `json:"headers" doc:"headers of the handshake; those that look like credentials are kept secret"`
	Auth        httpAuth   `json:"auth"`
	Subprotocol string     `json:"subprotocol" max:"100" doc:"the subprotocol to ask for; a server that does not agree to it is down, protocol"`
	Send        string     `json:"send" max:"65536" doc:"a text message to send after the handshake"`
	Expect      string     `json:"expect" max:"4096" doc:"text that a message of the server must hold; messages before it are passed over"`
	TLS         tlsConfig  `json:"tls"`
	netConfig
}

// newWebSocket is the "websocket" check type.
func newWebSocket() Type {
	return kind[websocketConfig]{
		name: "websocket",
		about: "Makes a WebSocket handshake (RFC 6455). Up is a server that switches to the protocol and answers a ping; with `expect`, or an assertion " +
			"on `message`, one that sends such a message. Redirects are not followed.",
		target: urls("a `ws://` or `wss://` URL", scheme{"wss", 443, true}, scheme{"ws", 80, false}),
		config: websocketConfig{TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"status":  {about: "the status code of the handshake; the value is codes and ranges such as \"101\"", ops: []string{"in", "not_in", "eq", "ne"}, compile: compileStatus},
			"message": textSource("message", "the message that holds `expect`; without `expect`, the first", uptime.Keyword),
		}),
		examples: []uptime.CheckExample{{
			Title: "A feed that answers a subscription", Target: "wss://feed.example/v1",
			Config:     `{"send":"{\"subscribe\":\"prices\"}","expect":"subscribed"}`,
			Assertions: `[{"source":"duration","op":"lt","value":"2s","severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *websocketConfig) Check {
			cfg.validate(b.problems)
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			b.base.tls.protocols = []string{"http/1.1"}
			b.base.secrets = addSecrets(b.base.secrets, slices.Concat(cfg.Headers.secrets(), cfg.Auth.encoded())...)
			c := &websocketCheck{cfg: cfg, agent: b.env.UserAgent, ownStatus: b.asserts("status"), reads: cfg.Expect != "" || b.asserts("message")}
			return b.check(c.do)
		},
	}
}

func (c *websocketConfig) validate(p *uptime.Problems) {
	c.Headers.validate(p)
	c.Auth.validate(c.Headers, p)
	for name := range c.Headers {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "Sec-Websocket-") {
			p.Add("config.headers."+clean(name, 60), "is set by Vedette and cannot be chosen")
		}
	}
	if c.Subprotocol != "" && !httpguts.ValidHeaderFieldName(c.Subprotocol) {
		p.Add("config.subprotocol", "must be a name without spaces and commas") // a token, as a header's name is
	}
}

// websocketCheck is a WebSocket monitor made ready.
type websocketCheck struct {
	cfg       *websocketConfig
	agent     string
	ownStatus bool // some assertion judges the status
	reads     bool // a message is waited for
}

// do makes the handshake, talks and says goodbye.
func (c *websocketCheck) do(r *session) *fault {
	r.seen.Request = "GET " + redactURL(r.target.url)
	conn, f := r.connect()
	if f != nil {
		return f
	}
	socket := conn
	if r.target.secure {
		if conn, f = r.secure(socket, r.target.host, true); f != nil {
			return f
		}
	}
	up := &upgrade{conn: conn}
	var reader sync.WaitGroup
	ws, _, err := websocket.Dial(r.ctx, r.target.url.String(), c.options(r, up))
	r.phases.FirstByte = up.firstByte
	if up.response != nil {
		r.facts.status, r.seen.Status, r.seen.Protocol = up.response.StatusCode, up.response.StatusCode, up.response.Proto
	}
	switch {
	case errors.Is(err, errNotSwitched) && c.ownStatus:
		return nil
	case errors.Is(err, errNotSwitched):
		return down(uptime.HTTPStatus, "Status %d %s is not 101, which switches to WebSocket.", r.facts.status, http.StatusText(r.facts.status))
	case up.err != nil:
		return up.fault(r)
	case err != nil:
		return r.talkFault(errors.Unwrap(err), "the handshake")
	case ws.Subprotocol() == "" && c.cfg.Subprotocol != "":
		f = down(uptime.Protocol, "The server does not agree to the subprotocol %s.", c.cfg.Subprotocol)
	default:
		f = c.talk(r, ws, &reader)
	}
	r.complete = f == nil && r.ctx.Err() == nil // a deadline that passes now would speak of the goodbye
	begin := time.Now()
	_ = conn.SetDeadline(earlier(r.deadline, begin.Add(farewell)))
	_ = ws.Close(websocket.StatusNormalClosure, "")
	reader.Wait()
	r.waited += time.Since(begin)
	return f
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (c *websocketCheck) options(r *session, up *upgrade) *websocket.DialOptions {
	header := http.Header{"User-Agent": {c.agent}}
	for name, value := range c.cfg.Headers {
		header.Set(name, value)
	}
	if v := c.cfg.Auth.header(); v != "" {
		header.Set("Authorization", v)
	}
	o := &websocket.DialOptions{HTTPClient: &http.Client{Transport: up}, HTTPHeader: header, Host: r.target.hostHeader()}
	if c.cfg.Subprotocol != "" {
		o.Subprotocols = []string{c.cfg.Subprotocol}
	}
	return o
}

// talk does what the monitor wants of an open WebSocket. reader is what still reads it
// afterwards, until it is closed.
func (c *websocketCheck) talk(r *session, ws *websocket.Conn, reader *sync.WaitGroup) *fault {
	if c.cfg.Send != "" {
		if err := ws.Write(r.ctx, websocket.MessageText, []byte(c.cfg.Send)); err != nil {
			return websocketFault(r, err, "it took the message")
		}
	}
	if c.reads {
		return c.read(r, ws)
	}
	if err := answersPing(r.ctx, ws, reader); err != nil {
		return websocketFault(r, err, "the answer to a ping")
	}
	return nil
}

// read waits for the message that is wanted.
func (c *websocketCheck) read(r *session, ws *websocket.Conn) *fault {
	ws.SetReadLimit(maxFrames)
	for n := 0; ; n++ {
		_, message, err := ws.Read(r.ctx)
		if err != nil && n > 0 && (isTimeout(err) || r.ctx.Err() != nil || errors.Is(err, errTooMuch)) {
			return down(uptime.Keyword, "None of the server's messages holds the expected text; %d came.", n)
		}
		if err != nil {
			return websocketFault(r, err, "the expected message")
		}
		r.seen.Body = text(message, evidenceBody)
		if bytes.Contains(message, []byte(c.cfg.Expect)) {
			r.setText("message", string(message))
			return nil
		}
	}
}

// answersPing pings. What the server sends meanwhile is dropped; the reader of it ends
// with the connection, since only closing it ends a read.
func answersPing(ctx context.Context, ws *websocket.Conn, reader *sync.WaitGroup) error {
	ws.SetReadLimit(-1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reader.Go(func() {
		for {
			_, message, err := ws.Reader(context.WithoutCancel(ctx))
			if err == nil {
				_, err = io.Copy(io.Discard, message)
			}
			if err != nil {
				cancel(err)
				return
			}
		}
	})
	err := ws.Ping(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// websocketFault is talkFault for what the library makes of the end of a conversation.
func websocketFault(r *session, err error, what string) *fault {
	if e, ok := errors.AsType[websocket.CloseError](err); ok {
		return down(uptime.ConnClosed, "The server ended the WebSocket before %s, with code %d %q.", what, e.Code, clean(e.Reason, 123))
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return down(uptime.BodyTooLarge, "A message of the server is larger than %d bytes.", maxFrames)
	}
	return r.talkFault(err, what)
}

var errNotSwitched = errors.New("the server does not switch protocols")

// upgrade is an http.RoundTripper for one handshake on one connection that stands. That
// of net/http dials and reads in goroutines of its own, and hides why it failed.
type upgrade struct {
	conn      net.Conn
	source    headLimit
	response  *http.Response // nil until there is one
	firstByte time.Duration
	silent    bool  // err came before the first byte
	err       error // why there is no response
}

// RoundTrip implements http.RoundTripper. An answer that is not 101 is errNotSwitched;
// its body is not read.
func (u *upgrade) RoundTrip(req *http.Request) (*http.Response, error) {
	if u.err = req.Write(u.conn); u.err != nil {
		return nil, u.err
	}
	sent := time.Now()
	u.source = headLimit{r: u.conn, left: maxHead}
	reader := bufio.NewReader(&u.source)
	if _, u.err = reader.Peek(1); u.err != nil {
		u.silent = true
		return nil, u.err
	}
	u.firstByte = time.Since(sent)
	if begin, _ := reader.Peek(5); !isHTTP(begin) {
		u.err = errors.New("it is not HTTP")
		return nil, u.err
	}
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(reader, req)
		if err != nil {
			u.err = err
			return nil, err
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			u.source.left = -1
			u.response, resp.Body = resp, upgraded{u.conn, reader}
			return resp, nil
		}
		if resp.StatusCode >= 200 {
			u.response = resp
			return nil, errNotSwitched
		}
	}
	u.err = errors.New("there are too many interim responses")
	return nil, u.err
}

// fault says why there is no response.
func (u *upgrade) fault(r *session) *fault {
	err := u.err
	if u.source.err != nil { // http.ReadResponse does not wrap what the reader said
		err = u.source.err
	}
	if u.source.left == 0 && !u.silent && u.source.r != nil {
		return down(uptime.HeadersLarge, "The response head is larger than %d KiB.", maxHead>>10)
	}
	return r.talkFault(err, "the answer to the handshake")
}

// upgraded is the connection after the switch: what the reader of the head has
// already taken belongs to it.
type upgraded struct {
	net.Conn
	reader *bufio.Reader
}

// Read implements io.Reader.
func (u upgraded) Read(b []byte) (int, error) { return u.reader.Read(b) }
