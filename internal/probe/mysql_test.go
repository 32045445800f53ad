package probe

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// mysqlUsers is run by the real server before it listens.
const mysqlUsers = `
create database shop;
create table shop.t (n int, f double, d decimal(5,2), at datetime);
insert into shop.t values (1, 1.5, 2.50, '2026-01-02 03:04:05'), (2, null, null, null), (3, 0, 0, null);
create user plain identified by 'PASSWORD';
grant all on *.* to plain;
create user curve identified via ed25519 using password('PASSWORD');
create user guarded identified by 'PASSWORD' require ssl;
grant select on shop.* to guarded;
create user stranger identified by 'PASSWORD';
create user full identified by 'PASSWORD' with max_connections_per_hour 1;
`

// mysqlStart starts a real MariaDB.
func mysqlStart(t *testing.T, ca authority) string {
	t.Helper()
	install := testenv.Install(t, "mariadb-install-db", "mariadb-server")
	s := testenv.Start(t, testenv.ProgramSpec{
		Binary: "mariadbd", Package: "mariadb-server", User: "mysql",
		Prepare: func(s *testenv.Program) error {
			if err := dbPEM(s.Dir, chainOf(t, ca, nil)); err != nil {
				return err
			}
			users := strings.ReplaceAll(mysqlUsers, "PASSWORD", dbCanary)
			if err := os.WriteFile(filepath.Join(s.Dir, "users.sql"), []byte(users), 0o600); err != nil {
				return err
			}
			out, err := exec.Command(install, "--no-defaults", "--datadir="+s.Dir+"/data", "--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput()
			if err != nil {
				return fmt.Errorf("mariadb-install-db: %w: %s", err, out)
			}
			return nil
		},
		Args: func(s *testenv.Program) []string {
			return []string{"--no-defaults", "--datadir=" + s.Dir + "/data", "--socket=" + s.Dir + "/sock", "--pid-file=" + s.Dir + "/pid",
				"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(s.Port), "--skip-networking=0", "--skip-name-resolve", "--init-file=" + s.Dir + "/users.sql",
				"--ssl-cert=" + s.Dir + "/cert.pem", "--ssl-key=" + s.Dir + "/key.pem", "--plugin-load-add=auth_ed25519",
				"--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0", "--local-infile=1"}
		},
		Ready: func(s *testenv.Program) error {
			c, err := net.Dial("tcp", s.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err = io.ReadFull(c, make([]byte, 20))
			return err
		},
	})
	return s.Addr
}

// mysqlPacket is a message with its number.
func mysqlPacket(number byte, payload string) string {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	return string(head[:3]) + string(number) + payload
}

const mysqlHasTLS = 0x800

// mysqlGreeting is the handshake of a server with these capabilities beside what the
// driver needs (https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html).
func mysqlGreeting(capabilities uint32) string {
	const protocol41, secure, plugins = 0x200, 0x8000, 0x80000
	flags := binary.LittleEndian.AppendUint32(nil, capabilities|protocol41|secure|plugins|1)
	return mysqlPacket(0, "\x0a8.0.36-fake\x00"+"\x01\x00\x00\x00"+"abcdefgh\x00"+string(flags[:2])+"\x21\x02\x00"+string(flags[2:])+
		"\x15"+strings.Repeat("\x00", 10)+"ijklmnopqrst\x00"+"mysql_native_password\x00")
}

const mysqlOK = "\x00\x00\x00\x02\x00\x00\x00"

func mysqlError(code uint16, text string) string {
	return "\xff" + string(binary.LittleEndian.AppendUint16(nil, code)) + "#HY000" + text
}

// mysqlSays greets and answers each message with the next of parts.
func mysqlSays(greeting string, parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, greeting)
		dbSays(parts...)(c)
	}
}

func TestMySQL(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	server := mysqlStart(t, ca)
	up, down, unknown := uptime.VerdictUp, uptime.VerdictDown, uptime.VerdictUnknown
	as := func(user, database, query string) map[string]any {
		return map[string]any{"username": user, "password": dbCanary, "database": database, "query": query}
	}
	none := map[string]any{}
	wrong := as("plain", "", "")
	wrong["password"] = "canary-wrong"
	value := func(v string) []uptime.Assertion { return []uptime.Assertion{assert("value", "", "eq", v)} }
	rows := func(n int) []uptime.Assertion { return []uptime.Assertion{assert("rows", "", "eq", n)} }
	greeting, tls := mysqlGreeting(0), mysqlGreeting(mysqlHasTLS)

	t.Run("real", func(t *testing.T) {
		dbCases(t, "mysql", map[string]dbCase{
			"without a username it refuses a login": {target: server, config: none, verdict: up,
				assertions: []uptime.Assertion{assert("server_version", "", "matches", "^1[0-9][.].*MariaDB")}},
			"the same under TLS":          {target: server, config: dbTLS(ca, none), verdict: up},
			"a login":                     {target: server, config: as("plain", "", ""), verdict: up},
			"a login to a database":       {target: server, config: as("plain", "shop", ""), verdict: up},
			"a login with Ed25519":        {target: server, config: as("curve", "", ""), verdict: up},
			"a login under TLS":           {target: server, config: dbTLS(ca, as("guarded", "shop", "select count(*) from t")), assertions: value("3"), verdict: up},
			"three rows":                  {target: server, config: as("plain", "shop", "select n, at from t order by n"), assertions: append(rows(3), value("1")...), verdict: up},
			"a date":                      {target: server, config: as("plain", "shop", "select at from t where n = 1"), assertions: value("2026-01-02 03:04:05"), verdict: up},
			"a fraction":                  {target: server, config: as("plain", "shop", "select f from t where n = 1"), assertions: value("1.5"), verdict: up},
			"NULL is no value":            {target: server, config: as("plain", "shop", "select f from t where n = 2"), assertions: append(rows(1), assert("value", "", "ne", "")), verdict: up},
			"no row":                      {target: server, config: as("plain", "shop", "select 1 from t where n = 9"), assertions: rows(0), verdict: up},
			"a statement without rows":    {target: server, config: as("plain", "", "do 1"), assertions: rows(0), verdict: up},
			"more rows than are read":     {target: server, config: as("plain", "shop", "select seq from seq_1_to_10000"), assertions: rows(1000), verdict: up},
			"a slow query in time":        {target: server, config: as("plain", "", "select sleep(0.3)"), verdict: up},
			"an assertion fails":          {target: server, config: as("plain", "", "select 7"), assertions: value("8"), verdict: down, reason: uptime.AssertFailed},
			"a wrong password":            {target: server, config: wrong, verdict: down, reason: uptime.AuthFailed, says: "1045"},
			"an unknown user":             {target: server, config: as("nobody", "", ""), verdict: down, reason: uptime.AuthFailed},
			"no TLS where it is needed":   {target: server, config: as("guarded", "", ""), verdict: down, reason: uptime.AuthFailed},
			"a user without the database": {target: server, config: as("stranger", "shop", ""), verdict: down, reason: uptime.AuthFailed, says: "1044"},
			"an unknown database":         {target: server, config: as("plain", "nowhere", ""), verdict: down, reason: uptime.QueryFailed, says: "1049"},
			"a query that is wrong":       {target: server, config: as("plain", "", "selec 1"), verdict: down, reason: uptime.QueryFailed, says: "1064"},
			"two statements":              {target: server, config: as("plain", "", "select 1; select 2"), verdict: down, reason: uptime.QueryFailed},
			"a query that writes":         {target: server, config: as("plain", "shop", "delete from t"), verdict: down, reason: uptime.QueryFailed, says: "1792"},
			"a query that drops":          {target: server, config: as("plain", "shop", "drop table t"), verdict: down, reason: uptime.QueryFailed, says: "1792"},
			"a query that reads our file": {target: server, config: as("plain", "shop", "load data local infile '/etc/hostname' into table t"), verdict: down, reason: uptime.QueryFailed},
			"a query that takes too long": {target: server, config: as("plain", "", "select sleep(60)"), timeout: time.Second, verdict: down, reason: uptime.Timeout},
			"an answer that is too large": {target: server, config: as("plain", "shop", "select repeat('x', 100000) from seq_1_to_1000"), verdict: down, reason: uptime.QueryFailed, says: "larger"},
			"a row that is too large":     {target: server, config: as("plain", "", "select repeat('x', 2000000)"), verdict: down, reason: uptime.QueryFailed, says: "larger"},
			"an untrusted certificate":    {target: server, config: map[string]any{"security": "tls"}, verdict: down, reason: uptime.TLSUntrusted},
		})
		t.Run("a user who is over the limit", func(t *testing.T) {
			t.Parallel()
			check(t, dbRun(t, "mysql", dbCase{target: server, config: as("full", "", "")}), up, uptime.ReasonOK)
			check(t, dbRun(t, "mysql", dbCase{target: server, config: as("full", "", "")}), down, uptime.NotReady)
		})
		t.Run("examples", func(t *testing.T) {
			t.Parallel()
			runExample(t, "mysql", 0, server, nil)
			runExample(t, "mysql", 1, server, func(c map[string]any) {
				c["tls"], c["username"], c["password"] = map[string]any{"ca_pem": ca.pem()}, "plain", dbCanary
				c["query"] = strings.NewReplacer("orders", "t", "now()", "'2026-01-02 04:00:00'").Replace(c["query"].(string))
			})
		})
	})
	strangers := dbStrangers(t, none)
	strangers["it resets when talked to"] = dbCase{config: none, verdict: down, reason: uptime.ConnReset, serve: func(c net.Conn) {
		_, _ = io.WriteString(c, greeting)
		_, _ = c.Read(make([]byte, 1))
		testenv.Reset(c)
	}}
	for name, tt := range map[string]dbCase{
		"it has no room":                 {serve: mysqlSays(mysqlPacket(0, "\xff\x10\x04Too many connections")), config: none, verdict: down, reason: uptime.NotReady, says: "Too many connections (1040)"},
		"it has shut this address out":   {serve: mysqlSays(mysqlPacket(0, "\xff\x69\x04Host is blocked")), config: as("a", "", ""), verdict: down, reason: uptime.AuthFailed, says: "(1129)"},
		"it takes nobody from here":      {serve: mysqlSays(mysqlPacket(0, "\xff\x6a\x04Host is not allowed")), config: none, verdict: up},
		"it shuts down":                  {serve: mysqlSays(greeting, mysqlPacket(2, mysqlError(1053, "Server shutdown in progress"))), config: none, verdict: down, reason: uptime.NotReady},
		"a node outside of its cluster":  {serve: mysqlSays(greeting, mysqlPacket(2, mysqlOK), mysqlPacket(1, mysqlError(1047, "WSREP has not yet prepared node"))), config: as("a", "", "select 1"), verdict: down, reason: uptime.NotReady},
		"it takes any login":             {serve: mysqlSays(greeting, mysqlPacket(2, mysqlOK)), config: as("a", "", ""), verdict: up},
		"it is silent after its hello":   {serve: mysqlSays(greeting), config: none, timeout: short, verdict: down, reason: uptime.Timeout},
		"it closes after its hello":      {serve: func(c net.Conn) { _, _ = io.WriteString(c, greeting); _, _ = c.Read(make([]byte, 4096)) }, config: none, verdict: down, reason: uptime.ConnClosed},
		"it has no TLS":                  {serve: mysqlSays(greeting), config: dbTLS(ca, none), verdict: down, reason: uptime.TLSHandshake},
		"it stops in the handshake":      {serve: mysqlSays(tls), config: dbTLS(ca, none), timeout: short, verdict: down, reason: uptime.TLSTimeout},
		"it speaks plainly under TLS":    {serve: mysqlSays(tls, mysqlPacket(2, mysqlOK)), config: dbTLS(ca, none), verdict: down, reason: uptime.TLSHandshake},
		"half a greeting":                {serve: mysqlSays(greeting[:20]), config: none, timeout: short, verdict: down, reason: uptime.Timeout},
		"a greeting that is too short":   {serve: mysqlSays(mysqlPacket(0, "\x0a8.0\x00xxxx")), config: none, verdict: down, reason: uptime.Protocol},
		"an answer that makes no sense":  {serve: mysqlSays(greeting, mysqlPacket(2, "\xff")), config: none, verdict: down, reason: uptime.Protocol},
		"it claims a long message":       {serve: mysqlSays(greeting, "\xff\xff\xff\x02"), config: none, verdict: down, reason: uptime.Protocol},
		"it wants the password in clear": {serve: mysqlSays(greeting, mysqlPacket(2, "\xfemysql_clear_password\x00")), config: as("a", "", ""), verdict: unknown, reason: uptime.BadConfig},
		"it asks nobody in clear":        {serve: mysqlSays(greeting, mysqlPacket(2, "\xfemysql_clear_password\x00")), config: none, verdict: up},
		"it repeats the password to us":  {serve: mysqlSays(greeting, mysqlPacket(2, mysqlError(1045, "no: "+dbCanary))), config: as("a", "", ""), verdict: down, reason: uptime.AuthFailed, says: "no: " + uptime.Redacted},
	} {
		strangers[name] = tt
	}
	t.Run("fake", func(t *testing.T) { dbCases(t, "mysql", strangers) })
}

// The driver cannot answer a challenge whose last byte is zero: a login is tried again.
func TestMySQLTriesAnOddChallengeAgain(t *testing.T) {
	t.Parallel()
	challenge := "\xfeclient_ed25519\x00" + strings.Repeat("c", 31)
	var logins atomic.Int32
	serve := func(c net.Conn) {
		if logins.Add(1) < mysqlTries {
			mysqlSays(mysqlGreeting(0), mysqlPacket(2, challenge+"\x00"))(c)
		}
		mysqlSays(mysqlGreeting(0), mysqlPacket(2, challenge+"c"), mysqlPacket(4, mysqlOK))(c)
	}
	check(t, dbRun(t, "mysql", dbCase{serve: serve, config: map[string]any{"username": "a"}}), uptime.VerdictUp, uptime.ReasonOK)
}

// A server may ask for any file of its client in answer to any query.
func TestMySQLGivesNoFileAway(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 1)
	out := dbRun(t, "mysql", dbCase{
		serve: func(c net.Conn) {
			_, _ = io.WriteString(c, mysqlGreeting(0x80))
			b := make([]byte, 4096)
			for _, answer := range []string{mysqlPacket(2, mysqlOK), mysqlPacket(1, mysqlOK), mysqlPacket(1, "\xfb/proc/self/cmdline")} {
				_, _ = c.Read(b)
				_, _ = io.WriteString(c, answer)
			}
			n, _ := c.Read(b)
			heard <- string(b[:n])
			_, _ = io.WriteString(c, mysqlPacket(3, mysqlOK))
			_, _ = io.Copy(io.Discard, c)
		},
		config: map[string]any{"username": "a", "query": "select 1"},
	})
	check(t, out, uptime.VerdictDown, uptime.Protocol)
	if got := <-heard; got != mysqlPacket(2, "") {
		t.Errorf("the server heard %q, want an empty file", got)
	}
}

// mysqlEndless takes the login and answers the query with rows without end.
func mysqlEndless(greeting string) func(net.Conn) {
	column := "\x03def\x00\x00\x00\x01a\x00\x0c\x3f\x00\x00\x01\x00\x00\xfd\x00\x00\x00\x00\x00"
	return func(c net.Conn) {
		b := make([]byte, 4096)
		_, err := io.WriteString(c, greeting)
		for _, answer := range []string{mysqlPacket(2, mysqlOK), mysqlPacket(1, mysqlOK),
			mysqlPacket(1, "\x01") + mysqlPacket(2, column) + mysqlPacket(3, "\xfe\x00\x00\x02\x00")} {
			_, _ = c.Read(b)
			_, err = io.WriteString(c, answer)
		}
		row := []byte(mysqlPacket(4, "\xfd\x00\xff\x03"+strings.Repeat("x", 0x03ff00)))
		for ; err == nil; row[3]++ { // its number
			_, err = c.Write(row)
		}
	}
}

func TestMySQLIsFrugal(t *testing.T) {
	greeting := mysqlGreeting(0)
	for name, tt := range map[string]dbCase{
		"a claimed length": {serve: mysqlSays(greeting, "\xff\xff\xff\x02"), reason: uptime.Protocol},
		"endless rows":     {serve: mysqlEndless(greeting), config: map[string]any{"username": "a", "query": "x"}, reason: uptime.QueryFailed},
		"silence":          {serve: mysqlSays(greeting), timeout: short / 3, reason: uptime.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			tt.verdict = uptime.VerdictDown
			dbFrugal(t, "mysql", tt)
		})
	}
	ca := newCA(t, authority{}, nil)
	server := &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}}
	asking := map[string]any{"username": "a", "query": "x"}
	set, more := mysqlPacket(1, mysqlOK), mysqlPacket(1, "\x00\x00\x00\x0a\x00\x00\x00")
	const many, more24 = "\xfe\x00\x00\x00\x00\x00\x04\x00\x00", "\xfd\xff\xff\xff"
	for name, tt := range map[string]struct {
		answers []string // to the setting and to the query
		says    string
		reason  uptime.Reason
	}{
		"more columns than there is memory for": {answers: []string{set, mysqlPacket(1, many)}, says: "4398046511104 columns", reason: uptime.Protocol},
		"more columns than there are":           {answers: []string{set, mysqlPacket(1, more24)}, says: "16777215 columns", reason: uptime.Protocol},
		"columns before the query":              {answers: []string{set + mysqlPacket(1, many)}, says: "4398046511104 columns", reason: uptime.Protocol},
		"columns after an empty answer":         {answers: []string{set, more + mysqlPacket(2, many)}, says: "4398046511104 columns", reason: uptime.Protocol},
		"columns after a setting's rows":        {answers: []string{mysqlPacket(1, "\x01") + mysqlPacket(2, "x") + mysqlPacket(3, "\xfe\x00\x00\x02\x00") + mysqlPacket(4, "\xfe\x00\x00\x02\x00") + mysqlPacket(1, many)}, says: "4398046511104 columns", reason: uptime.Protocol},
		"a message too long":                    {answers: []string{set, "\x01\x00\x04\x01"}, says: "larger than", reason: uptime.QueryFailed},
	} {
		t.Run(name, func(t *testing.T) {
			dbFrugal(t, "mysql", dbCase{config: asking, verdict: uptime.VerdictDown, reason: tt.reason, says: tt.says,
				serve: mysqlSays(greeting, append([]string{mysqlPacket(2, mysqlOK)}, tt.answers...)...)})
		})
		t.Run(name+", under TLS", func(t *testing.T) {
			dbFrugal(t, "mysql", dbCase{config: dbTLS(ca, asking), verdict: uptime.VerdictDown, reason: tt.reason, says: tt.says,
				serve: mysqlUnderTLS(server, mysqlGreeting(mysqlHasTLS), append([]string{mysqlPacket(3, mysqlOK)}, tt.answers...)...)})
		})
	}
}

// mysqlUnderTLS greets, speaks TLS when it is asked to, and then answers as mysqlSays.
func mysqlUnderTLS(config *tls.Config, greeting string, parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, greeting)
		if _, err := io.ReadFull(c, make([]byte, 36)); err != nil {
			return
		}
		secured := tls.Server(c, config)
		dbSays(parts...)(secured)
	}
}

// What a login under TLS is like with the methods that give the password in clear, or
// would without TLS ask for a key to hide it with.
func TestMySQLUnderTLS(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	server := &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}}
	plain := mysqlGreeting(mysqlHasTLS)
	proposes := mysqlPacket(0, strings.ReplaceAll(plain[4:], "mysql_native_password", "sha256_password"))
	nonce := strings.Repeat("n", 20) + "\x00"
	for name, tt := range map[string]struct {
		greeting string
		asks     []string // before it gets the password
	}{
		"sha256_password":            {greeting: plain, asks: []string{mysqlPacket(3, "\xfesha256_password\x00"+nonce)}},
		"sha256_password by default": {greeting: proposes, asks: []string{mysqlPacket(3, "\xfesha256_password\x00"+nonce)}},
		"caching_sha2_password":      {greeting: plain, asks: []string{mysqlPacket(3, "\xfecaching_sha2_password\x00"+nonce), mysqlPacket(5, "\x01\x04")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := make(chan []string, 1)
			out := dbRun(t, "mysql", dbCase{config: dbTLS(ca, map[string]any{"username": "a", "password": dbCanary, "query": "x"}), serve: func(c net.Conn) {
				_, _ = io.WriteString(c, tt.greeting)
				ask := make([]byte, 36)
				_, _ = io.ReadFull(c, ask)
				secured := tls.Server(c, server)
				messages := []string{string(ask[:4])}
				for _, answer := range append(slices.Clone(tt.asks), "", mysqlPacket(1, mysqlOK), mysqlPacket(1, mysqlOK)) {
					m, err := mysqlRead(secured)
					if err != nil {
						break
					}
					if answer == "" { // it has the password
						answer = mysqlPacket(m[3]+1, mysqlOK)
					}
					messages = append(messages, m)
					_, _ = io.WriteString(secured, answer)
				}
				heard <- messages
			}})
			check(t, out, uptime.VerdictUp, uptime.ReasonOK)
			got := <-heard
			if n := len(tt.asks); len(got) != n+4 || got[n+1] != mysqlPacket(byte(2*n+2), dbCanary+"\x00") {
				t.Fatalf("the server heard %q, want the password in message %d", got, n+1)
			}
			if got[0] != "\x20\x00\x00\x01" || got[1][3] != 2 || got[1][5]&mysqlTLS == 0 {
				t.Errorf("it began with %q, %q: want it to ask for TLS, and to say so again", got[0], got[1])
			}
			if last := got[len(got)-1]; last != mysqlPacket(0, "\x03x") {
				t.Errorf("the query came as %q", last)
			}
		})
	}
}

// mysqlRead reads one message.
func mysqlRead(in io.Reader) (string, error) {
	b := make([]byte, 4)
	if _, err := io.ReadFull(in, b); err != nil {
		return "", err
	}
	b = append(b, make([]byte, mysqlLength(b))...)
	_, err := io.ReadFull(in, b[4:])
	return string(b), err
}

func TestMySQLRefusesConfigs(t *testing.T) {
	t.Parallel()
	dbRefusesConfigs(t, "mysql", map[string]string{`{"database":"x"}`: "config.username", `{"quary":"x"}`: "config.quary"})
}

func FuzzMySQLGreeting(f *testing.F) {
	for _, s := range []string{mysqlGreeting(0)[4:], "\xff\x10\x04Too many connections", "\xff\x10\x04#08004Too many connections", "\xff\x10\x04#", "\x0a\x00", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if hello, ok := parseMySQLGreeting(b); !ok && hello != (mysqlHello{}) {
			t.Errorf("%q: %+v beside not ok", b, hello)
		}
	})
}

// FuzzMySQLAnswer has the driver read whatever a server may say after its greeting: it
// makes no room for what is only claimed, and leaves a verdict about the target.
func FuzzMySQLAnswer(f *testing.F) {
	ok, column := mysqlPacket(1, mysqlOK), "\x03def\x00\x00\x00\x01a\x00\x0c\x3f\x00\x00\x01\x00\x00\xfd\x00\x00\x00\x00\x00"
	for _, answer := range []string{
		mysqlPacket(1, "\x01") + mysqlPacket(2, column) + mysqlPacket(3, "\xfe\x00\x00\x02\x00") + mysqlPacket(4, "\x01x") + mysqlPacket(5, "\xfe\x00\x00\x02\x00"),
		mysqlPacket(1, "\xfe\x00\x00\x00\x00\x00\x04\x00\x00"), mysqlPacket(1, "\x00\x00\x00\x0a\x00\x00\x00") + mysqlPacket(2, "\xfd\xff\xff\xff"),
		mysqlPacket(1, "\xfb/etc/hostname"), mysqlPacket(1, mysqlError(1064, "no")), "\xff\xff\xff\x01",
	} {
		f.Add(mysqlPacket(2, mysqlOK), ok, answer)
	}
	f.Add(mysqlPacket(2, "\xfesha256_password\x00nnnnnnnnnnnnnnnnnnnn\x00"), mysqlPacket(4, "\x01key"), ok)
	f.Add(mysqlPacket(2, "\xfecaching_sha2_password\x00nnnnnnnnnnnnnnnnnnnn\x00"), mysqlPacket(4, "\x01\x04"), mysqlPacket(6, "\x01key"))
	config := map[string]any{"username": "monitor", "password": dbCanary, "query": "x"}
	f.Fuzz(func(t *testing.T, first, second, third string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		serve := func(c net.Conn) { // and hangs up when it has said all, or is kept waiting
			b := make([]byte, 4096)
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			for _, answer := range []string{mysqlGreeting(0), first, second, third} {
				_, _ = io.WriteString(c, answer)
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}
		out := dbRun(t, "mysql", dbCase{serve: serve, config: config, timeout: 2 * time.Second})
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > 32<<20 {
			t.Errorf("%d MiB were allocated in all", made>>20)
		}
		if out.Verdict == uptime.VerdictUnknown && out.Reason != uptime.BadConfig {
			t.Errorf("%s: %s", out.Reason, out.Message)
		}
	})
}
