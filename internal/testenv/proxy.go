package testenv

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between a client and a server and does what networks do.
type Proxy struct {
	Addr   string
	target string

	mu      sync.Mutex
	refuse  bool                  // guarded by mu: new connections are closed at once
	silent  bool                  // guarded by mu: nothing passes, nothing is closed
	swallow bool                  // guarded by mu: requests pass, replies do not
	delay   time.Duration         // guarded by mu: of each reply
	lose    []byte                // guarded by mu: a request with this is answered in vain
	lost    int                   // guarded by mu: how often that happened
	changed chan struct{}         // guarded by mu: closed at the next change
	conns   map[net.Conn]struct{} // guarded by mu
}

// NewProxy starts a proxy in front of target (host:port) for one test.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: ln.Addr().String(), target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		p.Cut()
		wg.Wait()
	})
	return p
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut ends every connection and refuses new ones.
func (p *Proxy) Cut() {
	p.set(func() {
		p.refuse = true
		for c := range p.conns {
			_ = c.Close()
		}
	})
}

// BlackHole lets nothing pass and closes nothing.
func (p *Proxy) BlackHole() { p.set(func() { p.silent = true }) }

// SwallowReplies lets requests pass and drops the answers.
func (p *Proxy) SwallowReplies() { p.set(func() { p.swallow = true }) }

// Delay holds each reply back for d.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Heal ends all of the above. Connections whose replies were swallowed are ended.
func (p *Proxy) Heal() {
	p.set(func() {
		if p.swallow {
			for c := range p.conns {
				_ = c.Close()
			}
		}
		p.refuse, p.silent, p.swallow, p.delay = false, false, false, 0
	})
}

// LoseReplyTo lets the first request that holds text pass, and ends its connection
// when the answer comes: it was carried out, and its maker does not know.
func (p *Proxy) LoseReplyTo(text string) { p.set(func() { p.lose = []byte(text) }) }

// Lost is how many replies LoseReplyTo has lost.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// wanted reports whether the reply to request is to be lost, which ends the wish.
func (p *Proxy) wanted(request []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose == nil || !bytes.Contains(request, p.lose) {
		return false
	}
	p.lose = nil
	return true
}

func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *Proxy) serve(client net.Conn) {
	defer p.forget(client)
	if !p.track(client) {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.forget(server)
	if !p.track(server) {
		return
	}
	var wg sync.WaitGroup
	var vain atomic.Bool // the next reply is to be lost
	wg.Go(func() { p.pass(server, client, false, &vain) })
	p.pass(client, server, true, &vain)
	_, _ = client.Close(), server.Close()
	wg.Wait()
}

// pass copies from src to dst as the proxy's mood allows.
func (p *Proxy) pass(dst, src net.Conn, reply bool, vain *atomic.Bool) {
	defer dst.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		switch {
		case !reply && p.wanted(b[:n]):
			vain.Store(true)
		case reply && vain.Load():
			p.set(func() { p.lost++ })
			_ = src.Close()
			return
		}
		if n > 0 && p.admit(dst, reply) {
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				_ = src.Close()
			}
			return
		}
	}
}

// admit waits as long as nothing may pass, and reports whether the bytes in hand may.
func (p *Proxy) admit(c net.Conn, reply bool) bool {
	for {
		p.mu.Lock()
		_, alive := p.conns[c]
		silent, swallow, delay, changed := p.silent && !p.refuse && alive, p.swallow && reply, p.delay, p.changed
		p.mu.Unlock()
		if silent {
			<-changed
			continue
		}
		if reply && delay > 0 {
			select {
			case <-time.After(delay):
			case <-changed:
				continue
			}
		}
		return !swallow
	}
}
