package probe

import (
	"errors"
	"net"
	"sync"
)

var errHandedOver = errors.New("a check makes one connection, and its driver wants another")

// handOver is a connection that stands, for a driver that wants to dial: so the dial
// is made by the session and its fault is exact, and a driver that tries again meets
// nobody. It remembers how reading ended, which drivers rarely tell.
type handOver struct {
	net.Conn

	mu    sync.Mutex // guards what follows
	taken bool
	err   error
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
	if err != nil && !errors.Is(err, net.ErrClosed) { // closed is what the driver did itself
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.err == nil {
			h.err = err
		}
	}
	return n, err
}

// cause is how reading ended, or else what the driver says.
func (h *handOver) cause(driver error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	return driver
}
