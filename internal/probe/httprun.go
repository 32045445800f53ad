package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// httpRun is one attempt of an HTTP check.
type httpRun struct {
	*httpCheck
	*scratch
	parent   context.Context // the caller's; when it ends we are to stop
	start    time.Time
	deadline time.Time

	hop        hop
	redirects  []string
	downgraded bool
	trace      dialTrace
	tlsTrace   tlsTrace
	phases     uptime.Phases
	response   *http.Response // its head; nil until there is one
	body       bodyResult
	facts      facts
	results    []found // one per assertion evaluated so far
}

// Run implements Check.
func (c *httpCheck) Run(parent context.Context) Outcome {
	r := &httpRun{
		httpCheck: c, scratch: c.scratch.get(), parent: parent, start: time.Now(),
		hop: hop{target: c.first, method: c.cfg.Method, own: true},
	}
	defer c.scratch.put(r.scratch)
	r.deadline = r.start.Add(c.timeout)
	ctx, cancel := context.WithDeadline(parent, r.deadline)
	defer cancel()
	f := r.follow(ctx)
	took := time.Since(r.start)
	return r.conclude(f, took)
}

// follow makes the request and those it is redirected to. It is nil when a final
// response was read to its end and every assertion so far holds.
func (r *httpRun) follow(ctx context.Context) *fault {
	request := r.request
	for {
		again, f := r.exchange(ctx, request)
		if f != nil || !again {
			return f
		}
		if len(r.redirects) >= r.cfg.MaxRedirects {
			return down(uptime.RedirectLimit, "There are more than %d redirects.", r.cfg.MaxRedirects)
		}
		next, f := r.hop.next(r.response.StatusCode, r.response.Header)
		if f != nil {
			return f
		}
		r.downgraded = r.downgraded || r.hop.secure && !next.secure
		r.hop = next
		r.redirects = append(r.redirects, redactURL(next.url))
		request = r.buildRequest(next)
	}
}

// exchange makes one request on a connection of its own. again says that the
// response is a redirect to follow.
func (r *httpRun) exchange(ctx context.Context, request []byte) (again bool, f *fault) {
	r.response = nil
	conn, f := r.connect(ctx)
	if f != nil {
		return false, f
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(r.deadline); err != nil {
		return false, unknown(uptime.InternalError, "A deadline could not be set.")
	}
	stop := context.AfterFunc(r.parent, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	rw := conn
	if r.hop.secure {
		begin := time.Now()
		r.tlsTrace = tlsTrace{}
		secured, err := r.tls.handshake(conn, r.hop.host, r.hop.own, &r.tlsTrace)
		r.phases.TLS += time.Since(begin)
		if err != nil {
			if f := ownFault(r.parent, err); f != nil {
				return false, f
			}
			return false, r.tlsTrace.handshakeFault(err)
		}
		rw = secured
	}
	return r.talk(rw, request)
}

// connect resolves and dials the hop's host.
func (r *httpRun) connect(ctx context.Context) (net.Conn, *fault) {
	begin := time.Now()
	addrs, f := r.dial.resolve(r.parent, ctx, r.hop.host)
	resolved := time.Now()
	r.trace = dialTrace{addresses: addrs}
	r.phases.DNS += resolved.Sub(begin)
	if f != nil {
		return nil, f
	}
	conn, f := r.dial.connect(r.parent, ctx, &r.trace, r.hop.port)
	r.phases.Connect += time.Since(resolved)
	return conn, f
}

// talk sends the request and reads the response to its end.
func (r *httpRun) talk(conn net.Conn, request []byte) (again bool, f *fault) {
	r.source = headLimit{r: conn, left: maxHead}
	r.reader.Reset(&r.source)
	_, sendErr := conn.Write(request)
	sent := time.Now()
	// A server may answer and close before it has read all: its answer counts.
	if _, err := r.reader.Peek(1); err != nil {
		if sendErr != nil {
			err = sendErr
		}
		return false, r.headFault(err, true)
	}
	first := time.Now()
	r.phases.FirstByte += first.Sub(sent)
	if f := r.readHead(); f != nil {
		return false, f
	}
	if r.cfg.FollowRedirects && isRedirect(r.response.StatusCode) {
		return true, nil
	}
	r.source.left = -1
	f = r.judge(stageHead)
	r.readAll(first)
	if f != nil {
		return false, f
	}
	if f := r.bodyFault(); f != nil {
		return false, f
	}
	return false, r.judge(stageBody)
}

// readHead reads heads until one is not interim.
func (r *httpRun) readHead() *fault {
	begin, err := r.reader.Peek(5)
	if !isHTTP(begin) {
		return down(uptime.Protocol, "The server does not speak HTTP: it sent %q.", clean(string(begin), 20))
	}
	if err != nil {
		return r.headFault(err, false)
	}
	req := &http.Request{Method: r.hop.method}
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(r.reader, req)
		if err != nil {
			return r.headFault(err, false)
		}
		r.response = resp
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return nil
		}
	}
	r.response = nil
	return down(uptime.Protocol, "The server sent more than %d interim responses.", maxInterim)
}

// headFault is what an error before the end of the head says. silent means that
// not one byte had come.
func (r *httpRun) headFault(err error, silent bool) *fault {
	if f := ownFault(r.parent, err); f != nil {
		return f
	}
	if r.source.err != nil { // http.ReadResponse does not wrap what the reader said
		err = r.source.err
	}
	if r.source.left == 0 {
		return down(uptime.HeadersLarge, "The response head is larger than %d KiB.", maxHead>>10)
	}
	switch {
	case isTimeout(err) && silent:
		return down(uptime.Timeout, "The server accepted the request and sent no byte within %s.", r.timeout)
	case isTimeout(err):
		return down(uptime.Timeout, "The response head was not complete within %s.", r.timeout)
	case r.tlsTrace.certAsked && silent:
		return down(uptime.TLSClientCert, "The server wants a client certificate, and the monitor has none it accepts.")
	case isReset(err):
		return down(uptime.ConnReset, "The server reset the connection before it answered.")
	case errors.Is(err, io.EOF) && silent:
		return down(uptime.ConnClosed, "The server closed the connection without an answer.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return down(uptime.ConnClosed, "The server closed the connection in the middle of its response head.")
	}
	return down(uptime.Protocol, "The response is not HTTP: %s.", clean(strings.TrimPrefix(err.Error(), "net/http: "), 150))
}

// readAll reads the body of the final response.
func (r *httpRun) readAll(firstByte time.Time) {
	keep := int64(evidenceBody)
	if r.wantsBody {
		keep = max(keep, r.cfg.MaxBodyBytes)
	}
	r.body = r.readBody(r.response, keep, r.cfg.MaxBodyBytes)
	r.phases.Transfer += time.Since(firstByte)
}

// bodyFault is what was wrong with the body as such.
func (r *httpRun) bodyFault() *fault {
	if err := r.body.err; err != nil {
		if f := ownFault(r.parent, err); f != nil {
			return f
		}
		if isTimeout(err) {
			return down(uptime.Timeout, "The body was not complete within %s; %d bytes had come.", r.timeout, r.body.bytes)
		}
		return framingFault(err)
	}
	if r.body.wrong {
		return down(uptime.Decode, "The body cannot be unpacked as %s.", clean(r.response.Header.Get("Content-Encoding"), 40))
	}
	return nil
}
