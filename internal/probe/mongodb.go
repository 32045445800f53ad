package probe

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"

	"vedette/internal/uptime"
)

// mongoConfig are the options of a MongoDB check.
type mongoConfig struct {
	databaseConfig
	Database string `json:"database" doc:"the database that knows the user (authSource); empty is admin"`
}

func newMongoDB() Type {
	return kind[mongoConfig]{
		name: "mongodb",
		about: "Asks one MongoDB server, or one that speaks its protocol, for its state (hello), logs in if there is a `username`, and sends ping. " +
			"Up means that it answered; a secondary, an arbiter and a mongos are up, a member that starts or recovers is not.",
		target: hostPort(27017),
		config: mongoConfig{databaseConfig: defaultDatabase()},
		sources: merged(databaseSources(), map[string]source{
			"role": textSource("role", "primary, secondary, arbiter, standalone or mongos", uptime.AssertFailed),
			"set":  textSource("set", "the name of the replica set", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{
			{Title: "MongoDB answers", Target: "db.example.com"},
			{Title: "A member is the primary", Target: "db.example.com:27017", Config: `{"security": "tls", "username": "monitor", "password": "…"}`,
				Assertions: `[{"source": "role", "op": "eq", "value": "primary"}]`},
		},
		compile: func(b *builder, cfg *mongoConfig) Check {
			cfg.apply(b)
			if cfg.Username == "" && (cfg.Password != "" || cfg.Database != "") {
				b.problems.Add("config.username", "is missing; config.password and config.database need a login")
			}
			version := b.asserts("server_version")
			return b.check(func(r *session) *fault { return probeMongoDB(r, cfg, version) })
		},
	}
}

// mongoRun is one conversation. The commands are few, and the driver would look for
// other members, watch them in the background, try again until its time is over and
// then tell that no server was found.
type mongoRun struct {
	*session
	conn    io.ReadWriter
	request int32 // number of the last one
}

func probeMongoDB(r *session, cfg *mongoConfig, version bool) *fault {
	conn, f := r.connectUnder(cfg.Security)
	if f != nil {
		return f
	}
	c := &mongoRun{session: r, conn: conn}
	database := cmp.Or(cfg.Database, "admin")
	hello, f := c.hello(cfg, database)
	if f != nil {
		return f
	}
	if cfg.Username != "" {
		if f := c.login(cfg, database, hello); f != nil {
			return f
		}
	}
	_, refusal, f := c.run("ping", "admin", bson.D{{Key: "ping", Value: 1}})
	if f != nil {
		return f
	}
	if refusal != nil && (cfg.Username != "" || !refusal.unauthorized()) {
		return refusal.fault(r, uptime.QueryFailed, "The server failed ping")
	}
	if version {
		// What a user may not know is not there to be asserted.
		info, _, f := c.run("buildInfo", "admin", bson.D{{Key: "buildInfo", Value: 1}})
		if f != nil {
			return f
		}
		if v, ok := info.Lookup("version").StringValueOK(); ok {
			r.serverVersion("MongoDB", v)
		}
	}
	return nil
}

// hello asks for the server's state. Servers before 4.4 know the command by its old
// name only.
func (c *mongoRun) hello(cfg *mongoConfig, database string) (bson.Raw, *fault) {
	const commandNotFound = 59
	ask := func(name string) (bson.Raw, *mongoRefusal, *fault) {
		command := bson.D{{Key: name, Value: 1}}
		if cfg.Username != "" {
			command = append(command, bson.E{Key: "saslSupportedMechs", Value: database + "." + cfg.Username})
		}
		return c.run(name, "admin", command)
	}
	state, refusal, f := ask("hello")
	if refusal != nil && refusal.code == commandNotFound {
		state, refusal, f = ask("isMaster")
	}
	switch {
	case f != nil:
		return nil, f
	case refusal != nil:
		return nil, refusal.fault(c.session, uptime.QueryFailed, "The server failed hello")
	}
	return state, c.role(state)
}

// role notes what part the server has.
func (c *mongoRun) role(state bson.Raw) *fault {
	is := func(key string) bool {
		v, _ := state.Lookup(key).BooleanOK()
		return v
	}
	set, member := state.Lookup("setName").StringValueOK()
	message, _ := state.Lookup("msg").StringValueOK()
	if member {
		c.setText("set", set)
	}
	role := "standalone"
	switch {
	case message == "isdbgrid":
		role = "mongos"
	case !member && !is("isreplicaset"):
	case is("isWritablePrimary"), is("ismaster"):
		role = "primary"
	case is("secondary"):
		role = "secondary"
	case is("arbiterOnly"):
		role = "arbiter"
	default:
		return down(uptime.NotReady, "The server is a member of a replica set, and neither primary nor secondary: it starts, recovers or was removed.")
	}
	c.setText("role", role)
	c.seen.Protocol, c.seen.Body = "MongoDB", role
	return nil
}

// login proves the password by SCRAM, with the better hash if the server has it
// (https://github.com/mongodb/specifications/blob/master/source/auth/auth.md).
func (c *mongoRun) login(cfg *mongoConfig, database string, hello bson.Raw) *fault {
	mechanism, talk := "SCRAM-SHA-256", newSCRAM(scram.SHA256, cfg.Username, cfg.Password.Reveal())
	if !slices.Contains(mongoMechanisms(hello), mechanism) {
		mechanism, talk = "SCRAM-SHA-1", newSCRAM(scram.SHA1, cfg.Username, hexMD5(cfg.Username+":mongo:"+cfg.Password.Reveal()))
	}
	payload, f := scramStep(talk, "")
	command := bson.D{{Key: "saslStart", Value: 1}, {Key: "mechanism", Value: mechanism}, {Key: "options", Value: bson.D{{Key: "skipEmptyExchange", Value: true}}}}
	for range 4 {
		if f != nil {
			return f
		}
		reply, refusal, f2 := c.run("the login", database, append(command, bson.E{Key: "payload", Value: bson.Binary{Data: []byte(payload)}}))
		if f2 != nil {
			return f2
		}
		if refusal != nil {
			return refusal.fault(c.session, uptime.AuthFailed, "The server refused the login")
		}
		_, answer, _ := reply.Lookup("payload").BinaryOK()
		payload = ""
		if !talk.Done() {
			payload, f = scramStep(talk, string(answer))
		}
		if done, _ := reply.Lookup("done").BooleanOK(); done && f == nil {
			break
		}
		id, _ := reply.Lookup("conversationId").AsInt64OK()
		command = bson.D{{Key: "saslContinue", Value: 1}, {Key: "conversationId", Value: int32(id)}}
	}
	if f == nil && !talk.Valid() {
		f = down(uptime.Protocol, "The server took the login without proving that it knows the password.")
	}
	return f
}

func mongoMechanisms(hello bson.Raw) []string {
	var out []string
	list, _ := hello.Lookup("saslSupportedMechs").ArrayOK()
	values, _ := list.Values()
	for _, v := range values {
		s, _ := v.StringValueOK()
		out = append(out, s)
	}
	return out
}

// mongoRefusal is an answer that is an error.
type mongoRefusal struct {
	code    int64
	message string
}

func (e *mongoRefusal) unauthorized() bool { return e.code == 13 }

// fault is what the error says: reason, unless the server stops, or changes its role
// (https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml).
func (e *mongoRefusal) fault(r *session, reason uptime.Reason, what string) *fault {
	switch e.code {
	case 91, 189, 11600, 11602, 13435, 13436:
		reason, what = uptime.NotReady, "The server says that it is not ready"
	case 13, 18:
		reason, what = uptime.AuthFailed, "The server refused the login"
	}
	return down(reason, "%s: %s (%d).", what, clean(r.withoutSecrets(strings.TrimSuffix(e.message, ".")), 200), e.code)
}

// run sends a command to a database and reads its answer. name is for people.
func (c *mongoRun) run(name, database string, command bson.D) (bson.Raw, *mongoRefusal, *fault) {
	document, err := bson.Marshal(append(command, bson.E{Key: "$db", Value: database}))
	if err != nil {
		return nil, nil, unknown(uptime.InternalError, "A command could not be written.")
	}
	c.request++
	begin := time.Now()
	if _, err = c.conn.Write(mongoMessage(c.request, 0, document)); err == nil {
		document, err = readMongo(c.conn, c.request)
	}
	if err != nil {
		return nil, nil, c.talkFault(err, "its answer to "+name)
	}
	if c.phases.FirstByte == 0 {
		c.phases.FirstByte = time.Since(begin)
	}
	reply := bson.Raw(document)
	if ok, is := reply.Lookup("ok").AsFloat64OK(); is && ok == 1 {
		return reply, nil, nil
	}
	code, _ := reply.Lookup("code").AsInt64OK()
	message, _ := reply.Lookup("errmsg").StringValueOK()
	return reply, &mongoRefusal{code, message}, nil
}

const (
	mongoHead = 16       // bytes: length, number, number that is answered, kind
	opMsg     = 2013     // https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
	maxMongo  = 64 << 10 // bytes of a message; those asked for here have a few thousand
)

// mongoMessage is a document as a message.
func mongoMessage(number, answers int32, document []byte) []byte {
	b := make([]byte, 0, mongoHead+5+len(document))
	for _, n := range []int32{int32(cap(b)), number, answers, opMsg, 0} { // the last are flags
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return append(append(b, 0), document...) // 0: the kind of section that is one document
}

var errMongo = errors.New("not an answer of MongoDB")

// readMongo reads the answer to a request: one document.
func readMongo(in io.Reader, request int32) ([]byte, error) {
	head := make([]byte, mongoHead)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	field := func(i int) int32 { return int32(binary.LittleEndian.Uint32(head[4*i:])) }
	if n := field(0); n < mongoHead+5 || n > maxMongo || field(3) != opMsg || field(2) != request {
		return nil, fmt.Errorf("%w: %q", errMongo, head)
	}
	body := make([]byte, field(0)-mongoHead)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	document := bson.Raw(body[5:])
	if body[0]&1 != 0 { // a checksum ends the message
		document = document[:max(0, len(document)-4)]
	}
	if err := document.Validate(); body[4] != 0 || err != nil {
		return nil, fmt.Errorf("%w: no document in it", errMongo)
	}
	return document, nil
}
