package probe

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

// proxySchemes are the kinds of proxy there are.
var proxySchemes = []scheme{{"http", 8080, false}, {"https", 443, true}, {"socks5", 1080, false}}

// httpProxy is whom a check goes through. The guard judges the proxy's address, and a
// target that is written as an address; what a target's name means behind the proxy,
// only the proxy knows.
type httpProxy struct {
	target
	socks              bool
	tunnels            bool // also for http:// it is asked for a connection
	username, password string
}

// newHTTPProxy is nil when the monitor names no proxy. The environment's
// (HTTP_PROXY and its like) never counts.
func newHTTPProxy(c *httpConfig, p *uptime.Problems) *httpProxy {
	user, password := c.ProxyUsername.Reveal(), c.ProxyPassword.Reveal()
	if c.Proxy == "" {
		if user+password != "" {
			p.Add("config.proxy", "is missing; proxy_username and proxy_password are for it")
		}
		return nil
	}
	to, err := parseURL(c.Proxy, proxySchemes)
	switch {
	case err != nil:
		p.Add("config.proxy", "%s", strings.ReplaceAll(err.Error(), "config.auth", "proxy_username and proxy_password"))
		return nil
	case strings.Trim(to.url.Path, "/")+to.url.RawQuery+to.url.Fragment != "":
		p.Add("config.proxy", "must not have a path")
	case strings.Contains(user, ":") || !httpguts.ValidHeaderFieldValue(user):
		p.Add("config.proxy_username", "must not hold a colon or a control character")
	case len(user) > 255 || len(password) > 255:
		p.Add("config.proxy_password", "and proxy_username must not be longer than 255 bytes")
	}
	return &httpProxy{target: to, tunnels: c.Version == "h2c", socks: to.url.Scheme == "socks5", username: user, password: password}
}

// formOf is how a request for h names what it wants (RFC 9112 §3.2), and the header
// line by which a proxy that forwards it lets us in.
func (p *httpProxy) formOf(h hop) (uri, login string) {
	if !p.forwards(h) {
		return h.url.RequestURI(), ""
	}
	if v := p.login(); v != "" {
		login = "Proxy-Authorization: " + v + "\r\n"
	}
	return "http://" + h.hostHeader() + h.url.RequestURI(), login
}

// login is the value of Proxy-Authorization, "" without a user.
func (p *httpProxy) login() string {
	if p.username+p.password == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.username+":"+p.password))
}

// forwards reports whether requests of h are handed to the proxy as a whole, instead
// of over a connection it makes to the target.
func (p *httpProxy) forwards(h hop) bool { return p != nil && !p.socks && !p.tunnels && !h.secure }

// overProxy connects to the proxy and has it connect to the hop, unless it forwards
// requests.
func (r *httpRun) overProxy() (net.Conn, *fault) {
	p := r.proxy
	if a, err := netip.ParseAddr(r.hop.host); err == nil {
		if err := r.dial.sockets.Control("tcp", addrPort(a, r.hop.port).String(), nil); err != nil {
			return nil, ownFault(r.parent, err)
		}
	}
	conn, f := r.unbounded(p.host, p.port)
	if f == nil && p.secure {
		conn, f = r.secureProxy(conn)
	}
	if f != nil {
		if f.verdict == uptime.VerdictDown {
			f.message = "The proxy cannot be used: " + f.message
		}
		return nil, f
	}
	r.trace.host = "" // what fails from here on is nothing that the proxy's other addresses explain
	if p.forwards(r.hop) {
		return conn, nil
	}
	begin := time.Now()
	defer func() { r.phases.Connect += time.Since(begin) }()
	limited := &io.LimitedReader{R: conn, N: maxHead}
	reader := bufio.NewReader(limited)
	if p.socks {
		f = r.socksConnect(conn, reader)
	} else {
		f = r.httpConnect(conn, reader)
	}
	if f != nil && limited.N <= 0 {
		f = down(uptime.HeadersLarge, "The answer of the proxy is larger than %d KiB.", maxHead>>10)
	}
	if f != nil {
		_ = conn.Close()
		return nil, f
	}
	if reader.Buffered() > 0 { // a server that speaks first
		early, _ := reader.Peek(reader.Buffered())
		return &earlyConn{Conn: conn, early: early}, nil
	}
	return conn, nil
}

// secureProxy speaks TLS with the proxy. What the monitor says about the target's
// certificates (skip_verify, server_name, a client certificate) is not about it.
func (r *httpRun) secureProxy(conn net.Conn) (net.Conn, *fault) {
	begin := time.Now()
	defer func() { r.phases.TLS += time.Since(begin) }()
	var trace tlsTrace
	client := tlsClient{roots: r.tls.roots}
	secured, err := client.handshake(conn, r.proxy.host, false, &trace)
	if err == nil {
		return secured, nil
	}
	_ = conn.Close()
	if f := ownFault(r.parent, err); f != nil {
		return nil, f
	}
	return nil, trace.handshakeFault(err)
}

// proxyFault is what an error in the talk with the proxy says.
func (r *httpRun) proxyFault(err error) *fault {
	if f := ownFault(r.parent, err); f != nil {
		return f
	}
	switch {
	case isTimeout(err):
		return down(uptime.Timeout, "The proxy did not connect to the target within %s.", r.timeout)
	case isReset(err):
		return down(uptime.ConnReset, "The proxy reset the connection.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return down(uptime.ConnClosed, "The proxy closed the connection instead of connecting to the target.")
	}
	return down(uptime.Protocol, "The proxy does not speak HTTP: %s.", clean(err.Error(), 100))
}

// httpConnect asks an HTTP proxy for a connection (RFC 9110 §9.3.6).
func (r *httpRun) httpConnect(conn net.Conn, reader *bufio.Reader) *fault {
	to := net.JoinHostPort(r.hop.host, strconv.Itoa(int(r.hop.port)))
	request := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\nUser-Agent: " + r.userAgent + "\r\n"
	if v := r.proxy.login(); v != "" {
		request += "Proxy-Authorization: " + v + "\r\n"
	}
	_, sendErr := io.WriteString(conn, request+"\r\n")
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	for n := 0; err == nil && resp.StatusCode < 200 && n < maxInterim; n++ { // RFC 9110 §15.2
		resp, err = http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	}
	if err != nil {
		if sendErr != nil {
			err = sendErr
		}
		return r.proxyFault(err)
	}
	switch status := resp.StatusCode; {
	case status < 200:
		return down(uptime.Protocol, "The proxy sent more than %d interim responses.", maxInterim)
	case status >= 200 && status <= 299:
		return nil
	case status == http.StatusProxyAuthRequired, status == http.StatusUnauthorized: // tinyproxy says the latter
		return proxyRefused()
	case status >= 500:
		return down(uptime.ConnUnreach, "The proxy cannot connect to the target (status %d).", status)
	default:
		return down(uptime.HTTPStatus, "The proxy does not let us connect to the target (status %d).", status)
	}
}

func proxyRefused() *fault {
	return down(uptime.AuthFailed, "The proxy refused the credentials, or wants some.")
}

// socksReplies are the replies of RFC 1928 §6 that say more than that it failed.
var socksReplies = map[byte]struct {
	reason uptime.Reason
	text   string
}{
	2: {uptime.ConnUnreach, "its rules do not allow it"},
	3: {uptime.ConnUnreach, "the network cannot be reached"},
	4: {uptime.ConnUnreach, "the host cannot be reached, or its name does not resolve"},
	5: {uptime.ConnRefused, "the connection was refused"},
	6: {uptime.ConnTimeout, "it did not answer"},
}

// socksConnect asks a SOCKS5 proxy for a connection (RFC 1928, 1929). The proxy looks
// the target's name up.
func (r *httpRun) socksConnect(conn net.Conn, reader *bufio.Reader) *fault {
	method := byte(0) // no credentials
	if r.proxy.login() != "" {
		method = 2 // user and password
	}
	answer, err := exchangeBytes(conn, reader, []byte{5, 1, method}, 2)
	if err != nil {
		return r.proxyFault(err)
	}
	if answer[0] != 5 {
		return down(uptime.Protocol, "The proxy does not speak SOCKS5: it sent %q.", answer)
	}
	if answer[1] != method {
		return proxyRefused()
	}
	if method == 2 {
		login := append([]byte{1, byte(len(r.proxy.username))}, r.proxy.username...)
		login = append(append(login, byte(len(r.proxy.password))), r.proxy.password...)
		if answer, err = exchangeBytes(conn, reader, login, 2); err != nil {
			return r.proxyFault(err)
		}
		if answer[1] != 0 {
			return proxyRefused()
		}
	}
	answer, err = exchangeBytes(conn, reader, socksRequest(r.hop.target), 5)
	if err != nil {
		return r.proxyFault(err)
	}
	if code := answer[1]; code != 0 {
		reply, ok := socksReplies[code]
		if !ok {
			return down(uptime.ConnUnreach, "The proxy cannot connect to the target (SOCKS reply %d).", code)
		}
		return down(reply.reason, "The proxy cannot connect to the target: %s.", reply.text)
	}
	// The rest is the address that the proxy uses, which is of no interest.
	rest := map[byte]int{1: 4, 3: 1 + int(answer[4]), 4: 16}[answer[3]] + 2 - 1
	if _, err := reader.Discard(rest); err != nil {
		return r.proxyFault(err)
	}
	return nil
}

// socksRequest asks for a connection to t.
func socksRequest(t target) []byte {
	request := []byte{5, 1, 0}
	if a, err := netip.ParseAddr(t.host); err != nil {
		request = append(append(request, 3, byte(len(t.host))), t.host...)
	} else if a = a.Unmap(); a.Is4() {
		request = append(append(request, 1), a.AsSlice()...)
	} else {
		request = append(append(request, 4), a.AsSlice()...)
	}
	return append(request, byte(t.port>>8), byte(t.port))
}

// exchangeBytes sends a message and reads n bytes of the answer.
func exchangeBytes(conn net.Conn, reader io.Reader, message []byte, n int) ([]byte, error) {
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	answer := make([]byte, n)
	_, err := io.ReadFull(reader, answer)
	return answer, err
}

// earlyConn is a connection of which the first bytes were read already.
type earlyConn struct {
	net.Conn
	early []byte
}

// Read implements io.Reader.
func (c *earlyConn) Read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	c.early = c.early[n:]
	return n, nil
}
