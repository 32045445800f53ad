package probe

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// dbCanary is a password that nothing we show may hold.
const dbCanary = "canary-5f1c"

// dbCase is one target of a database type.
type dbCase struct {
	target     string
	serve      func(net.Conn) // instead of target
	config     map[string]any
	assertions []uptime.Assertion
	timeout    time.Duration
	verdict    uptime.Verdict
	reason     uptime.Reason
	says       string // part of the message
}

// dbTLS is config with TLS that trusts ca.
func dbTLS(ca authority, config map[string]any) map[string]any {
	out := map[string]any{"security": "tls", "tls": map[string]any{"ca_pem": ca.pem()}}
	for k, v := range config {
		out[k] = v
	}
	return out
}

// dbSays reads what may come first and answers it with each of parts; then it waits
// until the prober goes.
func dbSays(parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 4096)
		for _, p := range parts {
			if _, err := c.Read(b); err != nil {
				return
			}
			_, _ = io.WriteString(c, p)
		}
		_, _ = io.Copy(io.Discard, c)
	}
}

// dbPieces says text byte by byte, each in a segment of its own, after it was spoken to.
func dbPieces(c net.Conn, text string) {
	_, _ = c.Read(make([]byte, 4096))
	for i := range len(text) {
		_, _ = c.Write([]byte{text[i]})
		<-time.After(5 * time.Millisecond)
	}
	dbSays()(c)
}

// dbCloses says nothing.
func dbCloses(net.Conn) {}

// dbEndless says head, if any, and then text without end.
func dbEndless(head, text string) func(net.Conn) {
	return func(c net.Conn) {
		go func() { _, _ = io.Copy(io.Discard, c) }()
		_, err := io.WriteString(c, head)
		for chunk := []byte(strings.Repeat(text, 1+4096/len(text))); err == nil; {
			_, err = c.Write(chunk)
		}
	}
}

// dbRun makes one check, which must keep its time and its secret.
func dbRun(t *testing.T, typ string, tt dbCase) Outcome {
	t.Helper()
	if tt.serve != nil {
		tt.target = serveRaw(t, tt.serve)
	}
	if tt.timeout == 0 {
		tt.timeout = 20 * time.Second
	}
	raw, err := json.Marshal(tt.config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(testEnv()).Compile(uptime.Monitor{Type: typ, Target: tt.target, Timeout: tt.timeout, Config: raw, Assertions: tt.assertions})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > tt.timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, tt.timeout)
	}
	if shown, err := json.Marshal(out); err != nil || bytes.Contains(shown, []byte(dbCanary)) {
		t.Errorf("the outcome shows the password, or cannot be shown (%v): %s", err, shown)
	}
	return out
}

// dbCases runs a table.
func dbCases(t *testing.T, typ string, cases map[string]dbCase) {
	t.Helper()
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := dbRun(t, typ, tt)
			check(t, out, tt.verdict, tt.reason)
			if !strings.Contains(out.Message, tt.says) {
				t.Errorf("message %q, want it to hold %q", out.Message, tt.says)
			}
		})
	}
}

// dbStrangers are targets that are no database at all.
func dbStrangers(t *testing.T, config map[string]any) map[string]dbCase {
	down := uptime.VerdictDown
	return map[string]dbCase{
		"nothing listens":           {target: talkClosed(t), config: config, verdict: down, reason: uptime.ConnRefused},
		"it is silent":              {serve: dbSays(), config: config, timeout: short, verdict: down, reason: uptime.Timeout},
		"it closes at once":         {serve: dbCloses, config: config, verdict: down, reason: uptime.ConnClosed},
		"it resets when talked to":  {serve: func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); testenv.Reset(c) }, config: config, timeout: 2 * time.Second, verdict: down, reason: uptime.ConnReset},
		"it is a web server":        {serve: dbEndless("", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), config: config, verdict: down, reason: uptime.Protocol},
		"it is an SSH server":       {serve: dbEndless("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "\x00\x00\x04\x1c\x0a\x14\x01"), config: config, verdict: down, reason: uptime.Protocol},
		"it sends 0xff without end": {serve: dbEndless("", "\xff"), config: config, verdict: down, reason: uptime.Protocol},
	}
}

// dbPEM writes a certificate and its key into dir, for a server to read.
func dbPEM(dir string, c tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), chain, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600)
}

// dbFrugal fails unless checks of a target leave no goroutine behind, and what lives
// in memory while one runs, the target's own buffers included, is less than 4 MiB.
// It must not run beside other tests.
func dbFrugal(t *testing.T, typ string, tt dbCase) {
	t.Helper()
	if tt.serve != nil {
		tt.target, tt.serve = serveRaw(t, tt.serve), nil
	}
	dbRun(t, typ, tt) // what is set up once
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	settled := dbGoroutines(0)
	grown := int64(math.MaxInt64)
	for try := 0; try < 4 && grown > 4<<20; try++ { // on a busy machine garbage is found late
		grown = min(grown, dbHeap(func() {
			for range 5 {
				check(t, dbRun(t, typ, tt), tt.verdict, tt.reason)
			}
		}))
	}
	t.Logf("the heap grows by %d KiB", grown>>10)
	if grown > 4<<20 {
		t.Errorf("the heap grows by %d KiB, want less than 4096", grown>>10)
	}
	if left := dbGoroutines(settled); left > settled {
		t.Errorf("%d goroutines after 5 checks, %d before", left, settled)
	}
}

// dbHeap is by how much the living heap grows while do runs, at its highest.
func dbHeap(do func()) int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	now := func() int64 {
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	runtime.GC()
	before, highest := now(), int64(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for {
		highest = max(highest, now())
		select {
		case <-done:
			return highest - before
		case <-tick.C:
		}
	}
}

// dbGoroutines waits until at most want goroutines are left, or until their number
// has settled.
func dbGoroutines(want int) int {
	n := runtime.NumGoroutine()
	for range 100 {
		if n <= want {
			return n
		}
		<-time.After(20 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != n {
			n = now
		} else if want == 0 {
			return n
		}
	}
	return n
}

// dbRefusesConfigs expects the first problem of each config at a path.
func dbRefusesConfigs(t *testing.T, typ string, configs map[string]string) {
	t.Helper()
	for config, path := range configs {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: typ, Target: "db.example.com", Config: json.RawMessage(config)})
		e, ok := errors.AsType[*uptime.Error](err)
		if !ok || len(e.Fields) == 0 || e.Fields[0].Path != path {
			t.Errorf("%s: Compile = %v, want a problem at %s", config, err, path)
		}
	}
}
