package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"vedette/internal/uptime"
)

func newSQLServer() Type {
	return kind[queryConfig]{
		name: "sqlserver",
		about: "Logs in to a Microsoft SQL Server and runs a query if there is one, in a transaction that is rolled back; SQL Server has none that only reads, so use a user who cannot write. " +
			"Without `username`, up means that the server refused, or took, a login as `vedette` without a password. " +
			"With `security` none the login is still encrypted if the server can, as all its clients do, and nobody's certificate is looked at.",
		target:  hostPort(1433),
		config:  queryConfig{databaseConfig: defaultDatabase()},
		sources: querySources(),
		examples: []uptime.CheckExample{
			{Title: "SQL Server takes logins", Target: "db.example.com"},
			{Title: "No job is late", Target: "db.example.com:1433",
				Config:     `{"security": "tls", "username": "monitor", "password": "…", "database": "shop", "query": "select count(*) from jobs where due < getutcdate()"}`,
				Assertions: `[{"source": "value", "op": "eq", "value": "0"}]`},
		},
		compile: func(b *builder, cfg *queryConfig) Check {
			cfg.apply(b)
			version := b.asserts("server_version")
			return b.check(func(r *session) *fault { return probeSQLServer(r, cfg, version) })
		},
	}
}

func probeSQLServer(r *session, cfg *queryConfig, version bool) (f *fault) {
	// The driver trusts the lengths in what it reads. Most that are wrong end here; a
	// value that claims to be long, up to 2 GiB, it makes room for, and that cannot be
	// bounded from outside of it: the room is never written to, so it costs no pages.
	defer func() {
		if p := recover(); p != nil {
			f = down(uptime.Protocol, "The server broke the protocol: %s.", clean(fmt.Sprint(p), 150))
		}
	}()
	wire := &tdsDialer{session: r}
	connector := mssql.NewConnectorConfig(sqlserverSettings(r, cfg, wire))
	connector.Dialer = wire
	conn, err := connector.Connect(r.ctx)
	if err != nil {
		return sqlserverLoginFault(r, cfg, wire, err)
	}
	defer conn.Close()
	r.seen.Protocol = "SQL Server"
	if version {
		if err := sqlserverQuery(r, conn, "select cast(serverproperty('ProductVersion') as nvarchar(128))"); err != nil {
			return sqlserverQueryFault(r, wire, err)
		}
		r.serverVersion("SQL Server", r.facts.text["value"])
		delete(r.facts.text, "value")
		delete(r.facts.number, "rows")
		r.seen.Body = ""
	}
	if cfg.Query == "" {
		return nil
	}
	if _, err = conn.(driver.ConnBeginTx).BeginTx(r.ctx, driver.TxOptions{}); err == nil {
		err = sqlserverQuery(r, conn, cfg.Query)
	}
	if err != nil {
		return sqlserverQueryFault(r, wire, err)
	}
	return nil
}

// sqlserverSettings is what the driver is told, as a struct: a connection string
// would let it read files. With a port and no name of an instance it asks no SQL
// Server Browser.
func sqlserverSettings(r *session, cfg *queryConfig, wire *tdsDialer) msdsn.Config {
	settings := msdsn.Config{
		Host: r.target.host, Port: uint64(r.target.port), Protocols: []string{"tcp"}, DialTimeout: -1,
		User: cmp.Or(cfg.Username, anonymous), Password: cfg.Password.Reveal(), Database: cfg.Database,
		AppName: anonymous, Workstation: anonymous, NoTraceID: true,
		HostInCertificateProvided: true, // after a redirection too, the certificate is for the target
		Encryption:                msdsn.EncryptionOff,
		TLSConfig:                 &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10},
	}
	if cfg.Security == "tls" {
		settings.Encryption, settings.TLSConfig = msdsn.EncryptionRequired, r.driverTLS(r.target.host)
		verify := settings.TLSConfig.VerifyConnection
		settings.TLSConfig.VerifyConnection = func(s tls.ConnectionState) error {
			r.phases.TLS = time.Since(wire.handshake())
			return verify(s)
		}
	}
	return settings
}

// tdsDialer dials for the driver, and keeps what its errors leave out.
type tdsDialer struct {
	*session
	mu     sync.Mutex // guards what follows
	writes int        // on the last connection
	begun  time.Time  // when the second write began, which begins a handshake
	cause  error      // the first error of a read
}

// HostName tells the driver that names are looked up here.
func (d *tdsDialer) HostName() string { return d.target.host }

// DialContext implements mssql.Dialer.
func (d *tdsDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, errors.New("only TCP is dialled")
	}
	conn, err := d.driverDial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.writes, d.cause = 0, nil
	d.mu.Unlock()
	return &tdsConn{conn, d}, nil
}

// handshake is when the TLS handshake began, zero when it did not.
func (d *tdsDialer) handshake() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun
}

// because is err, and what was behind it.
func (d *tdsDialer) because(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(err, d.cause)
}

// tdsConn notes what happens on a connection.
type tdsConn struct {
	net.Conn
	d *tdsDialer
}

// Write implements io.Writer.
func (c *tdsConn) Write(b []byte) (int, error) {
	c.d.mu.Lock()
	if c.d.writes++; c.d.writes == 2 {
		c.d.begun = time.Now()
	}
	c.d.mu.Unlock()
	return c.Conn.Write(b)
}

// Read implements io.Reader.
func (c *tdsConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.d.mu.Lock()
		if c.d.cause == nil {
			c.d.cause = err
		}
		c.d.mu.Unlock()
	}
	return n, err
}

// sqlserverQuery runs one batch. The space in front keeps the driver from taking it
// for a bulk copy, which it would by its first word.
func sqlserverQuery(r *session, conn driver.Conn, query string) error {
	statement, err := conn.(driver.ConnPrepareContext).PrepareContext(r.ctx, " "+query)
	if err != nil {
		return err
	}
	rows, err := statement.(driver.StmtQueryContext).QueryContext(r.ctx, nil)
	if err != nil {
		return err
	}
	err = r.sqlFound(rows)
	return errors.Join(err, rows.Close()) // tells the server to stop, and ends the driver's reader
}

// sqlserverLoginFault is what a failed login says. Without a username, only a server
// that cannot serve anybody is down.
func sqlserverLoginFault(r *session, cfg *queryConfig, wire *tdsDialer, err error) *fault {
	refusal, ok := errors.AsType[mssql.Error](err)
	switch {
	case ok && sqlserverNotReady(refusal.Number):
		return down(uptime.NotReady, "The server says that it is not ready: %s.", sqlserverSaid(r, refusal))
	case ok && cfg.Username == "":
		r.seen.Protocol = "SQL Server"
		return nil
	case ok && (refusal.Number == 4060 || refusal.Number == 911):
		return down(uptime.QueryFailed, "The server has no such database for this user: %s.", sqlserverSaid(r, refusal))
	case ok:
		return down(uptime.AuthFailed, "The server refused the login: %s.", sqlserverSaid(r, refusal))
	}
	err = wire.because(err)
	if cfg.Security == "tls" && !wire.handshake().IsZero() && r.tlsTrace.chain == nil && ownFault(r.parent, err) == nil {
		return r.tlsTrace.handshakeFault(err)
	}
	return r.talkFault(err, "the login")
}

func sqlserverQueryFault(r *session, wire *tdsDialer, err error) *fault {
	refusal, ok := errors.AsType[mssql.Error](err)
	switch {
	case ok && sqlserverNotReady(refusal.Number):
		return down(uptime.NotReady, "The server says that it is not ready: %s.", sqlserverSaid(r, refusal))
	case ok:
		return down(uptime.QueryFailed, "The server failed the query: %s.", sqlserverSaid(r, refusal))
	}
	return r.queryFault(wire.because(err))
}

// sqlserverNotReady are the errors of a server or database that starts, stops,
// recovers, moves or has no room
// (https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors).
func sqlserverNotReady(number int32) bool {
	switch number {
	case 921, 922, 927, 976, 983, // the database recovers, is restored or is on a secondary that does not serve
		6005, 17142, 18401, 18451, // the server stops, pauses, upgrades or is in single-user mode
		17189, 17809, 10928, 10929, // no threads, connections or resources
		40197, 40501, 40613, 49918, 49919, 49920: // Azure: moves or is busy
		return true
	}
	return false
}

// sqlserverSaid is an error as the server words it.
func sqlserverSaid(r *session, e mssql.Error) string {
	return fmt.Sprintf("%s (%d)", clean(r.withoutSecrets(strings.TrimSuffix(e.Message, ".")), 200), e.Number)
}
