package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vedette/internal/testenv"
)

// targetStats is what the target saw since the last reset.
type targetStats struct {
	Hits      int64
	Intervals int     // gaps between two visits to one page
	P50, P99  float64 // deviation of those gaps from the interval in the path, milliseconds
}

// site answers GET /<interval in µs>/<n> as cheaply as it can, closes each
// connection, and notes when each page was visited.
type site struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
	dev  []float64            // guarded by mu: deviations, milliseconds
	hits int64                // guarded by mu
}

const page = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

// serveTarget listens on two free ports, plain and TLS, prints them, and serves
// until standard input of its parent ends or ctx does.
func serveTarget(ctx context.Context, out io.Writer) error {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cert, _, err := testenv.Certificate("127.0.0.1")
	if err != nil {
		return err
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, plain.Addr(), secure.Addr())
	s := &site{last: map[string]time.Time{}}
	go s.accept(plain)
	go s.accept(secure)
	<-ctx.Done()
	return nil
}

func (s *site) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go s.serve(c)
	}
}

func (s *site) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 1024)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	at := time.Now()
	for {
		h, err := r.ReadSlice('\n')
		if err != nil || len(h) <= 2 {
			break
		}
	}
	path := strings.Fields(line)[1]
	if path == "/stats" {
		s.stats(c)
		return
	}
	s.note(path, at)
	_, _ = io.WriteString(c, page)
}

func (s *site) note(path string, at time.Time) {
	interval, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	us, _ := strconv.ParseFloat(interval, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits++
	if before, ok := s.last[path]; ok && us > 0 {
		s.dev = append(s.dev, math.Abs(float64(at.Sub(before).Microseconds())-us)/1000)
	}
	s.last[path] = at
}

// stats answers what was seen, and forgets it.
func (s *site) stats(c net.Conn) {
	s.mu.Lock()
	slices.Sort(s.dev)
	st := targetStats{Hits: s.hits, Intervals: len(s.dev), P50: quantile(s.dev, 0.5), P99: quantile(s.dev, 0.99)}
	s.dev, s.hits = nil, 0
	clear(s.last)
	s.mu.Unlock()
	b, _ := json.Marshal(st)
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(b), b)
}

// quantile of sorted values; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
