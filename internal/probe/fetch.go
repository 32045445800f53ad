package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"vedette/internal/uptime"
)

// maxFetchHead bounds the head of an answer that fetch reads.
const maxFetchHead = 64 << 10

// fetchProtocols are what a type that fetches offers in its handshake.
var fetchProtocols = []string{"h2", "http/1.1"}

// fetched is an answer read to its end.
type fetched struct {
	status int
	header http.Header
	body   []byte
}

// fetch makes one HTTPS request, HTTP/2 where the server speaks it, over a
// connection of its own and reads at most limit bytes of the answer. own says that
// to is the monitor's own server (see secure). It follows no redirect and keeps no
// cookie. what names the answer in a fault. For the HTTP type this would be too
// kind: it is for types to which HTTP is only the way.
func (r *session) fetch(req *http.Request, to target, own bool, limit int64, what string) (fetched, *fault) {
	plain, f := r.connectTo(to.host, to.port)
	if f != nil {
		return fetched{}, f
	}
	secured, f := r.secure(plain, to.host, own)
	if f != nil {
		return fetched{}, f
	}
	// The library gets the connection ready made: it dials from a goroutine of its own,
	// which may outlive the check and what a session notes of a dial.
	ready := make(chan net.Conn, 1)
	ready <- secured
	transport := &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-ready:
				return c, nil
			default:
				return nil, errors.New("a second connection is not made")
			}
		},
		ForceAttemptHTTP2: true, DisableCompression: true, MaxResponseHeaderBytes: maxFetchHead,
	}
	defer transport.CloseIdleConnections()
	begin := time.Now()
	response, err := transport.RoundTrip(req.WithContext(r.ctx))
	r.phases.FirstByte += time.Since(begin)
	if err != nil {
		return fetched{}, r.talkFault(err, what)
	}
	defer response.Body.Close()
	begin = time.Now()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	r.phases.Transfer += time.Since(begin)
	if err != nil {
		return fetched{}, r.talkFault(err, what)
	}
	if int64(len(body)) > limit {
		return fetched{}, down(uptime.BodyTooLarge, "The server sent more than %d bytes as %s.", limit, what)
	}
	r.seen.Protocol, r.seen.Status, r.seen.BodyBytes = response.Proto, response.StatusCode, int64(len(body))
	return fetched{response.StatusCode, response.Header, body}, nil
}
