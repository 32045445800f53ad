package probe

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"

	"vedette/internal/uptime"
)

// mongoFake stands in for MongoDB, which Debian does not package. It speaks the
// protocol as mongod 4.4 and later do: OP_MSG, hello, ping, buildInfo and SCRAM, whose
// proof it really verifies. What it answers can be replaced, by command.
type mongoFake struct {
	hash    scram.HashGeneratorFcn // of the user "monitor"; nil: nobody can log in
	name    string                 // of hash
	answers map[string]bson.D
	tls     *tls.Config
	flags   byte // of every answer; 1 has a checksum
}

// serve answers until the prober goes.
func (m mongoFake) serve(c net.Conn) {
	var conn io.ReadWriter = c
	if m.tls != nil {
		conn = tls.Server(c, m.tls)
	}
	talk := m.conversation()
	for {
		head := make([]byte, mongoHead)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(head)-mongoHead)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		answer, err := bson.Marshal(m.answer(bson.Raw(body[5:]), talk))
		if err != nil {
			return
		}
		b := mongoMessage(7, int32(binary.LittleEndian.Uint32(head[4:])), answer)
		if m.flags&1 != 0 {
			b = append(b, "sum!"...)
			binary.LittleEndian.PutUint32(b, uint32(len(b)))
		}
		b[mongoHead] |= m.flags
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// conversation is the server's side of a login.
func (m mongoFake) conversation() *scram.ServerConversation {
	if m.hash == nil {
		return nil
	}
	password := dbCanary
	if m.name == "SCRAM-SHA-1" {
		password = hexMD5("monitor:mongo:" + dbCanary)
	}
	known, _ := m.hash.NewClientUnprepped("monitor", password, "")
	stored, err := known.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: 4096})
	if err != nil {
		return nil
	}
	server, _ := m.hash.NewServer(func(user string) (scram.StoredCredentials, error) {
		if user != "monitor" {
			return scram.StoredCredentials{}, io.EOF
		}
		return stored, nil
	})
	return server.NewConversation()
}

func mongoError(code int, message string) bson.D {
	return bson.D{{Key: "ok", Value: 0.0}, {Key: "code", Value: code}, {Key: "errmsg", Value: message}}
}

func (m mongoFake) answer(command bson.Raw, talk *scram.ServerConversation) bson.D {
	elements, err := command.Elements()
	if err != nil || len(elements) == 0 {
		return mongoError(9, "FailedToParse")
	}
	name := elements[0].Key()
	if a, ok := m.answers[name]; ok {
		return a
	}
	ok := bson.E{Key: "ok", Value: 1.0}
	switch name {
	case "hello":
		state := bson.D{{Key: "isWritablePrimary", Value: true}, {Key: "maxWireVersion", Value: 21}, ok}
		if user, _ := command.Lookup("saslSupportedMechs").StringValueOK(); user == "admin.monitor" {
			state = append(state, bson.E{Key: "saslSupportedMechs", Value: bson.A{m.name}})
		}
		return state
	case "ping":
		return bson.D{ok}
	case "buildInfo":
		return bson.D{{Key: "version", Value: "7.0.5-fake"}, ok}
	case "saslStart", "saslContinue":
		_, payload, _ := command.Lookup("payload").BinaryOK()
		if mechanism, is := command.Lookup("mechanism").StringValueOK(); talk == nil || is && mechanism != m.name {
			return mongoError(334, "mechanism not enabled")
		}
		answer, err := talk.Step(string(payload))
		if err != nil {
			return mongoError(18, "Authentication failed.")
		}
		return bson.D{{Key: "conversationId", Value: 1}, {Key: "done", Value: talk.Done()}, {Key: "payload", Value: bson.Binary{Data: []byte(answer)}}, ok}
	}
	return mongoError(59, "no such command")
}

func TestMongoDB(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	up, down := uptime.VerdictUp, uptime.VerdictDown
	none := map[string]any{}
	user := map[string]any{"username": "monitor", "password": dbCanary}
	sha256 := mongoFake{hash: scram.SHA256, name: "SCRAM-SHA-256"}
	sha1 := mongoFake{hash: scram.SHA1, name: "SCRAM-SHA-1"}
	secured := sha256
	secured.tls = &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}}
	with := func(m mongoFake, command string, answer bson.D) func(net.Conn) {
		m.answers = map[string]bson.D{command: answer}
		return m.serve
	}
	state := func(fields ...any) func(net.Conn) {
		d := bson.D{{Key: "ok", Value: 1}}
		for i := 0; i < len(fields); i += 2 {
			d = append(d, bson.E{Key: fields[i].(string), Value: fields[i+1]})
		}
		return with(sha256, "hello", d)
	}
	role := func(v string) []uptime.Assertion { return []uptime.Assertion{assert("role", "", "eq", v)} }
	old := sha1
	old.answers = map[string]bson.D{"hello": mongoError(59, "no such command: 'hello'"),
		"isMaster": {{Key: "ismaster", Value: true}, {Key: "setName", Value: "rs0"}, {Key: "ok", Value: 1.0}}}
	cases := dbStrangers(t, none)
	for name, tt := range map[string]dbCase{
		"a standalone answers":          {serve: sha256.serve, config: none, verdict: up, assertions: role("standalone")},
		"it tells its version":          {serve: sha256.serve, config: none, verdict: up, assertions: []uptime.Assertion{assert("server_version", "", "eq", "7.0.5-fake")}},
		"a login with SHA-256":          {serve: sha256.serve, config: user, verdict: up},
		"a login with SHA-1":            {serve: sha1.serve, config: user, verdict: up},
		"a login under TLS":             {serve: secured.serve, config: dbTLS(ca, user), verdict: up},
		"a server before 4.4":           {serve: old.serve, config: none, verdict: up, assertions: append(role("primary"), assert("set", "", "eq", "rs0"))},
		"a primary":                     {serve: state("isWritablePrimary", true, "setName", "rs0"), config: none, verdict: up, assertions: role("primary")},
		"a secondary":                   {serve: state("isWritablePrimary", false, "secondary", true, "setName", "rs0"), config: none, verdict: up, assertions: role("secondary")},
		"an arbiter":                    {serve: state("arbiterOnly", true, "setName", "rs0"), config: none, verdict: up, assertions: role("arbiter")},
		"a mongos":                      {serve: state("isWritablePrimary", true, "msg", "isdbgrid"), config: none, verdict: up, assertions: role("mongos")},
		"answers with a checksum":       {serve: mongoFake{flags: 1}.serve, config: none, verdict: up},
		"ping needs a login":            {serve: with(sha256, "ping", mongoError(13, "command ping requires authentication")), config: none, verdict: up},
		"a secondary and not a primary": {serve: state("secondary", true, "setName", "rs0"), config: none, verdict: down, reason: uptime.AssertFailed, assertions: role("primary")},
		"a member that recovers":        {serve: state("isWritablePrimary", false, "secondary", false, "setName", "rs0"), config: none, verdict: down, reason: uptime.NotReady},
		"a member without a set yet":    {serve: state("isWritablePrimary", false, "isreplicaset", true), config: none, verdict: down, reason: uptime.NotReady},
		"it shuts down":                 {serve: with(sha256, "ping", mongoError(91, "The server is in quiesce mode and will shut down")), config: none, verdict: down, reason: uptime.NotReady, says: "(91)"},
		"a wrong password":              {serve: sha256.serve, config: map[string]any{"username": "monitor", "password": "canary-wrong"}, verdict: down, reason: uptime.AuthFailed, says: "(18)"},
		"an unknown user":               {serve: sha256.serve, config: map[string]any{"username": "nobody", "password": dbCanary}, verdict: down, reason: uptime.AuthFailed, says: "(334)"},
		"the wrong database":            {serve: sha256.serve, config: map[string]any{"username": "monitor", "password": dbCanary, "database": "shop"}, verdict: down, reason: uptime.AuthFailed},
		"a login it does not prove":     {serve: with(sha256, "saslStart", bson.D{{Key: "done", Value: true}, {Key: "ok", Value: 1}}), config: user, verdict: down, reason: uptime.Protocol},
		"a login without end": {serve: with(sha256, "saslStart", bson.D{{Key: "done", Value: false}, {Key: "payload", Value: bson.Binary{Data: []byte("r=x,s=AAAA,i=99999999")}}, {Key: "ok", Value: 1}}),
			config: user, verdict: down, reason: uptime.Protocol},
		"ping fails":                       {serve: with(sha256, "ping", mongoError(8, "unknown error")), config: none, verdict: down, reason: uptime.QueryFailed},
		"an answer that is no truth":       {serve: with(sha256, "hello", bson.D{}), config: none, verdict: down, reason: uptime.QueryFailed},
		"it repeats the password to us":    {serve: with(sha256, "saslStart", mongoError(18, "no: "+dbCanary)), config: user, verdict: down, reason: uptime.AuthFailed, says: "no: " + uptime.Redacted},
		"an answer in pieces, then silent": {serve: func(c net.Conn) { dbPieces(c, string(mongoMessage(7, 1, []byte("\x05\x00\x00\x00\x00")))[:18]) }, config: none, timeout: 2 * short, verdict: down, reason: uptime.Timeout},
		"an answer to another question":    {serve: dbSays(string(mongoMessage(7, 99, []byte("\x05\x00\x00\x00\x00")))), config: none, verdict: down, reason: uptime.Protocol},
		"no TLS where it is wanted":        {serve: dbCloses, config: dbTLS(ca, none), verdict: down, reason: uptime.TLSHandshake},
		"an untrusted certificate":         {serve: secured.serve, config: map[string]any{"security": "tls"}, verdict: down, reason: uptime.TLSUntrusted},
		"it claims a long message":         {serve: dbSays("\xff\xff\xff\x7f\x01\x00\x00\x00\x01\x00\x00\x00\xdd\x07\x00\x00"), config: none, verdict: down, reason: uptime.Protocol},
	} {
		cases[name] = tt
	}
	dbCases(t, "mongodb", cases)
	t.Run("examples", func(t *testing.T) {
		t.Parallel()
		runExample(t, "mongodb", 0, serveRaw(t, sha256.serve), nil)
		primary := secured
		primary.answers = map[string]bson.D{"hello": {{Key: "isWritablePrimary", Value: true}, {Key: "setName", Value: "rs0"}, {Key: "saslSupportedMechs", Value: bson.A{"SCRAM-SHA-256"}}, {Key: "ok", Value: 1}}}
		runExample(t, "mongodb", 1, serveRaw(t, primary.serve), func(c map[string]any) {
			c["tls"], c["password"] = map[string]any{"ca_pem": ca.pem()}, dbCanary
		})
	})
}

// mongoNested is a document in a document, and so on, as deep as n bytes allow.
func mongoNested(n int) []byte {
	b := []byte{5, 0, 0, 0, 0}
	for len(b)+8 < n {
		d := binary.LittleEndian.AppendUint32(nil, uint32(len(b)+8))
		b = append(append(append(d, 3, 'a', 0), b...), 0)
	}
	return b
}

func TestMongoDBIsFrugal(t *testing.T) {
	for name, tt := range map[string]dbCase{
		"a claimed length": {serve: dbSays("\xff\xff\xff\x7f\x01\x00\x00\x00\x01\x00\x00\x00\xdd\x07\x00\x00"), reason: uptime.Protocol},
		"a deep document":  {serve: dbSays(string(mongoMessage(7, 1, mongoNested(maxMongo-100)))), reason: uptime.QueryFailed},
		"endless output":   {serve: dbEndless("", "\x00\x00\x00\x00"), reason: uptime.Protocol},
	} {
		t.Run(name, func(t *testing.T) {
			tt.verdict = uptime.VerdictDown
			dbFrugal(t, "mongodb", tt)
		})
	}
}

func TestMongoDBRefusesConfigs(t *testing.T) {
	t.Parallel()
	dbRefusesConfigs(t, "mongodb", map[string]string{
		`{"password":"x"}`: "config.username", `{"database":"x"}`: "config.username", `{"query":"x"}`: "config.query", `{"security":"starttls"}`: "config.security",
	})
}

// FuzzMongoReply: what is read is a document, or refused.
func FuzzMongoReply(f *testing.F) {
	good := mongoMessage(7, 1, []byte("\x0d\x00\x00\x00\x10ok\x00\x01\x00\x00\x00\x00"))
	for _, s := range [][]byte{good, good[:20], mongoMessage(7, 2, nil), mongoMessage(7, 1, mongoNested(200)), []byte(strings.Repeat("\x00", 30)), nil} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := readMongo(bytes.NewReader(b), 1)
		if err == nil && (len(d) > len(b) || bson.Raw(d).Validate() != nil) {
			t.Errorf("%q: %q", b, d)
		}
	})
}
