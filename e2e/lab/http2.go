package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is an HTTP/2 connection as a target speaks it, frame by frame.
type frames struct {
	*http2.Framer
	net.Conn
	block bytes.Buffer
	pack  *hpack.Encoder
}

// head sends a head of the only stream; fields are names and values in turn.
func (f *frames) head(end bool, fields ...string) {
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = f.pack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block.Bytes(), EndHeaders: true, EndStream: end})
}

// framed watches a target without TLS that reads the request and then says what it likes.
func (l *lab) framed(say func(f *frames)) monitor {
	return watch("http", "http://"+l.raw(func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := &frames{Framer: http2.NewFramer(c, c), Conn: c}
		f.pack = hpack.NewEncoder(&f.block)
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
		say(f)
		_, _ = io.Copy(io.Discard, c)
	})+"/").config("http_version", "h2c")
}

// http2 is the targets that speak HTTP/2.
func (l *lab) http2() []scenario {
	served := func(cfg *tls.Config, protocols func(*http.Protocols)) string {
		p := new(http.Protocols)
		protocols(p)
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "needle") }),
			Protocols: p, TLSConfig: cfg, ErrorLog: log.New(io.Discard, "", 0)}
		ln := l.listen()
		l.keep(s)
		go func() {
			if cfg != nil {
				_ = s.ServeTLS(ln, "", "")
				return
			}
			_ = s.Serve(ln)
		}()
		return ln.Addr().String()
	}
	needle := func(m monitor, version string) monitor {
		return m.config("http_version", version).assert("body", "contains", "needle")
	}
	both := func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }
	return []scenario{
		{name: "h2: a page over TLS", want: "up", monitor: needle(l.https(served(shows(l.pki.leaf()), both)), "2")},
		{name: "h2: a server of both, asked in HTTP/1.1", want: "up", monitor: needle(l.https(served(shows(l.pki.leaf()), both)), "1.1")},
		{name: "h2: without TLS", want: "up", monitor: needle(watch("http", "http://"+served(nil, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })+"/"), "h2c")},
		{name: "h2: an answer without a body", want: "up", monitor: l.framed(func(f *frames) { f.head(true, ":status", "204") })},
		{name: "h2: early hints first", want: "up", monitor: l.framed(func(f *frames) { f.head(false, ":status", "103"); f.head(true, ":status", "200") })},
		{name: "h2: trailers", want: "up", monitor: l.framed(func(f *frames) {
			f.head(false, ":status", "200")
			_ = f.WriteData(1, false, []byte("x"))
			f.head(true, "x-trailer", "1")
		})},
		{name: "h2: a ping and settings in the middle", want: "up", monitor: l.framed(func(f *frames) {
			_ = f.WritePing(false, [8]byte{})
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15})
			f.head(true, ":status", "200")
		})},
		{name: "h2: GOAWAY after the answer", want: "up", monitor: l.framed(func(f *frames) {
			f.head(true, ":status", "200")
			_ = f.WriteGoAway(1, http2.ErrCodeNo, nil)
		})},

		{name: "h2: 503", want: "down http_status", monitor: l.framed(func(f *frames) { f.head(true, ":status", "503") })},
		{name: "h2: GOAWAY", want: "down protocol", monitor: l.framed(func(f *frames) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) })},
		{name: "h2: RST_STREAM", want: "down protocol", monitor: l.framed(func(f *frames) { _ = f.WriteRSTStream(1, http2.ErrCodeInternal) })},
		{name: "h2: RST_STREAM in the body", want: "down protocol", monitor: l.framed(func(f *frames) {
			f.head(false, ":status", "200")
			_ = f.WriteData(1, false, []byte("x"))
			_ = f.WriteRSTStream(1, http2.ErrCodeInternal)
		})},
		{name: "h2: garbage", want: "down protocol", monitor: l.framed(func(f *frames) { _, _ = f.Write(bytes.Repeat([]byte{0xff}, 64<<10)) })},
		{name: "h2: no :status", want: "down protocol", monitor: l.framed(func(f *frames) { f.head(true, "x-a", "b") })},
		{name: "h2: pings without end", want: "down timeout | down protocol", monitor: l.framed(func(f *frames) {
			for f.WritePing(false, [8]byte{}) == nil {
				pause(1e6)
			}
		})},
		{name: "h2: silence after the request", want: "down timeout", monitor: l.framed(func(*frames) {})},
		{name: "h2: a body that stalls", want: "down timeout", monitor: l.framed(func(f *frames) {
			f.head(false, ":status", "200")
			_ = f.WriteData(1, false, []byte("x"))
		})},
		{name: "h2: a server of HTTP/1.1 only", want: "down protocol", monitor: l.https(served(shows(l.pki.leaf()), func(p *http.Protocols) { p.SetHTTP1(true) })).config("http_version", "2")},
	}
}
