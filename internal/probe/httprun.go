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
	session
	*scratch

	hop       hop
	wire      *notedConn // to the hop, below TLS
	proved    bool       // a challenge of this hop was answered
	redirects []string
	statuses  []int          // of the responses that said so
	response  *http.Response // its head; nil until there is one
	body      bodyResult
}

// Run implements Check.
func (c *httpCheck) Run(parent context.Context, attempt Attempt) Outcome {
	r := &httpRun{
		httpCheck: c, session: session{base: &c.common}, scratch: c.scratch.get(), hop: c.firstHop(),
	}
	defer c.scratch.put(r.scratch)
	r.begin(parent, attempt)
	defer r.end()
	f := r.follow()
	return r.conclude(f, time.Since(r.start), r.describe)
}

// follow makes the request and those it is redirected to. It is nil when a final
// response was read to its end and every assertion so far holds.
func (r *httpRun) follow() *fault {
	request := r.request
	if r.tokens != nil {
		if f := r.bearer(false); f != nil {
			return f
		}
		request = r.buildRequest(r.hop)
	}
	for {
		again, f := r.exchange(request)
		if f != nil || !again {
			return f
		}
		if isRedirect(r.response.StatusCode) {
			f = r.redirect()
		} else {
			f = r.prove()
		}
		if f != nil {
			return f
		}
		request = r.buildRequest(r.hop)
	}
}

// redirect goes on to where the response leads.
func (r *httpRun) redirect() *fault {
	if len(r.redirects) >= r.cfg.MaxRedirects {
		return down(uptime.RedirectLimit, "There are more than %d redirects.", r.cfg.MaxRedirects)
	}
	next, f := r.hop.next(r.response.StatusCode, r.response.Header)
	if f != nil {
		return f
	}
	if !next.own && !next.dropBody && len(r.cfg.Form.secrets()) > 0 {
		return down(uptime.RedirectBad, "The redirect leads to another host, where the form's credentials are not sent.")
	}
	if r.hop.secure && !next.secure && !r.cfg.AllowDowngrade {
		r.facts.degraded = &fault{uptime.VerdictDegraded, uptime.TLSDowngrade, "A redirect leads from https to http."}
	}
	if r.cfg.Auth.Kind == "digest" {
		next.authorization = "" // it is for one path
	}
	r.hop, r.proved = next, false
	r.redirects, r.statuses = append(r.redirects, redactURL(next.url)), append(r.statuses, r.response.StatusCode)
	return nil
}

// challenged reports whether the response is a 401 that new credentials may settle.
func (r *httpRun) challenged() bool {
	if r.response.StatusCode != http.StatusUnauthorized || !r.hop.own || r.proved {
		return false
	}
	return r.tokens != nil || r.cfg.Auth.Kind == "digest" && r.digest() != ""
}

// prove answers a challenge, once.
func (r *httpRun) prove() *fault {
	r.proved = true
	if r.tokens != nil {
		return r.bearer(true)
	}
	r.hop.authorization = r.digest()
	return nil
}

func (r *httpRun) digest() string {
	login := digestLogin{r.cfg.Auth.Username, r.cfg.Auth.Password.Reveal(), r.hop.method, r.hop.url.RequestURI(), newNonce()}
	return login.answer(digestChallenges(r.response.Header.Values("WWW-Authenticate")))
}

// exchange makes one request on a connection of its own. again says that the
// response is a redirect to follow or a challenge to answer.
func (r *httpRun) exchange(request []byte) (again bool, f *fault) {
	r.response = nil
	conn, f := r.open()
	if f != nil {
		return false, f
	}
	defer func() { _ = conn.Close() }()
	return r.talk(conn, request)
}

// open connects to the hop.
func (r *httpRun) open() (conn net.Conn, f *fault) {
	if r.proxy != nil {
		conn, f = r.overProxy()
	} else {
		conn, f = r.unbounded(r.hop.host, r.hop.port)
	}
	if f != nil {
		return nil, f
	}
	r.wire = &notedConn{Conn: conn}
	if conn = r.wire; !r.hop.secure {
		return conn, nil
	}
	secured, f := r.secure(conn, r.hop.host, r.hop.own)
	if f != nil {
		_ = conn.Close()
		return nil, f
	}
	return secured, nil
}

// talk sends the request and reads the response to its end.
func (r *httpRun) talk(conn net.Conn, request []byte) (again bool, f *fault) {
	first, f := r.ask(conn, request)
	if f != nil {
		return false, f
	}
	if r.cfg.FollowRedirects && isRedirect(r.response.StatusCode) || r.challenged() {
		return true, nil
	}
	r.source.left = -1
	f = r.judgeHead()
	r.readAll(first)
	if f != nil {
		return false, f
	}
	if f := r.bodyFault(); f != nil {
		return false, f
	}
	if r.wantsBody {
		r.body.kept = asUTF8(r.body.kept, r.response.Header.Get("Content-Type"))
	}
	r.facts.body, r.facts.whole = r.body.kept, r.body.whole
	return false, r.judge(stageBody)
}

// ask sends the request and reads the head of the response, of which the first byte
// came at first.
func (r *httpRun) ask(conn net.Conn, request []byte) (first time.Time, f *fault) {
	if two, f := r.overHTTP2(conn); f != nil {
		return first, f
	} else if two {
		return r.askHTTP2(conn, request)
	}
	r.source = headLimit{r: conn, left: maxHead}
	r.reader.Reset(&r.source)
	_, sendErr := conn.Write(request)
	sent := time.Now()
	// A server may answer and close before it has read all: its answer counts.
	if _, err := r.reader.Peek(1); err != nil {
		r.phases.FirstByte += time.Since(sent) // the wait belongs to it
		if sendErr != nil {
			err = sendErr
		}
		return first, r.headFault(err, true)
	}
	first = time.Now()
	r.phases.FirstByte += first.Sub(sent)
	if f := r.readHead(); f != nil {
		return first, f
	}
	if r.response.StatusCode == http.StatusProxyAuthRequired && r.proxy.forwards(r.hop) {
		return first, proxyRefused()
	}
	return first, nil
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
		if resp.ProtoMajor != 1 {
			return down(uptime.Protocol, "The server answers in %s, which nobody asked for.", clean(resp.Proto, 20))
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
	err = r.wire.cause(err)
	if r.source.left == 0 {
		return down(uptime.HeadersLarge, "The response head is larger than %d KiB.", maxHead>>10)
	}
	late := isTimeout(err) || r.ctx.Err() != nil // the connection may have been cut by us
	switch {
	case late && silent:
		return down(uptime.Timeout, "The server accepted the request and sent no byte within %s.", r.timeout)
	case late:
		return down(uptime.Timeout, "The response head was not complete within %s.", r.timeout)
	case r.hop.secure && r.tlsTrace.certAsked && silent, r.tlsTrace.certRefused(err): // the trace may be of the hop before
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

// judgeHead judges status and headers.
func (r *httpRun) judgeHead() *fault {
	r.facts.status, r.facts.header = r.response.StatusCode, r.response.Header
	if s := r.facts.status; !r.ownStatus && (s < 200 || s > 299) {
		return down(uptime.HTTPStatus, "Status %d %s is not one of 200-299.", s, http.StatusText(s))
	}
	return r.judge(stageHead)
}

// readAll reads the body of the final response.
func (r *httpRun) readAll(firstByte time.Time) {
	keep := int64(evidenceBody)
	if r.wantsBody {
		keep = max(keep, r.cfg.MaxBodyBytes)
	}
	r.body = r.readBody(r.ctx, r.response, keep, r.cfg.MaxBodyBytes)
	if r.body.alien && !r.wantsBody { // nobody needs to read it
		r.body.wrong = false
	}
	r.phases.Transfer += time.Since(firstByte)
}

// bodyFault is what was wrong with the body as such.
func (r *httpRun) bodyFault() *fault {
	if r.body.full {
		return unknown(uptime.OwnResources, "Too many checks keep bodies larger than %d MiB at once: this one found no room in time.", largeBody>>20)
	}
	if err := r.body.err; err != nil {
		if r.source.err != nil { // of trailers that end early, net/http keeps the cause to itself
			err = r.source.err
		}
		if f := ownFault(r.parent, err); f != nil {
			return f
		}
		if isTimeout(err) || r.ctx.Err() != nil {
			return down(uptime.Timeout, "The body was not complete within %s; %d bytes had come.", r.timeout, r.body.bytes)
		}
		return framingFault(r.wire.cause(err))
	}
	if r.body.wrong {
		return down(uptime.Decode, "The body cannot be unpacked as %s.", clean(r.response.Header.Get("Content-Encoding"), 40))
	}
	return nil
}
