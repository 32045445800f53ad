package probe

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// handshakeServer makes handshakes and then waits for the client to go.
func handshakeServer(cfg *tls.Config) func(*testing.T) string {
	return talker(func(c net.Conn) { _, _ = io.Copy(io.Discard, tls.Server(c, cfg)) })
}

// opensslServer is another TLS library than ours.
func opensslServer(t *testing.T, args ...string) *testenv.Program {
	_, ca, key := talkCert()
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "openssl", Package: "openssl",
		Prepare: func(s *testenv.Program) error {
			return os.WriteFile(filepath.Join(s.Dir, "both.pem"), []byte(ca+key), 0o600)
		},
		Args: func(s *testenv.Program) []string {
			return append([]string{"s_server", "-quiet", "-accept", strconv.Itoa(s.Port), "-cert", "both.pem", "-key", "both.pem"}, args...)
		},
	})
}

// A server that learns from the request that it wants a client certificate asks for a
// handshake anew, as IIS and Apache do; without one the client may still get its page.
func TestAServerMayNegotiateAgain(t *testing.T) {
	t.Parallel()
	openssl := testenv.Install(t, "openssl", "openssl")
	ca, dir, address := newCA(t, authority{}, nil), t.TempDir(), testenv.Addr(t)
	if err := dbPEM(dir, chainOf(t, ca, nil)); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), openssl, "s_server", "-tls1_2", "-crlf", "-accept", address,
		"-cert", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"))
	in, err1 := server.StdinPipe()
	out, err2 := server.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		told := map[string]string{"Connection: close": "R\n", "Read BLOCK": strings.ReplaceAll(page(""), "\r", "")}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "ACCEPT" {
				close(ready)
			}
			_, _ = io.WriteString(in, told[lines.Text()])
			delete(told, lines.Text())
		}
	})
	t.Cleanup(func() { _ = server.Process.Kill(); reading.Wait(); _ = server.Wait() })
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("openssl s_server does not listen")
	}
	check(t, run(t, uptime.Monitor{Target: "https://" + address, Config: versionConfig("any", ca.pem(), nil)}), uptime.VerdictUp, "")
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	ca, other := newCA(t, authority{}, nil), newCA(t, authority{}, nil)
	with := func(change func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, change)}}
	}
	wants := func(pool *x509.CertPool, version uint16) *tls.Config {
		c := with(nil)
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, pool, version
		return c
	}
	pool, wrong := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(ca.cert)
	wrong.AddCert(other.cert)
	client := issue(t, ca, template("client"), newKey(t))
	key, err := x509.MarshalPKCS8PrivateKey(client.key)
	if err != nil {
		t.Fatal(err)
	}
	trusts := tlsConfig{CAPEM: ca.pem(), ExpiryDays: 14}
	mine := trusts
	mine.ClientCertPEM, mine.ClientKeyPEM = client.pem(), uptime.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	config := func(c tlsConfig) string { return string(tlsOptions(t, c)) }
	old := with(nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	only12, only13 := with(nil), with(nil)
	only12.MaxVersion, only13.MinVersion = tls.VersionTLS12, tls.VersionTLS13
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(13 * 24 * time.Hour) }
	skip := tlsConfig{SkipVerify: true}
	version := func(v string) []uptime.Assertion { return []uptime.Assertion{assert("tls_version", "", "eq", v)} }
	talkCases(t, "tls", map[string]talkCase{
		"a good chain":                             {server: handshakeServer(with(nil)), config: config(trusts), verdict: up},
		"OpenSSL, TLS 1.3":                         {server: at(opensslServer(t).Addr), config: talkTrusts(""), assertions: version("TLS 1.3"), verdict: up},
		"OpenSSL, TLS 1.2":                         {server: at(opensslServer(t, "-tls1_2").Addr), config: talkTrusts(""), assertions: version("TLS 1.2"), verdict: up},
		"OpenSSL wants a certificate":              {server: at(opensslServer(t, "-Verify", "1", "-verify_return_error").Addr), config: talkTrusts(""), verdict: down, reason: uptime.TLSClientCert},
		"only TLS 1.2":                             {server: handshakeServer(only12), config: config(trusts), assertions: version("TLS 1.2"), verdict: up},
		"only TLS 1.3":                             {server: handshakeServer(only13), config: config(trusts), assertions: version("TLS 1.3"), verdict: up},
		"the cipher is the wanted one":             {server: handshakeServer(only13), config: config(trusts), assertions: []uptime.Assertion{assert("cipher", "", "matches", "^TLS_(AES|CHACHA)")}, verdict: up},
		"an untrusted chain, unverified":           {server: handshakeServer(with(expired)), config: config(skip), verdict: up},
		"a client certificate is given":            {server: handshakeServer(wants(pool, 0)), config: config(mine), verdict: up},
		"a server that closes after the handshake": {server: talker(func(c net.Conn) { _ = tls.Server(c, with(nil)).Handshake() }), config: config(trusts), verdict: up},

		"the version is not the wanted one":          {server: handshakeServer(only12), config: config(trusts), assertions: version("TLS 1.3"), verdict: down, reason: uptime.TLSVersion},
		"the cipher is not the wanted one":           {server: handshakeServer(only13), config: config(trusts), assertions: []uptime.Assertion{assert("cipher", "", "eq", "X")}, verdict: down, reason: uptime.AssertFailed},
		"too few days are left":                      {server: handshakeServer(with(nil)), config: config(trusts), assertions: []uptime.Assertion{assert("cert_days", "", "gt", 100)}, verdict: down, reason: uptime.TLSExpiring},
		"expires within expiry_days":                 {server: handshakeServer(with(soon)), config: config(trusts), verdict: uptime.VerdictDegraded, reason: uptime.TLSExpiring},
		"expired a second ago":                       {server: handshakeServer(with(expired)), config: config(trusts), verdict: down, reason: uptime.TLSExpired},
		"an unknown authority":                       {server: handshakeServer(with(nil)), config: "", verdict: down, reason: uptime.TLSUntrusted},
		"for another host":                           {server: handshakeServer(with(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} })), config: config(trusts), verdict: down, reason: uptime.TLSHostname},
		"TLS 1.1 at most":                            {server: handshakeServer(old), config: config(trusts), verdict: down, reason: uptime.TLSVersion},
		"a client certificate wanted, TLS 1.2":       {server: handshakeServer(wants(pool, tls.VersionTLS12)), config: config(trusts), verdict: down, reason: uptime.TLSClientCert},
		"a client certificate wanted, TLS 1.3":       {server: handshakeServer(wants(pool, 0)), config: config(trusts), verdict: down, reason: uptime.TLSClientCert},
		"another client certificate wanted, TLS 1.2": {server: handshakeServer(wants(wrong, tls.VersionTLS12)), config: config(mine), verdict: down, reason: uptime.TLSClientCert},
		"another client certificate wanted, TLS 1.3": {server: handshakeServer(wants(wrong, 0)), config: config(mine), verdict: down, reason: uptime.TLSClientCert},
		"nothing listens":                            {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"a server that is not TLS":                   {server: talkSays("SSH-2.0-x\r\n"), verdict: down, reason: uptime.TLSHandshake},
		"silence":                                    {server: talkSilent, timeout: short, verdict: down, reason: uptime.TLSTimeout},
		"a close":                                    {server: talkCloses, verdict: down, reason: uptime.TLSHandshake},
		"a reset after the hello": {server: talker(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 16))
			testenv.Reset(c)
		}), verdict: down, reason: uptime.TLSHandshake},
		"bytes without end":                           {server: talkEndless("\x16\x03\x03\x00\x04\x02\x00\x00\x00"), verdict: down, reason: uptime.TLSHandshake},
		"a dialogue before it, and a good chain":      {server: talkScript("S: * OK hi", "C: v1 STARTTLS", "S: v1 OK go", "tls", "hang"), config: talkTrusts(`,"starttls_protocol":"imap"`), verdict: up},
		"a dialogue before it that is refused":        {server: talkScript("S: * OK hi", "C: v1 STARTTLS", "S: v1 NO", "hang"), config: talkTrusts(`,"starttls_protocol":"imap"`), verdict: down, reason: uptime.TLSHandshake},
		"a dialogue before it, then no handshake":     {server: talkScript("S: * OK hi", "C: v1 STARTTLS", "S: v1 OK go", "hang"), config: talkTrusts(`,"starttls_protocol":"imap"`), timeout: short, verdict: down, reason: uptime.TLSTimeout},
		"a dialogue before it, with injected answers": {server: talkScript("S: * OK hi", "C: v1 STARTTLS", "S: v1 OK go\r\n* CAPABILITY AUTH=PLAIN", "tls", "hang"), config: talkTrusts(`,"starttls_protocol":"imap"`), verdict: down, reason: uptime.Protocol},
	})
}

func TestHandshakeSwappedCertificateIsSeenAtTheNextCheck(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	good, bad := chainOf(t, ca, nil), chainOf(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
	asked := 0
	target := handshakeServer(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if asked++; asked > 1 {
			return &bad, nil
		}
		return &good, nil
	}})(t)
	m := uptime.Monitor{Type: "tls", Target: target, Config: tlsOptions(t, tlsConfig{CAPEM: ca.pem()})}
	check(t, talkRun(t, m), uptime.VerdictUp, uptime.ReasonOK)
	out := talkRun(t, m)
	check(t, out, uptime.VerdictDown, uptime.TLSExpired)
	if len(out.Evidence.Certificates) != 1 {
		t.Errorf("evidence = %+v, want the certificate", out.Evidence)
	}
}

func TestHandshakeConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(testEnv()).Compile(uptime.Monitor{Type: "tls", Target: "https://example.com", Config: json.RawMessage(`{"starttls_protocol":"nntp"}`)})
	for _, want := range []string{"target", "config.starttls_protocol"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Compile = %v, want it to name %s", err, want)
		}
	}
}

func TestHandshakeLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "tls", "", talkSilent, talkCloses, talkResets, talkEndless("y"))
}

func TestHandshakeExamples(t *testing.T) {
	t.Parallel()
	runExample(t, "tls", 0, opensslServer(t).Addr, talkTrust)
	runExample(t, "tls", 1, talkScript("S: 220 ready", "C: EHLO", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "tls", "hang")(t), talkTrust)
}
