package probe

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// webSocketServe is a server that takes the handshake and talks. It is the library's
// own server side.
func webSocketServe(t *testing.T, tlsConfig *tls.Config, talk func(context.Context, *websocket.Conn)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") == "Bearer wrong-canary" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		talk(req.Context(), ws)
	}))
	if tlsConfig != nil {
		s.TLS = tlsConfig
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http", "ws", 1)
}

// webSocketEcho sends back what it gets, and answers a subscription twice.
func webSocketEcho(ctx context.Context, ws *websocket.Conn) {
	for {
		typ, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if strings.Contains(string(b), "subscribe") {
			_ = ws.Write(ctx, typ, []byte(`{"hello":1}`))
			b = []byte(`{"subscribed":"prices"}`)
		}
		_ = ws.Write(ctx, typ, b)
	}
}

// webSocketRaw takes the handshake and then talks on the bare connection.
func webSocketRaw(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer testenv.HangUp(c)
		sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
			base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
		talk(c)
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http", "ws", 1)
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	server, ca := brokerTLS(t)
	echo := webSocketServe(t, nil, webSocketEcho)
	secure := webSocketServe(t, server, webSocketEcho)
	raw := func(talk func(net.Conn)) string { return "ws://" + brokerServe(t, talk) + "/feed?token=canary" }
	after := func(talk func(net.Conn)) string { return webSocketRaw(t, talk) }
	message := func(op string, v any) []uptime.Assertion { return []uptime.Assertion{assert("message", "", op, v)} }
	feed := webSocketServe(t, nil, func(ctx context.Context, ws *websocket.Conn) {
		ctx = ws.CloseRead(ctx)
		for ws.Write(ctx, websocket.MessageText, []byte("tick")) == nil {
		}
	})
	brokerCases(t, "websocket", map[string]brokerCase{
		"a server that answers a ping is up":     {target: echo, verdict: up},
		"one that sends all the time too":        {target: feed, verdict: up},
		"an echo is the expected message":        {target: echo, config: `{"send":"hello","expect":"hello"}`, verdict: up},
		"a message before the expected is none":  {target: echo, config: `{"send":"subscribe","expect":"subscribed"}`, assertions: message("matches", `^\{"subscribed"`), verdict: up},
		"the first message is asserted":          {target: feed, assertions: message("eq", "tick"), verdict: up},
		"wss is up":                              {target: secure, config: brokerConfig(map[string]any{"tls": map[string]any{"ca_pem": ca}}), verdict: up},
		"an agreed subprotocol is up":            {target: echo, config: `{"subprotocol":"chat"}`, verdict: up},
		"a slow message in time is up":           {target: webSocketServe(t, nil, webSocketLate), config: `{"expect":"late"}`, verdict: up},
		"an asked 401 is up":                     {target: echo, config: `{"auth":{"kind":"bearer","token":"wrong-canary"}}`, assertions: []uptime.Assertion{assert("status", "", "in", "401")}, verdict: up},
		"an untrusted certificate":               {target: secure, verdict: down, reason: uptime.TLSUntrusted},
		"TLS on a port without it":               {target: strings.Replace(echo, "ws:", "wss:", 1), verdict: down, reason: uptime.TLSHandshake},
		"a refused token is http_status":         {target: echo, config: `{"auth":{"kind":"bearer","token":"wrong-canary"}}`, verdict: down, reason: uptime.HTTPStatus, says: "401"},
		"a redirect is not followed":             {target: raw(brokerAnswers("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n")), verdict: down, reason: uptime.HTTPStatus, says: "302"},
		"a page is http_status":                  {target: raw(brokerAnswers(page("hello"))), verdict: down, reason: uptime.HTTPStatus, says: "200"},
		"a switch to something else":             {target: raw(brokerAnswers("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")), verdict: down, reason: uptime.Protocol, says: "Upgrade"},
		"a login that is repeated is not shown":  {target: raw(brokerAnswers("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: " + base64Of("a:canary") + "\r\n\r\n")), config: `{"auth":{"kind":"basic","username":"a","password":"canary"}}`, verdict: down, reason: uptime.Protocol, says: uptime.Redacted},
		"a wrong accept key":                     {target: raw(brokerAnswers("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")), verdict: down, reason: uptime.Protocol, says: "Accept"},
		"no subprotocol in common":               {target: echo, config: `{"subprotocol":"other"}`, verdict: down, reason: uptime.Protocol, says: "other"},
		"SSH is not HTTP":                        {target: raw(brokerSays("SSH-2.0-OpenSSH_9.2\r\n")), verdict: down, reason: uptime.Protocol},
		"a head that never ends":                 {target: raw(brokerRepeats("HTTP/1.1 101 X\r\n", "X: "+strings.Repeat("y", 4000)+"\r\n")), verdict: down, reason: uptime.HeadersLarge},
		"interim answers without end":            {target: raw(brokerRepeats("", "HTTP/1.1 100 Continue\r\n\r\n")), verdict: down, reason: uptime.Protocol, says: "interim"},
		"refused":                                {target: "ws://" + talkClosed(t), verdict: down, reason: uptime.ConnRefused},
		"silent after connect":                   {target: raw(brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"half a head and then silence":           {target: raw(brokerSays("HTTP/1.1 101 Sw")), timeout: short, verdict: down, reason: uptime.Timeout},
		"closed without an answer":               {target: raw(brokerCloses), verdict: down, reason: uptime.ConnClosed},
		"closed in the head":                     {target: raw(brokerAnswers("HTTP/1.1 101 Sw")), verdict: down, reason: uptime.ConnClosed},
		"deaf after the handshake":               {target: after(brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout, says: "ping"},
		"closed after the handshake":             {target: after(func(net.Conn) {}), verdict: down, reason: uptime.ConnClosed},
		"garbage after the handshake":            {target: after(brokerSays(strings.Repeat("\xff", 32))), verdict: down, reason: uptime.Protocol},
		"an endless message while a ping waits":  {target: after(webSocketEndless), verdict: down, reason: uptime.Protocol, says: "more than"},
		"an endless message is body_too_large":   {target: after(webSocketEndless), config: `{"expect":"y"}`, verdict: down, reason: uptime.BodyTooLarge},
		"a huge message is body_too_large":       {target: after(brokerSays("\x82\x7f\x00\x00\x00\x00\x00\x20\x00\x00" + strings.Repeat("x", 2<<20))), config: `{"expect":"y"}`, verdict: down, reason: uptime.BodyTooLarge},
		"messages without the expected one":      {target: feed, config: `{"expect":"tock"}`, timeout: time.Second, verdict: down, reason: uptime.Keyword},
		"no message at all is timeout":           {target: echo, config: `{"expect":"tock"}`, timeout: short, verdict: down, reason: uptime.Timeout},
		"another message than asserted":          {target: feed, assertions: message("contains", "tock"), verdict: down, reason: uptime.Keyword},
		"an unanswered goodbye is not judged":    {target: after(webSocketRude), timeout: 3 * short, verdict: up},
		"nor does it take time of the check":     {target: after(webSocketRude), assertions: []uptime.Assertion{assert("duration", "", "lt", farewell.String())}, verdict: up},
		"a goodbye with a code before a message": {target: webSocketServe(t, nil, webSocketPolicy), config: `{"expect":"x"}`, verdict: down, reason: uptime.ConnClosed, says: "1008"},
	})
}

// brokerAnswers waits for a request, says text and hangs up.
func brokerAnswers(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, text)
	}
}

func webSocketLate(ctx context.Context, ws *websocket.Conn) {
	select {
	case <-time.After(2 * short):
	case <-ctx.Done():
	}
	_ = ws.Write(ctx, websocket.MessageText, []byte("late"))
	_, _, _ = ws.Read(ctx)
}

func webSocketPolicy(_ context.Context, ws *websocket.Conn) {
	_ = ws.Close(websocket.StatusPolicyViolation, "log in first")
}

// webSocketRude answers a ping, and no goodbye.
func webSocketRude(c net.Conn) {
	head := make([]byte, 6) // what it is, how long, and the mask
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	payload := make([]byte, head[1]&0x7f)
	_, _ = io.ReadFull(c, payload)
	for i := range payload {
		payload[i] ^= head[2+i%4]
	}
	_, _ = c.Write(append([]byte{0x8a, byte(len(payload))}, payload...))
	brokerSilent(c)
}

// webSocketEndless is one message in fragments, of which none is the last.
func webSocketEndless(c net.Conn) {
	rest := "\x7e\xff\xff" + strings.Repeat("x", 65535)
	brokerRepeats("\x02"+rest, "\x00"+rest)(c)
}

func TestWebSocketRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"subprotocol":"a, b"}`:                        "config.subprotocol",
		`{"headers":{"Sec-WebSocket-Key":"x"}}`:         "config.headers.Sec-WebSocket-Key",
		`{"headers":{"Upgrade":"x"}}`:                   "config.headers.Upgrade",
		`{"auth":{"kind":"bearer"}}`:                    "config.auth.token",
		`{"send":"` + strings.Repeat("x", 65537) + `"}`: "config.send",
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: "websocket", Target: "wss://feed.example/", Config: json.RawMessage(config)})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != path {
			t.Errorf("Compile of %.60s = %v, want a problem of %s", config, err, path)
		}
	}
}

func TestWebSocketExamples(t *testing.T) {
	t.Parallel()
	server, ca := brokerTLS(t)
	runExample(t, "websocket", 0, webSocketServe(t, server, webSocketEcho), func(c map[string]any) { c["tls"] = map[string]any{"ca_pem": ca} })
}

func TestWebSocketLeavesNothingBehind(t *testing.T) {
	brokerSteady(t, "websocket",
		brokerCase{target: webSocketRaw(t, brokerSilent)},
		brokerCase{target: webSocketRaw(t, brokerSilent), config: `{"expect":"x"}`},
		brokerCase{target: "ws://" + brokerServe(t, brokerSilent)},
		brokerCase{target: webSocketServe(t, nil, webSocketEcho), config: `{"subprotocol":"other"}`},
	)
}
