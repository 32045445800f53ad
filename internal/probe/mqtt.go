package probe

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"vedette/internal/uptime"
)

// mqttLimit bounds one packet of a server, in bytes.
const mqttLimit = 1 << 20

// mqttConfig is the config of an MQTT monitor.
type mqttConfig struct {
	Security string        `json:"security" enum:"none,tls" doc:"whether TLS is spoken"`
	Version  string        `json:"version" enum:"3.1.1,5" doc:"the version of MQTT"`
	Username string        `json:"username" max:"1024" doc:"empty is without a login"`
	Password uptime.Secret `json:"password"  doc:"of username"`
	ClientID string        `json:"client_id" max:"256" doc:"who the monitor says it is; empty is a random name. A server ends an older connection of the same name"`
	Topic    string        `json:"topic" max:"1024" doc:"a topic or filter to subscribe to: a message, retained or new, must come before the timeout"`
	Publish  string        `json:"publish" max:"65536" doc:"a message to publish on topic: it must come back"`
	TLS      tlsConfig     `json:"tls"`
	netConfig
}

// newMQTT is the "mqtt" check type.
func newMQTT() Type {
	return kind[mqttConfig]{
		name:   "mqtt",
		about:  "Connects to an MQTT broker. Up is a broker that takes the connection; with `topic`, one that sends a message of it; with `publish`, one that brings that message back.",
		target: hostPort(1883),
		config: mqttConfig{Security: "none", Version: "3.1.1", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"message": textSource("message", "the message that came on `topic`", uptime.Keyword),
		}),
		examples: []uptime.CheckExample{{
			Title: "A broker that brings a message back", Target: "broker.example:8883",
			Config: `{"security":"tls","username":"probe","password":"secret","topic":"vedette/probe","publish":"hello"}`,
		}, {
			Title: "A sensor's last reading", Target: "broker.example",
			Config:     `{"version":"5","topic":"cellar/pump"}`,
			Assertions: `[{"source":"message","op":"eq","value":"on"}]`,
		}},
		compile: func(b *builder, cfg *mqttConfig) Check {
			cfg.validate(b.problems)
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			if b.asserts("message") && cfg.Topic == "" {
				b.problems.Add("config.topic", "is missing; an assertion looks at its message")
			}
			return b.check(cfg.do)
		},
	}
}

func (c *mqttConfig) validate(p *uptime.Problems) {
	if c.Password != "" && c.Username == "" {
		p.Add("config.username", "is missing; a password needs it")
	}
	if c.Publish != "" && (c.Topic == "" || strings.ContainsAny(c.Topic, "+#")) {
		p.Add("config.topic", "must be one topic, without + and #, to publish on")
	}
	for path, v := range map[string]string{"username": c.Username, "client_id": c.ClientID, "topic": c.Topic} {
		if strings.Contains(v, "\x00") {
			p.Add("config."+path, "holds a NUL, which MQTT forbids")
		}
	}
}

// mqttTalk is a conversation with a broker.
type mqttTalk struct {
	*session
	*mqttConfig
	version byte
	conn    net.Conn
	in      *bufio.Reader
}

// do connects, subscribes and publishes as the monitor wants.
func (c *mqttConfig) do(r *session) *fault {
	conn, f := r.connectUnder(c.Security)
	if f != nil {
		return f
	}
	t := &mqttTalk{session: r, mqttConfig: c, version: 4, conn: conn, in: bufio.NewReader(conn)}
	if c.Version == "5" {
		t.version = 5
	}
	r.seen.Protocol = "MQTT " + c.Version
	f = t.login()
	if f == nil && c.Topic != "" {
		f = t.exchange()
	}
	if f == nil {
		_ = t.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}, (*packets.Packet).DisconnectEncode)
	}
	return f
}

// login sends CONNECT and judges the answer.
func (t *mqttTalk) login() *fault {
	connect := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: t.clientID(), Clean: true, Keepalive: 300,
		UsernameFlag: t.Username != "", Username: []byte(t.Username),
		PasswordFlag: t.Password != "", Password: []byte(t.Password.Reveal()),
	}}
	begin := time.Now()
	if err := t.send(connect, (*packets.Packet).ConnectEncode); err != nil {
		return t.talkFault(err, "the answer to CONNECT")
	}
	answer, err := t.receive()
	t.phases.FirstByte = time.Since(begin)
	if err != nil {
		return t.talkFault(err, "the answer to CONNECT")
	}
	if answer.FixedHeader.Type != packets.Connack {
		return down(uptime.Protocol, "The server answers CONNECT with a packet of type %d.", answer.FixedHeader.Type)
	}
	if answer.ReasonCode != 0 {
		return t.refused("the connection", answer.ReasonCode)
	}
	return nil
}

// clientID is one that every server must take when none is asked for (MQTT 3.1.1 §3.1.3.1:
// 23 letters and digits).
func (t *mqttTalk) clientID() string {
	if t.ClientID != "" {
		return t.ClientID
	}
	var b [8]byte
	_, _ = rand.Read(b[:])
	return "vedette" + hex.EncodeToString(b[:])
}

// exchange subscribes, publishes if that is asked for, and waits for the message.
func (t *mqttTalk) exchange() *fault {
	subscribe := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: t.Topic}},
	}
	if err := t.send(subscribe, (*packets.Packet).SubscribeEncode); err != nil {
		return t.talkFault(err, "the answer to SUBSCRIBE")
	}
	due, granted := "the answer to SUBSCRIBE", false
	for {
		answer, err := t.receive()
		if err != nil {
			return t.talkFault(err, due)
		}
		switch answer.FixedHeader.Type {
		case packets.Suback:
			if granted {
				return down(uptime.Protocol, "The broker answered SUBSCRIBE twice.")
			}
			granted = true // once only: what a publication costs us is not the broker's choice
			if n := len(answer.ReasonCodes); n != 1 {
				return down(uptime.Protocol, "The broker answered one subscription with %d codes.", n)
			}
			if code := answer.ReasonCodes[0]; code >= 0x80 {
				return t.refused("the subscription", code)
			}
			if t.Publish != "" {
				if err := t.publish(); err != nil {
					return t.talkFault(err, "it took the message")
				}
			}
			due = "a message on " + clean(t.Topic, 100)
		case packets.Puback:
			if answer.ReasonCode >= 0x80 {
				return t.refused("the message", answer.ReasonCode)
			}
		case packets.Publish:
			if t.Publish == "" || string(answer.Payload) == t.Publish {
				t.seen.Body = text(answer.Payload, evidenceBody)
				t.setText("message", string(answer.Payload))
				return nil
			}
		case packets.Disconnect:
			return t.refused("to go on", answer.ReasonCode)
		}
	}
}

// publish asks for an acknowledgement, since only that tells of a refusal.
func (t *mqttTalk) publish() error {
	return t.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 2, TopicName: t.Topic, Payload: []byte(t.Publish),
	}, (*packets.Packet).PublishEncode)
}

// refused is what a code of a broker says. Those below 0x80 are of CONNACK in 3.1.1
// (§3.2.2.3); for 3.1.1 a subscription has only the code 0x80, which brokers give
// where access is denied.
func (t *mqttTalk) refused(what string, code byte) *fault {
	reason, why := uptime.Protocol, "an error"
	switch code {
	case 4, 0x86:
		reason, why = uptime.AuthFailed, "bad user name or password"
	case 5, 0x87:
		reason, why = uptime.AuthFailed, "not authorized"
	case 0x80:
		if t.version == 4 {
			reason, why = uptime.AuthFailed, "not allowed"
		}
	case 0x8a, 0x8c:
		reason, why = uptime.AuthFailed, "banned, or another way to log in is wanted"
	case 3, 0x88, 0x89, 0x8b, 0x97, 0x9f:
		reason, why = uptime.NotReady, "not available, busy or shutting down"
	case 1, 0x84:
		why = "it does not speak this version of MQTT"
	case 2, 0x85:
		why = "the client id is not allowed"
	}
	return down(reason, "The broker refused %s: %s (code %#02x).", what, why, code)
}

// send writes one packet.
func (t *mqttTalk) send(pk packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) error {
	var b bytes.Buffer
	pk.ProtocolVersion = t.version
	if err := encode(&pk, &b); err != nil {
		return err
	}
	_, err := t.conn.Write(b.Bytes())
	return err
}

func (t *mqttTalk) receive() (packets.Packet, error) { return readMQTT(t.in, t.version) }

var errMQTTLarge = errors.New("a packet larger than a check reads")

// readMQTT reads one packet that a broker may send. The library would take the length
// that a peer claims at its word, so it gets only what is here, and in the form of
// 3.1.1: of properties it makes twenty times their bytes, and nobody looks at them.
func readMQTT(in *bufio.Reader, version byte) (packets.Packet, error) {
	pk := packets.Packet{ProtocolVersion: 4}
	first, err := in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, fmt.Errorf("not a packet of MQTT: %w", err)
	}
	n, _, err := packets.DecodeLength(in)
	if err != nil {
		return pk, err
	}
	if n > mqttLimit {
		return pk, errMQTTLarge
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(in, body); err != nil {
		return pk, err
	}
	if version == 5 {
		if body, err = pruneMQTT(&pk, body); err != nil {
			return pk, err
		}
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	default:
		err = fmt.Errorf("a packet of type %d, which no broker sends here", pk.FixedHeader.Type)
	}
	return pk, err
}

var errMQTTProperties = errors.New("a packet whose properties are cut")

// pruneMQTT takes the properties out of the body of a packet of version 5 and notes a
// reason code that 3.1.1 lacks.
func pruneMQTT(pk *packets.Packet, body []byte) ([]byte, error) {
	at, must := 2, true // where they begin, and whether there are any
	switch pk.FixedHeader.Type {
	case packets.Connack: // a broker that knows no version 5 refuses it in the form it knows
		must = len(body) < 2 || body[1] == 0
	case packets.Publish:
		if len(body) >= 2 {
			at += int(binary.BigEndian.Uint16(body))
		}
		if pk.FixedHeader.Qos > 0 {
			at += 2
		}
	case packets.Puback: // MQTT 5 §3.4.2.1: both may be left out, or the properties only
		at, must = 3, false
	case packets.Disconnect: // §3.14.2.1: the same
		at, must = 1, false
	}
	if !must && at <= len(body) {
		pk.ReasonCode = body[at-1]
	}
	if at >= len(body) {
		if must {
			return nil, errMQTTProperties
		}
		return body, nil
	}
	n, size, err := packets.DecodeLength(bytes.NewReader(body[at:]))
	if err != nil || n > len(body)-at-size {
		return nil, errMQTTProperties
	}
	return slices.Delete(body, at, at+size+n), nil
}
