package probe

import (
	"bytes"
	"errors"
	"io"
	"time"

	"vedette/internal/uptime"
)

// maxText is how much of what a server says unasked is read and kept.
const maxText = 64 << 10

const (
	// resetWait and the time of one round trip is how long a server that took the
	// connection is watched for taking it back. A port whose program is gone behind a
	// proxy or in a container resets at once.
	resetWait = 100 * time.Millisecond
	// certWait replaces it where the server asked for a client certificate: in TLS 1.3
	// it refuses only after the handshake (RFC 8446 §4.4.2.4).
	certWait = time.Second
	// quietAfter the last segment, a banner counts as complete.
	quietAfter = 250 * time.Millisecond
)

// tcpConfig is config of type tcp.
type tcpConfig struct {
	Security string `json:"security" enum:"none,starttls,tls" doc:"whether the connection is in the clear, upgraded by the dialogue of starttls_protocol, or TLS from the start"`
	starttlsConfig
	Send   string    `json:"send" max:"4096" doc:"what is sent once the connection stands; \\r \\n \\t \\xNN and \\\\ stand for bytes"`
	Expect string    `json:"expect" max:"4096" doc:"what the server's answer or greeting must hold, with the same escapes; empty is a check of the connection only"`
	TLS    tlsConfig `json:"tls"`
	netConfig
}

// newTCP is the type for any service that takes connections.
func newTCP() Type {
	return kind[tcpConfig]{
		name: "tcp",
		about: "Up means that the port takes a connection and, if something is expected, that the server said it within its first 64 KiB. " +
			"A server that resets the connection within about 100 ms is down even when nothing is expected; listening for that is no part of the duration.",
		target: hostPort(0),
		config: tcpConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"banner": textSource("banner", "what was received: up to the expected text, or until the server was quiet for 250 ms", uptime.Banner),
		}),
		examples: []uptime.CheckExample{
			{Title: "A port takes connections", Target: "db.example.com:5432"},
			{Title: "A Redis server answers", Target: "cache.example.com:6379", Config: `{"send": "PING\\r\\n", "expect": "+PONG"}`},
			{
				Title: "An LDAP server goes on in TLS", Target: "ldap.example.com:389",
				Config: `{"security": "starttls", "starttls_protocol": "ldap"}`, Assertions: `[{"source": "cert_days", "op": "gt", "value": 14}]`,
			},
		},
		compile: func(b *builder, cfg *tcpConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			if (cfg.Security == "starttls") != (cfg.StarttlsProtocol != "") {
				b.problems.Add("config.starttls_protocol", "belongs to security starttls, and that needs it")
			}
			c := tcpCheck{
				tcpConfig: cfg, send: b.bytes("config.send", cfg.Send), expect: b.bytes("config.expect", cfg.Expect), reads: cfg.Expect != "" || b.asserts("banner"),
			}
			return b.check(c.run)
		},
	}
}

// bytes is an option in which escapes stand for bytes.
func (b *builder) bytes(path, option string) []byte {
	out, err := unescape(option)
	if err != nil {
		b.problems.Add(path, "%v", err)
	}
	return out
}

type tcpCheck struct {
	*tcpConfig
	send, expect []byte
	reads        bool // an answer is due
}

func (c *tcpCheck) run(r *session) *fault {
	talk, f := r.converse(c.Security)
	if f == nil && c.Security == "starttls" {
		f = talk.starttls(c.StarttlsProtocol)
	}
	if f != nil {
		return f
	}
	// Nothing is not written: the system tells a reset once, and a write that may fail
	// unseen would take it from the read.
	var sendErr error
	if len(c.send) > 0 {
		_, sendErr = talk.conn.Write(c.send)
	}
	if !c.reads {
		return r.watch(talk)
	}
	r.seen.Body, r.seen.BodyBytes = "", 0 // of the dialogue before TLS
	r.phases.FirstByte, r.phases.Transfer, talk.begin = 0, 0, time.Now()
	f = c.receive(r, talk)
	if f != nil && f.reason == uptime.ConnClosed && isReset(sendErr) {
		return r.talkFault(sendErr, "its answer")
	}
	return f
}

// watch tells whether a server that owes us nothing takes the connection back. It may
// close it, or say something: what it says is shown.
func (r *session) watch(c *conversation) *fault {
	moment := resetWait + r.phases.Connect
	if r.tlsTrace.certAsked || r.tlsTrace.certSent {
		moment = certWait
	}
	r.complete = r.ctx.Err() == nil // it has all that is asked of it; the listening is ours
	b := make([]byte, evidenceBody)
	n, err := r.listen(c.conn, b, moment)
	c.heard(b[:n])
	switch {
	case n > 0, isTimeout(err) && r.parent.Err() == nil, errors.Is(err, io.EOF) && !r.tlsTrace.certAsked:
		return nil
	}
	return r.talkFault(err, "the connection was of use")
}

// receive reads until what is expected is there.
func (c *tcpCheck) receive(r *session, talk *conversation) *fault {
	var got []byte
	defer func() { r.setText("banner", string(got)) }()
	b := make([]byte, 4<<10)
	for {
		n, err := c.read(r, talk, b, len(got) > 0)
		talk.heard(b[:n])
		from := max(0, len(got)-len(c.expect)) // what is expected may come in several segments
		got = append(got, b[:min(n, maxText-len(got))]...)
		switch {
		case len(c.expect) > 0 && bytes.Contains(got[from:], c.expect):
			return nil
		case len(got) == maxText && len(c.expect) > 0:
			return down(uptime.Banner, "The first %d bytes of the server do not hold %q.", maxText, clean(c.Expect, 100))
		case len(got) == maxText:
			return nil
		case err == nil:
		case len(got) == 0 || !isTimeout(err) && !errors.Is(err, io.EOF) || r.parent.Err() != nil:
			return r.talkFault(err, "its answer")
		case len(c.expect) > 0:
			return down(uptime.Banner, "The server sent %q, which does not hold %q.", clean(string(got), 150), clean(c.Expect, 100))
		default:
			return nil
		}
	}
}

// read reads from the server, until the deadline or, when nothing particular is
// expected and it has begun, until it pauses.
func (c *tcpCheck) read(r *session, talk *conversation, b []byte, begun bool) (int, error) {
	if begun && len(c.expect) == 0 {
		return r.listen(talk.conn, b, quietAfter)
	}
	return talk.in.Read(b)
}
