package probe

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestHowAConnectionEndedIsKnownWhateverTheDriverMadeOfIt(t *testing.T) {
	t.Parallel()
	said := errors.New("transport: failed to write client preface")
	for name, tt := range map[string]struct {
		do   func(h *handOver, server net.Conn)
		want func(error) bool
	}{
		"nothing happened": {func(*handOver, net.Conn) {}, func(err error) bool { return err == said }},
		"a write that came too late is a timeout": {func(h *handOver, _ net.Conn) {
			_ = h.SetDeadline(time.Now().Add(-time.Second))
			_, _ = h.Write([]byte("x"))
		}, isTimeout},
		"the end comes before what was written into it": {func(h *handOver, server net.Conn) {
			_ = server.Close()
			_, _ = h.Write([]byte("x"))
			_, _ = h.Read(make([]byte, 1))
		}, func(err error) bool { return err == io.EOF }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			t.Cleanup(func() { _, _ = client.Close(), server.Close() })
			h := &handOver{Conn: client}
			tt.do(h, server)
			if err := h.cause(said); !tt.want(err) {
				t.Errorf("cause = %v", err)
			}
		})
	}
}
