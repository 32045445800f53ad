package testenv

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
)

// Port is a TCP port that is ours. The kernel gives it neither to a listener that asks
// for any port nor to an outgoing connection, for as long as it is reserved; until a
// server is started there, connections to it are refused.
type Port struct {
	Addr   string // host:port
	Number int
	fd     int
}

// Reserve takes a port of a loopback address; 0 is any. The error is EADDRINUSE if
// anybody uses it. The socket is bound, does not listen, and has SO_REUSEADDR from then
// on: a server that sets the same option, as nearly all do, may therefore listen there,
// end, and come back (Linux, inet_csk_bind_conflict).
func Reserve(host string, number int) (*Port, error) {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil, err
	}
	family, at := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: number, Addr: a.As16()})
	if a.Is4() {
		family, at = syscall.AF_INET, &syscall.SockaddrInet4{Port: number, Addr: a.As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &Port{Number: number, fd: fd}
	err = errors.Join(syscall.Bind(fd, at), syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	if err == nil && number == 0 {
		p.Number, err = boundTo(fd)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.Addr = net.JoinHostPort(host, strconv.Itoa(p.Number))
	return p, nil
}

func boundTo(fd int) (int, error) {
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch at := at.(type) {
	case *syscall.SockaddrInet4:
		return at.Port, nil
	case *syscall.SockaddrInet6:
		return at.Port, nil
	}
	return 0, errors.New("the socket has no port")
}

// Close gives the port back. A server that listens there goes on.
func (p *Port) Close() error { return syscall.Close(p.fd) }

// Addr is a loopback address, host:port, that is the test's own: it refuses connections
// until a server is started there.
func Addr(tb testing.TB) string {
	tb.Helper()
	p, err := Reserve("127.0.0.1", 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p.Addr
}
