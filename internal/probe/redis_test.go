package probe

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// redisStart starts a real server with more arguments.
func redisStart(t *testing.T, args func(s *testenv.Program) []string, prepare func(s *testenv.Program) error) string {
	t.Helper()
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "redis-server", Package: "redis-server", Prepare: prepare,
		Args: func(s *testenv.Program) []string {
			return append([]string{"--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--appendonly", "no"}, args(s)...)
		},
	}).Addr
}

// redisPlain is a server without TLS.
func redisPlain(t *testing.T, args ...string) string {
	t.Helper()
	return redisStart(t, func(s *testenv.Program) []string {
		return append([]string{"--port", strconv.Itoa(s.Port)}, args...)
	}, nil)
}

// redisTell sends commands to a real server and waits for one line of answer each.
func redisTell(t *testing.T, server string, commands ...string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	in := bufio.NewReader(c)
	for _, command := range commands {
		_, _ = io.WriteString(c, command+"\r\n")
		if line, err := in.ReadString('\n'); err != nil || line[0] == '-' {
			t.Fatalf("%s: %q, %v", command, line, err)
		}
	}
	return c
}

func TestRedis(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	open := redisPlain(t)
	locked := redisPlain(t, "--requirepass", dbCanary, "--user", "reader", "on", ">"+dbCanary, "~jobs", "+llen", "+select")
	secured := redisStart(t, func(s *testenv.Program) []string {
		return []string{"--port", "0", "--tls-port", strconv.Itoa(s.Port), "--tls-auth-clients", "no", "--requirepass", dbCanary,
			"--tls-cert-file", s.Dir + "/cert.pem", "--tls-key-file", s.Dir + "/key.pem", "--tls-ca-cert-file", s.Dir + "/cert.pem"}
	}, func(s *testenv.Program) error { return dbPEM(s.Dir, chainOf(t, ca, nil)) })
	lost := redisPlain(t, "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no")
	stale := redisPlain(t, "--replicaof", "127.0.0.1", "1")
	full := redisPlain(t)
	redisTell(t, full, "CONFIG SET maxclients 1")
	redisTell(t, open, "RPUSH jobs a b c", "SET name value", "SET big "+strings.Repeat("x", 60000), "HSET h f 1")
	redisTell(t, locked, "AUTH "+dbCanary, "RPUSH jobs a b c")

	up, down := uptime.VerdictUp, uptime.VerdictDown
	none, pass := map[string]any{}, map[string]any{"password": dbCanary}
	ask := func(words ...string) map[string]any { return map[string]any{"query": words} }
	value := func(v string) []uptime.Assertion { return []uptime.Assertion{assert("value", "", "eq", v)} }
	rows := func(n int) []uptime.Assertion { return []uptime.Assertion{assert("rows", "", "eq", n)} }
	reader := func(words ...string) map[string]any {
		return map[string]any{"username": "reader", "password": dbCanary, "query": words}
	}
	version := []uptime.Assertion{assert("server_version", "", "matches", "^[0-9]+[.]")}
	t.Run("real", func(t *testing.T) {
		dbCases(t, "redis", map[string]dbCase{
			"it answers PING":                 {target: open, config: none, verdict: up, assertions: version},
			"it asks for a password":          {target: locked, config: none, verdict: up},
			"a login":                         {target: locked, config: pass, verdict: up},
			"a login under TLS":               {target: secured, config: dbTLS(ca, pass), verdict: up, assertions: version},
			"a user who may not send PING":    {target: locked, config: reader("LLEN", "jobs"), verdict: up, assertions: value("3")},
			"a replica that cannot write":     {target: stale, config: none, verdict: up},
			"a number":                        {target: open, config: ask("LLEN", "jobs"), verdict: up, assertions: append(value("3"), rows(1)...)},
			"a text":                          {target: open, config: ask("get", "name"), verdict: up, assertions: value("value")},
			"a list":                          {target: open, config: ask("LRANGE", "jobs", "0", "-1"), verdict: up, assertions: append(value("a"), rows(3)...)},
			"an empty list":                   {target: open, config: ask("LRANGE", "none", "0", "-1"), verdict: up, assertions: rows(0)},
			"a list in lists":                 {target: open, config: ask("ROLE"), verdict: up, assertions: value("master")},
			"nothing is no value":             {target: open, config: ask("GET", "none"), verdict: up, assertions: append(rows(0), assert("value", "", "ne", ""))},
			"another database is empty":       {target: open, config: map[string]any{"database": 3, "query": []string{"DBSIZE"}}, verdict: up, assertions: value("0")},
			"an assertion fails":              {target: open, config: ask("LLEN", "jobs"), verdict: down, reason: uptime.AssertFailed, assertions: value("4")},
			"a wrong password":                {target: locked, config: map[string]any{"password": "canary-wrong"}, verdict: down, reason: uptime.AuthFailed, says: "WRONGPASS"},
			"an unknown user":                 {target: locked, config: map[string]any{"username": "nobody", "password": dbCanary}, verdict: down, reason: uptime.AuthFailed},
			"a password nobody asked for":     {target: open, config: pass, verdict: down, reason: uptime.AuthFailed},
			"a database out of range":         {target: open, config: map[string]any{"database": 99}, verdict: down, reason: uptime.QueryFailed, says: "out of range"},
			"a query on the wrong type":       {target: open, config: ask("LLEN", "name"), verdict: down, reason: uptime.QueryFailed, says: "WRONGTYPE"},
			"a query the user may not make":   {target: locked, config: reader("GET", "jobs"), verdict: down, reason: uptime.QueryFailed, says: "NOPERM"},
			"a query without its password":    {target: locked, config: ask("DBSIZE"), verdict: up},
			"a replica that lost its primary": {target: lost, config: none, verdict: down, reason: uptime.NotReady, says: "MASTERDOWN"},
			"it has no room":                  {target: full, config: none, verdict: down, reason: uptime.NotReady, says: "max number of clients"},
			"TLS where none is spoken":        {target: open, config: dbTLS(ca, none), timeout: time.Second, verdict: down, reason: uptime.TLSTimeout},
			"an untrusted certificate":        {target: secured, config: map[string]any{"security": "tls"}, verdict: down, reason: uptime.TLSUntrusted},
		})
		t.Run("examples", func(t *testing.T) {
			t.Parallel()
			runExample(t, "redis", 0, open, nil)
			runExample(t, "redis", 1, secured, func(c map[string]any) { c["tls"], c["password"] = map[string]any{"ca_pem": ca.pem()}, dbCanary })
		})
	})
	strangers := dbStrangers(t, none)
	for name, tt := range map[string]dbCase{
		"it loads its data":             {serve: dbSays("-LOADING Redis is loading the dataset in memory\r\n"), config: none, verdict: down, reason: uptime.NotReady, says: "LOADING"},
		"it cannot save":                {serve: dbSays("-MISCONF Redis is configured to save RDB snapshots\r\n"), config: none, verdict: down, reason: uptime.NotReady},
		"a cluster without all slots":   {serve: dbSays("+PONG\r\n", "-CLUSTERDOWN The cluster is down\r\n"), config: ask("GET", "a"), verdict: down, reason: uptime.NotReady},
		"protected mode":                {serve: dbSays("-DENIED Redis is running in protected mode\r\n"), config: none, verdict: up},
		"it is silent after the login":  {serve: dbSays("+OK\r\n"), config: pass, timeout: short, verdict: down, reason: uptime.Timeout},
		"it answers in several pieces":  {serve: func(c net.Conn) { dbPieces(c, "+PONG\r\n") }, config: none, verdict: up},
		"half an answer":                {serve: func(c net.Conn) { _, _ = c.Read(make([]byte, 64)); _, _ = io.WriteString(c, "+PO") }, config: none, verdict: down, reason: uptime.ConnClosed},
		"another answer to PING":        {serve: dbSays("+OK\r\n"), config: none, verdict: down, reason: uptime.Protocol},
		"an answer that is too long":    {serve: dbSays("+PONG\r\n", "$2000000000\r\n"), config: ask("GET", "a"), verdict: down, reason: uptime.QueryFailed, says: "larger"},
		"an answer without end":         {serve: dbEndless("+PONG\r\n*1000\r\n", "$200000\r\n"+strings.Repeat("x", 200000)+"\r\n"), config: ask("LRANGE", "a", "0", "-1"), verdict: down, reason: uptime.QueryFailed, says: "larger"},
		"a list deep in lists":          {serve: dbEndless("+PONG\r\n", "*1\r\n"), config: ask("ROLE"), verdict: down, reason: uptime.Protocol},
		"it repeats the password to us": {serve: dbSays("-ERR no: " + dbCanary + "\r\n"), config: pass, verdict: down, reason: uptime.AuthFailed, says: "no: " + uptime.Redacted},
	} {
		strangers[name] = tt
	}
	t.Run("fake", func(t *testing.T) { dbCases(t, "redis", strangers) })
}

func TestRedisIsFrugal(t *testing.T) {
	ask := map[string]any{"query": []string{"LRANGE", "a", "0", "-1"}}
	for name, tt := range map[string]dbCase{
		"a claimed length": {serve: dbSays("+PONG\r\n", "$2000000000\r\n"), config: ask, reason: uptime.QueryFailed},
		"a claimed list":   {serve: dbSays("+PONG\r\n", "*2000000000\r\n"), config: ask, timeout: short / 3, reason: uptime.Timeout},
		"endless output":   {serve: dbEndless("+PONG\r\n*1000\r\n", "$200000\r\n"+strings.Repeat("x", 200000)+"\r\n"), config: ask, reason: uptime.QueryFailed},
	} {
		t.Run(name, func(t *testing.T) {
			tt.verdict = uptime.VerdictDown
			dbFrugal(t, "redis", tt)
		})
	}
}

func TestRedisRefusesConfigs(t *testing.T) {
	t.Parallel()
	dbRefusesConfigs(t, "redis", map[string]string{
		`{"username":"a"}`: "config.password", `{"query":["FLUSHALL"]}`: "config.query", `{"query":[""]}`: "config.query", `{"database":-1}`: "config.database",
	})
}

// FuzzRedisReply: what is read of an answer is bounded by what is there.
func FuzzRedisReply(f *testing.F) {
	for _, s := range []string{"+PONG\r\n", "-ERR x\r\n", ":7\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n:1\r\n*1\r\n$0\r\n\r\n", "*-1\r\n", "$9\r\nabc", "*1\r\n*1\r\n*1\r\n", "x\r\n", "\r\n", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := readRedis(bufio.NewReader(bytes.NewReader(b)), 0)
		if err == nil && (reply.items > maxRows || len(reply.text) > len(b)) {
			t.Errorf("%q: %d items, %d bytes", b, reply.items, len(reply.text))
		}
	})
}
