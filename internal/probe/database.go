package probe

import (
	"errors"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"

	"vedette/internal/uptime"
)

const (
	// maxMessage is the longest message of a database's protocol that is read, so that
	// a length that is only claimed costs nothing.
	maxMessage = 256 << 10
	// maxRows is how many rows of an answer are read.
	maxRows = 1000
	// maxIterations is how much work a server may ask for before it takes a password.
	// PostgreSQL's default is 4096, MongoDB's 15000; a million take half a second.
	maxIterations = 1_000_000
	// anonymous is the name that is given where a protocol needs one and the monitor
	// has none.
	anonymous = "vedette"
)

// databaseConfig are the options of every database.
type databaseConfig struct {
	netConfig
	Security string        `json:"security" enum:"none,tls" doc:"whether TLS is spoken"`
	TLS      tlsConfig     `json:"tls"`
	Username string        `json:"username" doc:"whom to log in as; without it, a server that asks for a login, or refuses one, is up"`
	Password uptime.Secret `json:"password" doc:"the password of username"`
}

func defaultDatabase() databaseConfig {
	return databaseConfig{netConfig: defaultNet(), Security: "none", TLS: defaultTLS()}
}

// queryConfig are the options of a database that is asked in SQL.
type queryConfig struct {
	databaseConfig
	Database string `json:"database" doc:"the database to use; empty is the server's choice"`
	Query    string `json:"query" max:"10000" doc:"one statement to run; only the first 1000 rows are read"`
}

// apply checks and applies what the options of every database say.
func (c *databaseConfig) apply(b *builder) {
	b.network(c.netConfig)
	if c.Security == "tls" {
		b.tls(c.TLS)
	}
	if strings.ContainsRune(c.Username, 0) || strings.ContainsRune(c.Password.Reveal(), 0) {
		b.problems.Add("config.username", "and password must not hold a NUL")
	}
}

// apply adds what a query needs.
func (c *queryConfig) apply(b *builder) {
	c.databaseConfig.apply(b)
	if c.Username == "" {
		for path, given := range map[string]bool{"password": c.Password != "", "database": c.Database != "", "query": c.Query != ""} {
			if given {
				b.problems.Add("config.username", "is missing; config.%s needs a login", path)
			}
		}
	}
	if strings.ContainsRune(c.Database, 0) || strings.ContainsRune(c.Query, 0) {
		b.problems.Add("config.query", "and database must not hold a NUL")
	}
}

// databaseSources are what assertions on every database may look at.
func databaseSources() map[string]source {
	return merged(addressSource(), certSources(), map[string]source{
		"server_version": textSource("server_version", "the version the server gives itself", uptime.AssertFailed),
	})
}

// querySources add what a query found.
func querySources() map[string]source {
	return merged(databaseSources(), map[string]source{
		"rows":  numberSource("rows", "how many rows the query found; of more than 1000, 1000", "", uptime.AssertFailed),
		"value": textSource("value", "the first column of the first row the query found; NULL is no value", uptime.AssertFailed),
	})
}

// serverVersion notes what a server of the given product says of itself.
func (r *session) serverVersion(product, version string) {
	r.setText("server_version", version)
	r.seen.Protocol = product + " " + clean(version, 100)
}

// found notes what a query found. value is nil for NULL and for no row.
func (r *session) found(rows int, value *string) {
	r.setNumber("rows", float64(rows))
	if value != nil {
		r.setText("value", *value)
		r.seen.Body = *value
	}
}

// queryFault is talkFault for an error in the middle of a query's answer: one that is
// too large is the query's fault, and no broken protocol.
func (r *session) queryFault(err error) *fault {
	if errors.Is(err, errTooMuch) {
		return down(uptime.QueryFailed, "The query's answer is larger than the %d bytes that are read.", maxRead)
	}
	return r.talkFault(err, "the answer to the query")
}

// newSCRAM begins the proof of a password (RFC 5802).
func newSCRAM(hash scram.HashGeneratorFcn, username, password string) *scram.ClientConversation {
	c, err := hash.NewClient(username, password, "")
	if err != nil { // not what RFC 4013 allows: as servers do, take it as it is
		c, _ = hash.NewClientUnprepped(username, password, "")
	}
	return c.WithMinIterations(1).NewConversation()
}

// scramStep answers a server's message, or tells what is wrong with it. The library
// would do as many rounds as the server asks for.
func scramStep(c *scram.ClientConversation, message string) (string, *fault) {
	for field := range strings.SplitSeq(message, ",") {
		text, ok := strings.CutPrefix(field, "i=")
		if n, err := strconv.Atoi(text); ok && (err != nil || n > maxIterations) {
			return "", down(uptime.Protocol, "The server asks for %s rounds of hashing the password; %d are done at most.", clean(text, 20), maxIterations)
		}
	}
	answer, err := c.Step(message)
	if err != nil {
		return "", down(uptime.Protocol, "The server broke the protocol of the login (SCRAM): %s.", clean(err.Error(), 100))
	}
	return answer, nil
}
