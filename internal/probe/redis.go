package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// redisConfig are the options of a Redis check.
type redisConfig struct {
	netConfig
	Security string        `json:"security" enum:"none,tls" doc:"whether TLS is spoken"`
	TLS      tlsConfig     `json:"tls"`
	Username string        `json:"username" doc:"the user of an access control list; empty is the default user"`
	Password uptime.Secret `json:"password" doc:"the password; without it, a server that asks for one is up"`
	Database int           `json:"database" min:"0" max:"1000000" doc:"the number of the database to use"`
	Query    []string      `json:"query" max:"20" doc:"a command that reads, one word an item, to send after PING: [\"LLEN\", \"jobs\"]; of a long list, the first 1000 items are read"`
}

// redisReads are the commands a query may be. A session cannot be told to read
// only, and a slip must not write.
const redisReads = "DBSIZE EXISTS GET GETRANGE HEXISTS HGET HLEN INFO LASTSAVE LINDEX LLEN LRANGE PTTL ROLE SCARD SISMEMBER STRLEN TIME TTL TYPE XLEN ZCARD ZCOUNT ZRANGE ZSCORE"

func newRedis() Type {
	return kind[redisConfig]{
		name: "redis",
		about: "Logs in to a Redis server, or one that speaks its protocol (Valkey, KeyDB, Dragonfly), sends PING and runs a command that reads if there is one. " +
			"Without `password`, up means that the server answered PING or asked for a password. A replica that only reads is up.",
		target:  hostPort(6379),
		config:  redisConfig{netConfig: defaultNet(), Security: "none", TLS: defaultTLS()},
		sources: querySources(),
		examples: []uptime.CheckExample{
			{Title: "Redis answers", Target: "cache.example.com"},
			{Title: "A queue is short", Target: "cache.example.com:6379",
				Config:     `{"security": "tls", "password": "…", "query": ["LLEN", "jobs"]}`,
				Assertions: `[{"source": "value", "op": "matches", "value": "^[0-9]{1,3}$", "severity": "degraded"}]`},
		},
		compile: func(b *builder, cfg *redisConfig) Check {
			b.network(cfg.netConfig)
			if cfg.Security == "tls" {
				b.tls(cfg.TLS)
			}
			if cfg.Username != "" && cfg.Password == "" {
				b.problems.Add("config.password", "is missing; a username needs it")
			}
			if len(cfg.Query) > 0 && !strings.Contains(" "+redisReads+" ", " "+strings.ToUpper(cfg.Query[0])+" ") {
				b.problems.Add("config.query", "must begin with a command that reads: %s", redisReads)
			}
			version := b.asserts("server_version")
			return b.check(func(r *session) *fault { return probeRedis(r, cfg, version) })
		},
	}
}

// redisRun is one conversation in the protocol RESP2, which every version speaks. It
// is small, and a driver would bring a pool, retries, commands of its own and memory
// for whatever length a server claims.
type redisRun struct {
	*session
	cfg *redisConfig
	out io.Writer
	in  *bufio.Reader
}

func probeRedis(r *session, cfg *redisConfig, version bool) *fault {
	conn, f := r.connectUnder(cfg.Security)
	if f != nil {
		return f
	}
	c := &redisRun{r, cfg, conn, bufio.NewReader(conn)}
	if cfg.Password != "" {
		words := []string{"AUTH", cfg.Username, cfg.Password.Reveal()}
		if cfg.Username == "" {
			words = []string{"AUTH", cfg.Password.Reveal()}
		}
		if reply, f := c.ask(words...); f != nil || reply.kind == '-' {
			return c.or(f, uptime.AuthFailed, "The server refused the login", reply)
		}
	}
	if locked, f := c.ping(); f != nil || locked {
		return f
	}
	if cfg.Database != 0 {
		if reply, f := c.ask("SELECT", strconv.Itoa(cfg.Database)); f != nil || reply.kind == '-' {
			return c.or(f, uptime.QueryFailed, "The server refused the database", reply)
		}
	}
	if version {
		if f := c.version(); f != nil {
			return f
		}
	}
	if len(cfg.Query) == 0 {
		return nil
	}
	reply, f := c.ask(cfg.Query...)
	if f != nil || reply.kind == '-' {
		return c.or(f, uptime.QueryFailed, "The server failed the query", reply)
	}
	var value *string
	if !reply.null {
		value = &reply.text
	}
	r.found(reply.items, value)
	return nil
}

// ping sends PING. locked is true when the server wants a password that nobody gave.
func (c *redisRun) ping() (locked bool, f *fault) {
	reply, f := c.ask("PING")
	switch {
	case f != nil:
		return false, f
	case reply.kind == '+' && reply.text == "PONG":
		c.seen.Body = reply.text
		return false, nil
	case reply.kind != '-':
		return false, down(uptime.Protocol, "The server answered PING with %q.", clean(reply.text, 60))
	}
	switch reply.word() {
	case "NOPERM": // this user may not, and the server said so
		return false, nil
	case "NOAUTH", "DENIED": // DENIED: of protected mode
		if c.cfg.Password == "" {
			return true, nil
		}
		return false, c.or(nil, uptime.AuthFailed, "The server refused the login", reply)
	case "ERR":
		if strings.Contains(reply.text, "operation not permitted") && c.cfg.Password == "" {
			return true, nil // how Redis before 2.6 asked for a password
		}
	}
	return false, c.or(nil, uptime.QueryFailed, "The server failed PING", reply)
}

// version notes what the server says of itself, if this user may know.
func (c *redisRun) version() *fault {
	reply, f := c.ask("INFO", "server")
	if f != nil || reply.kind == '-' {
		return f
	}
	for line := range strings.Lines(reply.text) {
		if v, ok := strings.CutPrefix(line, "redis_version:"); ok {
			c.serverVersion("Redis", strings.TrimSpace(v))
		}
	}
	return nil
}

// redisNotReady are the first words of errors of a server that is there and cannot
// serve yet, or not now.
const redisNotReady = " LOADING MASTERDOWN BUSY MISCONF CLUSTERDOWN TRYAGAIN "

// or is f, or what an error says.
func (c *redisRun) or(f *fault, reason uptime.Reason, what string, reply redisReply) *fault {
	if f != nil {
		return f
	}
	if strings.Contains(redisNotReady, " "+reply.word()+" ") || strings.HasPrefix(reply.text, "ERR max number of clients") {
		reason, what = uptime.NotReady, "The server says that it is not ready"
	}
	return down(reason, "%s: %s.", what, clean(c.withoutSecrets(strings.TrimSuffix(reply.text, ".")), 200))
}

// ask sends a command and reads its answer.
func (c *redisRun) ask(words ...string) (redisReply, *fault) {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	begin := time.Now()
	_, written := c.out.Write(b)
	// Even if that failed: what the server said before it closed, that it is full, say,
	// tells more.
	reply, err := readRedis(c.in, 0)
	switch {
	case err == nil:
		if c.phases.FirstByte == 0 {
			c.phases.FirstByte = time.Since(begin)
		}
		return reply, nil
	case errors.Is(err, errTooLong), errors.Is(err, errTooMuch):
		return reply, down(uptime.QueryFailed, "The answer to %s is larger than what is read.", clean(words[0], 20))
	case written != nil:
		err = written
	}
	return reply, c.talkFault(err, "its answer to "+clean(words[0], 20))
}

// redisReply is an answer. Of a list only the first item is kept.
type redisReply struct {
	kind  byte // '+' text, '-' error, ':' number, '$' string, '*' list
	null  bool
	text  string
	items int // 1, or how many a list has, or 0 for null
}

// word is the first of an error, its code.
func (r redisReply) word() string {
	word, _, _ := strings.Cut(r.text, " ")
	return word
}

var errRedis = errors.New("not an answer of Redis")

// readRedis reads one answer (https://redis.io/docs/latest/develop/reference/protocol-spec/).
func readRedis(in *bufio.Reader, depth int) (redisReply, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return redisReply{}, errRedis
	}
	if err != nil {
		return redisReply{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return redisReply{}, fmt.Errorf("%w: %q", errRedis, line)
	}
	reply := redisReply{kind: line[0], text: string(line[1 : len(line)-2]), items: 1}
	switch reply.kind {
	case '+', '-', ':':
		return reply, nil
	case '$', '*':
		n, err := strconv.Atoi(reply.text)
		if err != nil || n < -1 || depth > 8 {
			return redisReply{}, fmt.Errorf("%w: %q", errRedis, line)
		}
		reply.text = ""
		if n < 0 {
			reply.null, reply.items = true, 0
			return reply, nil
		}
		if reply.kind == '$' {
			reply.text, err = readRedisString(in, n)
			return reply, err
		}
		reply.items = min(n, maxRows)
		reply.null = n == 0
		for i := range reply.items {
			item, err := readRedis(in, depth+1)
			if err != nil {
				return redisReply{}, err
			}
			if i == 0 {
				reply.text, reply.null = item.text, item.null
			}
		}
		return reply, nil
	}
	return redisReply{}, fmt.Errorf("%w: %q", errRedis, line)
}

func readRedisString(in *bufio.Reader, n int) (string, error) {
	if n > maxMessage {
		return "", errTooLong
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(in, b); err != nil {
		return "", err
	}
	if string(b[n:]) != "\r\n" {
		return "", errRedis
	}
	return string(b[:n]), nil
}
