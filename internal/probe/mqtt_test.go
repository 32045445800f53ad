package probe

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// mqttBroker is a mosquitto. It lets anybody in, or only probe with the password
// canary-right, who may use vedette/ and read cellar/; with server, over TLS.
func mqttBroker(t *testing.T, login bool, server *tls.Config) string {
	t.Helper()
	s := testenv.Start(t, testenv.ProgramSpec{
		Binary: "mosquitto", Package: "mosquitto", User: "mosquitto",
		Prepare: func(s *testenv.Program) error {
			lines := []string{"listener " + strconv.Itoa(s.Port) + " 127.0.0.1", "persistence false", "log_dest none", "allow_anonymous " + strconv.FormatBool(!login)}
			write := func(name, text string) error { return os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644) }
			var failed []error
			if login {
				file := filepath.Join(s.Dir, "users")
				if out, err := exec.Command("mosquitto_passwd", "-b", "-c", file, "probe", "canary-right").CombinedOutput(); err != nil {
					return errors.New(string(out))
				}
				failed = append(failed, write("acl", "user probe\ntopic readwrite vedette/#\ntopic read cellar/#\n"))
				lines = append(lines, "password_file "+file, "acl_file "+filepath.Join(s.Dir, "acl"))
			}
			if server != nil {
				cert, key := brokerPEM(t, server)
				failed = append(failed, write("cert", cert), write("key", key))
				lines = append(lines, "certfile "+filepath.Join(s.Dir, "cert"), "keyfile "+filepath.Join(s.Dir, "key"))
			}
			return errors.Join(append(failed, write("conf", strings.Join(lines, "\n")+"\n"))...)
		},
		Args: func(s *testenv.Program) []string { return []string{"-c", filepath.Join(s.Dir, "conf")} },
	})
	return s.Addr
}

// mqttRetain leaves a message on a topic of a broker.
func mqttRetain(t *testing.T, broker, topic, message string) {
	t.Helper()
	conn, err := net.Dial("tcp", broker)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	talk := &mqttTalk{session: &session{base: &base{}, seen: new(uptime.Evidence)}, mqttConfig: &mqttConfig{}, version: 4, conn: conn, in: bufio.NewReader(conn)}
	if f := talk.login(); f != nil {
		t.Fatal(f.message)
	}
	err = talk.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, PacketID: 7, TopicName: topic, Payload: []byte(message),
	}, (*packets.Packet).PublishEncode)
	if err == nil {
		_, err = talk.receive()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mqttScript is a fake that answers each packet with the next text, and then keeps
// still. The answers are what the standard writes.
func mqttScript(t *testing.T, answers ...string) string {
	t.Helper()
	return brokerServe(t, func(c net.Conn) {
		for _, a := range answers {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			_, _ = c.Write([]byte(a))
		}
		brokerSilent(c)
	})
}

func TestMQTT(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	server, ca := brokerTLS(t)
	trusted := map[string]any{"ca_pem": ca}
	open, closed, secure := mqttBroker(t, false, nil), mqttBroker(t, true, nil), mqttBroker(t, false, server)
	mqttRetain(t, open, "cellar/pump", "on")
	login := func(password, more string) string {
		return `{"username":"probe","password":"` + password + `"` + more + `}`
	}
	message := func(v string) []uptime.Assertion { return []uptime.Assertion{assert("message", "", "eq", v)} }
	const welcome, welcome5, granted = "\x20\x02\x00\x00", "\x20\x03\x00\x00\x00", "\x90\x03\x00\x01\x00"
	brokerCases(t, "mqtt", map[string]brokerCase{
		"a broker that takes the connection is up":      {target: open, verdict: up},
		"version 5 is up":                               {target: open, config: `{"version":"5"}`, verdict: up},
		"a login is up":                                 {target: closed, config: login("canary-right", ""), verdict: up},
		"a login of version 5 is up":                    {target: closed, config: login("canary-right", `,"version":"5"`), verdict: up},
		"TLS is up":                                     {target: secure, config: brokerConfig(map[string]any{"security": "tls", "tls": trusted}), verdict: up},
		"a retained message is up":                      {target: open, config: `{"topic":"cellar/+"}`, assertions: message("on"), verdict: up},
		"a message that comes back is up":               {target: open, config: `{"topic":"vedette/a","publish":"hello"}`, assertions: message("hello"), verdict: up},
		"a message that comes back in version 5":        {target: closed, config: login("canary-right", `,"version":"5","topic":"vedette/b","publish":"hello"`), verdict: up},
		"a name of one's own is up":                     {target: open, config: `{"client_id":"probe-7"}`, verdict: up},
		"another message before one's own is passed":    {target: mqttScript(t, welcome, granted, "\x30\x04\x00\x01an\x30\x04\x00\x01ay"), config: `{"topic":"a","publish":"y"}`, verdict: up},
		"a slow answer in time is up":                   {target: brokerServe(t, brokerLate(brokerSays(welcome))), verdict: up},
		"no login where one is due":                     {target: closed, verdict: down, reason: uptime.AuthFailed, says: "not authorized"},
		"a wrong password is auth_failed":               {target: closed, config: login("canary-wrong", ""), verdict: down, reason: uptime.AuthFailed},
		"a wrong password in version 5":                 {target: closed, config: login("canary-wrong", `,"version":"5"`), verdict: down, reason: uptime.AuthFailed},
		"publishing where it is not allowed":            {target: closed, config: login("canary-right", `,"version":"5","topic":"cellar/pump","publish":"x"`), verdict: down, reason: uptime.AuthFailed, says: "the message"},
		"a refused subscription is auth_failed":         {target: mqttScript(t, welcome, "\x90\x03\x00\x01\x80"), config: `{"topic":"a"}`, verdict: down, reason: uptime.AuthFailed, says: "subscription"},
		"an answer without a code is protocol":          {target: mqttScript(t, welcome, "\x90\x02\x00\x01"), config: `{"topic":"a"}`, verdict: down, reason: uptime.Protocol},
		"a subscription that is wrong in version 5":     {target: mqttScript(t, welcome5, "\x90\x04\x00\x01\x00\x8f"), config: `{"version":"5","topic":"a"}`, verdict: down, reason: uptime.Protocol},
		"a broker that is not available is not_ready":   {target: mqttScript(t, "\x20\x02\x00\x03"), verdict: down, reason: uptime.NotReady},
		"a busy broker is not_ready":                    {target: mqttScript(t, "\x20\x03\x00\x89\x00"), config: `{"version":"5"}`, verdict: down, reason: uptime.NotReady},
		"a broker that shuts down in between":           {target: mqttScript(t, welcome5, "\xe0\x01\x8b"), config: `{"version":"5","topic":"a"}`, verdict: down, reason: uptime.NotReady},
		"a broker that says goodbye in between":         {target: mqttScript(t, welcome5, "\xe0\x02\x8b\x00"), config: `{"version":"5","topic":"a"}`, verdict: down, reason: uptime.NotReady},
		"another version is said to be":                 {target: mqttScript(t, "\x20\x02\x00\x01"), verdict: down, reason: uptime.Protocol, says: "this version"},
		"a broker that knows 3.1.1 only":                {target: mqttScript(t, "\x20\x02\x00\x01"), config: `{"version":"5"}`, verdict: down, reason: uptime.Protocol, says: "this version"},
		"a welcome of 3.1.1 in version 5":               {target: mqttScript(t, welcome), config: `{"version":"5"}`, verdict: down, reason: uptime.Protocol},
		"properties are passed":                         {target: mqttScript(t, "\x20\x06\x00\x00\x03\x21\x00\x14", "\x90\x09\x00\x01\x05\x26\x00\x00\x00\x00\x00\x30\x08\x00\x01a\x03\x0b\x80\x01y"), config: `{"version":"5","topic":"a"}`, assertions: message("y"), verdict: up},
		"properties that are cut":                       {target: mqttScript(t, welcome5, "\x90\x04\x00\x01\x07\x00"), config: `{"version":"5","topic":"a"}`, verdict: down, reason: uptime.Protocol, says: "properties"},
		"a client id that is not allowed":               {target: mqttScript(t, "\x20\x02\x00\x02"), verdict: down, reason: uptime.Protocol, says: "client id"},
		"no message on the topic is timeout":            {target: open, config: `{"topic":"cellar/lamp"}`, timeout: 2 * short, verdict: down, reason: uptime.Timeout, says: "cellar/lamp"},
		"another message than asserted":                 {target: open, config: `{"topic":"cellar/pump"}`, assertions: message("off"), verdict: down, reason: uptime.Keyword},
		"an untrusted certificate":                      {target: secure, config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSUntrusted},
		"TLS on a port without it":                      {target: open, config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSHandshake},
		"refused":                                       {target: talkClosed(t), verdict: down, reason: uptime.ConnRefused},
		"silent after connect":                          {target: brokerServe(t, brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"half an answer":                                {target: mqttScript(t, "\x20\x02\x00"), timeout: short, verdict: down, reason: uptime.Timeout},
		"closed without an answer":                      {target: brokerServe(t, brokerCloses), verdict: down, reason: uptime.ConnClosed},
		"closed in the middle of an answer":             {target: brokerServe(t, brokerAnswers("\x20\x02")), verdict: down, reason: uptime.ConnClosed},
		"a web server is protocol":                      {target: brokerServe(t, brokerAnswers("HTTP/1.1 400 Bad Request\r\n\r\n")), verdict: down, reason: uptime.Protocol},
		"SSH is protocol":                               {target: brokerServe(t, brokerSays("SSH-2.0-OpenSSH_9.2\r\n")), verdict: down, reason: uptime.Protocol},
		"another packet than the answer":                {target: mqttScript(t, "\xd0\x00"), verdict: down, reason: uptime.Protocol},
		"a packet that claims 256 MiB":                  {target: mqttScript(t, "\x20\xff\xff\xff\x7f"), verdict: down, reason: uptime.Protocol, says: "larger"},
		"a length without end":                          {target: brokerServe(t, brokerRepeats("\x20", strings.Repeat("\x80", 4096))), verdict: down, reason: uptime.Protocol},
		"an answer to SUBSCRIBE that comes twice":       {target: mqttScript(t, welcome, granted+granted), config: `{"topic":"a","publish":"y"}`, timeout: 2 * short, verdict: down, reason: uptime.Protocol, says: "twice"},
		"messages without end, and never the right one": {target: brokerServe(t, brokerRepeats(welcome+granted, strings.Repeat("\x30\x04\x00\x01an", 1000))), config: `{"topic":"a","publish":"y"}`, verdict: down, reason: uptime.Protocol},
	})
}

func TestMQTTRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"password":"x"}`:              "config.username",
		`{"publish":"x"}`:               "config.topic",
		`{"topic":"a/#","publish":"x"}`: "config.topic",
		`{"topic":"a\u0000"}`:           "config.topic",
		`{"version":"4"}`:               "config.version",
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: "mqtt", Target: "broker.example", Config: json.RawMessage(config)})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != path {
			t.Errorf("Compile of %s = %v, want a problem of %s", config, err, path)
		}
	}
}

func TestMQTTExamples(t *testing.T) {
	t.Parallel()
	server, ca := brokerTLS(t)
	secure, open := mqttBroker(t, false, server), mqttBroker(t, false, nil)
	mqttRetain(t, open, "cellar/pump", "on")
	runExample(t, "mqtt", 0, secure, func(c map[string]any) { c["tls"] = map[string]any{"ca_pem": ca} })
	runExample(t, "mqtt", 1, open, nil)
}

func TestMQTTLeavesNothingBehind(t *testing.T) {
	brokerSteady(t, "mqtt",
		brokerCase{target: brokerServe(t, brokerSilent)},
		brokerCase{target: mqttScript(t, "\x20\x02\x00\x00"), config: `{"topic":"a"}`},
		brokerCase{target: mqttScript(t, "\x20\x02\x00\x05")},
	)
}

// mqttMessage is a message of version 5 on the topic a, with properties of n bytes.
func mqttMessage(property string, n int) string {
	length := func(n int) string { return string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}) }
	properties := strings.Repeat(property, n/len(property))
	body := "\x00\x01a" + length(len(properties)) + properties + "x"
	return "\x30" + length(len(body)) + body
}

func TestMQTTIsFrugal(t *testing.T) {
	for name, property := range map[string]string{"user properties": "\x26\x00\x00\x00\x00", "subscription identifiers": "\x0b\x01"} {
		t.Run(name, func(t *testing.T) {
			dbFrugal(t, "mqtt", dbCase{
				serve:  dbSays("\x20\x03\x00\x00\x00", "\x90\x04\x00\x01\x00\x00"+mqttMessage(property, mqttLimit/2)),
				config: map[string]any{"version": "5", "topic": "a"}, verdict: uptime.VerdictUp,
			})
		})
	}
}

// FuzzMQTT reads whatever a broker may send.
func FuzzMQTT(f *testing.F) {
	for _, s := range []string{
		"\x20\x02\x00\x00", "\x20\x03\x00\x87\x00", "\x90\x03\x00\x01\x80", "\x30\x04\x00\x01an", "\x40\x02\x00\x02", "\xe0\x02\x8b\x00",
		"\x20\x0a\x00\x00\x07\x11\x00\x00\x00\x00\x25\x01", "\x32\x08\x00\x01a\x00\x01\x00hi",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, five bool) {
		version := byte(4)
		if five {
			version = 5
		}
		in := bufio.NewReader(bytes.NewReader(b))
		for n := 0; ; n++ {
			pk, err := readMQTT(in, version)
			if err != nil {
				return
			}
			if len(pk.Payload) > len(b) || n > len(b) {
				t.Fatalf("packet %d holds %d bytes of %d", n, len(pk.Payload), len(b))
			}
		}
	})
}
