package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"vedette/internal/uptime"
)

func newMySQL() Type {
	return kind[queryConfig]{
		name: "mysql",
		about: "Logs in to a MySQL or MariaDB server, or to a proxy that speaks its protocol, and runs a query in a read-only session if there is one. " +
			"Without `username`, up means that the server refused, or took, a login as `vedette` without a password: " +
			"one that is left without any login counts it as an error, and shuts an address with 100 of them out.",
		target:  hostPort(3306),
		config:  queryConfig{databaseConfig: defaultDatabase()},
		sources: querySources(),
		examples: []uptime.CheckExample{
			{Title: "MySQL or MariaDB takes logins", Target: "db.example.com"},
			{Title: "A table has fresh rows", Target: "db.example.com:3306",
				Config:     `{"security": "tls", "username": "monitor", "password": "…", "database": "shop", "query": "select 1 from orders where at > now() - interval 1 hour limit 1"}`,
				Assertions: `[{"source": "rows", "op": "eq", "value": 1}]`},
		},
		compile: func(b *builder, cfg *queryConfig) Check {
			cfg.apply(b)
			return b.check(func(r *session) *fault { return probeMySQL(r, cfg) })
		},
	}
}

// mysqlTries is how often a login is tried whose challenge the driver finds
// malformed: it takes a zero byte at the end of one for padding, so that MariaDB's
// Ed25519 fails once in 256 times (14 of 3000 measured with v1.10.1).
const mysqlTries = 4

func probeMySQL(r *session, cfg *queryConfig) (f *fault) {
	defer func() { // the driver trusts the lengths in what it reads
		if p := recover(); p != nil {
			f = down(uptime.Protocol, "The server broke the protocol: %s.", clean(fmt.Sprint(p), 150))
		}
	}()
	for try := 1; ; try++ {
		f, err := mysqlAttempt(r, cfg)
		if f != nil || err == nil {
			return f
		}
		if !errors.Is(err, mysql.ErrMalformPkt) || try == mysqlTries {
			return mysqlLoginFault(r, cfg, err)
		}
	}
}

// mysqlAttempt is one connection. err is why the login failed.
func mysqlAttempt(r *session, cfg *queryConfig) (f *fault, err error) {
	raw, f := r.connect()
	if f != nil {
		return f, nil
	}
	conn := &mysqlConn{Conn: raw, tls: cfg.Security == "tls"}
	if greeted, f := conn.greeting(r, cfg); !greeted {
		return f, nil
	}
	settings, log := mysqlSettings(r, cfg, conn)
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		return unknown(uptime.BadConfig, "The driver does not take this config: %s.", clean(r.withoutSecrets(err.Error()), 150)), nil
	}
	session, err := connector.Connect(r.ctx)
	if err != nil {
		return nil, log.cause(err)
	}
	defer session.Close()
	if cfg.Query == "" {
		return nil, nil
	}
	if err := mysqlQuery(r, session, cfg.Query); err != nil {
		return mysqlQueryFault(r, log.cause(err)), nil
	}
	return nil, nil
}

// mysqlQuery runs the query in a session that may only read, and not just in such a
// transaction: a statement that alters a table would end that first. The rows are not
// closed, since that reads all that are left; the connection is of no use afterwards.
func mysqlQuery(r *session, conn driver.Conn, query string) error {
	if _, err := conn.(driver.ExecerContext).ExecContext(r.ctx, "set session transaction read only", nil); err != nil {
		return err
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(r.ctx, query, nil)
	if err != nil {
		return err
	}
	return r.sqlFound(rows)
}

// mysqlSettings is what the driver is told. Everything it could do behind our back
// is off by default: reading files for the server (LOAD DATA LOCAL), passwords in
// clear text or in the old hash, going on without TLS, several statements at once.
func mysqlSettings(r *session, cfg *queryConfig, conn *mysqlConn) (*mysql.Config, *mysqlLog) {
	log := &mysqlLog{}
	settings := mysql.NewConfig()
	settings.User, settings.Passwd, settings.DBName = cmp.Or(cfg.Username, anonymous), cfg.Password.Reveal(), cfg.Database
	settings.Net, settings.Addr, settings.Logger = "tcp", "target:1", log
	settings.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	if conn.tls {
		settings.TLS = r.driverTLS(r.target.host)
		begun, verify := time.Now(), settings.TLS.VerifyConnection
		settings.TLS.VerifyConnection = func(s tls.ConnectionState) error {
			r.phases.TLS = time.Since(begun)
			return verify(s)
		}
	}
	return settings, log
}

// mysqlConn is a connection on the way to the driver: its greeting was read, and is
// read again, and no message in it is longer than maxMessage. What runs under TLS is
// not looked at.
type mysqlConn struct {
	net.Conn
	tls    bool
	replay []byte
	head   []byte // of a message, up to 4 bytes
	body   int    // what is left of one
}

// errTooLong is a message longer than a check reads.
var errTooLong = errors.New("a message longer than a check reads")

// Read implements io.Reader.
func (c *mysqlConn) Read(b []byte) (int, error) {
	if len(c.replay) > 0 {
		n := copy(b, c.replay)
		c.replay = c.replay[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if !c.tls && !c.bounded(b[:n]) {
		return 0, errTooLong
	}
	return n, err
}

// bounded reports whether the messages that begin in b are short enough.
func (c *mysqlConn) bounded(b []byte) bool {
	for len(b) > 0 {
		if c.body > 0 {
			n := min(c.body, len(b))
			c.body -= n
			b = b[n:]
			continue
		}
		c.head = append(c.head, b[0])
		b = b[1:]
		if len(c.head) == 4 {
			c.body = mysqlLength(c.head)
			c.head = c.head[:0]
		}
		if c.body > maxMessage {
			return false
		}
	}
	return true
}

func mysqlLength(head []byte) int { return int(head[0]) | int(head[1])<<8 | int(head[2])<<16 }

// maxGreeting is far above the 80 or so bytes of a real one.
const maxGreeting = 1024

// greeting reads what the server says first. It is no greeting when the server is
// down, and when it refuses everybody from here and nobody wants to log in.
func (c *mysqlConn) greeting(r *session, cfg *queryConfig) (greeted bool, f *fault) {
	begin := time.Now()
	b := make([]byte, 4, 256)
	if _, err := io.ReadFull(c.Conn, b); err != nil {
		return false, r.talkFault(err, "its greeting")
	}
	r.phases.FirstByte = time.Since(begin)
	n := mysqlLength(b)
	if n == 0 || n > maxGreeting || b[3] != 0 {
		return false, down(uptime.Protocol, "The server does not greet as MySQL does (it sent %q).", b)
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(c.Conn, b[4:]); err != nil {
		return false, r.talkFault(err, "its greeting")
	}
	c.replay = b
	version, refusal, ok := parseMySQLGreeting(b[4:])
	if !ok {
		return false, down(uptime.Protocol, "The server does not greet as MySQL does (it sent %q).", clean(string(b[4:]), 60))
	}
	if refusal != nil {
		r.seen.Protocol = "MySQL"
		return false, mysqlLoginFault(r, cfg, refusal)
	}
	r.serverVersion("MySQL", version)
	return true, nil
}

// parseMySQLGreeting reads the handshake of protocol 10, or the error that comes in
// its place. ok is false when it is neither, or too short for what it must hold.
func parseMySQLGreeting(b []byte) (version string, refusal *mysql.MySQLError, ok bool) {
	switch {
	case len(b) > 3 && b[0] == 0xff:
		text := string(b[3:])
		if len(text) >= 6 && text[0] == '#' { // "#", five characters of SQLSTATE
			text = text[6:]
		}
		return "", &mysql.MySQLError{Number: binary.LittleEndian.Uint16(b[1:]), Message: text}, true
	case len(b) > 0 && b[0] == 10:
		name, rest, _ := bytes.Cut(b[1:], []byte{0})
		if len(rest) < 44 {
			return "", nil, false
		}
		// MariaDB before 11 puts a version in front that old replicas took for MySQL's.
		return strings.TrimPrefix(string(name), "5.5.5-"), nil, true
	}
	return "", nil, false
}

// mysqlLog keeps the cause of an error, which the driver logs and does not tell.
type mysqlLog struct{ err error }

// Print implements mysql.Logger.
func (l *mysqlLog) Print(v ...any) {
	for _, x := range v {
		if err, ok := x.(error); ok && l.err == nil {
			l.err = err
		}
	}
}

// cause is err with what was logged about it.
func (l *mysqlLog) cause(err error) error {
	if l.err != nil && (errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn)) {
		return l.err
	}
	return err
}

// mysqlLoginFault is what a failed login says. Without a username, only a server that
// cannot serve anybody is down.
func mysqlLoginFault(r *session, cfg *queryConfig, err error) *fault {
	refusal, ok := errors.AsType[*mysql.MySQLError](err)
	if ok && mysqlNotReady(refusal.Number) {
		return down(uptime.NotReady, "The server says that it is not ready: %s.", mysqlSaid(r, refusal))
	}
	other := errors.Is(err, mysql.ErrCleartextPassword) || errors.Is(err, mysql.ErrOldPassword) || errors.Is(err, mysql.ErrUnknownPlugin)
	switch {
	case cfg.Username == "" && (ok || other):
		return nil
	case ok && refusal.Number == 1049: // ER_BAD_DB_ERROR
		return down(uptime.QueryFailed, "The server has no such database: %s.", mysqlSaid(r, refusal))
	case ok:
		return down(uptime.AuthFailed, "The server refused the login: %s.", mysqlSaid(r, refusal))
	case other:
		return unknown(uptime.BadConfig, "The server asks for a kind of login that is not spoken here (passwords in clear text or in the hash before MySQL 4.1, or a plugin's own).")
	case errors.Is(err, mysql.ErrNoTLS):
		return down(uptime.TLSHandshake, "The server does not offer TLS.")
	case cfg.Security == "tls" && r.tlsTrace.chain == nil && ownFault(r.parent, err) == nil:
		return r.tlsTrace.handshakeFault(err)
	}
	return r.talkFault(err, "the login")
}

func mysqlQueryFault(r *session, err error) *fault {
	refusal, ok := errors.AsType[*mysql.MySQLError](err)
	switch {
	case ok && mysqlNotReady(refusal.Number):
		return down(uptime.NotReady, "The server says that it is not ready: %s.", mysqlSaid(r, refusal))
	case ok:
		return down(uptime.QueryFailed, "The server failed the query: %s.", mysqlSaid(r, refusal))
	case errors.Is(err, errTooLong):
		return down(uptime.QueryFailed, "A row of the query's answer is larger than the %d bytes that are read.", maxMessage)
	}
	return r.queryFault(err)
}

// mysqlNotReady are the errors of a server that stops, starts or has no room, for
// anybody or for this user.
func mysqlNotReady(number uint16) bool {
	switch number {
	case 1040, // ER_CON_COUNT_ERROR
		1041, 1135, // ER_OUT_OF_RESOURCES, ER_CANT_CREATE_THREAD
		1047,       // ER_UNKNOWN_COM_ERROR: a Galera node that is not in the cluster
		1053, 1927, // ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED
		1203, 1226, // ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
		3032, 3168, // ER_SERVER_OFFLINE_MODE, ER_SERVER_ISNT_AVAILABLE
		9001: // ProxySQL: no server of the group answered
		return true
	}
	return false
}

// mysqlSaid is an error as the server words it.
func mysqlSaid(r *session, e *mysql.MySQLError) string {
	return fmt.Sprintf("%s (%d)", clean(r.withoutSecrets(strings.TrimSuffix(e.Message, ".")), 200), e.Number)
}
