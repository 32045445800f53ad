package probe

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// Helpers of the types that talk to brokers, sockets and agents.

// brokerCase is one target of a type and what is to be said of it.
type brokerCase struct {
	target     string
	config     string
	assertions []uptime.Assertion
	timeout    time.Duration
	verdict    uptime.Verdict
	reason     uptime.Reason
	or         uptime.Reason // as good: a server that closes with our bytes unread resets
	says       string        // part of the message
}

func brokerCases(t *testing.T, typ string, cases map[string]brokerCase) {
	t.Helper()
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := brokerRun(t, typ, tt)
			if tt.or != "" && out.Reason == tt.or {
				tt.reason = tt.or
			}
			check(t, out, tt.verdict, tt.reason)
			if !strings.Contains(out.Message, tt.says) {
				t.Errorf("message %q, want it to hold %q", out.Message, tt.says)
			}
		})
	}
}

// brokerRun makes one check. It fails the test if that takes longer than it may, or
// shows a secret: every secret of these tests holds the word canary.
func brokerRun(t *testing.T, typ string, tt brokerCase) Outcome {
	t.Helper()
	if tt.timeout == 0 {
		tt.timeout = 10 * time.Second
	}
	c := brokerCheck(t, typ, tt)
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > tt.timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, tt.timeout)
	}
	if shown, _ := json.Marshal(NewReport("", out)); strings.Contains(string(shown), "canary") {
		t.Errorf("a secret is shown: %s", shown)
	}
	return out
}

func brokerCheck(t *testing.T, typ string, tt brokerCase) Check {
	t.Helper()
	c, err := New(testEnv()).Compile(uptime.Monitor{
		Type: typ, Target: tt.target, Config: json.RawMessage(tt.config), Assertions: tt.assertions, Timeout: tt.timeout,
	})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return c
}

// brokerServe gives every connection to talk and closes it when talk returns.
func brokerServe(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	brokerServeOn(t, l, talk)
	return l.Addr().String()
}

func brokerServeOn(t *testing.T, l net.Listener, talk func(net.Conn)) {
	t.Cleanup(func() { l.Close() })
	testenv.Serve(l, talk)
}

// brokerSays is a server that says text whatever it hears, and then keeps still.
func brokerSays(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		brokerSilent(c)
	}
}

// brokerSilent hears all and says nothing.
func brokerSilent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// brokerCloses takes the first bytes and hangs up.
func brokerCloses(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }

// brokerLate lets a while pass before it talks.
func brokerLate(talk func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		<-time.After(short)
		talk(c)
	}
}

// brokerRepeats says head and then text again and again.
func brokerRepeats(head, text string) func(net.Conn) {
	return func(c net.Conn) {
		go brokerSilent(c)
		for _, err := io.WriteString(c, head); err == nil; {
			_, err = io.WriteString(c, text)
		}
	}
}

// brokerTLS is a certificate for 127.0.0.1 and the config that trusts it.
func brokerTLS(t *testing.T) (server *tls.Config, ca string) {
	t.Helper()
	authority := newCA(t, authority{}, nil)
	return &tls.Config{Certificates: []tls.Certificate{chainOf(t, authority, nil)}}, authority.pem()
}

// brokerPEM is the certificate and key of server as files hold them.
func brokerPEM(t *testing.T, server *tls.Config) (cert, key string) {
	t.Helper()
	pair := server.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// brokerConfig is a config as JSON.
func brokerConfig(config map[string]any) string {
	b, _ := json.Marshal(config)
	return string(b)
}

// brokerSteady runs a failing check many times at once: no goroutine may stay behind.
// It is not for parallel tests, since it counts those of the whole process.
func brokerSteady(t *testing.T, typ string, cases ...brokerCase) {
	t.Helper()
	for _, tt := range cases {
		tt.timeout = short
		brokerRun(t, typ, tt) // what is made once only
		before := runtime.NumGoroutine()
		c := brokerCheck(t, typ, tt)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { c.Run(t.Context(), Attempt{}) })
		}
		all.Wait()
		deadline := time.Now().Add(5 * time.Second)
		for runtime.NumGoroutine() > before+2 && time.Now().Before(deadline) {
			<-time.After(time.Millisecond) // those of the servers end by themselves
		}
		if after := runtime.NumGoroutine(); after > before+2 {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
