package probe

import (
	"errors"
	"net"
	"sync"
)

var errHandedOver = errors.New("a check makes one connection, and its driver wants another")

// handOver is a connection that stands, for a driver that wants to dial: so the dial
// is made by the session and its fault is exact, and a driver that tries again meets
// nobody. It remembers how reading and writing ended, which drivers rarely tell.
type handOver struct {
	net.Conn

	mu    sync.Mutex // guards what follows
	taken bool
	read  error // how reading ended
	wrote error // how writing did
}

// dial is the connection, once.
func (h *handOver) dial() (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		return nil, errHandedOver
	}
	h.taken = true
	return h, nil
}

// Read implements io.Reader.
func (h *handOver) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.keep(&h.read, err)
	return n, err
}

// Write implements io.Writer.
func (h *handOver) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	h.keep(&h.wrote, err)
	return n, err
}

// keep sets first unless it is set. That the connection is closed is what the driver
// did itself.
func (h *handOver) keep(first *error, err error) {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if *first == nil {
		*first = err
	}
}

// cause is how the connection ended, or else what the driver says. What was read comes
// first: a server that has said its last word makes our next one fail.
func (h *handOver) cause(driver error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.read != nil:
		return h.read
	case h.wrote != nil:
		return h.wrote
	}
	return driver
}
