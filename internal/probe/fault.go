package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// fault is why a probe went no further. nil means that it did. It is not an
// error: a failed check is data.
type fault struct {
	verdict uptime.Verdict
	reason  uptime.Reason
	message string
}

// down is a fault of the target.
func down(r uptime.Reason, format string, args ...any) *fault {
	return &fault{uptime.VerdictDown, r, fmt.Sprintf(format, args...)}
}

// unknown is a fault of ours.
func unknown(r uptime.Reason, format string, args ...any) *fault {
	return &fault{uptime.VerdictUnknown, r, fmt.Sprintf(format, args...)}
}

// ownFault is the fault in err that says nothing about the target, or nil. parent
// is the context the check was called with: when it ended, we were told to stop.
func ownFault(parent context.Context, err error) *fault {
	switch {
	case parent.Err() != nil:
		return unknown(uptime.Aborted, "The check was stopped before it ended.")
	case errors.Is(err, guard.ErrBlocked):
		return unknown(uptime.Blocked, "The target's address is not allowed by --private-targets.")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return unknown(uptime.OwnResources, "This machine has no file descriptors left.")
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return unknown(uptime.OwnResources, "This machine has no memory left for connections.")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return unknown(uptime.OwnNetwork, "This machine does not let us connect (a local firewall or policy).")
	case errors.Is(err, syscall.ENETDOWN):
		return unknown(uptime.OwnNetwork, "The network of this machine is down.")
	}
	return nil
}

// connectFault is what a failed connect says.
func connectFault(parent context.Context, to netip.AddrPort, err error) *fault {
	if f := ownFault(parent, err); f != nil {
		return f
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return down(uptime.ConnRefused, "%s refused the connection.", to)
	case errors.Is(err, syscall.ECONNRESET):
		return down(uptime.ConnReset, "%s reset the connection.", to)
	case errors.Is(err, syscall.EADDRNOTAVAIL) && (to.Addr().Unmap().Is4() || routed(to)):
		return unknown(uptime.OwnResources, "This machine has no local ports left.")
	case isTimeout(err):
		return down(uptime.ConnTimeout, "%s did not answer the connection in time.", to)
	}
	return down(uptime.ConnUnreach, "%s cannot be reached: no route to it.", to)
}

// routed reports whether this machine has an address and a route from which to is
// reached; one without IPv6 has none. A datagram socket takes its port from others
// than connections do, and connecting it sends nothing.
func routed(to netip.AddrPort) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err == nil {
		_ = c.Close()
	}
	return !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.ENETUNREACH)
}

// isTimeout reports whether a deadline of ours, or the system's, ended err.
func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
}

// isReset reports whether the peer broke the connection off.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// cutMark stands where clean cut a text.
const cutMark = "…"

// clean makes text from outside fit for one line of ours: valid UTF-8, no
// controls, at most n bytes.
func clean(s string, n int) string {
	cut := len(s) > n
	if cut {
		s = s[:n]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError {
			return -1
		}
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if cut {
		s += cutMark
	}
	return s
}
