package probe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"vedette/internal/uptime"
)

// kafkaFake is a cluster of franz-go's fake brokers, which speak the whole protocol:
// Debian has no Kafka. metadata, if not nil, changes what they tell.
func kafkaFake(t *testing.T, metadata func(*kmsg.MetadataResponse), opts ...kfake.Opt) string {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, "orders")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if metadata != nil {
		c.ControlKey(kmsg.Metadata.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			answer := request.ResponseKind().(*kmsg.MetadataResponse)
			kafkaCluster(answer)
			metadata(answer)
			return answer, nil, true
		})
	}
	return c.ListenAddrs()[0]
}

// kafkaRefusing is a broker that answers as Kafka does when it refuses a login: the
// fake one hangs up.
func kafkaRefusing(t *testing.T, key kmsg.Key, refuse func(kmsg.Response)) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(key.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind()
		refuse(answer)
		return answer, nil, true
	})
	return c.ListenAddrs()[0]
}

// kafkaSCRAM is a broker that begins SCRAM as it should and ends it with a message of
// its own.
func kafkaSCRAM(t *testing.T, end string) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		answer := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		answer.SASLAuthBytes = []byte(end)
		if _, nonce, first := strings.Cut(string(request.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "n=probe,r="); first {
			answer.SASLAuthBytes = []byte("r=" + nonce + "server,s=c2FsdA==,i=4096")
		}
		return answer, nil, true
	})
	return c.ListenAddrs()[0]
}

func kafkaRefuseLogin(r kmsg.Response) {
	r.(*kmsg.SASLAuthenticateResponse).ErrorCode = kerr.SaslAuthenticationFailed.Code
	r.(*kmsg.SASLAuthenticateResponse).ErrorMessage = kmsg.StringPtr("Authentication failed: Invalid username or password")
}

func kafkaRefuseMechanism(r kmsg.Response) {
	r.(*kmsg.SASLHandshakeResponse).ErrorCode = kerr.UnsupportedSaslMechanism.Code
	r.(*kmsg.SASLHandshakeResponse).SupportedMechanisms = []string{"GSSAPI"}
}

// kafkaCluster is a cluster of two brokers, of which nobody must dial the second.
func kafkaCluster(m *kmsg.MetadataResponse) {
	for i := range int32(2) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = i, "192.0.2.1", 9
		m.Brokers = append(m.Brokers, b)
	}
	topic := kmsg.NewMetadataResponseTopic()
	topic.Topic = kmsg.StringPtr("orders")
	for i := range int32(4) {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader = i, i%2
		topic.Partitions = append(topic.Partitions, p)
	}
	m.Topics, m.ControllerID = append(m.Topics, topic), 1
}

// kafkaAfterHello is a broker that answers ApiVersions and then talks.
func kafkaAfterHello(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	return brokerServe(t, func(c net.Conn) {
		var head [12]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 4096))
		answer := kmsg.NewApiVersionsResponse()
		for key := range int16(40) {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, 5
			answer.ApiKeys = append(answer.ApiKeys, k)
		}
		body := answer.AppendTo(nil)
		message := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
		_, _ = c.Write(append(append(message, head[8:12]...), body...))
		talk(c)
	})
}

func TestKafka(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	server, ca := brokerTLS(t)
	trusted := map[string]any{"ca_pem": ca}
	plain, secure := kafkaFake(t, nil), kafkaFake(t, nil, kfake.TLS(server))
	locked := kafkaFake(t, nil, kfake.EnableSASL(), kfake.Superuser("PLAIN", "probe", "canary-right"),
		kfake.Superuser("SCRAM-SHA-256", "probe", "canary-right"), kfake.Superuser("SCRAM-SHA-512", "probe", "canary-right"))
	login := func(mechanism, password string) string {
		return `{"username":"probe","mechanism":"` + mechanism + `","password":"` + password + `"}`
	}
	number := func(source string, n int) []uptime.Assertion {
		return []uptime.Assertion{assert(source, "", "eq", n)}
	}
	const orders = `{"topic":"orders"}`
	two := kafkaFake(t, func(*kmsg.MetadataResponse) {})
	topicError := func(err *kerr.Error) string {
		return kafkaFake(t, func(m *kmsg.MetadataResponse) { m.Topics[0].ErrorCode = err.Code })
	}
	brokerCases(t, "kafka", map[string]brokerCase{
		"a cluster with a controller is up":        {target: plain, verdict: up},
		"a topic with leaders is up":               {target: plain, config: orders, assertions: number("partitions", 3), verdict: up},
		"brokers that nobody can dial are counted": {target: two, assertions: number("brokers", 2), verdict: up},
		"TLS is up":                                 {target: secure, config: brokerConfig(map[string]any{"security": "tls", "tls": trusted}), verdict: up},
		"a login by PLAIN is up":                    {target: locked, config: login("PLAIN", "canary-right"), verdict: up},
		"a login by SCRAM-SHA-256 is up":            {target: locked, config: login("SCRAM-SHA-256", "canary-right"), verdict: up},
		"a login by SCRAM-SHA-512 is up":            {target: locked, config: login("SCRAM-SHA-512", "canary-right"), verdict: up},
		"an old broker is up":                       {target: kafkaFake(t, nil, kfake.MaxVersions(kversion.V1_0_0())), config: orders, verdict: up},
		"a slow answer in time is up":               {target: kafkaFake(t, func(*kmsg.MetadataResponse) { <-time.After(short) }), verdict: up},
		"a wrong password by PLAIN is auth_failed":  {target: locked, config: login("PLAIN", "canary-wrong"), verdict: down, reason: uptime.AuthFailed},
		"SCRAM that is refused":                     {target: kafkaSCRAM(t, "e=other-error"), config: login("SCRAM-SHA-256", "canary-right"), verdict: down, reason: uptime.AuthFailed, says: "other-error"},
		"SCRAM that proves nothing":                 {target: kafkaSCRAM(t, "v=bm90IGl0"), config: login("SCRAM-SHA-256", "canary-right"), verdict: down, reason: uptime.Protocol, says: "does not prove that it knows the password."},
		"SCRAM that is none":                        {target: kafkaSCRAM(t, ""), config: login("SCRAM-SHA-512", "canary-right"), verdict: down, reason: uptime.Protocol},
		"a wrong password by SCRAM is auth_failed":  {target: locked, config: login("SCRAM-SHA-256", "canary-wrong"), verdict: down, reason: uptime.AuthFailed},
		"a refusal that is answered":                {target: kafkaRefusing(t, kmsg.SASLAuthenticate, kafkaRefuseLogin), config: login("PLAIN", "canary-wrong"), verdict: down, reason: uptime.AuthFailed, says: "Invalid username"},
		"a mechanism the broker lacks":              {target: kafkaRefusing(t, kmsg.SASLHandshake, kafkaRefuseMechanism), config: login("PLAIN", "x"), verdict: down, reason: uptime.AuthFailed, says: "GSSAPI"},
		"no login where one is due":                 {target: locked, verdict: down, reason: uptime.ConnClosed},
		"a missing topic is not_ready":              {target: plain, config: `{"topic":"bills"}`, verdict: down, reason: uptime.NotReady, says: "UNKNOWN_TOPIC"},
		"a topic that may not be seen":              {target: topicError(kerr.TopicAuthorizationFailed), config: orders, verdict: down, reason: uptime.AuthFailed},
		"a topic without a leader is not_ready":     {target: topicError(kerr.LeaderNotAvailable), config: orders, verdict: down, reason: uptime.NotReady},
		"a partition without a leader is not_ready": {target: kafkaFake(t, func(m *kmsg.MetadataResponse) { m.Topics[0].Partitions[2].Leader = -1 }), config: orders, verdict: down, reason: uptime.NotReady, says: "1 of 4"},
		"a cluster without a controller":            {target: kafkaFake(t, func(m *kmsg.MetadataResponse) { m.ControllerID = -1 }), verdict: down, reason: uptime.NotReady, says: "no controller"},
		"a cluster without brokers":                 {target: kafkaFake(t, func(m *kmsg.MetadataResponse) { m.Brokers = nil }), verdict: down, reason: uptime.NotReady},
		"fewer brokers than asserted":               {target: two, assertions: number("brokers", 3), verdict: down, reason: uptime.AssertFailed},
		"a broker that would make the topic":        {target: kafkaFake(t, nil, kfake.MaxVersions(kversion.V0_10_0())), config: orders, verdict: uptime.VerdictUnknown, reason: uptime.BadConfig},
		"an untrusted certificate":                  {target: secure, config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSUntrusted},
		"TLS on a port without it":                  {target: brokerServe(t, brokerAnswers("\x00\x00\x00\x06\x00\x00\x00\x00\x00\x23")), config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSHandshake},
		"refused":                                   {target: talkClosed(t), verdict: down, reason: uptime.ConnRefused},
		"silent after connect":                      {target: brokerServe(t, brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"silent after ApiVersions":                  {target: kafkaAfterHello(t, brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout, says: "Metadata"},
		"half an answer and then silence":           {target: brokerServe(t, brokerSays("\x00\x00\x00\x20\x00\x00\x00\x01")), timeout: short, verdict: down, reason: uptime.Timeout},
		"closed without an answer":                  {target: brokerServe(t, brokerCloses), verdict: down, reason: uptime.ConnClosed},
		"a web server is protocol":                  {target: brokerServe(t, brokerAnswers("HTTP/1.1 400 Bad Request\r\n\r\n")), verdict: down, reason: uptime.Protocol},
		"an answer that claims 2 GiB":               {target: brokerServe(t, brokerSays("\x7f\xff\xff\xff\x00\x00\x00\x01")), verdict: down, reason: uptime.Protocol, says: "2147483647 bytes"},
		"an answer to another call":                 {target: brokerServe(t, brokerSays("\x00\x00\x00\x0a\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00")), verdict: down, reason: uptime.Protocol, says: "an answer to call 7"},
		"an answer that is cut":                     {target: brokerServe(t, brokerSays("\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x7f\xff\xff\xff")), verdict: down, reason: uptime.Protocol},
	})
}

func TestKafkaRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"password":"x"}`:       "config.username",
		`{"mechanism":"GSSAPI"}`: "config.mechanism",
		`{}`:                     "config.topic",
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{
			Type: "kafka", Target: "kafka.example", Config: json.RawMessage(config), Assertions: []uptime.Assertion{assert("partitions", "", "eq", 1)},
		})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != path {
			t.Errorf("Compile of %s = %v, want a problem of %s", config, err, path)
		}
	}
}

func TestKafkaExamples(t *testing.T) {
	t.Parallel()
	server, ca := brokerTLS(t)
	cluster := kafkaFake(t, nil, kfake.TLS(server), kfake.NumBrokers(3), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "probe", "secret"))
	runExample(t, "kafka", 0, cluster, func(c map[string]any) { c["tls"] = map[string]any{"ca_pem": ca} })
}

func TestKafkaLeavesNothingBehind(t *testing.T) {
	brokerSteady(t, "kafka",
		brokerCase{target: brokerServe(t, brokerSilent)},
		brokerCase{target: kafkaAfterHello(t, brokerSilent)},
		brokerCase{target: brokerServe(t, brokerSays("SSH-2.0-OpenSSH_9.2\r\n"))},
	)
}

// kafkaTells is a broker that knows requests up to version newest, and answers
// ApiVersions and then Metadata with body.
func kafkaTells(newest int16, body string) func(net.Conn) {
	return func(c net.Conn) {
		hello := kmsg.NewApiVersionsResponse()
		for key := range int16(40) {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, newest
			hello.ApiKeys = append(hello.ApiKeys, k)
		}
		for _, answer := range []string{string(hello.AppendTo(nil)), body} {
			var head [12]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:])-8))
			message := binary.BigEndian.AppendUint32(nil, uint32(len(answer)+4))
			_, _ = c.Write(append(append(message, head[8:]...), answer...))
		}
		brokerSilent(c)
	}
}

func TestKafkaIsFrugal(t *testing.T) {
	count := func(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }
	const (
		broker = "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01h\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00"
		topics = 50_000 // half a MiB
	)
	tags := strings.Builder{}
	for i := range 100_000 {
		tags.Write(binary.AppendUvarint(nil, uint64(i)))
		tags.WriteByte(0)
	}
	for name, tt := range map[string]dbCase{
		"topics that nobody asked for": {serve: kafkaTells(1, broker+count(topics)+strings.Repeat("\x00\x00\x00\x00\x00\x00\x00\x00\x00", topics)), verdict: uptime.VerdictUp},
		"topics that are only claimed": {serve: kafkaTells(1, broker+count(topics)+strings.Repeat("\xff", 5*topics)), verdict: uptime.VerdictDown, reason: uptime.Protocol},
		"tags of no meaning":           {serve: kafkaTells(9, "\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01\x02h\x00\x00\x00\x01\x00\xa0\x8d\x06"+tags.String()+"\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00"), verdict: uptime.VerdictUp},
	} {
		t.Run(name, func(t *testing.T) {
			tt.config = map[string]any{}
			dbFrugal(t, "kafka", tt)
		})
	}
}

// FuzzKafka reads whatever a broker may answer, and as the library does where that
// reads it at all.
func FuzzKafka(f *testing.F) {
	for version := range new(kafkaMetadata).MaxVersion() + 1 {
		metadata := kmsg.NewMetadataResponse()
		kafkaCluster(&metadata)
		metadata.SetVersion(version)
		metadata.Brokers[1].Rack, metadata.ClusterID = kmsg.StringPtr("cellar"), kmsg.StringPtr("shop")
		metadata.UnknownTags.Set(7, []byte("seven"))
		p := metadata.Topics[0].Partitions
		p[0].Replicas, p[1].ISR, p[2].OfflineReplicas, p[3].Leader = []int32{1, 2}, []int32{1}, []int32{2}, -1
		var head []byte
		if metadata.IsFlexible() {
			head = []byte{0} // no tags
		}
		body := metadata.AppendTo(head)
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), append([]byte{0, 0, 0, 1}, body...)...), version)
	}
	f.Add([]byte("\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x7f\xff\xff\xff"), int16(1))
	f.Fuzz(func(t *testing.T, b []byte, version int16) {
		var answer kafkaMetadata
		answer.SetVersion(min(max(version, 0), answer.MaxVersion()))
		err := readKafka(bytes.NewReader(b), 1, &answer)
		if err == nil && answer.brokers+answer.topics+answer.partitions > len(b) {
			t.Fatalf("%d brokers in %d bytes", answer.brokers, len(b))
		}
		whole := kmsg.NewPtrMetadataResponse()
		whole.SetVersion(answer.Version)
		if readKafka(bytes.NewReader(b), 1, whole) != nil {
			return
		}
		want := kafkaMetadata{MetadataResponse: answer.MetadataResponse, brokers: len(whole.Brokers), topics: len(whole.Topics)}
		if answer.Version > 0 {
			want.controller = whole.ControllerID
		}
		for i, topic := range whole.Topics {
			if want.partitions += len(topic.Partitions); i == 0 {
				want.err = topic.ErrorCode
			}
			for _, p := range topic.Partitions {
				if p.Leader < 0 {
					want.leaderless++
				}
			}
		}
		if err != nil || !reflect.DeepEqual(answer, want) {
			t.Fatalf("version %d of %q: %+v, %v, want %+v", answer.Version, b, answer, err, want)
		}
	})
}
