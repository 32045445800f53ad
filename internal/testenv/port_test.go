package testenv

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestAReservedPortIsOurs(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		p, err := Reserve(host, 0)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Reserve(host, p.Number); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s was reserved twice: %v, %v", p.Addr, again, err)
		}
		for range 2 { // a server may come back
			if _, err := net.Dial("tcp", p.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a connection to %s where nobody listens: %v, want it refused", p.Addr, err)
			}
			l, err := net.Listen("tcp", p.Addr)
			if err != nil {
				t.Fatalf("nobody can listen at the port that was kept for him: %v", err)
			}
			if c, err := net.Dial("tcp", p.Addr); err != nil {
				t.Errorf("a connection to the server: %v", err)
			} else {
				_ = c.Close()
			}
			_ = l.Close()
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
