package probe

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Kinds of TDS packets, and what their heads and payloads hold
// (https://learn.microsoft.com/openspecs/windows_protocols/ms-tds).
const (
	tdsReplyKind     = 4
	tdsAttentionKind = 6
	tdsPreloginKind  = 18
	tdsHead          = 8
	// tdsMost is the longest packet before a login has agreed on another length.
	tdsMost = 4096
)

// Values of the option of a pre-login that says what is encrypted.
const (
	tdsEncryptLogin = 0
	tdsEncryptAll   = 1
	tdsEncryptNone  = 2
	tdsEncryptMust  = 3
)

// errNoTDSEncryption is a server that speaks no TLS where the monitor wants it.
var errNoTDSEncryption = errors.New("the server does not offer TLS")

// tdsDialer dials for the driver, and keeps what its errors leave out.
type tdsDialer struct {
	*session
	secure bool       // the monitor wants TLS
	mu     sync.Mutex // guards what follows
	last   net.Conn   // what was dialled
	begun  bool       // a handshake on it
	cause  error      // the first error of a read from it
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
	d.last, d.begun, d.cause = conn, false, nil
	d.mu.Unlock()
	return &tdsConn{Conn: conn, d: d, wire: conn}, nil
}

// hangUp closes the connection under the driver.
func (d *tdsDialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.last.Close()
}

// shook reports whether a TLS handshake began.
func (d *tdsDialer) shook() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun
}

// because is err, and what was behind it. What the guard says stands alone: the rest
// came of it.
func (d *tdsDialer) because(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, guarded := errors.AsType[tdsBroken](d.cause); guarded || errors.Is(d.cause, errTooLong) || errors.Is(d.cause, errTooWide) {
		return d.cause
	}
	return errors.Join(err, d.cause)
}

// settings are those of the handshake that begins.
func (d *tdsDialer) settings() *tls.Config {
	begun := time.Now()
	d.mu.Lock()
	d.begun = true
	d.mu.Unlock()
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
	if d.secure {
		cfg = d.driverTLS(d.target.host)
		verify := cfg.VerifyConnection
		cfg.VerifyConnection = func(s tls.ConnectionState) error {
			d.phases.TLS = time.Since(begun)
			return verify(s)
		}
	}
	cfg.DynamicRecordSizingDisabled = true // SQL Server wants a packet in one record
	return cfg
}

// tdsConn is a connection on its way to the driver. The driver makes room for any
// length that it is told of, so that it gets only packets that a guard has looked
// into. TLS would hide them: it is spoken here, and the driver told that there is
// none.
type tdsConn struct {
	net.Conn
	d       *tdsDialer
	wire    net.Conn // Conn, or the TLS on it
	asked   bool     // the pre-login was sent
	greeted bool     // and answered
	once    bool     // the TLS is for one packet, the login
	in      []byte   // what is left of a packet
	guard   tdsGuard
	failed  error
}

// Write implements io.Writer. The driver writes whole packets. One that calls a query
// off never fails: the driver would leave its reader behind.
func (c *tdsConn) Write(b []byte) (int, error) {
	if !c.asked {
		c.asked = true
		b = append([]byte(nil), b...)
		if v := tdsEncryption(b[min(tdsHead, len(b)):]); v != nil {
			*v = tdsEncryptLogin
			if c.d.secure {
				*v = tdsEncryptAll
			}
		}
	}
	n, err := c.wire.Write(b)
	if c.once && c.greeted {
		c.once, c.wire = false, c.Conn
	}
	if len(b) > 0 && b[0] == tdsAttentionKind {
		return len(b), nil
	}
	return n, err
}

// Read implements io.Reader.
func (c *tdsConn) Read(b []byte) (int, error) {
	if len(c.in) == 0 && c.failed == nil {
		c.in, c.failed = c.packet()
		if c.failed != nil && !errors.Is(c.failed, net.ErrClosed) {
			c.d.mu.Lock()
			if c.d.cause == nil {
				c.d.cause = c.failed
			}
			c.d.mu.Unlock()
		}
	}
	if c.failed != nil {
		return 0, c.failed
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

// packet is the next one that may go to the driver, which would go astray in an empty
// one.
func (c *tdsConn) packet() ([]byte, error) {
	p, err := readTDS(c.wire)
	switch {
	case err != nil:
		return nil, err
	case !c.greeted:
		c.greeted = true
		return p, c.greet(p[tdsHead:])
	case p[0] != tdsReplyKind:
		return nil, tdsBroken("a packet that is no reply")
	case len(p) == tdsHead:
		return nil, tdsBroken("an empty packet")
	}
	return p, c.guard.look(p[tdsHead:])
}

// readTDS reads a packet with its head.
func readTDS(in io.Reader) ([]byte, error) {
	var head [tdsHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if size < tdsHead {
		return nil, tdsBroken("a packet shorter than its head")
	}
	p := make([]byte, size)
	copy(p, head[:])
	_, err := io.ReadFull(in, p[tdsHead:])
	return p, err
}

// greet does what the answer to a pre-login asks for, and tells the driver that it
// asks for nothing.
func (c *tdsConn) greet(body []byte) error {
	v := tdsEncryption(body)
	if v == nil {
		return nil // the driver finds that too
	}
	said := *v
	*v = tdsEncryptNone
	switch {
	case c.d.secure && said != tdsEncryptAll && said != tdsEncryptMust:
		return errNoTDSEncryption
	case said == tdsEncryptNone:
		return nil
	}
	wrapped := &tdsWrapper{Conn: c.Conn}
	conn := tls.Client(wrapped, c.d.settings())
	if err := conn.HandshakeContext(c.d.ctx); err != nil {
		return err
	}
	wrapped.raw = true
	c.wire, c.once = conn, said == tdsEncryptLogin
	return nil
}

// tdsEncryption is the place of that option's value in a pre-login, nil when there is
// none.
func tdsEncryption(body []byte) *byte {
	const encryption, end, size = 1, 0xff, 5
	for at := 0; at+size <= len(body) && body[at] != end; at += size {
		if v := int(binary.BigEndian.Uint16(body[at+1:])); body[at] == encryption && v < len(body) {
			return &body[v]
		}
	}
	return nil
}

// tdsWrapper has the records of a TLS handshake travel in packets.
type tdsWrapper struct {
	net.Conn
	raw bool // the handshake is over
	in  []byte
}

// Read implements io.Reader.
func (w *tdsWrapper) Read(b []byte) (int, error) {
	for !w.raw && len(w.in) == 0 {
		p, err := readTDS(w.Conn)
		if err != nil {
			return 0, err
		}
		if p[0] != tdsPreloginKind && p[0] != tdsReplyKind { // older servers send the latter
			return 0, tdsBroken("a packet that is none of a handshake")
		}
		w.in = p[tdsHead:]
	}
	if len(w.in) == 0 {
		return w.Conn.Read(b)
	}
	n := copy(b, w.in)
	w.in = w.in[n:]
	return n, nil
}

// Write implements io.Writer.
func (w *tdsWrapper) Write(b []byte) (int, error) {
	if w.raw {
		return w.Conn.Write(b)
	}
	for number, rest := byte(1), b; len(rest) > 0; number++ {
		part := rest[:min(len(rest), tdsMost-tdsHead)]
		rest = rest[len(part):]
		p := []byte{tdsPreloginKind, 0, 0, 0, 0, 0, number, 0}
		binary.BigEndian.PutUint16(p[2:], uint16(tdsHead+len(part)))
		if len(rest) == 0 {
			p[1] = 1 // the last of the message
		}
		if _, err := w.Conn.Write(append(p, part...)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
