//go:build !linux

package probe

import (
	"net"
	"net/netip"
)

// openPing is for Linux only, where all of Vedette is tested.
func openPing(netip.Addr) (conn net.Conn, raw bool, err error) { return nil, false, errNoPing }
