package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"vedette/internal/uptime"
)

// maxRead is what one connection of a check may deliver, whatever its type asks
// for; a driver that is fed without end stops there.
const maxRead = 4 << 20

// cutAfter the deadline, whatever is still open is closed.
const cutAfter = 500 * time.Millisecond

// socketRetry is how soon a Unix socket that has no room for a connection is tried again.
const socketRetry = 50 * time.Millisecond

var errTooMuch = errors.New("more data than a check reads")

// base is what a compiled check of any type holds. It does not change.
type base struct {
	monitorID  int64
	target     target
	label      string // what the evidence calls the request, if the type says nothing else
	timeout    time.Duration
	dial       *dialer
	tls        *tlsClient // nil: the type speaks no TLS
	assertions []assertion
	always     bool // Env.AlwaysEvidence
	inverted   bool // of such a failure nobody wants to know more
	secrets    []string
}

// session is one attempt of a check. A type's prober uses it from one goroutine; dialling
// for a driver may be done from any.
type session struct {
	*base
	attempt  Attempt
	parent   context.Context // the caller's; when it ends we are to stop
	ctx      context.Context // ends at the deadline too
	start    time.Time
	deadline time.Time
	cancel   context.CancelFunc
	stop     func() bool

	trace    dialTrace
	tlsTrace tlsTrace
	tlsFirst bool // on the latest connection TLS was spoken before anything else
	phases   uptime.Phases
	waited   time.Duration // spent on what is not judged, such as listening for bad news (see listen): no part of the duration
	facts    facts
	results  []found          // one per assertion evaluated so far
	seen     *uptime.Evidence // what the type itself wants shown; nil for HTTP, which describes it at the end
	learned  []string         // secrets that this run came by, such as a token
	complete bool             // the prober kept the deadline and has its answer: one that passes now is late, not missing

	dialling sync.Mutex // a driver's dials come one after another; it guards trace and phases then

	mu    sync.Mutex // guards what follows
	open  []io.Closer
	room  [2]io.Closer // most runs open one connection
	cause *fault       // the first fault that a driver's dial met
	over  bool         // the run is being ended: nothing new may open
}

// begin starts the clock; end must follow.
func (r *session) begin(parent context.Context, attempt Attempt) {
	r.parent, r.attempt, r.start = parent, attempt, time.Now()
	r.deadline = r.start.Add(r.timeout)
	r.ctx, r.cancel = context.WithDeadline(parent, r.deadline)
	r.open = r.room[:0]
	// Sockets keep the deadline themselves, and say that it was one.
	r.stop = context.AfterFunc(parent, r.closeAll)
}

// end closes all that the run opened.
func (r *session) end() {
	r.stop()
	r.cancel()
	r.closeAll()
}

func (r *session) closeAll() {
	r.mu.Lock()
	open := r.open
	r.open, r.over = nil, true
	r.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// keep has c closed when the run ends, if not before.
func (r *session) keep(c io.Closer) {
	r.mu.Lock()
	over := r.over
	if !over {
		r.open = append(r.open, c)
	}
	r.mu.Unlock()
	if over {
		_ = c.Close()
	}
}

// ended is the fault of a run that went on past its deadline or was stopped.
func (r *session) ended() *fault {
	if r.parent.Err() != nil {
		return unknown(uptime.Aborted, "The check was stopped before it ended.")
	}
	if r.ctx.Err() != nil {
		return down(uptime.Timeout, "The check was not complete within %s.", r.timeout)
	}
	return nil
}

// connect dials the monitor's target over TCP.
func (r *session) connect() (net.Conn, *fault) { return r.connectTo(r.target.host, r.target.port) }

// connectUnder is connect, and TLS from the first byte when a type's option security
// says so.
func (r *session) connectUnder(security string) (net.Conn, *fault) {
	conn, f := r.connect()
	if f != nil || security != "tls" {
		return conn, f
	}
	secured, f := r.secure(conn, r.target.host, true)
	if f != nil {
		return nil, f
	}
	return secured, nil
}

// connectTo resolves host and dials it over TCP. The connection has the session's
// deadline, delivers at most maxRead bytes and is closed with the session.
func (r *session) connectTo(host string, port uint16) (net.Conn, *fault) {
	conn, f := r.unbounded(host, port)
	if f != nil {
		return nil, f
	}
	return &boundedConn{Conn: conn, left: maxRead}, nil
}

// unbounded is connectTo for a type that counts the bytes itself.
func (r *session) unbounded(host string, port uint16) (net.Conn, *fault) {
	f := r.resolve(host)
	r.trace.port, r.tlsFirst = port, false
	if f != nil {
		return nil, f
	}
	begin := time.Now()
	conn, f := r.dial.connect(r.parent, r.ctx, &r.trace, port)
	r.phases.Connect += time.Since(begin)
	if f != nil {
		return nil, f
	}
	if conn.SetDeadline(r.deadline) != nil {
		return nil, unknown(uptime.InternalError, "A deadline could not be set.")
	}
	r.keep(conn)
	return conn, nil
}

// local dials a Unix socket of this machine, as connectTo does an address.
func (r *session) local(path string) (net.Conn, *fault) {
	begin := time.Now()
	conn, err := r.dialSocket(path)
	r.phases.Connect += time.Since(begin)
	if err == nil {
		_ = conn.SetDeadline(r.deadline)
		r.keep(conn)
		return &boundedConn{Conn: conn, left: maxRead}, nil
	}
	return nil, socketFault(r.parent, path, err)
}

// socketFault is what a failed connect to a Unix socket says.
func socketFault(parent context.Context, path string, err error) *fault {
	path = clean(path, 108) // sun_path of unix(7)
	if errors.Is(err, syscall.EACCES) && parent.Err() == nil {
		return unknown(uptime.BadConfig, "Vedette's user may not open the socket %s: add the user to the group that owns it, and start Vedette again.", path)
	}
	if f := ownFault(parent, err); f != nil {
		return f
	}
	if isTimeout(err) {
		return down(uptime.ConnTimeout, "The socket %s did not take the connection in time.", path)
	}
	return down(uptime.ConnRefused, "Nothing listens on the socket %s.", path)
}

// dialSocket dials a Unix socket. One whose program is behind with taking connections
// is told at once by the system (EAGAIN of connect(2)), which lets a TCP connection wait;
// we wait here.
func (r *session) dialSocket(path string) (net.Conn, error) {
	for {
		conn, err := r.dial.sockets.DialContext(r.ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		case <-time.After(socketRetry):
		}
	}
}

// resolve looks host up into r.trace.
func (r *session) resolve(host string) *fault {
	begin := time.Now()
	addrs, f := r.dial.resolve(r.parent, r.ctx, host)
	r.phases.DNS += time.Since(begin)
	r.trace = dialTrace{host: host, addresses: rotated(addrs, r.attempt.Number)}
	return f
}

// packets opens a UDP association with the monitor's target.
func (r *session) packets() (net.Conn, *fault) { return r.packetsTo(r.target.host, r.target.port) }

// packetsTo opens a UDP association with host: with the first of its addresses that
// counts, or with the next one at each confirmation.
func (r *session) packetsTo(host string, port uint16) (net.Conn, *fault) {
	if f := r.resolve(host); f != nil {
		return nil, f
	}
	to := addrPort(r.trace.addresses[0], port)
	conn, err := r.dial.sockets.DialContext(r.ctx, "udp", to.String())
	if err != nil {
		f := connectFault(r.parent, to, err)
		r.trace.add(to, f)
		return nil, f
	}
	r.trace.dialled = to
	_ = conn.SetDeadline(r.deadline)
	r.keep(conn)
	return &boundedConn{Conn: conn, left: maxRead}, nil
}

// secure speaks TLS on conn. host is whom the certificate must be for; own says that
// it is the monitor's own target, so that its client certificate may be shown.
func (r *session) secure(conn net.Conn, host string, own bool) (*tls.Conn, *fault) {
	begin := time.Now()
	bounded, ok := conn.(*boundedConn)
	r.tlsFirst = !ok || bounded.left == maxRead
	r.tlsTrace = tlsTrace{}
	secured, err := r.tls.handshake(conn, host, own, &r.tlsTrace)
	r.phases.TLS += time.Since(begin)
	if err == nil {
		return secured, nil
	}
	if f := ownFault(r.parent, err); f != nil {
		return nil, f
	}
	return nil, r.tlsTrace.handshakeFault(err)
}

// talkFault is what an error in the middle of a conversation says. what completes
// "The server … before" or names the step: "its greeting", "the answer to LOGIN".
func (r *session) talkFault(err error, what string) *fault {
	if f := r.firstCause(); f != nil {
		return f
	}
	if f := ownFault(r.parent, err); f != nil {
		return f
	}
	switch {
	case errors.Is(err, errTooMuch):
		return down(uptime.Protocol, "The server sent more than %d bytes where %s was due.", maxRead, what)
	case isTimeout(err), r.ctx.Err() != nil:
		return down(uptime.Timeout, "The server did not complete %s within %s.", what, r.timeout)
	case r.tlsTrace.certAsked && (isReset(err) || errors.Is(err, io.EOF)), r.tlsTrace.certRefused(err):
		return down(uptime.TLSClientCert, "The server wants a client certificate, and the monitor has none it accepts.")
	case isReset(err):
		return down(uptime.ConnReset, "The server reset the connection before %s.", what)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return down(uptime.ConnClosed, "The server closed the connection before %s.", what)
	}
	return down(uptime.Protocol, "The server broke the protocol at %s: %s.", what, clean(r.withoutSecrets(err.Error()), 150))
}

// driverDial is connectTo for drivers, which want an error. The fault behind it is
// kept: talkFault tells it instead of what the driver made of it.
func (r *session) driverDial(_ context.Context, _, address string) (net.Conn, error) {
	t, err := splitHostPort(address, 0)
	if err != nil {
		return nil, err
	}
	r.dialling.Lock()
	defer r.dialling.Unlock()
	conn, f := r.connectTo(t.host, t.port)
	if f != nil {
		return nil, r.note(f)
	}
	return conn, nil
}

// driverTLS is the TLS setting of r for a driver that makes the handshake itself.
// Its verdict on the chain is kept as driverDial's is.
func (r *session) driverTLS(host string) *tls.Config {
	r.tlsTrace = tlsTrace{}
	cfg := r.tls.config(host, true, &r.tlsTrace)
	verify := cfg.VerifyConnection
	cfg.NextProtos = nil
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		err := verify(s)
		if c, ok := errors.AsType[certError](err); ok {
			return r.note(c.fault)
		}
		return err
	}
	return cfg
}

// listen reads from conn what comes within a moment, and returns an error that is a
// timeout when nothing does. It is for a server that has all it needs and may yet
// take it back; how long we listen says nothing about the target, so that it is no
// part of the check's duration, and it never uses up the check's time.
func (r *session) listen(conn net.Conn, b []byte, moment time.Duration) (int, error) {
	begin := time.Now()
	_ = conn.SetReadDeadline(begin.Add(min(moment, r.deadline.Sub(begin)/2)))
	n, err := conn.Read(b)
	_ = conn.SetReadDeadline(r.deadline)
	r.waited += time.Since(begin)
	return n, err
}

// note keeps the first fault a driver ran into.
func (r *session) note(f *fault) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause == nil {
		r.cause = f
	}
	return certError{f}
}

func (r *session) firstCause() *fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cause
}

// setText notes a text that the source of that name looks at.
func (r *session) setText(source, v string) {
	if r.facts.text == nil {
		r.facts.text = map[string]string{}
	}
	r.facts.text[source] = v
}

// setNumber notes a number that the source of that name looks at.
func (r *session) setNumber(source string, v float64) {
	if r.facts.number == nil {
		r.facts.number = map[string]float64{}
	}
	r.facts.number[source] = v
}

// setList notes a list that the source of that name looks at.
func (r *session) setList(source string, v []string) {
	if r.facts.list == nil {
		r.facts.list = map[string][]string{}
	}
	r.facts.list[source] = v
}

// judge evaluates the assertions up to a stage that were not yet, and returns the
// fault of the first that fails with severity down. Those of severity degraded
// wait for conclude.
func (r *session) judge(upTo stage) *fault {
	if r.results == nil && len(r.assertions) > 0 {
		r.results = make([]found, len(r.assertions))
	}
	var first *fault
	for i := range r.assertions {
		a := &r.assertions[i]
		if a.stage > upTo || r.results[i].judged {
			continue
		}
		if time.Since(r.deadline) > cutAfter {
			r.results[i] = found{cut: errBusy} // or those before took it all; if one of them was cut, its fault is told
		} else {
			r.results[i] = a.evaluate(&r.facts)
		}
		r.results[i].judged = true
		if f := r.results[i].fault(a); f != nil && f.verdict != uptime.VerdictDegraded && first == nil {
			first = f
		}
	}
	return first
}

// conclude judges what is known at the end and makes the outcome. The first
// cause wins; a fault of severity degraded counts when nothing is down. describe,
// if not nil, adds what the type has seen to the evidence.
func (r *session) conclude(f *fault, took time.Duration, describe func(*uptime.Evidence)) Outcome {
	r.dialling.Lock() // a driver may have left a dial behind
	defer r.dialling.Unlock()
	out := Outcome{Verdict: uptime.VerdictUp, Duration: took, Phases: r.phases}
	r.facts.duration, r.facts.phases, r.facts.chain, r.facts.now = took, r.phases, r.tlsTrace.chain, r.start
	r.facts.dialled = r.trace.dialled
	if f == nil {
		f = r.judge(stageEnd)
	}
	if f == nil {
		f = r.degraded()
	}
	if f != nil {
		out.Verdict, out.Reason, out.Message = f.verdict, f.reason, r.sentence(f.message)
	}
	if f != nil || r.always || r.attempt.Evidence {
		out.Evidence = r.evidence(describe)
	}
	if out.Reason == uptime.Blocked { // what a name of an inner network means is not told
		out.Evidence.Addresses, out.Evidence.Attempts, out.Evidence.Dialled = nil, nil, ""
	}
	if out.Verdict == uptime.VerdictDown && !r.inverted && (r.attempt.Number > 0 || r.attempt.Diagnose) {
		d := r.diagnose(f)
		out.Evidence.Diagnosis = d.lines
		out.Message = strings.TrimSpace(out.Message + " " + d.summary)
	}
	return out
}

// degraded is the first thing that is wrong without being down.
func (r *session) degraded() *fault {
	if r.facts.degraded != nil {
		return r.facts.degraded
	}
	for i := range r.results {
		if f := r.results[i].fault(&r.assertions[i]); f != nil {
			return f
		}
	}
	if r.tls == nil {
		return nil
	}
	return r.tls.degraded(&r.tlsTrace, r.start)
}

// evidence is what was seen, without secrets.
func (r *session) evidence(describe func(*uptime.Evidence)) *uptime.Evidence {
	var e uptime.Evidence
	if r.seen != nil {
		e = *r.seen
	}
	if e.Request == "" {
		e.Request = r.label
	}
	e.Protocol = r.shown(e.Protocol, evidenceActual) // servers name and number themselves
	e.Certificates = certificates(r.tlsTrace.chain, r.start)
	e.Phases = phaseTexts(r.phases)
	r.trace.describe(&e)
	if describe != nil {
		describe(&e)
	}
	e.Request, e.Body = r.withoutSecrets(e.Request), r.withoutCutSecret(r.withoutSecrets(text([]byte(e.Body), evidenceBody)))
	for i := range r.results {
		if f := r.results[i]; f.judged {
			e.Assertions = append(e.Assertions, r.assertionResult(i))
		}
	}
	return &e
}

func (r *session) assertionResult(i int) uptime.AssertionResult {
	f, a := r.results[i], &r.assertions[i]
	res := uptime.AssertionResult{Assertion: a.Assertion, OK: f.ok, Actual: r.shown(f.actual, evidenceActual-4)}
	if !f.ok {
		res.Message = r.sentence(a.message(f.actual))
	}
	return res
}

// withoutSecrets blots the monitor's credentials out, where a target echoes them.
func (r *session) withoutSecrets(s string) string {
	for _, secrets := range [][]string{r.secrets, r.learned} {
		for _, secret := range secrets {
			s = strings.ReplaceAll(s, secret, uptime.Redacted)
		}
	}
	return s
}

// shown is one line of text from outside, at most n bytes of it. Secrets are blotted
// out before it is cut, which may cut one in two, and after, since the line is joined
// from what was printable.
func (r *session) shown(s string, n int) string {
	return r.withoutSecrets(clean(r.withoutSecrets(s), n))
}

// sentence is a message without secrets. What it quotes of a target was cut by clean,
// maybe in the middle of one: its beginning stands before the mark of the cut then.
func (r *session) sentence(message string) string {
	parts := strings.SplitAfter(r.withoutSecrets(message), cutMark)
	for i, part := range parts {
		if quoted, cut := strings.CutSuffix(part, cutMark); cut {
			parts[i] = r.withoutCutSecret(quoted) + cutMark
		}
	}
	return strings.Join(parts, "")
}

// withoutCutSecret drops the beginning of a credential from the end of a text that may
// have been cut in the middle of one.
func (r *session) withoutCutSecret(s string) string {
	for _, secret := range r.secrets {
		for n := len(secret) - 1; n >= 4; n-- {
			if before, ok := strings.CutSuffix(s, secret[:n]); ok {
				return before
			}
		}
	}
	return s
}

// boundedConn ends a peer that never stops sending.
type boundedConn struct {
	net.Conn
	left int
}

// Read implements io.Reader.
func (c *boundedConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
