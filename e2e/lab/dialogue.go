package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"
)

// greets says a text to whoever connects, and keeps the connection.
func greets(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		hangs(c)
	}
}

// replies answers each line by what its first word, in capitals, has there, and ends
// after QUIT. "" answers what is not there; no greeting is none.
func replies(greeting string, to map[string]string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, greeting)
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			word, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
			answer, there := to[word]
			if !there {
				answer = to[""]
			}
			if _, err := io.WriteString(c, answer); err != nil || word == "QUIT" {
				return
			}
		}
	}
}

// tcpType is the targets of the type tcp.
func (l *lab) tcpType() []scenario {
	to := func(h func(net.Conn)) monitor { return watch("tcp", l.raw(h)) }
	expects := func(h func(net.Conn), text string) monitor { return to(h).config("expect", text) }
	named := func(z zone, port string) monitor {
		return watch("tcp", "shop.test:"+port).config("resolver", l.resolver(z))
	}
	open := port(l.raw(hangs))
	secure := func(cfg *tls.Config) monitor {
		return watch("tcp", l.overTLS(cfg, greets("hello\r\n"))).config("security", "tls").config("tls.ca_pem", l.pki.pem())
	}
	return []scenario{
		{name: "tcp: accepts", want: "up", monitor: to(hangs)},
		{name: "tcp: accepts, then FIN", want: "up", monitor: to(func(net.Conn) {})},
		{name: "tcp: accepts, greets, then FIN", want: "up", monitor: to(func(c net.Conn) { _, _ = io.WriteString(c, "bye\r\n") })},
		{name: "tcp: a banner", want: "up", monitor: expects(greets("220 mail.example ESMTP\r\n"), "ESMTP")},
		{name: "tcp: a banner in two segments", want: "up", monitor: expects(func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail.exa")
			pause(200 * time.Millisecond)
			greets("mple ESMTP\r\n")(c)
		}, "mail.example")},
		{name: "tcp: a banner byte by byte", want: "up", monitor: expects(func(c net.Conn) { dribbles("SSH-2.0-x\r\n", 1, 20*time.Millisecond)(c, "") }, "SSH-2.0")},
		{name: "tcp: a banner after a second", want: "up", monitor: expects(func(c net.Conn) { pause(time.Second); greets("ready\r\n")(c) }, "ready")},
		{name: "tcp: a banner, then FIN", want: "up", monitor: expects(func(c net.Conn) { _, _ = io.WriteString(c, "ready\r\n") }, "ready")},
		{name: "tcp: a banner that ends without a line", want: "up", monitor: expects(greets("ready>"), "ready>")},
		{name: "tcp: an answer to what is sent", want: "up", monitor: expects(replies("", map[string]string{"PING": "+PONG\r\n"}), "+PONG").config("send", `PING\r\n`)},
		{name: "tcp: a banner over TLS", want: "up", monitor: secure(shows(l.pki.leaf())).config("expect", "hello")},
		{name: "tcp: one of two addresses dead", want: "up | degraded", monitor: named(address("127.0.66.1", "127.0.0.1"), open)},
		{name: "tcp: v6 dead and v4 fine", want: "up | degraded", monitor: named(address("::1", "127.0.0.1"), open)},

		{name: "tcp: refused", want: "down conn_refused", monitor: watch("tcp", l.refused())},
		{name: "tcp: SYNs dropped", want: "down conn_timeout", monitor: watch("tcp", l.deaf())},
		{name: "tcp: a network that drops SYNs", want: "down conn_timeout", monitor: watch("tcp", silentNet+":22")},
		{name: "tcp: no route", want: "down conn_unreachable", monitor: watch("tcp", goneNet+":22")},
		{name: "tcp: accepts, then RST", want: "down conn_reset", monitor: to(reset)},
		{name: "tcp: RST where a banner is due", want: "down conn_reset", monitor: expects(reset, "ready")},
		{name: "tcp: FIN where a banner is due", want: "down conn_closed | down banner", monitor: expects(func(net.Conn) {}, "ready")},
		{name: "tcp: a wrong banner", want: "down banner", monitor: expects(greets("550 go away\r\n"), "220")},
		{name: "tcp: a wrong banner, then FIN", want: "down banner", monitor: expects(func(c net.Conn) { _, _ = io.WriteString(c, "550 go away\r\n") }, "220")},
		{name: "tcp: no banner", want: "down timeout", monitor: expects(hangs, "ready")},
		{name: "tcp: a banner that is too late", want: "down timeout", monitor: expects(func(c net.Conn) { pause(4 * time.Second); greets("ready\r\n")(c) }, "ready")},
		{name: "tcp: half a banner", want: "down timeout | down banner", monitor: expects(greets("rea"), "ready")},
		{name: "tcp: a banner without end", want: "down banner", monitor: expects(func(c net.Conn) { drip(c, "", strings.Repeat("x", 8<<10), 0) }, "ready")},
		{name: "tcp: a wrong answer to what is sent", want: "down banner", monitor: expects(replies("", map[string]string{"PING": "-LOADING\r\n"}), "+PONG").config("send", `PING\r\n`)},
		{name: "tcp: NXDOMAIN", want: "down dns_nxdomain", monitor: named(rcode(nxdomain), open)},
		{name: "tcp: an expired certificate", want: "down tls_expired", monitor: secure(shows(l.pki.leaf(endsIn(-hour))))},
		{name: "tcp: no TLS on the port", want: "down tls_handshake", monitor: to(greets("220 plain\r\n")).config("security", "tls")},
		{name: "tcp: metadata of a cloud", want: "unknown blocked_address", monitor: watch("tcp", "169.254.169.254:80")},
	}
}

// overTLS is raw over TLS.
func (l *lab) overTLS(cfg *tls.Config, handle func(net.Conn)) string {
	ln := tls.NewListener(l.listen(), cfg)
	serve(ln, handle)
	return ln.Addr().String()
}

// tlsType is the targets of the type tls.
func (l *lab) tlsType() []scenario {
	ca := l.pki
	mid, other := ca.intermediate("Lab Intermediate 2"), newAuthority()
	var none *authority
	plain := func(address string) monitor { return watch("tls", address).config("tls.ca_pem", ca.pem()) }
	over := func(cfg *tls.Config) monitor { return plain(l.overTLS(cfg, hangs)) }
	starttls := func(answer string, cfg *tls.Config) monitor {
		return plain(l.raw(func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail.test ESMTP\r\n")
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(line, "STARTTLS") {
					break
				}
				_, _ = io.WriteString(c, "250-mail.test\r\n250 STARTTLS\r\n")
			}
			_, _ = io.WriteString(c, answer)
			if s := tls.Server(c, cfg); s.Handshake() == nil {
				hangs(s)
			}
		})).config("starttls_protocol", "smtp")
	}
	good := ca.leaf()
	return []scenario{
		{name: "tls: a good certificate", want: "up", monitor: over(shows(good))},
		{name: "tls: a shuffled chain", want: "up", monitor: over(shows(chain(mid.leaf(), other, mid)))},
		{name: "tls: TLS 1.2 only", want: "up", monitor: over(shows(good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }))},
		{name: "tls: TLS 1.3 only", want: "up", monitor: over(shows(good, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }))},
		{name: "tls: a slow handshake", want: "up", monitor: plain(l.raw(func(c net.Conn) {
			_ = tls.Server(slowConn{c, 300 * time.Millisecond, 0}, shows(good)).Handshake()
			hangs(c)
		}))},
		{name: "tls: not verified, as asked", want: "up", monitor: over(shows(other.leaf())).config("tls.skip_verify", true)},
		{name: "tls: days as wanted", want: "up", monitor: over(shows(good)).assert("cert_days", "gt", 30)},
		{name: "tls: STARTTLS of SMTP", want: "up", monitor: starttls("220 go ahead\r\n", shows(good))},
		{name: "tls: expires in 5 days", want: "degraded tls_expiring", monitor: over(shows(ca.leaf(endsIn(5 * day))))},
		{name: "tls: expired", want: "down tls_expired", monitor: over(shows(ca.leaf(endsIn(-2 * time.Second))))},
		{name: "tls: not yet valid", want: "down tls_not_yet_valid", monitor: over(shows(ca.leaf(beginsIn(hour))))},
		{name: "tls: self-signed", want: "down tls_self_signed", monitor: over(shows(none.leaf()))},
		{name: "tls: another CA", want: "down tls_untrusted", monitor: over(shows(other.leaf()))},
		{name: "tls: a missing intermediate", want: "down tls_untrusted", monitor: over(shows(mid.leaf()))},
		{name: "tls: a wrong host", want: "down tls_hostname", monitor: over(shows(good)).config("tls.server_name", "other.test")},
		{name: "tls: RSA of 1024 bits", want: "degraded tls_weak | down tls_weak", monitor: over(shows(ca.leafOf(rsaKey(1024))))},
		{name: "tls: TLS 1.1 at most", want: "down tls_version", monitor: over(shows(good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }))},
		{name: "tls: a client certificate wanted", want: "down tls_client_cert", monitor: over(shows(good, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }))},
		{name: "tls: a client certificate wanted, TLS 1.2", want: "down tls_client_cert", monitor: over(shows(good, func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }))},
		{name: "tls: FIN after the hello", want: "down tls_handshake", monitor: plain(l.raw(func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }))},
		{name: "tls: plain HTTP on the port", want: "down tls_handshake", monitor: plain(l.raw(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			says(response("400 Bad Request", ""))(c, "")
		}))},
		{name: "tls: a hang", want: "down tls_timeout", monitor: plain(l.raw(hangs)).timeout("2s")},
		{name: "tls: refused", want: "down conn_refused", monitor: plain(l.refused())},
		{name: "tls: STARTTLS refused", want: "down protocol | down tls_handshake", monitor: starttls("454 not now\r\n", shows(good))},
		{name: "tls: STARTTLS with an expired certificate", want: "down tls_expired", monitor: starttls("220 go ahead\r\n", shows(ca.leaf(endsIn(-hour))))},
	}
}

// smtp is the targets of the type smtp.
func (l *lab) smtp() []scenario {
	const hello, thanks = "220 mail.test ESMTP\r\n", "250 OK\r\n"
	talks := func(greeting string, more ...string) monitor {
		to := map[string]string{"EHLO": "250-mail.test\r\n250-PIPELINING\r\n250 SIZE 10240000\r\n", "MAIL": thanks, "RCPT": thanks, "RSET": thanks, "QUIT": "221 bye\r\n", "": "500 what\r\n"}
		for i := 0; i+1 < len(more); i += 2 {
			to[more[i]] = more[i+1]
		}
		return watch("smtp", l.raw(replies(greeting, to)))
	}
	rcpt := func(m monitor) monitor {
		return m.config("mail_from", "a@example.org").config("rcpt_to", "b@example.org")
	}
	return []scenario{
		{name: "smtp: greets", want: "up", monitor: talks(hello)},
		{name: "smtp: a greeting of three lines", want: "up", monitor: talks("220-welcome\r\n220-to the\r\n220 mail.test\r\n")},
		{name: "smtp: a greeting after a second", want: "up", monitor: watch("smtp", l.raw(func(c net.Conn) {
			pause(time.Second)
			replies(hello, map[string]string{"EHLO": "250 mail.test\r\n", "QUIT": "221 bye\r\n"})(c)
		}))},
		{name: "smtp: no EHLO, but HELO", want: "up | down protocol", monitor: talks(hello, "EHLO", "502 no\r\n", "HELO", "250 mail.test\r\n")},
		{name: "smtp: a recipient is taken", want: "up", monitor: rcpt(talks(hello))},
		{name: "smtp: no answer to QUIT", want: "up", monitor: talks(hello, "QUIT", "")},
		{name: "smtp: a capability that is wanted", want: "up", monitor: talks(hello).assert("capabilities", "matches", "^SIZE ")},
		{name: "smtp: refused", want: "down conn_refused", monitor: watch("smtp", l.refused())},
		{name: "smtp: 554 as a greeting", want: "down not_ready", monitor: talks("554 go away\r\n")},
		{name: "smtp: 421 as a greeting", want: "down not_ready", monitor: talks("421 too busy\r\n")},
		{name: "smtp: no greeting", want: "down timeout", monitor: watch("smtp", l.raw(hangs))},
		{name: "smtp: half a greeting", want: "down timeout", monitor: watch("smtp", l.raw(greets("220 mail")))},
		{name: "smtp: a greeting without end", want: "down protocol | down banner | down timeout", monitor: watch("smtp", l.raw(func(c net.Conn) { drip(c, "", "220-more\r\n", 0) }))},
		{name: "smtp: FIN", want: "down conn_closed", monitor: watch("smtp", l.raw(func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); hangs(c) }))},
		{name: "smtp: SSH on the port", want: "down protocol", monitor: watch("smtp", l.raw(greets("SSH-2.0-x\r\n")))},
		{name: "smtp: HTTP on the port", want: "down protocol | down timeout", monitor: watch("smtp", l.page(says(response("400 Bad Request", ""))))},
		{name: "smtp: EHLO and HELO refused", want: "down protocol", monitor: talks(hello, "EHLO", "502 no\r\n", "HELO", "502 no\r\n")},
		{name: "smtp: nothing after EHLO", want: "down timeout", monitor: talks(hello, "EHLO", "")},
		{name: "smtp: a recipient is refused", want: "down assertion | down protocol", monitor: rcpt(talks(hello, "RCPT", "550 no such user\r\n"))},
		{name: "smtp: STARTTLS is not offered", want: "down protocol | down tls_handshake", monitor: talks(hello).config("security", "starttls")},
	}
}
