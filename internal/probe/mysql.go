package probe

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

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
	conn := &mysqlConn{Conn: raw, raw: raw, r: r, cfg: cfg}
	if greeted, f := conn.greeting(); !greeted {
		return f, nil
	}
	settings, log := mysqlSettings(cfg, conn)
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		return unknown(uptime.BadConfig, "The driver does not take this config: %s.", clean(r.withoutSecrets(err.Error()), 150)), nil
	}
	session, err := connector.Connect(driverContext(r))
	switch {
	case conn.fault != nil:
		return conn.fault, nil
	case err != nil:
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

// driverContext never ends: the connection has the session's deadline and is closed with
// it, and the driver, closing it itself at the same instant, would hide which it was.
func driverContext(r *session) context.Context { return context.WithoutCancel(r.ctx) }

// mysqlQuery runs the query in a session that may only read, and not just in such a
// transaction: a statement that alters a table would end that first. The rows are not
// closed, since that reads all that are left; the connection is of no use afterwards.
func mysqlQuery(r *session, conn driver.Conn, query string) error {
	if _, err := conn.(driver.ExecerContext).ExecContext(driverContext(r), "set session transaction read only", nil); err != nil {
		return err
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(driverContext(r), query, nil)
	if err != nil {
		return err
	}
	return r.sqlFound(rows)
}

// mysqlSettings is what the driver is told. Everything it could do behind our back
// is off by default: reading files for the server (LOAD DATA LOCAL), passwords in
// clear text or in the old hash, going on without TLS, several statements at once.
//
// TLS is not its business (see mysqlConn). What it may do under TLS alone, to give a
// password in clear to caching_sha2_password, it also does on a Unix socket.
func mysqlSettings(cfg *queryConfig, conn *mysqlConn) (*mysql.Config, *mysqlLog) {
	log := &mysqlLog{}
	settings := mysql.NewConfig()
	settings.User, settings.Passwd, settings.DBName = cmp.Or(cfg.Username, anonymous), cfg.Password.Reveal(), cfg.Database
	settings.Net, settings.Addr, settings.Logger = "tcp", "target:1", log
	settings.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	if cfg.Security == "tls" {
		settings.Net = "unix"
	}
	return settings, log
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
