package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"time"

	"vedette/internal/uptime"
)

// unknownHostHorizon is how long a name that does not exist is tried again. It is
// a mistake far more often than an outage, yet a private name vanishes for as long
// as a VPN is away.
const unknownHostHorizon = time.Hour

// failed says what came of an attempt that ended in err before any reply: the
// network, DNS and TLS heal by themselves, so those are temporary; an address that
// --private-targets forbids is not, and is told in one uniform sentence that gives
// away nothing about what listens there. The text never holds a URL or credential.
func failed(err error) Sent {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // its text would repeat the URL, where tokens live
	}
	temporary := func(text string) Sent { return Sent{Outcome: uptime.OutcomeTemporary, Excerpt: text} }
	switch k := uptime.KindOf(err); k {
	case uptime.Forbidden, uptime.Invalid:
		return permanent("the address is not allowed by --private-targets")
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		s := temporary("the name of the host could not be resolved")
		if e.IsNotFound {
			s.Excerpt, s.Horizon = "the name of the host does not exist", unknownHostHorizon
		}
		return s
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return temporary("the certificate of the host is not trusted: " + scrub(err.Error()))
	}
	if timedOut(err) {
		return temporary("no answer in time")
	}
	if errors.Is(err, context.Canceled) {
		return temporary("interrupted by our shutdown")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return temporary("the connection was closed before a reply")
	}
	return temporary(networkText(err))
}

// timedOut reports whether err is a deadline, ours or the network's.
func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// networkText is the innermost part of a network error, "connection refused": the
// outer parts hold addresses and, from some layers, what was sent.
func networkText(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return "the connection failed: " + scrub(e.Err.Error())
	}
	return "the connection failed"
}

// permanent is an attempt that is of no use to repeat.
func permanent(text string) Sent {
	return Sent{Outcome: uptime.OutcomePermanent, Excerpt: text}
}
