package probe

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"vedette/internal/uptime"
)

func newPostgres() Type {
	return kind[queryConfig]{
		name: "postgres",
		about: "Logs in to a PostgreSQL server, or to a pooler that speaks its protocol, and runs a query in a read-only transaction if there is one. " +
			"Without `username`, up means that the server answered a login with a question for a password, or refused it.",
		target:  hostPort(5432),
		config:  queryConfig{databaseConfig: defaultDatabase()},
		sources: querySources(),
		examples: []uptime.CheckExample{
			{Title: "PostgreSQL takes logins", Target: "db.example.com", Config: `{"security": "tls"}`},
			{Title: "A standby is not far behind", Target: "standby.example.com:5432",
				Config:     `{"security": "tls", "username": "monitor", "password": "…", "database": "postgres", "query": "select coalesce(extract(epoch from now() - pg_last_xact_replay_timestamp()) < 60, true)"}`,
				Assertions: `[{"source": "value", "op": "eq", "value": "t"}]`},
		},
		compile: func(b *builder, cfg *queryConfig) Check {
			cfg.apply(b)
			return b.check(func(r *session) *fault { return probePostgres(r, cfg) })
		},
	}
}

// postgresRun is one conversation. It is had message by message: the driver's own
// connect takes its settings from PG* variables, service files and ~/.pgpass,
// whatever the program sets.
type postgresRun struct {
	*session
	cfg *queryConfig
	*pgproto3.Frontend
}

func probePostgres(r *session, cfg *queryConfig) *fault {
	conn, f := r.connect()
	if f == nil && cfg.Security == "tls" {
		conn, f = postgresTLS(r, conn)
	}
	if f != nil {
		return f
	}
	p := &postgresRun{r, cfg, pgproto3.NewFrontend(&postgresFrames{r: conn}, conn)}
	p.SetMaxBodyLen(maxMessage)
	ready, f := p.login()
	if f != nil || !ready {
		return f
	}
	if cfg.Query != "" {
		f = p.query()
	}
	p.Send(&pgproto3.Terminate{})
	_ = p.Flush() // the verdict stands
	return f
}

// maxLogin is the longest message that is read of those that list something before the
// login, in bytes. libpq reads 2,000 of a question for a password, and 30,000 of what a
// server does not know of our request (fe-connect.c).
const maxLogin = 32 << 10

// postgresFrames looks at the head of each message before the driver does, which makes
// a list of what a message before the login lists: 16 bytes for each byte that comes.
type postgresFrames struct {
	r    io.Reader
	head []byte // what has come of a message's type and length
	left int    // bytes of the message that are still to come
	err  error  // a message is too long
}

// Read implements io.Reader.
func (f *postgresFrames) Read(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.r.Read(b)
	for i := 0; i < n; {
		if f.left > 0 {
			some := min(f.left, n-i)
			f.left, i = f.left-some, i+some
			continue
		}
		if f.head = append(f.head, b[i]); len(f.head) == 5 {
			f.left = int(binary.BigEndian.Uint32(f.head[1:])) - 4
			if (f.head[0] == 'R' || f.head[0] == 'v') && f.left > maxLogin {
				f.err = fmt.Errorf("a message of the login claims %d bytes", f.left)
				return i, f.err
			}
			f.head = f.head[:0]
		}
		i++
	}
	return n, err
}

// Receive is the driver's, which says the same of a message that ends too early as of
// a connection that was closed between two messages: io.EOF. Of a connection that was
// closed within one it says io.ErrUnexpectedEOF.
func (p *postgresRun) Receive() (pgproto3.BackendMessage, error) {
	m, err := p.Frontend.Receive()
	if err == io.EOF {
		err = errors.New("a message ends too early")
	}
	return m, err
}

// postgresTLS asks for TLS as PostgreSQL has it, before anything else is said. It
// reads one byte only: what a man in the middle puts after it must not pass for
// something the server said under TLS.
func postgresTLS(r *session, conn net.Conn) (net.Conn, *fault) {
	ask, err := (&pgproto3.SSLRequest{}).Encode(nil)
	if err == nil {
		_, err = conn.Write(ask)
	}
	answer := make([]byte, 1)
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	switch {
	case err != nil:
		return nil, r.talkFault(err, "its answer to the request for TLS")
	case answer[0] == 'S':
		return r.secure(conn, r.target.host, true)
	case answer[0] == 'N':
		return nil, down(uptime.TLSHandshake, "The server does not offer TLS.")
	}
	return nil, down(uptime.Protocol, "The server answered the request for TLS with %q, not with S or N.", answer)
}

// login is done when the server is ready for a query. ready is false when there is
// nobody to log in as, and the server has shown that it takes logins.
func (p *postgresRun) login() (ready bool, f *fault) {
	user := p.cfg.Username
	if user == "" {
		user = anonymous
	}
	start := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": user, "application_name": anonymous}}
	if p.cfg.Database != "" {
		start.Parameters["database"] = p.cfg.Database
	}
	asked := time.Now()
	if f := p.send(start); f != nil {
		return false, f
	}
	accepted := false
	for first := true; ; first = false {
		m, err := p.Receive()
		if err != nil {
			return false, p.talkFault(err, "its answer to the login")
		}
		if first {
			p.phases.FirstByte = time.Since(asked)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return false, p.loginFault(m)
		case *pgproto3.ParameterStatus:
			if m.Name == "server_version" {
				p.serverVersion("PostgreSQL", m.Value)
			}
		case *pgproto3.AuthenticationOk:
			accepted = true
		case *pgproto3.ReadyForQuery:
			if !accepted {
				return false, down(uptime.Protocol, "The server is ready for a query before it took the login.")
			}
			return true, nil
		case *pgproto3.BackendKeyData, *pgproto3.NoticeResponse, *pgproto3.NegotiateProtocolVersion:
		default:
			if p.cfg.Username == "" && isAuthentication(m) {
				p.seen.Protocol = "PostgreSQL"
				return false, nil
			}
			if f := p.authenticate(m); f != nil {
				return false, f
			}
		}
	}
}

func isAuthentication(m pgproto3.BackendMessage) bool {
	_, ok := m.(pgproto3.AuthenticationResponseMessage)
	return ok
}

// authenticate answers a question for the password.
func (p *postgresRun) authenticate(m pgproto3.BackendMessage) *fault {
	password := p.cfg.Password.Reveal()
	switch m := m.(type) {
	case *pgproto3.AuthenticationCleartextPassword:
		if p.cfg.Security != "tls" {
			return unknown(uptime.BadConfig, "The server asks for the password in clear text, which is sent under TLS only: set security to tls.")
		}
		return p.send(&pgproto3.PasswordMessage{Password: password})
	case *pgproto3.AuthenticationMD5Password:
		return p.send(&pgproto3.PasswordMessage{Password: "md5" + hexMD5(hexMD5(password+p.cfg.Username)+string(m.Salt[:]))})
	case *pgproto3.AuthenticationSASL:
		return p.scram(m)
	}
	if isAuthentication(m) {
		return unknown(uptime.BadConfig, "The server asks for a kind of login that is not spoken here: %s.", strings.TrimPrefix(typeName(m), "Authentication"))
	}
	return down(uptime.Protocol, "The server sent %s in the middle of the login.", typeName(m))
}

// typeName is what the protocol calls a message.
func typeName(m pgproto3.BackendMessage) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// scram proves the password without telling it (RFC 7677).
func (p *postgresRun) scram(m *pgproto3.AuthenticationSASL) *fault {
	const mechanism = "SCRAM-SHA-256"
	if !slices.Contains(m.AuthMechanisms, mechanism) {
		return unknown(uptime.BadConfig, "The server asks for a kind of login that is not spoken here: %s.", clean(strings.Join(m.AuthMechanisms, ", "), 100))
	}
	talk := newSCRAM(scram.SHA256, p.cfg.Username, p.cfg.Password.Reveal())
	first, f := scramStep(talk, "")
	if f != nil {
		return f
	}
	if f := p.send(&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(first)}); f != nil {
		return f
	}
	for {
		m, err := p.Receive()
		if err != nil {
			return p.talkFault(err, "the login")
		}
		switch m := m.(type) {
		case *pgproto3.AuthenticationSASLContinue:
			answer, f := scramStep(talk, string(m.Data))
			if f != nil {
				return f
			}
			if f := p.send(&pgproto3.SASLResponse{Data: []byte(answer)}); f != nil {
				return f
			}
		case *pgproto3.AuthenticationSASLFinal:
			_, f := scramStep(talk, string(m.Data))
			return f
		case *pgproto3.ErrorResponse:
			return p.loginFault(m)
		case *pgproto3.NoticeResponse:
		default:
			return down(uptime.Protocol, "The server sent %s in the middle of the login.", typeName(m))
		}
	}
}

// loginFault is what a refused login says, by its SQLSTATE. Without a username only
// a server that cannot serve anybody is down.
func (p *postgresRun) loginFault(e *pgproto3.ErrorResponse) *fault {
	switch {
	case postgresNotReady(e.Code):
		return down(uptime.NotReady, "The server says that it is not ready: %s.", p.said(e))
	case e.Code == "0A000": // feature_not_supported
		return down(uptime.Protocol, "The server does not take this protocol: %s.", p.said(e))
	case p.cfg.Username == "":
		p.seen.Protocol = "PostgreSQL"
		return nil
	case strings.HasPrefix(e.Code, "08"): // a pooler without a server behind it
		return down(uptime.NotReady, "The server has no connection for us: %s.", p.said(e))
	case e.Code == "3D000":
		return down(uptime.QueryFailed, "The server has no such database: %s.", p.said(e))
	}
	return down(uptime.AuthFailed, "The server refused the login: %s.", p.said(e))
}

// postgresNotReady are the codes of a server that starts, stops, recovers or has no
// room (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func postgresNotReady(code string) bool {
	return code == "57P01" || code == "57P02" || code == "57P03" || strings.HasPrefix(code, "53")
}

// said is an error as the server words it.
func (p *postgresRun) said(e *pgproto3.ErrorResponse) string {
	return clean(p.withoutSecrets(strings.TrimSuffix(e.Message, ".")), 200) + " (" + clean(e.Code, 5) + ")"
}

// query runs the query. A read-only transaction and a protocol that takes one
// statement only keep a slip from writing.
func (p *postgresRun) query() *fault {
	if f := p.send(&pgproto3.Query{String: "begin read only"}); f != nil {
		return f
	}
	if f := p.answer(); f != nil {
		return f
	}
	p.SendParse(&pgproto3.Parse{Query: p.cfg.Query})
	p.SendBind(&pgproto3.Bind{})
	p.SendExecute(&pgproto3.Execute{MaxRows: maxRows})
	p.SendSync(&pgproto3.Sync{})
	if f := p.send(); f != nil {
		return f
	}
	return p.answer()
}

// answer reads until the server is ready again.
func (p *postgresRun) answer() *fault {
	var failed *fault
	var value *string
	rows, complete := 0, false
	for {
		m, err := p.Receive()
		if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
			return down(uptime.QueryFailed, "A row of the query's answer is larger than the %d bytes that are read.", maxMessage)
		}
		if err != nil {
			return p.queryFault(err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if rows == 0 && len(m.Values) > 0 && m.Values[0] != nil {
				s := string(m.Values[0])
				value = &s
			}
			rows++
		case *pgproto3.ErrorResponse:
			failed = down(uptime.QueryFailed, "The server failed the query: %s.", p.said(m))
			if postgresNotReady(m.Code) && !strings.HasPrefix(m.Code, "53") {
				return down(uptime.NotReady, "The server ended the connection: %s.", p.said(m))
			}
		case *pgproto3.CommandComplete, *pgproto3.EmptyQueryResponse, *pgproto3.PortalSuspended:
			complete = true
		case *pgproto3.CopyInResponse, *pgproto3.CopyBothResponse:
			return down(uptime.QueryFailed, "The query wants data from us.")
		case *pgproto3.ReadyForQuery:
			if failed == nil && !complete {
				return down(uptime.Protocol, "The server is ready for the next query before it answered the one.")
			}
			p.found(rows, value)
			return failed
		}
	}
}

// send writes what was queued, and ms after it.
func (p *postgresRun) send(ms ...pgproto3.FrontendMessage) *fault {
	for _, m := range ms {
		p.Send(m)
	}
	if err := p.Flush(); err != nil {
		return p.talkFault(err, "the end of our request")
	}
	return nil
}
