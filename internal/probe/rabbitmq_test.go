package probe

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// rabbitDefinitions is what the real server knows: the user probe with the password
// canary-right, who may use the virtual host shop and, of "/", the queue orders only.
const rabbitDefinitions = `{
	"users": [{"name": "probe", "password": "canary-right", "tags": ""}],
	"vhosts": [{"name": "/"}, {"name": "shop"}, {"name": "cellar"}],
	"permissions": [
		{"user": "probe", "vhost": "/", "configure": "^orders$", "write": "^orders$", "read": "^orders$"},
		{"user": "probe", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}
	],
	"queues": [
		{"name": "orders", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}},
		{"name": "stock", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {}}
	]
}`

// rabbitServer is Debian's RabbitMQ, over TLS too if server is given. Its node and the
// daemon that nodes find each other by are its own, so that it is alone on a machine
// that runs another.
func rabbitServer(t *testing.T, server *tls.Config) (plain, secure string) {
	t.Helper()
	names := testenv.Start(t, testenv.ProgramSpec{
		Binary: "epmd", Package: "erlang-base",
		Args: func(s *testenv.Program) []string {
			return []string{"-address", "127.0.0.1", "-port", strconv.Itoa(s.Port)}
		},
	})
	_, nodePort, err := net.SplitHostPort(talkClosed(t))
	if err != nil {
		t.Fatal(err)
	}
	secure = talkClosed(t)
	s := testenv.Start(t, testenv.ProgramSpec{
		Binary: "/usr/lib/rabbitmq/bin/rabbitmq-server", Package: "rabbitmq-server", User: "rabbitmq",
		Within: 3 * time.Minute, // 15 s on two cores that do nothing else
		Prepare: func(s *testenv.Program) error {
			cert, key := brokerPEM(t, server)
			conf := []string{
				"listeners.tcp.1 = " + s.Addr, "listeners.ssl.1 = " + secure, "load_definitions = " + filepath.Join(s.Dir, "definitions.json"),
				"ssl_options.certfile = " + filepath.Join(s.Dir, "cert"), "ssl_options.keyfile = " + filepath.Join(s.Dir, "key"),
				"log.console = true", "log.console.level = error", "log.file = false",
			}
			write := func(name, text string) error { return os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644) }
			return errors.Join(write("rabbitmq.conf", strings.Join(conf, "\n")+"\n"), write("definitions.json", rabbitDefinitions),
				write("enabled_plugins", "[].\n"), write("cert", cert), write("key", key))
		},
		Args: func(*testenv.Program) []string { return nil },
		Env: func(s *testenv.Program) []string {
			return []string{
				"RUNNING_UNDER_SYSTEMD=yes", // no shell stays above the server, so that its end is the server's
				"HOME=" + s.Dir, "ERL_EPMD_PORT=" + strconv.Itoa(names.Port), "ERL_EPMD_ADDRESS=127.0.0.1",
				"RABBITMQ_NODENAME=vedette" + strconv.Itoa(s.Port) + "@localhost", "RABBITMQ_DIST_PORT=" + nodePort, "RABBITMQ_CONF_ENV_FILE=/dev/null",
				"RABBITMQ_MNESIA_BASE=" + filepath.Join(s.Dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(s.Dir, "log"),
				"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(s.Dir, "enabled_plugins"), "RABBITMQ_CONFIG_FILE=" + filepath.Join(s.Dir, "rabbitmq.conf"),
			}
		},
	})
	return s.Addr, secure
}

func TestARealRabbitMQ(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	server, ca := brokerTLS(t)
	plain, secure := rabbitServer(t, server)
	login := func(more string) string { return `{"username":"probe","password":"canary-right"` + more + `}` }
	overTLS := brokerConfig(map[string]any{"security": "tls", "username": "probe", "password": "canary-right", "tls": map[string]any{"ca_pem": ca}})
	brokerCases(t, "rabbitmq", map[string]brokerCase{
		"a login":                         {target: plain, config: login(""), verdict: up},
		"a login over TLS":                {target: secure, config: overTLS, verdict: up},
		"another virtual host":            {target: plain, config: login(`,"vhost":"shop"`), verdict: up},
		"a queue without a message":       {target: plain, config: login(`,"queue":"orders"`), assertions: []uptime.Assertion{assert("messages", "", "eq", 0)}, verdict: up},
		"a queue that nobody works off":   {target: plain, config: login(`,"vhost":"shop","queue":"stock"`), assertions: []uptime.Assertion{assert("consumers", "", "ge", 1)}, verdict: down, reason: uptime.AssertFailed, says: "0"},
		"a wrong password":                {target: plain, config: `{"username":"probe","password":"canary-wrong"}`, verdict: down, reason: uptime.AuthFailed},
		"an unknown user":                 {target: plain, config: `{"username":"nobody","password":"canary-right"}`, verdict: down, reason: uptime.AuthFailed},
		"an unknown virtual host":         {target: plain, config: login(`,"vhost":"none"`), verdict: down, reason: uptime.AuthFailed},
		"a virtual host of others":        {target: plain, config: login(`,"vhost":"cellar"`), verdict: down, reason: uptime.AuthFailed},
		"a queue that is not there":       {target: plain, config: login(`,"queue":"bills"`), verdict: down, reason: uptime.NotReady, says: "bills"},
		"plain where TLS is spoken":       {target: secure, config: login(""), verdict: down, reason: uptime.Protocol, or: uptime.ConnClosed},
		"TLS where it is not spoken":      {target: plain, config: overTLS, verdict: down, reason: uptime.TLSHandshake},
		"a certificate of nobody's trust": {target: secure, config: login(`,"security":"tls"`), verdict: down, reason: uptime.TLSUntrusted},
	})
}

// rabbitFake is a protocol-true fake of a RabbitMQ server, as AMQP 0-9-1 and its
// extensions write it down, for what the real one does not do on demand. It knows the user probe with the password canary-right, the virtual hosts "/" and
// "shop", and in them the queue orders.
type rabbitFake struct {
	loudly bool // a wrong login is answered before the connection ends
	greets func(net.Conn)
	frames string // sent after the login, before anything else
	ends   bool   // shuts down when a channel is opened
	deaf   bool   // never answers a login
	resets bool   // breaks the connection off at a wrong login, as RabbitMQ 3.10 does
}

func (f rabbitFake) serve(t *testing.T, server *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if server != nil {
		l = tls.NewListener(l, server)
	}
	brokerServeOn(t, l, f.talk)
	return l.Addr().String()
}

// rabbitMethod is a frame that holds one method.
func rabbitMethod(channel, class, method uint16, args string) string {
	payload := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, class), method)
	payload = append(payload, args...)
	b := binary.BigEndian.AppendUint16([]byte{1}, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return string(b) + string(payload) + "\xce"
}

// rabbitClose are the arguments of connection.close and channel.close.
func rabbitClose(code uint16, text string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + string(rune(len(text))) + text + "\x00\x00\x00\x00"
}

// rabbitRead is the next method of a client and its arguments; 0 when there is none.
func rabbitRead(c net.Conn) (method uint32, args []byte) {
	for {
		var head [7]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return 0, nil
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(c, payload); err != nil {
			return 0, nil
		}
		if head[0] == 1 {
			return binary.BigEndian.Uint32(payload), payload[4 : len(payload)-1]
		}
	}
}

func (f rabbitFake) talk(c net.Conn) {
	say := func(frame string) { _, _ = io.WriteString(c, frame) }
	var hello [8]byte
	if _, err := io.ReadFull(c, hello[:]); err != nil || string(hello[:]) != "AMQP\x00\x00\x09\x01" {
		say("AMQP\x00\x00\x09\x01")
		return
	}
	product := "\x07productS\x00\x00\x00\x04Fake"
	say(rabbitMethod(0, 10, 10, "\x00\x09\x00\x00\x00"+string(rune(len(product)))+product+"\x00\x00\x00\x0ePLAIN AMQPLAIN\x00\x00\x00\x05en_US"))
	for {
		method, args := rabbitRead(c)
		switch method {
		case 10<<16 | 11: // start-ok
			if f.deaf {
				break
			}
			if !bytes.Contains(args, []byte("\x00probe\x00canary-right")) {
				if f.loudly {
					say(rabbitMethod(0, 10, 50, rabbitClose(403, "ACCESS_REFUSED - Login was refused")))
				}
				if f.resets {
					testenv.Reset(c)
				}
				return
			}
			say(rabbitMethod(0, 10, 30, "\x07\xff\x00\x02\x00\x00\x00\x3c")) // tune
		case 10<<16 | 40: // open
			vhost := string(args[1 : 1+args[0]])
			if !slices.Contains([]string{"/", "shop"}, vhost) {
				say(rabbitMethod(0, 10, 50, rabbitClose(530, "NOT_ALLOWED - vhost "+vhost+" not found")))
				break
			}
			say(rabbitMethod(0, 10, 41, "\x00") + f.frames)
			if f.greets != nil {
				f.greets(c)
				return
			}
		case 20<<16 | 10: // channel.open
			if f.ends {
				say(rabbitMethod(0, 10, 50, rabbitClose(320, "CONNECTION_FORCED - shutdown")))
				break
			}
			say(rabbitMethod(1, 20, 11, "\x00\x00\x00\x00"))
		case 50<<16 | 10: // queue.declare
			name := string(args[3 : 3+args[2]])
			if args[3+args[2]]&1 == 0 {
				return // not passive: a check must never make a queue
			}
			switch name {
			case "orders":
				say(rabbitMethod(1, 50, 11, "\x06orders\x00\x00\x00\x2a\x00\x00\x00\x02"))
			case "private":
				say(rabbitMethod(1, 20, 40, rabbitClose(403, "ACCESS_REFUSED - queue 'private'")))
			default:
				say(rabbitMethod(1, 20, 40, rabbitClose(404, "NOT_FOUND - no queue '"+name+"' in vhost '/'")))
			}
		case 10<<16 | 50: // connection.close
			say(rabbitMethod(0, 10, 51, ""))
			return
		case 0:
			return
		}
	}
}

// rabbitGarbage answers the first method with what is no frame.
func rabbitGarbage(c net.Conn) {
	rabbitRead(c)
	brokerSays(strings.Repeat("\xff", 64))(c)
}

// rabbitTwice answers channel.open, and then queue.declare, with frames more than is due.
func rabbitTwice(open, declare string) func(net.Conn) {
	return func(c net.Conn) {
		rabbitRead(c)
		_, _ = io.WriteString(c, rabbitMethod(1, 20, 11, "\x00\x00\x00\x00")+open)
		if declare != "" {
			rabbitRead(c)
			_, _ = io.WriteString(c, declare+declare)
		}
		brokerSilent(c)
	}
}

func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	server, ca := brokerTLS(t)
	trusted := map[string]any{"ca_pem": ca}
	plain, loud, secure := rabbitFake{}.serve(t, nil), rabbitFake{loudly: true}.serve(t, nil), rabbitFake{}.serve(t, server)
	rude := rabbitFake{greets: brokerSilent}.serve(t, nil)
	login := func(more string) string { return `{"username":"probe","password":"canary-right"` + more + `}` }
	const wrong = `{"username":"probe","password":"canary-wrong"}`
	declared := rabbitMethod(1, 50, 11, "\x06orders\x00\x00\x00\x2a\x00\x00\x00\x02")
	count := func(source, op string, n int) []uptime.Assertion {
		return []uptime.Assertion{assert(source, "", op, n)}
	}
	overTLS := brokerConfig(map[string]any{"security": "tls", "username": "probe", "password": "canary-right", "tls": trusted})
	brokerCases(t, "rabbitmq", map[string]brokerCase{
		"a login is up":                          {target: plain, config: login(""), verdict: up},
		"another virtual host is up":             {target: plain, config: login(`,"vhost":"shop"`), verdict: up},
		"a queue that is there is up":            {target: plain, config: login(`,"queue":"orders"`), verdict: up},
		"the messages of a queue":                {target: plain, config: login(`,"queue":"orders"`), assertions: count("messages", "eq", 42), verdict: up},
		"the consumers of a queue":               {target: plain, config: login(`,"queue":"orders"`), assertions: count("consumers", "ge", 1), verdict: up},
		"TLS is up":                              {target: secure, config: overTLS, verdict: up},
		"heartbeats in between are no answer":    {target: rabbitFake{frames: "\x08\x00\x00\x00\x00\x00\x00\xce"}.serve(t, nil), config: login(`,"queue":"orders"`), verdict: up},
		"an answer that comes twice is up":       {target: rabbitFake{greets: rabbitTwice("", declared)}.serve(t, nil), config: login(`,"queue":"orders"`), verdict: up},
		"an answer that was not asked for":       {target: rabbitFake{greets: rabbitTwice(rabbitMethod(0, 10, 41, "\x00"), "")}.serve(t, nil), config: login(`,"queue":"orders"`), timeout: short, verdict: down, reason: uptime.Timeout},
		"an unanswered goodbye is not judged":    {target: rude, config: login(""), timeout: 3 * short, verdict: up},
		"nor does it take time of the check":     {target: rude, config: login(""), assertions: []uptime.Assertion{assert("duration", "", "lt", farewell.String())}, verdict: up},
		"a slow answer in time is up":            {target: brokerServe(t, brokerLate(rabbitFake{}.talk)), config: login(""), verdict: up},
		"a wrong password is auth_failed":        {target: plain, config: wrong, verdict: down, reason: uptime.AuthFailed, says: "hung up"},
		"a wrong password that is answered":      {target: loud, config: wrong, verdict: down, reason: uptime.AuthFailed, says: "ACCESS_REFUSED"},
		"an unknown virtual host is auth_failed": {target: plain, config: login(`,"vhost":"none"`), verdict: down, reason: uptime.AuthFailed, says: "vhost none not found"},
		"a missing queue is not_ready":           {target: plain, config: login(`,"queue":"bills"`), verdict: down, reason: uptime.NotReady, says: "no queue 'bills'"},
		"a queue that is not allowed":            {target: plain, config: login(`,"queue":"private"`), verdict: down, reason: uptime.AuthFailed},
		"more messages than asserted":            {target: plain, config: login(`,"queue":"orders"`), assertions: count("messages", "lt", 10), verdict: down, reason: uptime.AssertFailed, says: "42"},
		"a server that shuts down is not_ready":  {target: rabbitFake{ends: true}.serve(t, nil), config: login(`,"queue":"orders"`), verdict: down, reason: uptime.NotReady, says: "shutdown"},
		"a queue that is never answered":         {target: rabbitFake{greets: brokerSilent}.serve(t, nil), config: login(`,"queue":"orders"`), timeout: short, verdict: down, reason: uptime.Timeout},
		"an untrusted certificate":               {target: secure, config: login(`,"security":"tls"`), verdict: down, reason: uptime.TLSUntrusted},
		"TLS on a port without it":               {target: plain, config: overTLS, verdict: down, reason: uptime.TLSHandshake},
		"refused":                                {target: talkClosed(t), config: login(""), verdict: down, reason: uptime.ConnRefused},
		"silent after connect":                   {target: brokerServe(t, brokerSilent), config: login(""), timeout: short, verdict: down, reason: uptime.Timeout},
		"closed without an answer":               {target: brokerServe(t, brokerCloses), config: login(""), verdict: down, reason: uptime.ConnClosed},
		"a web server is protocol":               {target: brokerServe(t, brokerAnswers("HTTP/1.1 400 Bad Request\r\n\r\n")), config: login(""), verdict: down, reason: uptime.Protocol},
		"another version of AMQP is protocol":    {target: brokerServe(t, brokerAnswers("AMQP\x00\x01\x00\x00")), config: login(""), verdict: down, reason: uptime.Protocol},
		"a frame that claims 4 GiB":              {target: brokerServe(t, brokerSays("\x01\x00\x00\xff\xff\xff\xff")), config: login(""), verdict: down, reason: uptime.Protocol},
		"garbage before it is asked":             {target: rabbitFake{frames: "\x08\x00\x00\x00\x00\x00\x01x\xce"}.serve(t, nil), config: login(`,"queue":"orders"`), verdict: down, reason: uptime.Protocol},
		"a goodbye before it is asked":           {target: rabbitFake{frames: rabbitMethod(0, 10, 50, rabbitClose(320, "shutdown"))}.serve(t, nil), config: login(`,"queue":"orders"`), verdict: down, reason: uptime.NotReady, or: uptime.ConnClosed},
		"garbage for an answer":                  {target: rabbitFake{greets: rabbitGarbage}.serve(t, nil), config: login(`,"queue":"orders"`), verdict: down, reason: uptime.Protocol},
		"a login that is never answered":         {target: rabbitFake{deaf: true}.serve(t, nil), config: login(""), timeout: short, verdict: down, reason: uptime.Timeout, says: "login"},
		"a reset at the login is auth_failed":    {target: rabbitFake{resets: true}.serve(t, nil), config: wrong, verdict: down, reason: uptime.AuthFailed},
		"heartbeats without end":                 {target: brokerServe(t, brokerRepeats("", strings.Repeat("\x08\x00\x00\x00\x00\x00\x00\xce", 1000))), config: login(""), verdict: down, reason: uptime.Protocol, says: "more than"},
	})
}

func TestRabbitMQRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{}`:                   "config.username",
		`{"username":"probe"}`: "config.queue",
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{
			Type: "rabbitmq", Target: "mq.example", Config: json.RawMessage(config), Assertions: []uptime.Assertion{assert("messages", "", "lt", 1)},
		})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != path {
			t.Errorf("Compile of %s = %v, want a problem of %s", config, err, path)
		}
	}
}

func TestRabbitMQExamples(t *testing.T) {
	t.Parallel()
	server, ca := brokerTLS(t)
	runExample(t, "rabbitmq", 0, rabbitFake{}.serve(t, server), func(c map[string]any) {
		c["tls"], c["password"] = map[string]any{"ca_pem": ca}, "canary-right"
	})
}

func TestRabbitMQLeavesNothingBehind(t *testing.T) {
	login := `{"username":"probe","password":"canary-right","queue":"orders"}`
	brokerSteady(t, "rabbitmq",
		brokerCase{target: brokerServe(t, brokerSilent), config: login},
		brokerCase{target: rabbitFake{greets: brokerSilent}.serve(t, nil), config: login},
		brokerCase{target: rabbitFake{greets: rabbitTwice(rabbitMethod(0, 10, 41, "\x00"), "")}.serve(t, nil), config: login},
		brokerCase{target: rabbitFake{}.serve(t, nil), config: `{"username":"probe","password":"canary-wrong"}`},
		brokerCase{target: brokerServe(t, brokerSays(strings.Repeat(rabbitMethod(0, 10, 41, "\x00"), 3))), config: login},
	)
}

func TestRabbitMQIsFrugal(t *testing.T) {
	login := map[string]any{"username": "probe", "password": dbCanary}
	// start is connection.start up to its table, with lengths of what there is not.
	const start = "\x01\x00\x00\x00\x00\x0f\xa0\x00\x0a\x00\x0a\x00\x09"
	tables := strings.Repeat("F\x00\x00\x00\x03\x01aV", 3800)
	array := string(binary.BigEndian.AppendUint32([]byte("\x01aA"), uint32(len(tables)))) + tables
	table := string(binary.BigEndian.AppendUint32(nil, uint32(len(array)))) + array
	for name, tt := range map[string]dbCase{
		"a table that claims 2 GiB": {serve: dbEndless(start+"\x7f\xff\xff\xff", "\x01aV"), reason: uptime.Protocol},
		"a table of many tables":    {serve: dbSays(start + table + "\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US\xce"), timeout: short, reason: uptime.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			tt.config, tt.verdict = login, uptime.VerdictDown
			dbFrugal(t, "rabbitmq", tt)
		})
	}
}
