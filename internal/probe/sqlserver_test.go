package probe

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"vedette/internal/uptime"
)

// tdsFake stands in for SQL Server, which Debian does not package. It speaks TDS 7.4
// as one does: pre-login, TLS inside of it, a login whose name and password it
// compares, transactions and batches, whose answers the test gives
// (https://learn.microsoft.com/openspecs/windows_protocols/ms-tds).
type tdsFake struct {
	encryption byte // 0 the login, 1 everything, 2 nothing
	tls        *tls.Config
	login      string            // instead of comparing: the answer
	batches    map[string]string // answer by statement
}

// Kinds of TDS packets that only a client sends.
const (
	tdsBatch       = 1
	tdsTransaction = 14
)

// tdsPacket is a message in as many packets as it needs.
func tdsPacket(kind byte, body string) string {
	const most = tdsMost - tdsHead
	out, number, last := "", byte(1), byte(0)
	for last == 0 {
		part := body[:min(len(body), most)]
		if body = body[len(part):]; body == "" {
			last = 1
		}
		size := 8 + len(part)
		out += string([]byte{kind, last, byte(size >> 8), byte(size), 0, 0, number, 0}) + part
		number++
	}
	return out
}

// tdsRead reads a message, whatever its number of packets.
func tdsRead(in io.Reader) (kind byte, body []byte, err error) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(in, head); err != nil {
			return 0, nil, err
		}
		part := make([]byte, binary.BigEndian.Uint16(head[2:])-8)
		if _, err := io.ReadFull(in, part); err != nil {
			return 0, nil, err
		}
		body = append(body, part...)
		if head[1]&1 != 0 {
			return head[0], body, nil
		}
	}
}

// tdsWrapped has TLS records travel in packets until its handshake is over.
type tdsWrapped struct {
	net.Conn
	raw  bool
	rest []byte
}

// Read implements io.Reader.
func (c *tdsWrapped) Read(b []byte) (int, error) {
	if c.raw {
		return c.Conn.Read(b)
	}
	if len(c.rest) == 0 {
		_, body, err := tdsRead(c.Conn)
		if err != nil {
			return 0, err
		}
		c.rest = body
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (c *tdsWrapped) Write(b []byte) (int, error) {
	if c.raw {
		return c.Conn.Write(b)
	}
	if _, err := io.WriteString(c.Conn, tdsPacket(tdsPreloginKind, string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

func tdsText(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

func tdsFromText(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u = append(u, binary.LittleEndian.Uint16(b[i:]))
	}
	return string(utf16.Decode(u))
}

func tdsDone(status byte) string {
	return "\xfd" + string([]byte{status, 0}) + strings.Repeat("\x00", 10)
}

func tdsError(number uint32, message string) string {
	body := string(binary.LittleEndian.AppendUint32(nil, number)) + "\x01\x0e" +
		string(binary.LittleEndian.AppendUint16(nil, uint16(len(message)))) + tdsText(message) + "\x00\x00\x01\x00\x00\x00"
	return "\xaa" + string(binary.LittleEndian.AppendUint16(nil, uint16(len(body)))) + body + tdsDone(2)
}

func tdsLoginAck() string {
	const name = "Microsoft SQL Server"
	body := "\x01\x74\x00\x00\x04" + string([]byte{byte(len(name))}) + tdsText(name) + "\x10\x00\x03\xe8"
	return "\xad" + string(binary.LittleEndian.AppendUint16(nil, uint16(len(body)))) + body + tdsDone(0)
}

// tdsRows are rows of one column of text; "NULL" is NULL.
func tdsRows(values ...string) string {
	b := []byte("\x81\x01\x00\x00\x00\x00\x00\x01\x00\xe7\xff\x00\x09\x04\xd0\x00\x34\x00")
	for _, v := range values {
		b = append(b, 0xd1)
		if v == "NULL" {
			b = append(b, 0xff, 0xff)
			continue
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(2*len(v)))
		b = append(b, tdsText(v)...)
	}
	return string(b) + tdsDone(0)
}

// serve answers until the prober goes.
func (m tdsFake) serve(c net.Conn) {
	if _, _, err := tdsRead(c); err != nil {
		return
	}
	prelogin := "\x00\x00\x0b\x00\x06\x01\x00\x11\x00\x01\xff" + "\x10\x00\x03\xe8\x00\x00" + string([]byte{m.encryption})
	_, _ = io.WriteString(c, tdsPacket(tdsReplyKind, prelogin))
	var secret io.ReadWriter = c
	if m.encryption != 2 {
		wrapped := &tdsWrapped{Conn: c}
		conn := tls.Server(wrapped, m.tls)
		if conn.Handshake() != nil {
			return
		}
		wrapped.raw, secret = true, conn
	}
	_, login, err := tdsRead(secret)
	if err != nil {
		return
	}
	if m.encryption == 0 {
		secret = c
	}
	_, _ = io.WriteString(secret, tdsPacket(tdsReplyKind, m.answerLogin(login)))
	for {
		kind, body, err := tdsRead(secret)
		if err != nil {
			return
		}
		answer := tdsDone(0)
		switch kind {
		case tdsTransaction: // begins: here is its number
			answer = "\xe3\x0b\x00\x08\x08" + "12345678" + "\x00" + answer
		case tdsAttentionKind:
			answer = tdsDone(0x20)
		case tdsBatch:
			headers := binary.LittleEndian.Uint32(body)
			answer = m.answer(strings.TrimSpace(tdsFromText(body[headers:])))
		}
		if _, err := io.WriteString(secret, tdsPacket(tdsReplyKind, answer)); err != nil {
			return
		}
	}
}

// answerLogin compares name, password and database.
func (m tdsFake) answerLogin(b []byte) string {
	if m.login != "" {
		return m.login
	}
	field := func(at int) []byte {
		from, n := binary.LittleEndian.Uint16(b[at:]), binary.LittleEndian.Uint16(b[at+2:])
		return b[from : from+2*n]
	}
	password := field(44)
	for i, x := range password {
		x ^= 0xa5
		password[i] = x<<4 | x>>4
	}
	switch {
	case tdsFromText(field(40)) != "monitor" || tdsFromText(password) != dbCanary:
		return tdsError(18456, "Login failed for user.")
	case tdsFromText(field(68)) == "nowhere":
		return tdsError(4060, "Cannot open database \"nowhere\" requested by the login.")
	}
	return tdsLoginAck()
}

func (m tdsFake) answer(statement string) string {
	if a, ok := m.batches[statement]; ok {
		return a
	}
	return tdsError(208, "Invalid object name.")
}

func TestSQLServer(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	up, down := uptime.VerdictUp, uptime.VerdictDown
	none := map[string]any{}
	as := func(query string) map[string]any {
		return map[string]any{"username": "monitor", "password": dbCanary, "query": query}
	}
	with := func(key string, v any) map[string]any {
		c := as("")
		c[key] = v
		return c
	}
	fake := tdsFake{encryption: 2, batches: map[string]string{
		"rows": tdsRows("a", "b", "c"), "none": tdsRows(), "null": tdsRows("NULL"), "many": tdsRows(strings.Split(strings.Repeat("x", 1500), "")...),
		"set": tdsDone(0), "stop": tdsError(6005, "SHUTDOWN is in progress."),
		"select cast(serverproperty('ProductVersion') as nvarchar(128))": tdsRows("16.0.1000.6"),
		"select count(*) from jobs where due < getutcdate()":             tdsRows("0"),
		"insertbulk": tdsRows("1"), "forms": tdsForms() + tdsDone(0),
	}}
	secured := fake
	secured.encryption, secured.tls = 1, &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}, MaxVersion: tls.VersionTLS12}
	half := secured
	half.encryption = 0
	says := func(login string) func(net.Conn) { return tdsFake{encryption: 2, login: login}.serve }
	value := func(v string) []uptime.Assertion { return []uptime.Assertion{assert("value", "", "eq", v)} }
	rows := func(n int) []uptime.Assertion { return []uptime.Assertion{assert("rows", "", "eq", n)} }
	cases := dbStrangers(t, none)
	for name, tt := range map[string]dbCase{
		"without a username it refuses a login":   {serve: fake.serve, config: none, verdict: up},
		"the same under TLS":                      {serve: secured.serve, config: dbTLS(ca, none), verdict: up},
		"a login":                                 {serve: fake.serve, config: as(""), verdict: up},
		"a login that alone is encrypted":         {serve: half.serve, config: as("rows"), verdict: up, assertions: rows(3)},
		"a server that wants everything hidden":   {serve: secured.serve, config: as("rows"), verdict: up, assertions: rows(3)},
		"a login under TLS":                       {serve: secured.serve, config: dbTLS(ca, as("rows")), verdict: up, assertions: append(rows(3), value("a")...)},
		"it tells its version":                    {serve: fake.serve, config: as("none"), verdict: up, assertions: append(rows(0), assert("server_version", "", "contains", "16.0"))},
		"NULL is no value":                        {serve: fake.serve, config: as("null"), verdict: up, assertions: append(rows(1), assert("value", "", "ne", ""))},
		"more rows than are read":                 {serve: fake.serve, config: as("many"), verdict: up, assertions: rows(1000)},
		"a statement without rows":                {serve: fake.serve, config: as("set"), verdict: up, assertions: rows(0)},
		"a query that the driver would take over": {serve: fake.serve, config: as("insertbulk"), verdict: up, assertions: value("1")},
		"a column of every form":                  {serve: fake.serve, config: as("forms"), verdict: up, assertions: append(rows(2), value("4050765991979987505")...)},
		"an assertion fails":                      {serve: fake.serve, config: as("rows"), verdict: down, reason: uptime.AssertFailed, assertions: value("z")},
		"a wrong password":                        {serve: fake.serve, config: with("password", "canary-wrong"), verdict: down, reason: uptime.AuthFailed, says: "(18456)"},
		"an unknown user":                         {serve: fake.serve, config: with("username", "nobody"), verdict: down, reason: uptime.AuthFailed},
		"an unknown database":                     {serve: fake.serve, config: with("database", "nowhere"), verdict: down, reason: uptime.QueryFailed, says: "nowhere"},
		"a query that fails":                      {serve: fake.serve, config: as("wrong"), verdict: down, reason: uptime.QueryFailed, says: "(208)"},
		"it stops in the query":                   {serve: fake.serve, config: as("stop"), verdict: down, reason: uptime.NotReady},
		"it is not ready yet":                     {serve: says(tdsError(17187, "SQL Server is not ready to accept new client connections.")), config: none, verdict: down, reason: uptime.NotReady},
		"it stops as the login comes":             {serve: says(tdsError(17188, "SQL Server cannot accept new connections, because it is shutting down.")), config: none, verdict: down, reason: uptime.NotReady},
		"it is in single-user mode":               {serve: says(tdsError(18461, "Login failed for user. Reason: Server is in single user mode.")), config: none, verdict: down, reason: uptime.NotReady},
		"it starts":                               {serve: says(tdsError(18401, "Server is in script upgrade mode.")), config: none, verdict: down, reason: uptime.NotReady},
		"it is silent in the login":               {serve: dbSays(tdsPacket(tdsReplyKind, "\x01\x00\x06\x00\x01\xff\x02")), config: none, timeout: short, verdict: down, reason: uptime.Timeout},
		"it stops in the handshake":               {serve: dbSays(tdsPacket(tdsReplyKind, "\x01\x00\x06\x00\x01\xff\x01")), config: dbTLS(ca, none), timeout: short, verdict: down, reason: uptime.TLSTimeout},
		"it closes in the login": {serve: func(c net.Conn) {
			_, _, _ = tdsRead(c)
			_, _ = io.WriteString(c, tdsPacket(tdsReplyKind, "\x01\x00\x06\x00\x01\xff\x02"))
			_, _, _ = tdsRead(c)
		}, config: none, verdict: down, reason: uptime.ConnClosed},
		"it answers the login with nonsense": {serve: says("\x00\x00"), config: none, verdict: down, reason: uptime.Protocol},
		"it repeats the password to us":      {serve: says(tdsError(18456, "no: "+dbCanary)), config: as(""), verdict: down, reason: uptime.AuthFailed, says: "no: " + uptime.Redacted},
		"it speaks no TLS":                   {serve: fake.serve, config: dbTLS(ca, none), verdict: down, reason: uptime.TLSHandshake, says: "does not offer TLS"},
		"an untrusted certificate":           {serve: secured.serve, config: map[string]any{"security": "tls"}, verdict: down, reason: uptime.TLSUntrusted},
	} {
		cases[name] = tt
	}
	dbCases(t, "sqlserver", cases)
	t.Run("examples", func(t *testing.T) {
		t.Parallel()
		runExample(t, "sqlserver", 0, serveRaw(t, fake.serve), nil)
		runExample(t, "sqlserver", 1, serveRaw(t, secured.serve), func(c map[string]any) {
			c["tls"], c["password"] = map[string]any{"ca_pem": ca.pem()}, dbCanary
		})
	})
}

func TestSQLServerIsFrugal(t *testing.T) {
	many := tdsFake{encryption: 2, login: tdsLoginAck(), batches: map[string]string{"many": tdsRows(strings.Split(strings.Repeat("x", 1500), "")...)}}
	for name, tt := range map[string]dbCase{
		"many rows":      {serve: many.serve, config: map[string]any{"username": "a", "query": "many"}, verdict: uptime.VerdictUp},
		"endless output": {serve: dbEndless("", "\x04\x01\x10\x00\x00\x00\x01\x00"+strings.Repeat("x", 0xff8)), verdict: uptime.VerdictDown, reason: uptime.Protocol},
		"silence":        {serve: dbSays(), timeout: short / 3, verdict: uptime.VerdictDown, reason: uptime.Timeout},
	} {
		t.Run(name, func(t *testing.T) { dbFrugal(t, "sqlserver", tt) })
	}
	ca := newCA(t, authority{}, nil)
	secured := tdsFake{encryption: 1, tls: &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}, MaxVersion: tls.VersionTLS12}}
	for name, tt := range tdsLies {
		t.Run(name, func(t *testing.T) {
			query := map[string]any{"username": "monitor", "password": dbCanary, "query": "lie"}
			fake := tdsFake{encryption: 2, batches: map[string]string{"lie": tt.reply}}
			dbFrugal(t, "sqlserver", dbCase{serve: fake.serve, config: query, verdict: uptime.VerdictDown, reason: tt.reason, says: tt.says})
			hidden := secured
			hidden.batches = fake.batches
			dbFrugal(t, "sqlserver", dbCase{serve: hidden.serve, config: dbTLS(ca, query), verdict: uptime.VerdictDown, reason: tt.reason, says: tt.says})
		})
	}
	t.Run("a login's answer", func(t *testing.T) {
		lying := tdsFake{encryption: 2, login: tdsLies["what federated logins need"].reply}
		dbFrugal(t, "sqlserver", dbCase{serve: lying.serve, verdict: uptime.VerdictDown, reason: uptime.Protocol, says: "0xee"})
	})
}

// tdsLies are answers that claim more than they hold.
var tdsLies = map[string]struct {
	reply, says string
	reason      uptime.Reason
}{
	"a value in chunks":          {reply: tdsHeadOf("\xa5\xff\xff") + "\xd1\xff\xff\xff\x7f\x00\x00\x00\x00", reason: uptime.QueryFailed, says: "larger than"},
	"a chunk":                    {reply: tdsHeadOf("\xa5\xff\xff") + "\xd1\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", reason: uptime.QueryFailed, says: "larger than"},
	"a text":                     {reply: tdsHeadOf("\x23\xff\xff\xff\x7f\x09\x04\xd0\x00\x34\x00") + "\xd1\x01x12345678\xff\xff\xff\x7f", reason: uptime.QueryFailed, says: "larger than"},
	"a value of any type":        {reply: tdsHeadOf("\x62\xff\xff\xff\x7f") + "\xd1\xff\xff\xff\x7f\xa5\x02\xff\xff", reason: uptime.QueryFailed, says: "larger than"},
	"a type that takes less":     {reply: tdsHeadOf("\x62\xff\xff\xff\x7f") + "\xd1\xff\xff\x01\x00\x32\x00\x01", reason: uptime.Protocol, says: "0x32"},
	"a number of columns":        {reply: "\x81\xfe\xff", reason: uptime.Protocol, says: "65534 columns"},
	"widths of columns":          {reply: "\x81\x00\x10" + strings.Repeat("\x00\x00\x00\x00\x00\x00\xa5\xfe\xff\x00", 4096), reason: uptime.QueryFailed, says: "together wider"},
	"rows that hold nothing":     {reply: tdsHeadOf("\x1f") + strings.Repeat("\xd1", 1000), reason: uptime.Protocol, says: "0x1f"},
	"what federated logins need": {reply: "\xee\xff\xff\xff\xff\xff\xff\xff\xff", reason: uptime.Protocol, says: "0xee"},
	"encrypted columns":          {reply: "\xae\x04\x01\x00\x00\x00\x01\xff", reason: uptime.Protocol, says: "encrypted columns"},
	"an error shorter than said": {reply: "\xaa\x40\x00" + strings.Repeat("\x00", 0x40), reason: uptime.Protocol, says: "as long as it says"},
}

// tdsHeadOf is the head of rows of one column without a name.
func tdsHeadOf(column string) string { return "\x81\x01\x00\x00\x00\x00\x00\x00\x00" + column + "\x00" }

// What may stand in an answer, and how it is cut into packets does not matter.
func TestTDSGuard(t *testing.T) {
	t.Parallel()
	for name, reply := range tdsAnswers {
		for size := 1; size <= len(reply); size += 1 + size/8 {
			if err := tdsLook(reply, size); err != nil {
				t.Errorf("%s, in packets of %d bytes: %v", name, size, err)
			}
		}
	}
	for name, lie := range tdsLies {
		for size := 1; size <= len(lie.reply); size += 1 + size/8 {
			if err := tdsLook(lie.reply, size); err == nil {
				t.Errorf("%s, in packets of %d bytes: passes", name, size)
			}
		}
	}
}

// tdsLook has a guard look at b in packets of size bytes.
func tdsLook(b string, size int) error {
	var g tdsGuard
	for part := range slices.Chunk([]byte(b), size) {
		if err := g.look(part); err != nil {
			return err
		}
	}
	return nil
}

// tdsIn is a token with the length of what it holds.
func tdsIn(token byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string(binary.LittleEndian.AppendUint16([]byte{token}, uint16(len(body)))) + body
}

// tdsShortText is a text with the length in front of it.
func tdsShortText(s string) string { return string([]byte{byte(len(s))}) + tdsText(s) }

// tdsAnswers are what a server sends: every token, and a column of every form.
var tdsAnswers = map[string]string{
	"a login": tdsIn(0xe3, "\x01", tdsShortText("shop"), tdsShortText("master")) +
		tdsIn(0xe3, "\x07\x05\x09\x04\xd0\x00\x34\x00", "\x04", tdsShortText("8000"), tdsShortText("4096")) +
		tdsIn(0xe3, "\x14\x0e\x00\x00\x99\x05\x04\x00", tdsText("away"), "\x00\x00") +
		tdsIn(0xab, "\x45\x16\x00\x00\x02\x00", "\x02\x00"+tdsText("ok"), tdsShortText("db"), tdsShortText(""), "\x01\x00\x00\x00") +
		"\xae\x0a\x01\x00\x00\x00\x01\x02\x20\x00\x00\x00" + strings.Repeat("n", 32) + "\xff" + tdsLoginAck(),
	"a transaction": tdsIn(0xe3, "\x08\x0812345678\x00") + tdsDone(0),
	"an error":      tdsError(208, "Invalid object name."),
	"a procedure": tdsHeadOf("\x38") + "\xd1\x01\x00\x00\x00" + "\xff" + tdsDone(1)[1:] + "\x79\x00\x00\x00\x00" +
		"\xac\x01\x00" + tdsShortText("@x") + "\x01\x00\x00\x00\x00\x00\x00\x26\x04\x04\x01\x00\x00\x00" + "\xfe" + tdsDone(0)[1:],
	"two answers": tdsHeadOf("\x30") + tdsIn(0xa4, "xx") + tdsIn(0xa5, "x") + tdsIn(0xa9, "\x01\x00") + "\xd1\x07" + tdsDone(1) +
		"\x81\xff\xff" + tdsRows("a", "NULL", "b"),
	"every form of a column": tdsForms() + tdsDone(0),
}

// tdsForms are a column of every form, a row of them and one of NULLs.
func tdsForms() string {
	const collation = "\x09\x04\xd0\x00\x34"
	head, row, n := "", "", 0
	for _, column := range []struct{ kind, value string }{
		{"\x7f", "12345678"},
		{"\x26\x08", "\x04\x01\x00\x00\x00"},
		{"\x28", "\x03abc"},
		{"\x2a\x07", "\x08abcdefgh"},
		{"\x6a\x11\x26\x0a", "\x05\x01abcd"},
		{"\xe7\x40\x1f" + collation, "\x02\x00x\x00"},
		{"\xad\x08\x00", "\xff\xff"},
		{"\xe7\xff\xff" + collation, "\x06\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00a\x00" + "\x04\x00\x00\x00b\x00c\x00" + "\x00\x00\x00\x00"},
		{"\xf1\x00", "\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"\xf1\x01" + tdsShortText("d") + tdsShortText("s") + "\x01\x00c\x00", "\xfe\xff\xff\xff\xff\xff\xff\xff" + "\x00\x00\x00\x00"},
		{"\xf0\xff\xff" + tdsShortText("d") + tdsShortText("s") + tdsShortText("t") + "\x02\x00a\x00b\x00", "\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"\x63\xff\xff\xff\x7f" + collation + "\x02" + "\x01\x00d\x00" + "\x01\x00o\x00", "\x10" + strings.Repeat("p", 16+8) + "\x02\x00\x00\x00x\x00"},
		{"\x22\xff\xff\xff\x7f\x00", "\x00"},
		{"\x62\x49\x1f\x00\x00", "\x06\x00\x00\x00\x38\x00\x01\x00\x00\x00"},
		{"\x62\x49\x1f\x00\x00", "\x0b\x00\x00\x00\xe7\x07" + collation + "\x40\x1fx\x00"},
	} {
		head += "\x00\x00\x00\x00\x01\x00" + column.kind + tdsShortText("c")
		row += column.value
		n++
	}
	return string([]byte{0x81, byte(n), 0}) + head + "\xd1" + row + "\xd2\xfe\x7f" + "12345678"
}

// FuzzSQLServerAnswer has the driver read whatever a server may answer: it makes no
// room for what is only claimed, and leaves a verdict about the target.
func FuzzSQLServerAnswer(f *testing.F) {
	for _, reply := range tdsAnswers {
		f.Add(reply)
	}
	for _, lie := range tdsLies {
		f.Add(lie.reply)
	}
	config := map[string]any{"username": "monitor", "password": dbCanary, "query": "x"}
	f.Fuzz(func(t *testing.T, reply string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out := dbRun(t, "sqlserver", dbCase{serve: tdsFake{encryption: 2, batches: map[string]string{"x": reply}}.serve, config: config})
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > 64<<20 {
			t.Errorf("%d MiB were allocated in all", made>>20)
		}
		if out.Verdict == uptime.VerdictUnknown {
			t.Errorf("%s: %s", out.Reason, out.Message)
		}
	})
}
