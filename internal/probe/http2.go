package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"syscall"
	"time"

	"vedette/internal/uptime"
)

// Protocols of ALPN.
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

var errInterim = errors.New("too many interim responses")

// protocols are what is offered in TLS. Unless a monitor asks for HTTP/2 it is
// HTTP/1.1 alone, whose faults can be told apart best, and which every server speaks.
func (c *httpConfig) protocols() []string {
	if c.Version == "2" {
		return []string{alpnHTTP2, alpnHTTP1} // the latter for other sites that redirects lead to
	}
	return []string{alpnHTTP1}
}

// validateVersion compares the version with the target.
func (c *httpConfig) validateVersion(to target, p *uptime.Problems) {
	switch {
	case to.url == nil:
	case c.Version == "2" && !to.secure:
		p.Add("config.http_version", "2 needs an https:// target; h2c is HTTP/2 without TLS")
	case c.Version == "h2c" && to.secure:
		p.Add("config.http_version", "h2c needs an http:// target; 2 is HTTP/2 with TLS")
	}
}

// overHTTP2 reports whether HTTP/2 is to be spoken on conn. It is a fault when the
// monitor's own site does not.
func (r *httpRun) overHTTP2(conn net.Conn) (bool, *fault) {
	if !r.hop.secure { // conn may be in TLS all the same: that of the proxy
		return r.cfg.Version == "h2c" && r.hop.own, nil
	}
	if secured, ok := conn.(*tls.Conn); ok && secured.ConnectionState().NegotiatedProtocol == alpnHTTP2 {
		return true, nil
	}
	if r.cfg.Version == "2" && r.hop.own {
		return false, down(uptime.Protocol, "The server does not speak HTTP/2: TLS settled on another protocol.")
	}
	return false, nil
}

// askHTTP2 is ask in HTTP/2. The standard library speaks it, on the connection that is
// there: it dials nothing.
func (r *httpRun) askHTTP2(conn net.Conn, request []byte) (first time.Time, f *fault) {
	r.source = headLimit{left: -1} // no bytes of HTTP/1 come
	sent := time.Now()
	resp, err := r.roundTripHTTP2(conn, request)
	first = time.Now()
	r.phases.FirstByte += first.Sub(sent)
	switch {
	case err == nil:
		r.response = resp
		return first, nil
	case errors.Is(err, errInterim):
		return first, down(uptime.Protocol, "The server sent more than %d interim responses.", maxInterim)
	case strings.Contains(err.Error(), "header list"): // the library has no value for it
		return first, down(uptime.HeadersLarge, "The response head is larger than %d KiB.", maxHead>>10)
	}
	return first, r.headFault(err, true)
}

func (r *httpRun) roundTripHTTP2(conn net.Conn, request []byte) (*http.Response, error) {
	scheme, given := "http", func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	t := &http.Transport{
		DialContext: given, DialTLSContext: given, Protocols: new(http.Protocols),
		DisableCompression: true, MaxResponseHeaderBytes: maxHead,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 256 << 10, MaxReceiveBufferPerConnection: 1 << 20},
	}
	if r.hop.secure {
		scheme = "https"
		t.Protocols.SetHTTP2(true)
	} else {
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	interim := 0
	ctx := httptrace.WithClientTrace(r.ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
		if interim++; interim > maxInterim {
			return errInterim
		}
		return nil
	}})
	// The request as HTTP/1.1 writes it is the same in every version.
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return nil, err
	}
	req.URL.Scheme, req.URL.Host, req.RequestURI = scheme, req.Host, ""
	client, err := t.NewClientConn(ctx, scheme, net.JoinHostPort(r.hop.host, "0"))
	if err != nil {
		return nil, err
	}
	return client.RoundTrip(req.WithContext(ctx))
}

// notedConn notes that a write was told of a reset. The system tells it once, and of
// HTTP/2's reader and writer it may be the writer: the reader then sees an end.
type notedConn struct {
	net.Conn
	mu    sync.Mutex // guards what follows; held while writing
	reset bool
}

// Write implements io.Writer.
func (c *notedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.Conn.Write(b)
	if errors.Is(err, syscall.ECONNRESET) { // not EPIPE, which comes after an end as well
		c.reset = true
	}
	return n, err
}

// cause is err, or the reset behind the end that a reader saw.
func (c *notedConn) cause(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reset {
		return syscall.ECONNRESET
	}
	return err
}
