package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"vedette/internal/testenv"
)

// closer makes an io.Closer of what ends a target.
type closer func()

// Close implements io.Closer.
func (c closer) Close() error { c(); return nil }

// services is what each type says of a server that does speak its protocol: one that
// works, one that refuses, one that is not ready. That every kind of server is met as
// its makers built it is the matter of the types' own tests; here they are all met at
// once, by the whole product.
func (l *lab) services() []scenario {
	var rows []scenario
	for _, of := range []func() []scenario{l.postgres, l.redis, l.mysql, l.sqlserver, l.websocket, l.grpc, l.kafka, l.mqtt, l.ssh, l.imap, l.pop3, l.ftp} {
		rows = append(rows, of()...)
	}
	return rows
}

// postgres is a real PostgreSQL.
func (l *lab) postgres() []scenario {
	s := must(testenv.StartPostgres())
	l.keep(closer(s.Close))
	at := must(url.Parse(s.URL)).Host
	plain := watch("postgres", at)
	in := plain.config("username", "postgres").config("database", "postgres")
	asks := func(query string) monitor { return in.config("query", query) }
	return []scenario{
		{name: "postgres: takes logins", want: "up", monitor: plain},
		{name: "postgres: a login", want: "up", monitor: in},
		{name: "postgres: rows as wanted", want: "up", monitor: asks("select generate_series(1, 3)").assert("rows", "eq", 3)},
		{name: "postgres: a value as wanted", want: "up", monitor: asks("select 'ready'").assert("value", "eq", "ready")},
		{name: "postgres: a slow query in time", want: "up", monitor: asks("select pg_sleep(1)")},
		{name: "postgres: too few rows", want: "down assertion", monitor: asks("select 1 where false").assert("rows", "ge", 1)},
		{name: "postgres: another value", want: "down assertion", monitor: asks("select 'starting'").assert("value", "eq", "ready")},
		{name: "postgres: an unknown user", want: "down auth_failed", monitor: plain.config("username", "nobody")},
		{name: "postgres: an unknown database", want: "down query_failed", monitor: plain.config("username", "postgres").config("database", "nowhere")},
		{name: "postgres: a query that is none", want: "down query_failed", monitor: asks("selec 1")},
		{name: "postgres: a query that writes", want: "down query_failed", monitor: asks("create table t (n int)")},
		{name: "postgres: a query that takes too long", want: "down timeout", monitor: asks("select pg_sleep(60)")},
		{name: "postgres: no TLS there", want: "down tls_handshake", monitor: plain.config("security", "tls")},
	}
}

// redis is a real Redis.
func (l *lab) redis() []scenario {
	s := must(testenv.StartRedis())
	l.keep(closer(s.Close))
	plain := watch("redis", s.Addr)
	return []scenario{
		{name: "redis: answers", want: "up", monitor: plain},
		{name: "redis: a database of its own", want: "up", monitor: plain.config("database", 3)},
		{name: "redis: an empty list", want: "up", monitor: plain.config("query", []string{"LLEN", "jobs"}).assert("value", "eq", "0")},
		{name: "redis: another value", want: "down assertion", monitor: plain.config("query", []string{"LLEN", "jobs"}).assert("value", "eq", "7")},
		{name: "redis: a wrong password", want: "down auth_failed", monitor: plain.config("username", "probe").config("password", "wrong")},
		{name: "redis: still loading", want: "down not_ready", monitor: watch("redis", l.raw(replies("", map[string]string{"": "-LOADING Redis is loading the dataset in memory\r\n"})))},
	}
}

// mysql refuses before anybody has said a word, or claims more than there is memory for.
func (l *lab) mysql() []scenario {
	const greeting = "\x4f\x00\x00\x00\x0a8.0.36-fake\x00\x01\x00\x00\x00abcdefgh\x00\x01\x82\x21\x02\x00\x08\x00\x15" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ijklmnopqrst\x00mysql_native_password\x00"
	const fine, columns = "\x00\x00\x00\x02\x00\x00\x00", "\xfe\x00\x00\x00\x00\x00\x04\x00\x00"
	takes := []string{greeting, "\x07\x00\x00\x02" + fine, "\x07\x00\x00\x01" + fine}
	asks := func(answers ...string) monitor {
		return watch("mysql", l.raw(converses(answers...))).config("username", "a").config("query", "select 1")
	}
	return []scenario{
		{name: "mysql: no room", want: "down not_ready", monitor: watch("mysql", l.raw(converses("\x17\x00\x00\x00\xff\x10\x04Too many connections")))},
		{name: "mysql: takes a login and a query", want: "up", monitor: asks(append(takes, "\x07\x00\x00\x01"+fine)...)},
		{name: "mysql: claims 2^42 columns", want: "down protocol", monitor: asks(append(takes, "\x09\x00\x00\x01"+columns)...)},
	}
}

// sqlserver claims more than there is memory for, before anybody has logged in.
func (l *lab) sqlserver() []scenario {
	const prelogin = "\x04\x01\x00\x0f\x00\x00\x01\x00\x01\x00\x06\x00\x01\xff\x02"
	const options = "\x04\x01\x00\x11\x00\x00\x01\x00\xee\xff\xff\xff\xff\xff\xff\xff\xff"
	return []scenario{{name: "sqlserver: claims 51 GB of options", want: "down protocol", monitor: watch("sqlserver", l.raw(converses("", prelogin, options)))}}
}

// converses gives each of its answers, the first before it has heard anything, and then
// keeps silent.
func converses(answers ...string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 4096)
		for _, answer := range answers {
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
			if _, err := c.Read(b); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, c)
	}
}

// websocket is targets of the library that the product uses for its own end.
func (l *lab) websocket() []scenario {
	serve := func(talk func(context.Context, *websocket.Conn)) monitor {
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "Bearer wrong" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer ws.CloseNow()
			talk(r.Context(), ws)
		})}
		ln := l.listen()
		l.keep(s)
		go func() { _ = s.Serve(ln) }()
		return watch("websocket", "ws://"+ln.Addr().String()+"/feed")
	}
	echo := serve(func(ctx context.Context, ws *websocket.Conn) {
		for {
			kind, b, err := ws.Read(ctx)
			if err != nil || ws.Write(ctx, kind, b) != nil {
				return
			}
		}
	})
	tick := serve(func(ctx context.Context, ws *websocket.Conn) {
		ctx = ws.CloseRead(ctx)
		for ws.Write(ctx, websocket.MessageText, []byte("tick")) == nil {
			pause(100 * time.Millisecond)
		}
	})
	goes := serve(func(_ context.Context, ws *websocket.Conn) { _ = ws.Close(websocket.StatusPolicyViolation, "no") })
	return []scenario{
		{name: "websocket: answers a ping", want: "up", monitor: echo},
		{name: "websocket: an echo", want: "up", monitor: echo.config("send", "hello").config("expect", "hello")},
		{name: "websocket: a message", want: "up", monitor: tick.config("expect", "tick")},
		{name: "websocket: a page", want: "down http_status", monitor: watch("websocket", "ws://"+l.page(says(ok("hello")))+"/")},
		{name: "websocket: a refused token", want: "down http_status", monitor: echo.config("auth.kind", "bearer").config("auth.token", "wrong")},
		{name: "websocket: another message", want: "down keyword", monitor: tick.assert("message", "contains", "tock")},
		{name: "websocket: no message", want: "down timeout", monitor: echo.config("expect", "tock")},
		{name: "websocket: a goodbye before the message", want: "down conn_closed", monitor: goes.config("expect", "tick")},
	}
}

// grpc is targets of the library that the product uses for its own end.
func (l *lab) grpc() []scenario {
	serve := func(register func(*grpc.Server)) monitor {
		s := grpc.NewServer()
		register(s)
		ln := l.listen()
		l.keep(closer(s.Stop))
		go func() { _ = s.Serve(ln) }()
		return watch("grpc", ln.Addr().String())
	}
	healthy := serve(func(s *grpc.Server) {
		h := health.NewServer()
		h.SetServingStatus("shop.Orders", healthpb.HealthCheckResponse_SERVING)
		h.SetServingStatus("shop.Bills", healthpb.HealthCheckResponse_NOT_SERVING)
		healthpb.RegisterHealthServer(s, h)
	})
	return []scenario{
		{name: "grpc: serves", want: "up", monitor: healthy},
		{name: "grpc: a service serves", want: "up", monitor: healthy.config("service", "shop.Orders")},
		{name: "grpc: not serving, as asserted", want: "up", monitor: healthy.config("service", "shop.Bills").assert("serving_status", "eq", "NOT_SERVING")},
		{name: "grpc: a service does not serve", want: "down not_ready", monitor: healthy.config("service", "shop.Bills")},
		{name: "grpc: an unknown service", want: "down not_ready", monitor: healthy.config("service", "shop.Carts")},
		{name: "grpc: no health service", want: "down not_ready", monitor: serve(func(*grpc.Server) {})},
		{name: "grpc: a web server of HTTP/1.1", want: "down protocol", monitor: watch("grpc", l.page(says(response("400 Bad Request", ""))))},
		{name: "grpc: no TLS there", want: "down tls_handshake", monitor: healthy.config("security", "tls")},
	}
}

// kafka is franz-go's cluster of fake brokers, which speak the whole protocol.
func (l *lab) kafka() []scenario {
	c := must(kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "orders")))
	l.keep(closer(c.Close))
	plain := watch("kafka", c.ListenAddrs()[0])
	return []scenario{
		{name: "kafka: knows its brokers", want: "up", monitor: plain},
		{name: "kafka: a topic", want: "up", monitor: plain.config("topic", "orders")},
		{name: "kafka: an unknown topic", want: "down not_ready", monitor: plain.config("topic", "bills")},
	}
}

// mqtt answers a connect as MQTT 3.1.1 §3.2 writes it.
func (l *lab) mqtt() []scenario {
	says := func(code byte) monitor {
		return watch("mqtt", l.raw(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1024))
			_, _ = c.Write([]byte{0x20, 2, 0, code})
			hangs(c)
		}))
	}
	return []scenario{
		{name: "mqtt: takes the connection", want: "up", monitor: says(0)},
		{name: "mqtt: not available", want: "down not_ready", monitor: says(3)},
		{name: "mqtt: a wrong password", want: "down auth_failed", monitor: says(4).config("username", "u").config("password", "p")},
		{name: "mqtt: a topic without a message", want: "down timeout", monitor: says(0).config("topic", "a/b")},
	}
}

// ssh is a server of the library that the product uses for its own end.
func (l *lab) ssh() []scenario {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	signer := must(ssh.NewSignerFromKey(key))
	cfg := &ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) != "right" {
			return nil, errors.New("no")
		}
		return nil, nil
	}}
	cfg.AddHostKey(signer)
	plain := watch("ssh", l.raw(func(c net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		for ch := range channels {
			_ = ch.Reject(ssh.Prohibited, "")
		}
		_ = conn.Close()
	}))
	in := plain.config("username", "probe")
	return []scenario{
		{name: "ssh: answers", want: "up", monitor: plain},
		{name: "ssh: the pinned key", want: "up", monitor: plain.config("host_key_sha256", ssh.FingerprintSHA256(signer.PublicKey()))},
		{name: "ssh: a login", want: "up", monitor: in.config("password", "right")},
		{name: "ssh: another key", want: "down host_key", monitor: plain.config("host_key_sha256", "SHA256:uNiVztksCsDhcc0u9e8BrBYUnH3sPgcu7ArYyzIVDrA")},
		{name: "ssh: a wrong password", want: "down auth_failed", monitor: in.config("password", "wrong")},
		{name: "ssh: a banner, then silence", want: "down timeout", monitor: watch("ssh", l.raw(greets("SSH-2.0-x\r\n")))},
		{name: "ssh: another protocol", want: "down protocol | down banner", monitor: watch("ssh", l.raw(greets("220 mail.example ESMTP\r\n")))},
	}
}

// imap answers each command under its tag: to has an untagged line and the state of the
// tagged one by the command.
func (l *lab) imap() []scenario {
	talks := func(greeting string, to map[string]string) monitor {
		return watch("imap", l.raw(func(c net.Conn) {
			_, _ = io.WriteString(c, greeting)
			for lines := bufio.NewScanner(c); lines.Scan(); {
				tag, command, _ := strings.Cut(lines.Text(), " ")
				word, _, _ := strings.Cut(strings.ToUpper(command), " ")
				answer, there := to[word]
				if !there {
					answer = map[string]string{"CAPABILITY": "* CAPABILITY IMAP4rev1\r\n@ OK done\r\n", "LOGOUT": "* BYE\r\n@ OK done\r\n", "LOGIN": "@ OK in\r\n"}[word]
				}
				if _, err := io.WriteString(c, strings.ReplaceAll(answer, "@", tag)); err != nil || word == "LOGOUT" {
					return
				}
			}
		}))
	}
	in := func(m monitor) monitor {
		return m.config("username", "probe").config("password", "right").config("clear_text_login", true)
	}
	const hello = "* OK ready\r\n"
	return []scenario{
		{name: "imap: greets", want: "up", monitor: talks(hello, nil)},
		{name: "imap: greets with its capabilities", want: "up", monitor: talks("* OK [CAPABILITY IMAP4rev1] ready\r\n", nil)},
		{name: "imap: a login", want: "up", monitor: in(talks(hello, nil))},
		{name: "imap: no answer to LOGOUT", want: "up", monitor: talks(hello, map[string]string{"LOGOUT": ""})},
		{name: "imap: a wrong password", want: "down auth_failed", monitor: in(talks(hello, map[string]string{"LOGIN": "@ NO [AUTHENTICATIONFAILED] no\r\n"}))},
		{name: "imap: not now", want: "down not_ready", monitor: talks("* BYE too many connections\r\n", nil)},
		{name: "imap: nothing after the greeting", want: "down timeout", monitor: talks(hello, map[string]string{"CAPABILITY": ""})},
		{name: "imap: POP3 on the port", want: "down protocol | down banner", monitor: watch("imap", l.raw(greets("+OK ready\r\n")))},
	}
}

func (l *lab) pop3() []scenario {
	talks := func(greeting string, to map[string]string) monitor {
		all := map[string]string{"CAPA": "+OK\r\nUSER\r\nUIDL\r\n.\r\n", "USER": "+OK\r\n", "PASS": "+OK in\r\n", "QUIT": "+OK bye\r\n", "": "-ERR what\r\n"}
		for word, answer := range to {
			all[word] = answer
		}
		return watch("pop3", l.raw(replies(greeting, all)))
	}
	in := func(m monitor) monitor {
		return m.config("username", "probe").config("password", "right").config("clear_text_login", true)
	}
	const hello = "+OK ready\r\n"
	return []scenario{
		{name: "pop3: greets", want: "up", monitor: talks(hello, nil)},
		{name: "pop3: a login", want: "up", monitor: in(talks(hello, nil))},
		{name: "pop3: no CAPA", want: "up", monitor: talks(hello, map[string]string{"CAPA": "-ERR what\r\n"})},
		{name: "pop3: a wrong password", want: "down auth_failed", monitor: in(talks(hello, map[string]string{"PASS": "-ERR [AUTH] no\r\n"}))},
		{name: "pop3: not now", want: "down not_ready", monitor: talks("-ERR [SYS/TEMP] try later\r\n", nil)},
		{name: "pop3: IMAP on the port", want: "down protocol | down banner", monitor: watch("pop3", l.raw(greets("* OK ready\r\n")))},
	}
}

func (l *lab) ftp() []scenario {
	talks := func(greeting string, to map[string]string) monitor {
		all := map[string]string{"USER": "331 password\r\n", "PASS": "230 in\r\n", "QUIT": "221 bye\r\n", "": "500 what\r\n"}
		for word, answer := range to {
			all[word] = answer
		}
		return watch("ftp", l.raw(replies(greeting, all)))
	}
	const hello = "220 ready\r\n"
	return []scenario{
		{name: "ftp: greets", want: "up", monitor: talks(hello, nil)},
		{name: "ftp: a greeting of many lines", want: "up", monitor: talks("220-Welcome\r\n  to the server\r\n220 ready\r\n", nil)},
		{name: "ftp: anybody may come in", want: "up", monitor: talks(hello, nil).config("anonymous", true)},
		{name: "ftp: nobody may come in", want: "down auth_failed", monitor: talks(hello, map[string]string{"PASS": "530 no\r\n"}).config("anonymous", true)},
		{name: "ftp: not now", want: "down not_ready", monitor: talks("421 too many users\r\n", nil)},
		{name: "ftp: SSH on the port", want: "down protocol | down banner", monitor: watch("ftp", l.raw(greets("SSH-2.0-x\r\n")))},
	}
}
