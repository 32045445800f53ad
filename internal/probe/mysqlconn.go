package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"vedette/internal/uptime"
)

const (
	// maxGreeting is far above the 80 or so bytes of a real one.
	maxGreeting = 1024
	// mysqlColumns is how many columns an answer has at most
	// (https://dev.mysql.com/doc/refman/8.4/en/column-count-limit.html).
	mysqlColumns = 4096
	// mysqlTLS is the flag of a server that offers TLS, and of a client that wants it,
	// in the second byte of either's flags.
	mysqlTLS = 0x08
)

// errTooLong is a message longer than a check reads.
var errTooLong = errors.New("a message longer than a check reads")

// mysqlConn is a connection on its way to the driver, whose greeting was read and is
// read again. The driver makes room for any length and any number of columns that it
// is told of, so that it gets one message at a time, when it asks for it, and none
// that is longer than maxMessage or begins an answer of more than mysqlColumns.
//
// TLS would hide the messages: it is spoken here, before the first message of the
// driver, which takes the connection for a plain one. That makes its messages one
// less than the server counts, until the first command.
type mysqlConn struct {
	net.Conn          // TLS over it, once that was spoken
	raw      net.Conn // what was dialled
	r        *session
	cfg      *queryConfig
	secured  bool   // TLS was spoken
	fault    *fault // of its handshake
	shift    byte   // what the driver's numbers are too low by
	clear    bool   // the server asks for the password in clear, which the driver does not know
	asked    bool   // what comes next begins the answer to a query
	in       []byte // read, and not by the driver yet
	body     int    // what is left of a message beyond that
}

// Read implements io.Reader.
func (c *mysqlConn) Read(b []byte) (int, error) {
	if len(c.in) == 0 && c.body == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.in) > 0 {
		n := copy(b, c.in)
		c.in = c.in[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b[:min(len(b), c.body)])
	c.body -= n
	return n, err
}

// Close implements net.Conn. The driver calls it while a handshake goes on, too.
func (c *mysqlConn) Close() error { return c.raw.Close() }

// next reads the head of a message and looks at how it begins.
func (c *mysqlConn) next() error {
	const sha256 = "\xfesha256_password\x00"
	var head [4]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return err
	}
	n := mysqlLength(head[:])
	if n > maxMessage {
		return errTooLong
	}
	begin := make([]byte, min(n, len(sha256)))
	if _, err := io.ReadFull(c.Conn, begin); err != nil {
		return err
	}
	if columns := mysqlCount(begin); c.asked && columns > mysqlColumns {
		return fmt.Errorf("an answer of %d columns", columns)
	} else if columns > 0 {
		c.asked = false
	}
	c.clear = c.shift > 0 && string(begin) == sha256
	head[3] -= c.shift
	c.in, c.body = append(head[:], begin...), n-len(begin)
	return nil
}

// mysqlCount is the number of columns in the first message of an answer, and 0 when it
// is none, after which another may be the first.
func mysqlCount(b []byte) uint64 {
	const nothing, file, two, three, eight = 0x00, 0xfb, 0xfc, 0xfd, 0xfe
	long := make([]byte, 8)
	switch {
	case len(b) == 0:
		return 0
	case b[0] == two:
		copy(long[:2], b[1:])
	case b[0] == three:
		copy(long[:3], b[1:])
	case b[0] == eight:
		copy(long, b[1:])
	case b[0] == nothing, b[0] == file:
	default: // 0xff is an error, which is no matter
		long[0] = b[0]
	}
	return binary.LittleEndian.Uint64(long)
}

// Write implements io.Writer. The driver writes whole messages.
func (c *mysqlConn) Write(b []byte) (int, error) {
	const command, query, publicKey = 0, 3, 1
	out := slices.Clone(b)
	if c.cfg.Security == "tls" && !c.secured {
		if c.fault = c.startTLS(out); c.fault != nil {
			return 0, net.ErrClosed
		}
	}
	if len(b) > 4 && b[3] == command {
		c.shift, c.asked = 0, b[4] == query
	}
	if c.clear && len(b) == 5 && b[4] == publicKey {
		out = append(out[:4], c.cfg.Password.Reveal()+"\x00"...)
		out[0], out[1] = byte(len(out)-4), byte((len(out)-4)>>8)
	}
	out[3] += c.shift
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// startTLS asks for TLS with the beginning of the driver's first message, speaks it,
// and has that message say so too.
func (c *mysqlConn) startTLS(message []byte) *fault {
	const size = 32
	if len(message) < 4+size {
		return unknown(uptime.BadConfig, "The driver began with a message of %d bytes.", len(message))
	}
	message[5] |= mysqlTLS
	ask := append([]byte{size, 0, 0, message[3]}, message[4:4+size]...)
	if _, err := c.Conn.Write(ask); err != nil {
		return c.r.talkFault(err, "the request for TLS")
	}
	conn, f := c.r.secure(c.Conn, c.r.target.host, true)
	if f != nil {
		return f
	}
	c.Conn, c.secured, c.shift = conn, true, 1
	return nil
}

func mysqlLength(head []byte) int { return int(head[0]) | int(head[1])<<8 | int(head[2])<<16 }

// greeting reads what the server says first. It is no greeting when the server is
// down, and when it refuses everybody from here and nobody wants to log in.
func (c *mysqlConn) greeting() (greeted bool, f *fault) {
	r := c.r
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
	hello, ok := parseMySQLGreeting(b[4:])
	if !ok {
		return false, down(uptime.Protocol, "The server does not greet as MySQL does (it sent %q).", clean(string(b[4:]), 60))
	}
	if hello.refusal != nil {
		r.seen.Protocol = "MySQL"
		return false, mysqlLoginFault(r, c.cfg, hello.refusal)
	}
	r.serverVersion("MySQL", hello.version)
	if c.cfg.Security == "tls" {
		if !hello.tls {
			return false, down(uptime.TLSHandshake, "The server does not offer TLS.")
		}
		b = mysqlWithoutSHA256(b)
	}
	c.in = b
	return true, nil
}

// mysqlWithoutSHA256 is a greeting that does not propose sha256_password. The driver
// would answer it in its first message, and without TLS as it believes; so the server
// asks for it in a message of its own if it must be.
func mysqlWithoutSHA256(b []byte) []byte {
	rest, found := bytes.CutSuffix(b, []byte("\x00sha256_password\x00"))
	if !found {
		return b
	}
	b = append(rest, "\x00mysql_native_password\x00"...)
	b[0], b[1] = byte(len(b)-4), byte((len(b)-4)>>8)
	return b
}

// mysqlHello is what a greeting says.
type mysqlHello struct {
	version string
	tls     bool
	refusal *mysql.MySQLError // in place of the rest
}

// parseMySQLGreeting reads the handshake of protocol 10, or the error that comes in
// its place. ok is false when it is neither, or too short for what it must hold.
func parseMySQLGreeting(b []byte) (hello mysqlHello, ok bool) {
	switch {
	case len(b) > 3 && b[0] == 0xff:
		text := string(b[3:])
		if len(text) >= 6 && text[0] == '#' { // "#", five characters of SQLSTATE
			text = text[6:]
		}
		return mysqlHello{refusal: &mysql.MySQLError{Number: binary.LittleEndian.Uint16(b[1:]), Message: text}}, true
	case len(b) > 0 && b[0] == 10:
		name, rest, _ := bytes.Cut(b[1:], []byte{0})
		if len(rest) < 44 {
			return mysqlHello{}, false
		}
		// MariaDB before 11 puts a version in front that old replicas took for MySQL's.
		return mysqlHello{version: strings.TrimPrefix(string(name), "5.5.5-"), tls: rest[14]&mysqlTLS != 0}, true
	}
	return mysqlHello{}, false
}
