package probe

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// http2Server is net/http's server with or without TLS.
func http2Server(t *testing.T, ca authority, handle http.HandlerFunc, protocols func(*http.Protocols)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handle)
	s.Config.Protocols = new(http.Protocols)
	protocols(s.Config.Protocols)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if ca.cert == nil {
		s.Start()
	} else {
		s.EnableHTTP2 = s.Config.Protocols.HTTP2()
		s.TLS = &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}}
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s.URL
}

func versionConfig(version, ca string, more map[string]any) json.RawMessage {
	config := map[string]any{"http_version": version, "tls": map[string]any{"ca_pem": ca}}
	for k, v := range more {
		config[k] = v
	}
	raw, _ := json.Marshal(config)
	return raw
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	handle := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "hints")
		case "/short":
			w.Header().Set("Content-Length", "99")
			_, _ = io.WriteString(w, "abc")
		case "/large":
			for i := range 50 {
				w.Header().Set(fmt.Sprint("X-Large-", i), strings.Repeat("x", 4000))
			}
		case "/bomb":
			for range 200 {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			_, body, _ := strings.Cut(packed("needle"), "\r\n\r\n")
			_, _ = io.WriteString(w, body)
		case "/stalls":
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s %s %s", r.Proto, r.Method, r.Host, r.Header.Get("Authorization"), b)
		}
	}
	both := http2Server(t, ca, handle, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) })
	one := http2Server(t, ca, handle, func(p *http.Protocols) { p.SetHTTP1(true) })
	only := http2Server(t, ca, handle, func(p *http.Protocols) { p.SetHTTP2(true) })
	clear := http2Server(t, authority{}, handle, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	has := func(s string) []uptime.Assertion { return []uptime.Assertion{assert("body", "", "contains", s)} }
	leaves := "https://" + func() string {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, l, says(page("HTTP/1.1 elsewhere")))
		return l.Addr().String()
	}()
	toOne := http2Server(t, ca, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, leaves, http.StatusFound) }, func(p *http.Protocols) { p.SetHTTP2(true) })
	up, down := uptime.VerdictUp, uptime.VerdictDown
	for name, tt := range map[string]struct {
		version, target string
		more            map[string]any
		assertions      []uptime.Assertion
		verdict         uptime.Verdict
		reason          uptime.Reason
	}{
		"a page is up":                      {"2", both, nil, has("HTTP/2.0 GET 127.0.0.1:"), up, ""},
		"a server of HTTP/2 only is up":     {"2", only, nil, nil, up, ""},
		"a redirect is followed":            {"2", both + "/moved", nil, has("HTTP/2.0"), up, ""},
		"a redirect to an HTTP/1.1 site is": {"2", toOne, nil, has("elsewhere"), up, ""},
		"early hints first are up":          {"2", both + "/hints", nil, has("hints"), up, ""},
		"credentials and a body go along":   {"2", both, map[string]any{"method": "POST", "body": "b0dy", "auth": map[string]any{"kind": "bearer", "token": "t0ken"}}, has("POST"), up, ""},
		"HEAD is up":                        {"2", both, map[string]any{"method": "HEAD"}, nil, up, ""},
		"gzip is unpacked":                  {"2", both + "/gzip", nil, has("needle"), up, ""},
		"without TLS, h2c is up":            {"h2c", clear, nil, has("HTTP/2.0"), up, ""},
		"any is HTTP/1.1":                   {"any", both, nil, has("HTTP/1.1"), up, ""},
		"1.1 is HTTP/1.1":                   {"1.1", both, nil, has("HTTP/1.1"), up, ""},
		"a server of HTTP/1.1 only is not":  {"2", one, nil, nil, down, uptime.Protocol},
		"one of HTTP/2 only for HTTP/1.1":   {"any", only, nil, nil, down, uptime.ConnClosed},
		"h2c to a server of HTTP/1.1":       {"h2c", "http://" + serve(t, says(page("x"))), nil, nil, down, uptime.Protocol},
		"503 is http_status":                {"2", both + "/503", nil, nil, down, uptime.HTTPStatus},
		"fewer bytes than announced":        {"2", both + "/short", nil, nil, down, uptime.BodyTruncated},
		"a head too large":                  {"2", both + "/large", nil, nil, down, uptime.Protocol},
		"a body too large":                  {"2", both + "/bomb", nil, has("needle"), down, uptime.BodyTooLarge},
		"a body that stalls":                {"2", both + "/stalls", nil, nil, down, uptime.Timeout},
		"a body that stalls, without TLS":   {"h2c", clear + "/stalls", nil, nil, down, uptime.Timeout},
		"a certificate that is not trusted": {"2", http2Server(t, newCA(t, authority{}, nil), handle, func(p *http.Protocols) { p.SetHTTP2(true) }), nil, nil, down, uptime.TLSUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := 5 * time.Second
			if tt.reason == uptime.Timeout {
				timeout = 2 * short
			}
			check(t, run(t, uptime.Monitor{Target: tt.target, Config: versionConfig(tt.version, ca.pem(), tt.more), Assertions: tt.assertions, Timeout: timeout}), tt.verdict, tt.reason)
		})
	}
}

// framed is an h2c server that reads the client's first frames and then says what it
// likes, frame by frame.
func framed(t *testing.T, say func(f *http2.Framer, c net.Conn, headers func(fields ...string) []byte)) string {
	t.Helper()
	return serveRaw(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if frame.Header().Type == http2.FrameHeaders {
				break
			}
		}
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		say(f, c, func(fields ...string) []byte {
			b.Reset()
			for i := 0; i < len(fields); i += 2 {
				_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			return b.Bytes()
		})
		_, _ = io.Copy(io.Discard, c)
	})
}

func TestHTTP2Faults(t *testing.T) {
	t.Parallel()
	type server = func(f *http2.Framer, c net.Conn, headers func(fields ...string) []byte)
	head := func(f *http2.Framer, block []byte, end bool) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: end})
	}
	down := uptime.VerdictDown
	for name, tt := range map[string]struct {
		say     server
		verdict uptime.Verdict
		reason  uptime.Reason
	}{
		"a plain answer is up": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) { head(f, h(":status", "204"), true) }, uptime.VerdictUp, ""},
		"an answer with trailers is": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			head(f, h(":status", "200"), false)
			_ = f.WriteData(1, false, []byte("x"))
			head(f, h("x-t", "1"), true)
		}, uptime.VerdictUp, ""},
		"a ping before it is up": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			_ = f.WritePing(false, [8]byte{})
			head(f, h(":status", "204"), true)
		}, uptime.VerdictUp, ""},
		"GOAWAY is protocol": {func(f *http2.Framer, _ net.Conn, _ func(...string) []byte) {
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		}, down, uptime.Protocol},
		"GOAWAY with an error is": {func(f *http2.Framer, c net.Conn, _ func(...string) []byte) {
			_ = f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("calm"))
			_ = c.(*net.TCPConn).CloseWrite()
		}, down, uptime.Protocol},
		"RST_STREAM is": {func(f *http2.Framer, _ net.Conn, _ func(...string) []byte) {
			_ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		}, down, uptime.Protocol},
		"RST_STREAM in the body is": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			head(f, h(":status", "200"), false)
			_ = f.WriteData(1, false, []byte("x"))
			_ = f.WriteRSTStream(1, http2.ErrCodeInternal)
		}, down, uptime.Protocol},
		"GOAWAY in the body is": {func(f *http2.Framer, c net.Conn, h func(...string) []byte) {
			head(f, h(":status", "200"), false)
			_ = f.WriteGoAway(1, http2.ErrCodeInternal, nil)
			_ = c.(*net.TCPConn).CloseWrite()
		}, down, uptime.Protocol},
		"garbage is": {func(_ *http2.Framer, c net.Conn, _ func(...string) []byte) {
			_, _ = c.Write(bytes.Repeat([]byte{0xff}, 64<<10))
		}, down, uptime.Protocol},
		"no :status is":               {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) { head(f, h("x-a", "b"), true) }, down, uptime.Protocol},
		"a :status that is none is":   {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) { head(f, h(":status", "abc"), true) }, down, uptime.Protocol},
		"a head that does not unpack": {func(f *http2.Framer, _ net.Conn, _ func(...string) []byte) { head(f, []byte{0xff, 0xff, 0xff}, true) }, down, uptime.Protocol},
		"interim heads without end": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			for range 50 {
				head(f, h(":status", "103"), false)
			}
		}, down, uptime.Protocol},
		"a stream nobody asked for": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: h(":method", "GET"), EndHeaders: true})
		}, down, uptime.Protocol},
		"silence is timeout": {func(*http2.Framer, net.Conn, func(...string) []byte) {}, down, uptime.Timeout},
		"a body that never ends is": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			head(f, h(":status", "200"), false)
			_ = f.WriteData(1, false, []byte("x"))
		}, down, uptime.Timeout},
		"fields without end are headers_too_large": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			head(f, h(append([]string{":status", "200"}, slices.Repeat([]string{"x-a", "b"}, 5000)...)...), true)
		}, down, uptime.HeadersLarge},
		"a close before the answer": {func(_ *http2.Framer, c net.Conn, _ func(...string) []byte) { _ = c.(*net.TCPConn).CloseWrite() }, down, uptime.ConnClosed},
		"a close in the body": {func(f *http2.Framer, c net.Conn, h func(...string) []byte) {
			head(f, h(":status", "200"), false)
			_ = f.WriteData(1, false, []byte("x"))
			_ = c.(*net.TCPConn).CloseWrite()
		}, down, uptime.BodyTruncated},
		"fewer bytes than it announced": {func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			head(f, h(":status", "200", "content-length", "9"), false)
			_ = f.WriteData(1, true, []byte("x"))
		}, down, uptime.BodyTruncated},
		"frames without end": {func(f *http2.Framer, _ net.Conn, _ func(...string) []byte) {
			for f.WritePing(false, [8]byte{}) == nil {
			}
		}, down, uptime.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := 5 * time.Second
			if tt.reason == uptime.Timeout {
				timeout = 2 * short
			}
			check(t, run(t, uptime.Monitor{Target: "http://" + framed(t, tt.say), Config: versionConfig("h2c", "", nil), Timeout: timeout}), tt.verdict, tt.reason)
		})
	}
}

// Whichever of the reader and the writer is told of it.
func TestAResetOfHTTP2IsTold(t *testing.T) {
	t.Parallel()
	target := "http://" + framed(t, func(_ *http2.Framer, c net.Conn, _ func(...string) []byte) { testenv.Reset(c) })
	for range 20 {
		check(t, run(t, uptime.Monitor{Target: target, Config: versionConfig("h2c", "", nil)}), uptime.VerdictDown, uptime.ConnReset)
	}
}

// Checks leave no goroutine behind, however they end.
func TestHTTP2LeavesNoGoroutine(t *testing.T) {
	targets := []string{
		framed(t, func(*http2.Framer, net.Conn, func(...string) []byte) {}),
		framed(t, func(f *http2.Framer, _ net.Conn, h func(...string) []byte) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h(":status", "200"), EndHeaders: true})
		}),
		framed(t, func(f *http2.Framer, _ net.Conn, _ func(...string) []byte) { _ = f.WriteGoAway(0, 0, nil) }),
		serve(t, says(page("x"))),
	}
	before := runtime.NumGoroutine()
	for range 5 {
		for _, target := range targets {
			run(t, uptime.Monitor{Target: "http://" + target, Config: versionConfig("h2c", "", nil), Timeout: uptime.MinTimeout})
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestTheVersionFitsTheTarget(t *testing.T) {
	t.Parallel()
	for target, version := range map[string]string{"http://a.example": "2", "https://a.example": "h2c", "https://b.example": "3"} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: "http", Target: target, Config: versionConfig(version, "", nil)})
		if !uptime.Is(err, uptime.Invalid) || !strings.Contains(compactProblems(err), "http_version") {
			t.Errorf("%s with %s: %s, want it refused", target, version, compactProblems(err))
		}
	}
}
