package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"vedette/internal/uptime"
)

const (
	kafkaLimit    = 64 << 10 // bytes of one answer; those of Kafka 4 have some hundred
	metadataLimit = 1 << 20  // bytes of one to Metadata: a topic of 17,000 partitions

	// metadataKeepsOff is the version of Metadata that can be told not to make the
	// topic it asks for (KIP-204, Kafka 1.0; version 4 since 0.11).
	metadataKeepsOff = 4
)

// kafkaConfig is the config of a Kafka monitor.
type kafkaConfig struct {
	Security  string        `json:"security" enum:"none,tls" doc:"whether TLS is spoken"`
	Username  string        `json:"username" max:"1024" doc:"who logs in; empty is without a login"`
	Password  uptime.Secret `json:"password" doc:"of username"`
	Mechanism string        `json:"mechanism" enum:"PLAIN,SCRAM-SHA-256,SCRAM-SHA-512" doc:"how username logs in (SASL)"`
	Topic     string        `json:"topic" max:"249" doc:"a topic that must be there, with a leader for every partition; it is never made"`
	TLS       tlsConfig     `json:"tls"`
	netConfig
}

// newKafka is the "kafka" check type.
func newKafka() Type {
	return kind[kafkaConfig]{
		name: "kafka",
		about: "Asks a Kafka broker for the cluster's metadata. Up is a cluster with a controller; with `topic`, one in which every partition of it has a leader. " +
			"Other brokers that the metadata names are not dialled.",
		target: hostPort(9092),
		config: kafkaConfig{Security: "none", Mechanism: "PLAIN", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"brokers":    numberSource("brokers", "the brokers of the cluster", "", uptime.AssertFailed),
			"partitions": numberSource("partitions", "the partitions of `topic`", "", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{{
			Title: "A topic of a cluster of three", Target: "kafka.example:9093",
			Config:     `{"security":"tls","username":"probe","password":"secret","mechanism":"SCRAM-SHA-512","topic":"orders"}`,
			Assertions: `[{"source":"brokers","op":"ge","value":3,"severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *kafkaConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			if cfg.Password != "" && cfg.Username == "" {
				b.problems.Add("config.username", "is missing; a password needs it")
			}
			if cfg.Topic == "" && b.asserts("partitions") {
				b.problems.Add("config.topic", "is missing; an assertion looks at it")
			}
			return b.check(cfg.do)
		},
	}
}

// kafkaTalk is a conversation with one broker.
type kafkaTalk struct {
	*session
	*kafkaConfig
	conn     net.Conn
	calls    int32
	versions map[int16]kmsg.ApiVersionsResponseApiKey // by request
}

// do logs in and asks for the metadata.
func (c *kafkaConfig) do(r *session) *fault {
	conn, f := r.connectUnder(c.Security)
	if f != nil {
		return f
	}
	t := &kafkaTalk{session: r, kafkaConfig: c, conn: conn}
	if f := t.greet(); f != nil {
		return f
	}
	if c.Username != "" {
		if f := t.login(); f != nil {
			return f
		}
	}
	return t.look()
}

// greet asks which requests the broker knows, in the version that every broker
// understands.
func (t *kafkaTalk) greet() *fault {
	begin := time.Now()
	answer, err := t.call(kmsg.NewPtrApiVersionsRequest())
	t.phases.FirstByte = time.Since(begin)
	if err != nil {
		return t.talkFault(err, "the answer to ApiVersions")
	}
	versions := answer.(*kmsg.ApiVersionsResponse)
	if err := kerr.ErrorForCode(versions.ErrorCode); err != nil {
		return down(uptime.Protocol, "The broker refused ApiVersions: %s.", kafkaText(err))
	}
	t.versions = map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range versions.ApiKeys {
		t.versions[k.ApiKey] = k
	}
	t.seen.Protocol = "Kafka"
	return nil
}

// login speaks SASL (KIP-43, KIP-152).
func (t *kafkaTalk) login() *fault {
	mechanism := t.mechanism()
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = mechanism.Name()
	answer, err := t.call(hello)
	if err != nil {
		return t.talkFault(err, "the answer to SaslHandshake")
	}
	offered := answer.(*kmsg.SASLHandshakeResponse)
	if err := kerr.ErrorForCode(offered.ErrorCode); err != nil {
		return down(uptime.AuthFailed, "The broker takes no login by %s (it has %s): %s.",
			mechanism.Name(), clean(strings.Join(offered.SupportedMechanisms, ", "), 100), kafkaText(err))
	}
	steps, next, err := mechanism.Authenticate(t.ctx, t.target.host)
	if err != nil {
		return unknown(uptime.BadConfig, "The login cannot be made: %s.", clean(t.withoutSecrets(err.Error()), 150))
	}
	for done := false; !done; {
		request := kmsg.NewPtrSASLAuthenticateRequest()
		request.SASLAuthBytes = next
		answer, err := t.call(request)
		if errors.Is(err, io.EOF) || isReset(err) {
			return down(uptime.AuthFailed, "The broker hung up at the login, which is how some refuse it.")
		}
		if err != nil {
			return t.talkFault(err, "the answer to the login")
		}
		said := answer.(*kmsg.SASLAuthenticateResponse)
		if err := kerr.ErrorForCode(said.ErrorCode); err != nil {
			text := kafkaText(err)
			if said.ErrorMessage != nil && *said.ErrorMessage != "" {
				text = clean(*said.ErrorMessage, 150)
			}
			return down(uptime.AuthFailed, "The broker refused the login: %s.", text)
		}
		if done, next, err = steps.Challenge(said.SASLAuthBytes); err != nil {
			return scramFault(mechanism.Name(), string(said.SASLAuthBytes))
		}
	}
	return nil
}

// scramFault is what an answer says that ends a login by SCRAM: a refusal (RFC 5802 §7),
// or else no SCRAM, or that of a server which does not know the password itself. The
// library's words for that hold the signature that was due.
func scramFault(mechanism, answer string) *fault {
	if said, refused := strings.CutPrefix(answer, "e="); refused {
		return down(uptime.AuthFailed, "The broker refused the login: %s.", clean(said, 150))
	}
	return down(uptime.Protocol, "The broker's answer to the login is no %s, or does not prove that it knows the password.", mechanism)
}

func (t *kafkaTalk) mechanism() sasl.Mechanism {
	password := t.Password.Reveal()
	switch t.Mechanism {
	case "SCRAM-SHA-256":
		return scram.Auth{User: t.Username, Pass: password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: t.Username, Pass: password}.AsSha512Mechanism()
	}
	return plain.Auth{User: t.Username, Pass: password}.AsMechanism()
}

// look asks for the brokers, the controller and the one topic.
func (t *kafkaTalk) look() *fault {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // none; nil would be all
	if t.Topic != "" {
		if t.versions[request.Key()].MaxVersion < metadataKeepsOff {
			return unknown(uptime.BadConfig, "The broker is too old: asking it for a topic may make the topic.")
		}
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(t.Topic)
		request.Topics = append(request.Topics, topic)
	}
	var metadata kafkaMetadata
	if err := t.exchange(request, &metadata); err != nil {
		return t.talkFault(err, "the answer to Metadata")
	}
	t.setNumber("brokers", float64(metadata.brokers))
	if metadata.brokers == 0 || metadata.controller < 0 {
		return down(uptime.NotReady, "The cluster has %d brokers and no controller.", metadata.brokers)
	}
	if t.Topic == "" {
		return nil
	}
	return t.judgeTopic(&metadata)
}

func (t *kafkaTalk) judgeTopic(m *kafkaMetadata) *fault {
	if m.topics != 1 {
		return down(uptime.Protocol, "The broker was asked for one topic and told of %d.", m.topics)
	}
	err := kerr.ErrorForCode(m.err)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return down(uptime.AuthFailed, "The broker does not let us see the topic %s.", clean(t.Topic, 100))
	case err != nil:
		return down(uptime.NotReady, "The topic %s is not there: %s.", clean(t.Topic, 100), kafkaText(err))
	}
	t.setNumber("partitions", float64(m.partitions))
	if m.leaderless > 0 {
		return down(uptime.NotReady, "%d of %d partitions of the topic %s have no leader.", m.leaderless, m.partitions, clean(t.Topic, 100))
	}
	return nil
}

// kafkaText is what an error code means.
func kafkaText(err error) string {
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		return e.Message + ": " + strings.TrimSuffix(e.Description, ".")
	}
	return err.Error()
}

// call is exchange with the library's kind of answer.
func (t *kafkaTalk) call(request kmsg.Request) (kmsg.Response, error) {
	answer := request.ResponseKind()
	return answer, t.exchange(request, answer)
}

// exchange sends a request in the newest version that both sides know, and reads its
// answer.
func (t *kafkaTalk) exchange(request kmsg.Request, answer kmsg.Response) error {
	if t.versions != nil {
		known, ok := t.versions[request.Key()]
		if !ok || known.MinVersion > answer.MaxVersion() {
			return fmt.Errorf("the broker has no %s that is known here", kmsg.NameForKey(request.Key()))
		}
		request.SetVersion(min(known.MaxVersion, answer.MaxVersion()))
	}
	answer.SetVersion(request.GetVersion())
	t.calls++
	message := kmsg.NewRequestFormatter(kmsg.FormatterClientID("vedette")).AppendRequest(nil, request, t.calls)
	if _, err := t.conn.Write(message); err != nil {
		return err
	}
	return readKafka(t.conn, t.calls, answer)
}

// readKafka reads the answer to call number call. The length is bounded before it is
// believed.
func readKafka(r io.Reader, call int32, answer kmsg.Response) error {
	limit := int32(kafkaLimit)
	if answer.Key() == kmsg.Metadata.Int16() {
		limit = metadataLimit
	}
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size, number := int32(binary.BigEndian.Uint32(head[:4])), int32(binary.BigEndian.Uint32(head[4:]))
	if size < 4 || size > limit {
		return fmt.Errorf("an answer of %d bytes; from 4 to %d are read", size, limit)
	}
	if number != call {
		return fmt.Errorf("an answer to call %d, which was not made", number)
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if answer.IsFlexible() && answer.Key() != kmsg.ApiVersions.Int16() { // KIP-482, KIP-511
		b := kbin.Reader{Src: body}
		kmsg.SkipTags(&b)
		body = b.Src
	}
	return answer.ReadFrom(body)
}
