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

// talkCase is a check of a text protocol: its server, and what must come of it.
type talkCase struct {
	server     func(t *testing.T) string // its address
	config     string
	assertions []uptime.Assertion
	timeout    time.Duration // 0 is the default
	verdict    uptime.Verdict
	reason     uptime.Reason
}

func talkRun(t *testing.T, m uptime.Monitor) Outcome {
	t.Helper()
	if m.Timeout == 0 {
		m.Timeout = uptime.DefaultTimeout
	}
	c, err := New(testEnv()).Compile(m)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > m.Timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, m.Timeout)
	}
	return out
}

func talkCases(t *testing.T, typ string, cases map[string]talkCase) {
	t.Helper()
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := talkRun(t, uptime.Monitor{Type: typ, Target: tt.server(t), Config: json.RawMessage(tt.config), Assertions: tt.assertions, Timeout: tt.timeout})
			check(t, out, tt.verdict, tt.reason)
		})
	}
}

// at is a server that runs already.
func at(address string) func(*testing.T) string { return func(*testing.T) string { return address } }

// talker is a server that handles each connection and then closes it.
func talker(handle func(net.Conn)) func(*testing.T) string {
	return func(t *testing.T) string { return serveRaw(t, handle) }
}

// talkSays sends each part in a segment of its own, and then waits for the client
// to go.
func talkSays(parts ...string) func(*testing.T) string {
	return talker(func(c net.Conn) {
		for _, p := range parts {
			_, _ = io.WriteString(c, p)
		}
		_, _ = io.Copy(io.Discard, c)
	})
}

// talkScript speaks lines in turn with the client: "S: x" is sent, "C: x" is what the
// client's next line must begin with, "tls" goes on in TLS, "hang" waits for it to go, "reset" and the end
// break the connection off or close it.
func talkScript(lines ...string) func(*testing.T) string {
	return talker(func(c net.Conn) { talkPlay(c, lines) })
}

func talkPlay(c net.Conn, lines []string) {
	b := make([]byte, 1)
	for _, l := range lines {
		if l == "tls" {
			cert, _, _ := talkCert()
			c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
			continue
		}
		switch want, isClient := strings.CutPrefix(l, "C: "); {
		case isClient:
			line := ""
			for !strings.HasSuffix(line, "\n") {
				if _, err := c.Read(b); err != nil {
					return
				}
				line += string(b)
			}
			if !strings.HasPrefix(line, want) {
				_, _ = io.WriteString(c, "the script wants "+want+"\r\n")
				return
			}
		case l == "hang":
			_, _ = io.Copy(io.Discard, c)
		case l == "reset":
			testenv.Reset(c)
		default:
			_, _ = io.WriteString(c, strings.TrimPrefix(l, "S: ")+"\r\n")
		}
	}
}

// talkCert is the certificate of all servers here; it is its own authority.
func talkCert() (cert tls.Certificate, caPEM, keyPEM string) {
	talkCertOnce.Do(func() {
		var err error
		if talkCertMade, _, err = testenv.Certificate("127.0.0.1"); err != nil {
			panic(err)
		}
	})
	der, err := x509.MarshalPKCS8PrivateKey(talkCertMade.PrivateKey)
	if err != nil {
		panic(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: talkCertMade.Certificate[0]})
	return talkCertMade, string(ca), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

var (
	talkCertOnce sync.Once
	talkCertMade tls.Certificate
)

// talkTrust adds trust in talkCert to the config of an example.
func talkTrust(config map[string]any) {
	_, ca, _ := talkCert()
	config["tls"] = map[string]any{"ca_pem": ca}
}

// talkTrusts is a config that trusts talkCert, with more options.
func talkTrusts(more string) string {
	_, ca, _ := talkCert()
	raw, _ := json.Marshal(ca)
	return `{"tls": {"ca_pem": ` + string(raw) + `}` + more + `}`
}

// talkEndless repeats a text until the client goes.
func talkEndless(text string) func(*testing.T) string {
	return talker(func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	})
}

// talkClosed is a port that nothing listens on.
func talkClosed(t *testing.T) string { return testenv.Addr(t) }

// talkCloses takes the connection and closes it; talkResets resets it; talkSilent says
// nothing.
func talkCloses(t *testing.T) string { return talker(func(net.Conn) {})(t) }
func talkResets(t *testing.T) string {
	return talker(func(c net.Conn) { testenv.Reset(c) })(t)
}
func talkSilent(t *testing.T) string {
	return talker(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })(t)
}

// talkLeaves fails if failing checks leave goroutines behind. Its test must not be
// parallel, so that no other runs beside it.
func talkLeaves(t *testing.T, typ, config string, servers ...func(*testing.T) string) {
	t.Helper()
	var checks []Check
	for _, server := range servers {
		c, err := New(testEnv()).Compile(uptime.Monitor{Type: typ, Target: server(t), Config: json.RawMessage(config), Timeout: uptime.MinTimeout})
		if err != nil {
			t.Fatal(err)
		}
		checks = append(checks, c)
	}
	before := runtime.NumGoroutine()
	for range 5 {
		for _, c := range checks {
			c.Run(t.Context(), Attempt{})
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left, %d were there before", runtime.NumGoroutine(), before)
		}
	}
}

// canary is a password that must show nowhere.
const canary = "c4nary-pa55word"

// talkHidesSecrets fails if an outcome tells the canary, plain or as it is sent.
func talkHidesSecrets(t *testing.T, out Outcome, forms ...string) {
	t.Helper()
	raw, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range append(forms, canary) {
		if strings.Contains(string(raw), form) {
			t.Errorf("the outcome tells %q: %s", form, raw)
		}
	}
}

func TestRepliesAreReadAsTheirStandardsSay(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		code     int
		text     string
		last, ok bool
	}{
		"220 ready":  {220, "ready", true, true},
		"250-SIZE 1": {250, "SIZE 1", false, true},
		"250":        {250, "", true, true},
		"250 ":       {250, "", true, true},
		"25":         {},
		"+20 x":      {},
		"2x0 x":      {},
		"620 x":      {},
		"2200 x":     {},
		"":           {},
	} {
		code, text, last, ok := replyLine(line)
		if code != want.code || text != want.text || last != want.last || ok != want.ok {
			t.Errorf("replyLine(%q) = %d %q %t %t, want %+v", line, code, text, last, ok, want)
		}
	}
}

func TestEscapesStandForBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``: "", `PING\r\n`: "PING\r\n", `a\tb\\`: "a\tb\\", `\x00\xfFz`: "\x00\xffz", "ü": "ü",
		`\`: "!", `a\`: "!", `\q`: "!", `\x1`: "!", `\x`: "!", `\xg1`: "!", `\x+1`: "!",
	} {
		got, err := unescape(in)
		if err != nil {
			got = []byte("!")
		}
		if string(got) != want {
			t.Errorf("unescape(%q) = %q (%v), want %q", in, got, err, want)
		}
	}
}

// FuzzConversation feeds every reader of answers whatever a server may say.
func FuzzConversation(f *testing.F) {
	for _, s := range []string{
		"220 ready\r\n250-a\r\n250 b\r\n220 go\r\n", "* OK hi\r\nv1 OK go\r\n", "+OK\r\n+OK go\r\n", "220-x\r\n y\r\n220 z\r\n234 go\r\n",
		"0\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "0\x84\x00\x00\x00\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "S", "N",
		"<stream:stream xmlns:stream='" + xmppStreams + "'><stream:features><starttls xmlns='" + xmppTLS + "'/></stream:features><proceed xmlns='" + xmppTLS + "'/>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, protocol := range []string{"smtp", "imap", "pop3", "ftp", "ldap", "postgres", "xmpp"} {
			r := &session{base: &base{timeout: time.Second, target: target{host: "192.0.2.1"}}, seen: new(uptime.Evidence)}
			r.begin(t.Context(), Attempt{})
			c := newConversation(r, talkReplay{strings.NewReader(string(answer))})
			if fault := c.dialogue(protocol); fault != nil && (fault.verdict != uptime.VerdictDown || fault.reason == "" || fault.message == "") {
				t.Errorf("%s: %+v for %q", protocol, fault, answer)
			}
			if len(r.seen.Body) > evidenceBody {
				t.Errorf("%s: evidence of %d bytes", protocol, len(r.seen.Body))
			}
			r.end()
		}
	})
}

// talkReplay is a connection whose server has said everything already.
type talkReplay struct{ io.Reader }

func (talkReplay) Write(b []byte) (int, error)        { return len(b), nil }
func (talkReplay) Close() error                       { return nil }
func (talkReplay) LocalAddr() net.Addr                { return &net.TCPAddr{IP: net.IPv6loopback, Port: 1} }
func (talkReplay) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv6loopback, Port: 2} }
func (talkReplay) SetDeadline(time.Time) error        { return nil }
func (talkReplay) SetReadDeadline(time.Time) error    { return nil }
func (talkReplay) SetWriteDeadline(t time.Time) error { return nil }
