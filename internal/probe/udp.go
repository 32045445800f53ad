package probe

import (
	"bytes"
	"errors"
	"time"

	"vedette/internal/uptime"
)

// icmpWait is how long a datagram that needs no answer may be refused.
const icmpWait = time.Second

// maxDatagrams is how many of a server are looked at.
const maxDatagrams = 1000

// udpConfig is config of type udp.
type udpConfig struct {
	Send         string `json:"send" max:"1400" doc:"what is sent, in one datagram; \\r \\n \\t \\xNN and \\\\ stand for bytes. An empty one is sent if it is empty"`
	Expect       string `json:"expect" max:"1400" doc:"what an answer must hold, with the same escapes; empty is any answer"`
	ExpectAnswer bool   `json:"expect_answer" doc:"whether silence is a failure; if not, only a port that is closed is one, where the host tells"`
	netConfig
}

// newUDP is the type for any service that takes datagrams.
func newUDP() Type {
	return kind[udpConfig]{
		name: "udp",
		about: "Up means that the server answered, with what is expected if that is given. Without an answer to wait for, up means no more than " +
			"that no host or router said within a second that nobody takes datagrams there; that second is no part of the duration.",
		target: hostPort(0),
		config: udpConfig{ExpectAnswer: true, netConfig: defaultNet()},
		sources: merged(addressSource(), map[string]source{
			"banner": textSource("banner", "the last answer that was looked at", uptime.Banner),
		}),
		examples: []uptime.CheckExample{
			{Title: "A game server answers", Target: "game.example.com:27015", Config: `{"send": "\\xff\\xff\\xff\\xffTSource Engine Query\\x00", "expect": "\\xff\\xff\\xff\\xff"}`},
			{Title: "A log collector's port is open", Target: "logs.example.com:514", Config: `{"expect_answer": false}`},
		},
		compile: func(b *builder, cfg *udpConfig) Check {
			b.network(cfg.netConfig)
			if cfg.Expect != "" && !cfg.ExpectAnswer {
				b.problems.Add("config.expect_answer", "must be true, since something is expected")
			}
			c := udpCheck{cfg, b.bytes("config.send", cfg.Send), b.bytes("config.expect", cfg.Expect)}
			return b.check(c.run)
		},
	}
}

type udpCheck struct {
	*udpConfig
	send, expect []byte
}

func (c *udpCheck) run(r *session) *fault {
	conn, f := r.packets()
	if f != nil {
		return f
	}
	begin := time.Now()
	if _, err := conn.Write(c.send); err != nil {
		return r.datagramFault(err, "our datagram")
	}
	b := make([]byte, 64<<10)
	if !c.ExpectAnswer {
		n, err := r.listen(conn, b, icmpWait)
		c.heard(r, b[:n])
		if err == nil || isTimeout(err) && r.parent.Err() == nil {
			return nil
		}
		return r.datagramFault(err, "our datagram")
	}
	other := false // something came that is not what is expected
	for range maxDatagrams {
		n, err := conn.Read(b)
		switch {
		case err != nil && other && (isTimeout(err) || errors.Is(err, errTooMuch)) && r.parent.Err() == nil:
			return c.wrong(r)
		case err != nil:
			return r.datagramFault(err, "its answer")
		}
		if r.phases.FirstByte == 0 {
			r.phases.FirstByte = time.Since(begin)
		}
		c.heard(r, b[:n])
		if bytes.Contains(b[:n], c.expect) {
			return nil
		}
		other = true
	}
	return c.wrong(r)
}

func (c *udpCheck) heard(r *session, b []byte) {
	if len(b) > 0 {
		r.seen.Body, r.seen.BodyBytes = string(b[:min(len(b), evidenceBody)]), int64(len(b))
		r.setText("banner", string(b))
	}
}

func (c *udpCheck) wrong(r *session) *fault {
	return down(uptime.Banner, "The server answered %q, which does not hold %q.", clean(r.seen.Body, 150), clean(c.Expect, 100))
}
