package probe

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

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
	defer func() { // the driver trusts what it reads
		if p := recover(); p != nil {
			f = down(uptime.Protocol, "The server broke the protocol: %s.", clean(fmt.Sprint(p), 150))
		}
	}()
	wire := &tdsDialer{session: r, secure: cfg.Security == "tls"}
	connector := mssql.NewConnectorConfig(sqlserverSettings(r, cfg))
	connector.Dialer = wire
	conn, err := connector.Connect(r.ctx)
	if err != nil {
		return sqlserverLoginFault(r, cfg, wire, err)
	}
	defer conn.Close()
	r.seen.Protocol = "SQL Server"
	if version {
		if err := sqlserverQuery(r, wire, conn, "select cast(serverproperty('ProductVersion') as nvarchar(128))"); err != nil {
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
		err = sqlserverQuery(r, wire, conn, cfg.Query)
	}
	if err != nil {
		return sqlserverQueryFault(r, wire, err)
	}
	return nil
}

// sqlserverSettings is what the driver is told, as a struct: a connection string
// would let it read files. With a port and no name of an instance it asks no SQL
// Server Browser. TLS is not its business: see tdsConn.
func sqlserverSettings(r *session, cfg *queryConfig) msdsn.Config {
	return msdsn.Config{
		Host: r.target.host, Port: uint64(r.target.port), Protocols: []string{"tcp"}, DialTimeout: -1,
		User: cmp.Or(cfg.Username, anonymous), Password: cfg.Password.Reveal(), Database: cfg.Database,
		AppName: anonymous, Workstation: anonymous, NoTraceID: true,
		Encryption: msdsn.EncryptionDisabled,
	}
}

// sqlserverQuery runs one batch. The space in front keeps the driver from taking it
// for a bulk copy, which it would by its first word.
func sqlserverQuery(r *session, wire *tdsDialer, conn driver.Conn, query string) error {
	statement, err := conn.(driver.ConnPrepareContext).PrepareContext(r.ctx, " "+query)
	if err != nil {
		return err
	}
	rows, err := statement.(driver.StmtQueryContext).QueryContext(r.ctx, nil)
	if err != nil {
		return err
	}
	err = r.sqlFound(rows)
	if err != nil || r.facts.number["rows"] == maxRows {
		wire.hangUp() // to close the rows is to read the rest
		_ = rows.Close()
		return err
	}
	return rows.Close() // tells what comes behind the rows, and ends the driver's reader
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
	if errors.Is(err, errNoTDSEncryption) {
		return down(uptime.TLSHandshake, "The server does not offer TLS.")
	}
	if wire.secure && wire.shook() && r.tlsTrace.chain == nil && ownFault(r.parent, err) == nil {
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
	switch err = wire.because(err); {
	case errors.Is(err, errTooLong):
		return down(uptime.QueryFailed, "A value of the query's answer is larger than the %d bytes that are read.", maxMessage)
	case errors.Is(err, errTooWide):
		return down(uptime.QueryFailed, "The columns of the query's answer are together wider than the %d bytes that are read.", maxRead)
	}
	return r.queryFault(err)
}

// sqlserverNotReady are the errors of a server or database that starts, stops,
// recovers, moves or has no room
// (https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors).
func sqlserverNotReady(number int32) bool {
	switch number {
	case 921, 922, 927, 942, 952, 976, 983, // the database recovers, is restored, offline, in transition or on a secondary that does not serve
		6005, 17142, 17187, 17188, 18401, 18451, 18461, // the server stops, pauses, starts, upgrades, or lets only administrators, or one, in
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
