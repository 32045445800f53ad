package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// openPing opens a socket for echo requests to one address: a datagram one, which
// needs no privilege and gets only the answers to its own packets, else a raw one.
// Its error is errNoPing when neither is allowed.
func openPing(to netip.Addr) (conn net.Conn, raw bool, err error) {
	conn, err = openICMP(to, syscall.SOCK_DGRAM)
	if !errors.Is(err, errNoPing) {
		return conn, false, err
	}
	conn, err = openICMP(to, syscall.SOCK_RAW)
	return conn, true, err
}

// openICMP makes a socket that is connected, so that nothing from other addresses
// arrives, and is told the errors that routers send back (ip(7), IP_RECVERR).
func openICMP(to netip.Addr, kind int) (net.Conn, error) {
	family, proto, level, option := syscall.AF_INET, syscall.IPPROTO_ICMP, syscall.IPPROTO_IP, syscall.IP_RECVERR
	if to.Is6() {
		family, proto, level, option = syscall.AF_INET6, syscall.IPPROTO_ICMPV6, syscall.IPPROTO_IPV6, syscall.IPV6_RECVERR
	}
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, proto)
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EPROTONOSUPPORT):
		return nil, errNoPing
	case errors.Is(err, syscall.EAFNOSUPPORT): // a machine without IPv6
		return nil, syscall.ENETUNREACH
	case err != nil:
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "icmp")
	defer file.Close() // FileConn takes a copy
	if err := syscall.SetsockoptInt(fd, level, option, 1); err != nil {
		return nil, fmt.Errorf("ask for errors: %w", err)
	}
	if err := syscall.Connect(fd, sockaddr(to)); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return net.FileConn(file)
}

func sockaddr(a netip.Addr) syscall.Sockaddr {
	if a.Is4() {
		return &syscall.SockaddrInet4{Addr: a.As4()}
	}
	s := &syscall.SockaddrInet6{Addr: a.As16()}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		s.ZoneId = uint32(i.Index)
	} else if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		s.ZoneId = uint32(n)
	}
	return s
}
