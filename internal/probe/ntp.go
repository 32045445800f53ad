package probe

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"slices"
	"syscall"
	"time"

	"vedette/internal/uptime"
)

// ntpConfig is config of type ntp.
type ntpConfig struct {
	netConfig
}

// newNTP is the type for time servers.
func newNTP() Type {
	return kind[ntpConfig]{
		name: "ntp",
		about: "Up means that the time server answers and is itself synchronised. How far its clock is from ours is an assertion's to judge: " +
			"it is measured against the clock of the machine that checks.",
		target: hostPort(123),
		config: ntpConfig{defaultNet()},
		sources: merged(addressSource(), map[string]source{
			"stratum":   numberSource("stratum", "how many servers lie between it and a reference clock; 1 has one", "", uptime.AssertFailed),
			"offset_ms": numberSource("offset_ms", "by how much its clock is ahead of ours, in milliseconds; negative when it is behind", " ms", uptime.AssertFailed),
			"leap":      numberSource("leap", "its leap indicator: 0 is none, 1 and 2 announce a second more or less", "", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{{
			Title: "A time server is right to half a second", Target: "ntp.example.com",
			Assertions: `[{"source": "offset_ms", "op": "ge", "value": -500}, {"source": "offset_ms", "op": "le", "value": 500}, {"source": "stratum", "op": "le", "value": 10}]`,
		}},
		compile: func(b *builder, cfg *ntpConfig) Check {
			b.network(cfg.netConfig)
			return b.check(ntp)
		},
	}
}

// ntpTries is how often a question is asked within the timeout, since any packet may
// be lost on its way.
const ntpTries = 3

func ntp(r *session) *fault {
	conn, f := r.packets()
	if f != nil {
		return f
	}
	var last *fault
	var asked []ntpQuestion
	for try := range ntpTries {
		var p ntpPacket
		p, asked, f = ntpAsk(r, conn, asked, r.deadline.Add(-r.timeout/ntpTries*time.Duration(ntpTries-1-try)))
		if f == nil {
			return p.judge(r)
		}
		if f.reason != uptime.Timeout && f.reason != uptime.Protocol {
			return f
		}
		if last == nil || f.reason == uptime.Protocol {
			last = f
		}
	}
	return last
}

// ntpQuestion is one that was asked.
type ntpQuestion struct {
	cookie [8]byte
	sent   time.Time
}

// ntpAsk sends one question and waits for the answer to it, or to one asked before: a
// server that takes longer than a third of the timeout is slow, and in time. What answers
// none of them is passed over, since anybody may send it; it is told if nothing better
// comes. It returns asked with the question added.
func ntpAsk(r *session, conn net.Conn, asked []ntpQuestion, until time.Time) (ntpPacket, []ntpQuestion, *fault) {
	var question [48]byte
	question[0] = 4<<3 | 3 // version 4, client
	// The time we tell is a random number: it comes back in the answer, which nobody
	// can then forge, and a server needs no other (draft-ietf-ntp-data-minimization).
	_, _ = rand.Read(question[40:])
	_ = conn.SetReadDeadline(until)
	asked = append(asked, ntpQuestion{[8]byte(question[40:]), time.Now()})
	if _, err := conn.Write(question[:]); err != nil {
		return ntpPacket{}, asked, r.datagramFault(err, "the question")
	}
	var strange *fault
	b := make([]byte, 1024)
	for {
		n, err := conn.Read(b)
		if err != nil && strange != nil && isTimeout(err) {
			return ntpPacket{}, asked, strange
		}
		if err != nil {
			return ntpPacket{}, asked, r.datagramFault(err, "its answer")
		}
		p, err := parseNTP(b[:n], asked)
		if err != nil {
			strange = down(uptime.Protocol, "The server's answer is not NTP: %v.", err)
			continue
		}
		p.got = time.Now()
		r.phases.FirstByte = p.got.Sub(p.sent)
		return p, asked, nil
	}
}

// ntpPacket is an answer of RFC 5905 §7.3.
type ntpPacket struct {
	leap, stratum      byte
	reference          [4]byte // at stratum 0, why it tells no time
	received, answered uint64  // in seconds of 1900 modulo 2^32, and their fraction
	sent, got          time.Time
}

// parseNTP reads the answer to one of the questions.
func parseNTP(b []byte, asked []ntpQuestion) (ntpPacket, error) {
	if len(b) < 48 {
		return ntpPacket{}, errors.New("it is shorter than 48 bytes")
	}
	i := slices.IndexFunc(asked, func(q ntpQuestion) bool { return q.cookie == [8]byte(b[24:]) })
	switch {
	case b[0]&7 != 4:
		return ntpPacket{}, errors.New("it is not of a server")
	case b[0]>>3&7 < 1 || b[0]>>3&7 > 4:
		return ntpPacket{}, errors.New("it is of a version we do not know")
	case i < 0:
		return ntpPacket{}, errors.New("it answers another question")
	}
	return ntpPacket{
		sent: asked[i].sent,
		leap: b[0] >> 6, stratum: b[1], reference: [4]byte(b[12:]),
		received: binary.BigEndian.Uint64(b[32:]), answered: binary.BigEndian.Uint64(b[40:]),
	}, nil
}

// judge tells whether the server knows the time.
func (p ntpPacket) judge(r *session) *fault {
	r.setNumber("stratum", float64(p.stratum))
	r.setNumber("leap", float64(p.leap))
	r.setNumber("offset_ms", math.Round(p.offset().Seconds()*1e6)/1e3)
	r.seen.Protocol = "NTP"
	switch {
	case p.stratum == 0 && p.reference != [4]byte{}:
		return down(uptime.NotReady, "The server tells no time: kiss of death %q.", clean(string(p.reference[:]), 8))
	case p.stratum == 0 || p.stratum >= 16 || p.leap == 3:
		return down(uptime.NotReady, "The server is not synchronised (stratum %d, leap indicator %d).", p.stratum, p.leap)
	case p.answered == 0:
		return down(uptime.Protocol, "The server's answer holds no time.")
	}
	return nil
}

// offset is by how much the server's clock is ahead of ours (RFC 5905 §8).
func (p ntpPacket) offset() time.Duration {
	return (ntpSince(p.received, p.sent) + ntpSince(p.answered, p.got)) / 2
}

// ntpSince is the span from t to stamp. Differences modulo 2^32 seconds are right also
// when the era ends, in 2036, as long as the clocks are less than 68 years apart.
func ntpSince(stamp uint64, t time.Time) time.Duration {
	const unixIn1900 = 2208988800 // seconds from 1900 to 1970
	seconds := int32(uint32(stamp>>32) - uint32(t.Unix()+unixIn1900))
	fraction := time.Duration((stamp & math.MaxUint32) * uint64(time.Second) >> 32)
	return time.Duration(seconds)*time.Second + fraction - time.Duration(t.Nanosecond())
}

// datagramFault is talkFault where nothing stands between the packets: that nobody
// takes them is told by ICMP, in answer to one of them.
func (r *session) datagramFault(err error, what string) *fault {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return connectFault(r.parent, r.trace.dialled, err)
	}
	return r.talkFault(err, what)
}
