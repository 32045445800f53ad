package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"vedette/internal/testenv"
)

// lab is the targets of one mode.
type lab struct {
	pki     *authority // the CA that monitors trust by config.tls.ca_pem
	sha1CA  *authority
	mu      sync.Mutex
	closers []io.Closer // guarded by mu
}

func newLab() *lab {
	return &lab{pki: newAuthority()}
}

// close ends every target and every connection to one.
func (l *lab) close() {
	l.mu.Lock()
	all := l.closers
	l.closers = nil
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

func (l *lab) keep(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, c)
}

// must is for steps that cannot fail on a machine that works; without them there is
// no lab.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// listen is a listener on a port of its own.
func (l *lab) listen() net.Listener { return l.listenOn("127.0.0.1:0") }

func (l *lab) listenOn(address string) net.Listener {
	ln := must(net.Listen("tcp", address))
	l.keep(ln)
	return ln
}

// serve has every connection to ln handled, and closed after it.
func serve(ln net.Listener, handle func(net.Conn)) {
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
}

// raw is a target that is spoken to as it likes; it returns its address.
func (l *lab) raw(handle func(net.Conn)) string {
	ln := l.listen()
	serve(ln, handle)
	return ln.Addr().String()
}

// handler answers one HTTP request, whose head it gets.
type handler func(c net.Conn, head string)

// page is a target that reads one request head and then answers as it likes.
func (l *lab) page(h handler) string { return l.raw(onHead(h)) }

func onHead(h handler) func(net.Conn) {
	return func(c net.Conn) {
		if head, ok := readHead(bufio.NewReader(c)); ok {
			h(c, head)
		}
	}
}

func readHead(r *bufio.Reader) (string, bool) {
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", false
		}
		head += line
	}
	return head, true
}

// secure is page over TLS.
func (l *lab) secure(cfg *tls.Config, h handler) string {
	ln := tls.NewListener(l.listen(), cfg)
	serve(ln, onHead(h))
	return ln.Addr().String()
}

// web watches what h answers.
func (l *lab) web(h handler) monitor { return watch("http", "http://"+l.page(h)+"/") }

// path is what a request asked for.
func path(head string) string { return strings.Fields(head)[1] }

// says answers with a fixed text, in the pieces given, each a segment of its own.
func says(parts ...string) handler {
	return func(c net.Conn, _ string) {
		for _, p := range parts {
			_, _ = io.WriteString(c, p)
		}
	}
}

// ok is a whole response with a body.
func ok(body string, headers ...string) string {
	return response("200 OK", body, headers...)
}

func response(status, body string, headers ...string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, lines(headers), len(body), body)
}

func lines(headers []string) string {
	if len(headers) == 0 {
		return ""
	}
	return strings.Join(headers, "\r\n") + "\r\n"
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// chunked is a response in chunks.
func chunked(chunks ...string) string {
	b := chunkedHead
	for _, c := range chunks {
		b += fmt.Sprintf("%x\r\n%s\r\n", len(c), c)
	}
	return b + "0\r\n\r\n"
}

// packed is body under gzip.
func packed(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return b.String()
}

// hangs keeps a connection until the other side leaves.
func hangs(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// stalls says a text and then nothing more.
func stalls(text string) handler {
	return func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, text)
		hangs(c)
	}
}

// resets says a text and breaks the connection off. The text arrives all the same:
// on one machine it is in the other's hands before the RST is made.
func resets(text string) handler {
	return func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, text)
		reset(c)
	}
}

// reset has the close of c be an RST.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

// repeats says a text, and another again and again until the other side leaves,
// pausing between.
func repeats(head, text string, every time.Duration) handler {
	return func(c net.Conn, _ string) { drip(c, head, text, every) }
}

func drip(c net.Conn, head, text string, every time.Duration) {
	_, err := io.WriteString(c, head)
	for err == nil {
		if every > 0 {
			pause(every)
		}
		_, err = io.WriteString(c, text)
	}
}

// dribbles says a text piece by piece, and ends.
func dribbles(text string, size int, every time.Duration) handler {
	return func(c net.Conn, _ string) {
		for rest := text; rest != ""; pause(every) {
			n := min(size, len(rest))
			if _, err := io.WriteString(c, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}
}

// late waits before it answers.
func late(wait time.Duration, h handler) handler {
	return func(c net.Conn, head string) {
		pause(wait)
		h(c, head)
	}
}

// pause is how targets are slow. The lab's own code waits for signals.
func pause(d time.Duration) { time.Sleep(d) }

// refused is an address at which nobody listens, and nobody ever will.
func (l *lab) refused() string { return l.reserve("127.0.0.1", 0).Addr }

// reserve is a port that is kept until the lab closes.
func (l *lab) reserve(host string, number int) *testenv.Port {
	p := must(testenv.Reserve(host, number))
	l.keep(p)
	return p
}

// deaf is an address whose queue of connections is full, so that the kernel drops
// further SYNs.
func (l *lab) deaf() string {
	fd := must(syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0))
	l.keep(descriptor(fd))
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		panic(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", must(syscall.Getsockname(fd)).(*syscall.SockaddrInet4).Port)
	for {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		l.keep(c)
	}
}

type descriptor int

// Close implements io.Closer.
func (d descriptor) Close() error { return syscall.Close(int(d)) }
