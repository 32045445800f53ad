package probe

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// postgresHBA says how logins to each database are asked for.
const postgresHBA = `host all old,full,stranger 127.0.0.1/32 md5
hostnossl sslonly all 127.0.0.1/32 reject
host clear all 127.0.0.1/32 password
host open all 127.0.0.1/32 trust
host closed all 127.0.0.1/32 reject
hostssl sslonly all 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
`

// postgresStart starts a real server whose user admin has the canary as password.
func postgresStart(t *testing.T, ca authority) string {
	t.Helper()
	initdb := testenv.Install(t, "initdb", "postgresql")
	admin := func(s *testenv.Program) string {
		return fmt.Sprintf("postgres://admin:%s@%s/postgres?sslmode=disable", dbCanary, s.Addr)
	}
	s := testenv.Start(t, testenv.ProgramSpec{
		Binary: "postgres", Package: "postgresql", User: "postgres",
		Prepare: func(s *testenv.Program) error { return postgresPrepare(initdb, s.Dir, chainOf(t, ca, nil)) },
		Args: func(s *testenv.Program) []string {
			return []string{"-D", filepath.Join(s.Dir, "data"), "-p", strconv.Itoa(s.Port), "-k", s.Dir, "-c", "listen_addresses=127.0.0.1",
				"-c", "ssl=on", "-c", "ssl_cert_file=" + s.Dir + "/cert.pem", "-c", "ssl_key_file=" + s.Dir + "/key.pem",
				"-c", "hba_file=" + s.Dir + "/hba.conf", "-c", "shared_buffers=16MB", "-c", "fsync=off"}
		},
		Ready: func(s *testenv.Program) error {
			c, err := pgx.Connect(t.Context(), admin(s))
			if err != nil {
				return err
			}
			return c.Close(t.Context())
		},
	})
	c, err := pgx.Connect(t.Context(), admin(s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for _, q := range []string{"create database clear", "create database open", "create database closed", "create database sslonly",
		"create table t (n int)", "insert into t select generate_series(1, 3)",
		"set password_encryption = 'md5'", "create role old login password '" + dbCanary + "'",
		"create role full login password '" + dbCanary + "' connection limit 0",
		"create role stranger login password '" + dbCanary + "'", "revoke connect on database open from public"} {
		if _, err := c.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	return s.Addr
}

// postgresPrepare makes a cluster. initdb refuses root.
func postgresPrepare(initdb, dir string, cert tls.Certificate) error {
	if err := dbPEM(dir, cert); err != nil {
		return err
	}
	for name, text := range map[string]string{"hba.conf": postgresHBA, "password": dbCanary} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.Command(initdb, "-D", filepath.Join(dir, "data"), "-U", "admin", "-A", "scram-sha-256", "--pwfile", filepath.Join(dir, "password"),
		"--no-sync", "-E", "UTF8", "--locale=C")
	cmd.Dir = dir
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if out, err := exec.Command("chown", "-R", "postgres:", dir).CombinedOutput(); err != nil {
			return fmt.Errorf("chown: %w: %s", err, out)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// postgresSays is a server that answers each message with the next of parts, each a
// list of messages.
func postgresSays(t *testing.T, parts ...[]pgproto3.BackendMessage) func(net.Conn) {
	t.Helper()
	var texts []string
	for _, part := range parts {
		var b []byte
		for _, m := range part {
			var err error
			if b, err = m.Encode(b); err != nil {
				t.Fatal(err)
			}
		}
		texts = append(texts, string(b))
	}
	return dbSays(texts...)
}

func postgresError(code, message string) []pgproto3.BackendMessage {
	return []pgproto3.BackendMessage{&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message}}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	server := postgresStart(t, ca)
	up, down, unknown := uptime.VerdictUp, uptime.VerdictDown, uptime.VerdictUnknown
	as := func(user, database, query string) map[string]any {
		return map[string]any{"username": user, "password": dbCanary, "database": database, "query": query}
	}
	none := map[string]any{}
	wrong := as("admin", "postgres", "")
	wrong["password"] = "canary-wrong"
	slow := as("admin", "postgres", "select 1 from pg_sleep(0.3)")
	type list = []pgproto3.BackendMessage
	sasl := list{&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}}
	login := list{&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}}
	began := list{&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")}, &pgproto3.ReadyForQuery{TxStatus: 'T'}}

	t.Run("real", func(t *testing.T) {
		dbCases(t, "postgres", map[string]dbCase{
			"without a username it asks for a password": {target: server, config: none, verdict: up},
			"the same under TLS":                        {target: server, config: dbTLS(ca, none), verdict: up},
			"a login with SCRAM":                        {target: server, config: as("admin", "postgres", ""), verdict: up},
			"a login with SCRAM under TLS":              {target: server, config: dbTLS(ca, as("admin", "sslonly", "")), verdict: up},
			"a login with MD5":                          {target: server, config: as("old", "postgres", ""), verdict: up},
			"a password in clear text under TLS":        {target: server, config: dbTLS(ca, as("admin", "clear", "")), verdict: up},
			"a login that needs no password":            {target: server, config: as("admin", "open", ""), verdict: up},
			"three rows": {target: server, config: as("admin", "postgres", "select n, 'x' from t order by n"), verdict: up,
				assertions: []uptime.Assertion{assert("rows", "", "eq", 3), assert("value", "", "eq", "1"), assert("server_version", "", "matches", "^[0-9]+")}},
			"a slow query in time":           {target: server, config: slow, verdict: up},
			"no row":                         {target: server, config: as("admin", "postgres", "select 1 where false"), assertions: []uptime.Assertion{assert("rows", "", "eq", 0)}, verdict: up},
			"NULL is no value":               {target: server, config: as("admin", "postgres", "select null"), assertions: []uptime.Assertion{assert("value", "", "ne", "")}, verdict: up},
			"more rows than are read":        {target: server, config: as("admin", "postgres", "select generate_series(1, 10000000)"), assertions: []uptime.Assertion{assert("rows", "", "eq", 1000)}, verdict: up},
			"a statement without rows":       {target: server, config: as("admin", "postgres", "set local statement_timeout = 0"), verdict: up},
			"an assertion fails":             {target: server, config: as("admin", "postgres", "select 7"), assertions: []uptime.Assertion{assert("value", "", "eq", "8")}, verdict: down, reason: uptime.AssertFailed},
			"too few rows":                   {target: server, config: as("admin", "postgres", "select 7"), assertions: []uptime.Assertion{assert("rows", "", "gt", 1)}, verdict: down, reason: uptime.AssertFailed},
			"a wrong password":               {target: server, config: wrong, verdict: down, reason: uptime.AuthFailed, says: "28P01"},
			"an unknown user":                {target: server, config: as("nobody", "postgres", ""), verdict: down, reason: uptime.AuthFailed},
			"an address that is not allowed": {target: server, config: as("admin", "closed", ""), verdict: down, reason: uptime.AuthFailed, says: "pg_hba.conf"},
			"a user without the database":    {target: server, config: as("stranger", "open", ""), verdict: down, reason: uptime.AuthFailed, says: "42501"},
			"an unknown database":            {target: server, config: as("admin", "nowhere", ""), verdict: down, reason: uptime.QueryFailed, says: "nowhere"},
			"no TLS where it is needed":      {target: server, config: as("admin", "sslonly", ""), verdict: down, reason: uptime.AuthFailed, says: "encryption"},
			"a role without room":            {target: server, config: as("full", "postgres", ""), verdict: down, reason: uptime.NotReady, says: "53300"},
			"clear text without TLS":         {target: server, config: as("admin", "clear", ""), verdict: unknown, reason: uptime.BadConfig},
			"a query that is wrong":          {target: server, config: as("admin", "postgres", "selec 1"), verdict: down, reason: uptime.QueryFailed, says: "42601"},
			"two statements":                 {target: server, config: as("admin", "postgres", "commit; delete from t"), verdict: down, reason: uptime.QueryFailed},
			"a query that writes":            {target: server, config: as("admin", "postgres", "delete from t"), verdict: down, reason: uptime.QueryFailed, says: "25006"},
			"a query that takes too long":    {target: server, config: as("admin", "postgres", "select pg_sleep(60)"), timeout: time.Second, verdict: down, reason: uptime.Timeout},
			"a query that wants data":        {target: server, config: as("admin", "postgres", "copy t from stdin"), verdict: down, reason: uptime.QueryFailed},
			"an answer that is too large":    {target: server, config: as("admin", "postgres", "select repeat('x', 100000) from generate_series(1, 1000)"), verdict: down, reason: uptime.QueryFailed, says: "larger"},
			"a row that is too large":        {target: server, config: as("admin", "postgres", "select repeat('x', 2000000)"), verdict: down, reason: uptime.QueryFailed, says: "larger"},
			"an untrusted certificate":       {target: server, config: map[string]any{"security": "tls"}, verdict: down, reason: uptime.TLSUntrusted},
		})
		t.Run("examples", func(t *testing.T) {
			t.Parallel()
			trust := func(c map[string]any) { c["tls"] = map[string]any{"ca_pem": ca.pem()} }
			runExample(t, "postgres", 0, server, trust)
			runExample(t, "postgres", 1, server, func(c map[string]any) { trust(c); c["username"], c["password"] = "admin", dbCanary })
		})
	})
	strangers := dbStrangers(t, none)
	for name, tt := range map[string]dbCase{
		"it starts up":                    {serve: postgresSays(t, postgresError("57P03", "the database system is starting up")), config: none, verdict: down, reason: uptime.NotReady, says: "starting up"},
		"it has no room":                  {serve: postgresSays(t, postgresError("53300", "sorry, too many clients already")), config: none, verdict: down, reason: uptime.NotReady},
		"a pooler without a server":       {serve: postgresSays(t, postgresError("08P01", "server login failed")), config: as("a", "", ""), verdict: down, reason: uptime.NotReady},
		"it refuses a login nobody made":  {serve: postgresSays(t, postgresError("28000", "no entry")), config: none, verdict: up},
		"it has no TLS":                   {serve: dbSays("N"), config: dbTLS(ca, none), verdict: down, reason: uptime.TLSHandshake},
		"it closes when asked for TLS":    {serve: func(c net.Conn) { _, _ = c.Read(make([]byte, 8)) }, config: dbTLS(ca, none), verdict: down, reason: uptime.ConnClosed},
		"it answers TLS with something":   {serve: dbSays("H"), config: dbTLS(ca, none), verdict: down, reason: uptime.Protocol},
		"it stops in the handshake":       {serve: dbSays("S"), config: dbTLS(ca, none), timeout: short, verdict: down, reason: uptime.TLSTimeout},
		"it claims a long message":        {serve: dbSays("R\x7f\xff\xff\xff"), config: none, verdict: down, reason: uptime.Protocol},
		"it stops in the login":           {serve: postgresSays(t, sasl), config: as("a", "", ""), timeout: short, verdict: down, reason: uptime.Timeout},
		"it tells of itself without end":  {serve: dbEndless("", "S\x00\x00\x00\x08a\x00b\x00"), config: none, verdict: down, reason: uptime.Protocol},
		"its refusal ends too early":      {serve: dbSays("E\x00\x00\x00\x08Sx\x00C"), config: none, verdict: down, reason: uptime.Protocol, says: "too early"},
		"it closes within a refusal":      {serve: func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); _, _ = io.WriteString(c, "E\x00\x00\x00\x08S") }, config: none, verdict: down, reason: uptime.ConnClosed},
		"it refuses, and more comes":      {serve: dbSays("E\x00\x00\x00\x0cC57P03\x00\x00R\x7f\xff\xff\xff"), config: none, verdict: down, reason: uptime.NotReady},
		"its version is the password":     {serve: postgresSays(t, list{&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: dbCanary}}, nil), config: as("a", "", ""), timeout: short, verdict: down, reason: uptime.Timeout},
		"it is ready before the login":    {serve: postgresSays(t, list{&pgproto3.ReadyForQuery{TxStatus: 'I'}}), config: none, verdict: down, reason: uptime.Protocol},
		"it asks for endless hashing":     {serve: postgresSays(t, sasl, list{&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=AAAA,i=2000000000")}}), config: as("a", "", ""), verdict: down, reason: uptime.Protocol, says: "rounds"},
		"it does not prove itself":        {serve: postgresSays(t, sasl, login), config: as("a", "", ""), verdict: down, reason: uptime.Protocol},
		"it wants a login we cannot do":   {serve: postgresSays(t, list{&pgproto3.AuthenticationGSS{}}), config: as("a", "", ""), verdict: unknown, reason: uptime.BadConfig, says: "GSS"},
		"it is ready without an answer":   {serve: postgresSays(t, login, began, list{&pgproto3.ReadyForQuery{TxStatus: 'I'}}), config: as("a", "", "select 1"), verdict: down, reason: uptime.Protocol, says: "before it answered"},
		"it shuts down in the query":      {serve: postgresSays(t, login, began, postgresError("57P01", "terminating connection due to administrator command")), config: as("a", "", "select 1"), verdict: down, reason: uptime.NotReady},
		"it stops in the query":           {serve: postgresSays(t, login, began), config: as("a", "", "select 1"), timeout: short, verdict: down, reason: uptime.Timeout},
		"it repeats the password to us":   {serve: postgresSays(t, postgresError("28P01", "no: "+dbCanary)), config: as("a", "", ""), verdict: down, reason: uptime.AuthFailed, says: "no: " + uptime.Redacted},
		"it answers in several segments":  {serve: func(c net.Conn) { dbPieces(c, "R\x00\x00\x00\x08\x00\x00\x00\x03") }, config: none, verdict: up},
		"it sends a login it cannot have": {serve: dbSays("R\x00\x00\x00\x08\x00\x00\x00\x63"), config: none, verdict: down, reason: uptime.Protocol},
	} {
		strangers[name] = tt
	}
	t.Run("fake", func(t *testing.T) { dbCases(t, "postgres", strangers) })
}

// TestPostgresTakesNothingFromItsSurroundings sets what libpq and pgx would read.
func TestPostgresTakesNothingFromItsSurroundings(t *testing.T) {
	for name, value := range map[string]string{
		"PGSERVICE": "nowhere", "PGSERVICEFILE": "/nonexistent", "PGUSER": dbCanary, "PGPASSWORD": dbCanary, "PGDATABASE": dbCanary, "PGHOST": "192.0.2.1",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nonexistent", "PGSSLCERT": "/nonexistent", "PGAPPNAME": dbCanary, "PGOPTIONS": "-c " + dbCanary,
	} {
		t.Setenv(name, value)
	}
	heard := make(chan string, 1)
	serve := func(c net.Conn) {
		b := make([]byte, 1024)
		n, _ := c.Read(b)
		heard <- string(b[:n])
		_, _ = c.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x03"))
	}
	check(t, dbRun(t, "postgres", dbCase{serve: serve}), uptime.VerdictUp, uptime.ReasonOK)
	if got := <-heard; strings.Contains(got, dbCanary) || !strings.Contains(got, "user\x00vedette\x00") {
		t.Errorf("the server heard %q", got)
	}
}

func TestPostgresIsFrugal(t *testing.T) {
	none := strings.Repeat("\x00", maxMessage) // as many names of no letters
	login := "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"
	query := map[string]any{"username": "a", "password": dbCanary, "query": "select 1"}
	for name, tt := range map[string]dbCase{
		"a claimed length":         {serve: dbSays("R\x7f\xff\xff\xff"), reason: uptime.Protocol},
		"endless output":           {serve: dbEndless("", "S\x00\x00\x00\x08a\x00b\x00"), reason: uptime.Protocol},
		"many ways to log in":      {serve: dbSays("R\x00\x04\x00\x04\x00\x00\x00\x0a" + none), reason: uptime.Protocol},
		"many unknown options":     {serve: dbSays("v\x00\x04\x00\x04\x00\x03\x00\x00\x7f\xff\xff\xff" + none), reason: uptime.Protocol},
		"the same after the login": {serve: dbSays(login, "v\x00\x04\x00\x04\x00\x03\x00\x00\x7f\xff\xff\xff"+none), config: query, reason: uptime.Protocol},
		"silence":                  {serve: dbSays(), timeout: short / 3, reason: uptime.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			tt.verdict = uptime.VerdictDown
			dbFrugal(t, "postgres", tt)
		})
	}
}

func TestPostgresRefusesConfigs(t *testing.T) {
	t.Parallel()
	dbRefusesConfigs(t, "postgres", map[string]string{
		`{"query":"select 1"}`: "config.username", `{"password":"x"}`: "config.username", `{"security":"starttls"}`: "config.security",
		`{"username":"a\u0000b"}`: "config.username", `{"username":"a","query":"\u0000"}`: "config.query", `{"tls":{"ca_pem":"x"},"security":"tls"}`: "config.tls.ca_pem",
	})
}
