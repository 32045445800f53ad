package testenv

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// patience is how long a server that has hung up waits for its client to go: longer
// than any check of these tests takes.
const patience = 30 * time.Second

// Serve hands every connection to l to talk, in a goroutine of its own, and hangs up
// when talk returns. It ends with l.
func Serve(l net.Listener, talk func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer HangUp(c)
				talk(c)
			}()
		}
	}()
}

// HangUp ends c such that its client reads an end and never a reset: it says that no
// more comes, takes what the client still sends, and closes when that is gone too. A
// plain Close is a reset whenever bytes of the client lie unread, or arrive later
// (RFC 2525 §2.17), so that what the client sees depends on which of the two was
// quicker.
func HangUp(c net.Conn) {
	defer c.Close()
	if t, ok := c.(*tls.Conn); ok {
		_ = t.CloseWrite() // an error if there was no handshake; the end comes all the same
		c = t.NetConn()
	}
	t, ok := c.(*net.TCPConn)
	if !ok || t.CloseWrite() != nil {
		return // reset or closed by talk
	}
	_ = t.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.Copy(io.Discard, t)
}

// Reset ends c with a reset: its client loses also what it has not read yet.
func Reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
