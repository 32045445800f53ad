package probe

import (
	"io"
	"net"
	"net/http"
	"testing"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// BenchmarkHTTP compares one check with one fresh GET of net/http, against the
// same loopback server in the same process: read the two as a ratio.
func BenchmarkHTTP(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	target := "http://" + l.Addr().String() + "/"

	b.Run("net_http", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		b.ReportAllocs()
		for b.Loop() {
			resp, err := client.Get(target)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.Run("probe", func(b *testing.B) {
		c, err := New(Env{Guard: guard.New(guard.Options{Policy: guard.Allow()})}).Compile(uptime.Monitor{Type: "http", Target: target})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if out := c.Run(b.Context(), Attempt{}); out.Verdict != uptime.VerdictUp {
				b.Fatalf("%s: %s", out.Reason, out.Message)
			}
		}
	})
}
