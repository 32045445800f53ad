package probe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// authority is a certificate that signs others.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (a authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
}

// issue signs t with a, or with its own key when a is empty.
func issue(t *testing.T, a authority, tpl *x509.Certificate, key crypto.Signer) authority {
	t.Helper()
	if a.cert == nil {
		a = authority{tpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCA(t *testing.T, parent authority, change func(*x509.Certificate)) authority {
	t.Helper()
	tpl := template("Test CA")
	if parent.cert != nil {
		tpl.Subject.CommonName = "Test Intermediate"
	}
	tpl.IsCA = true
	if change != nil {
		change(tpl)
	}
	return issue(t, parent, tpl, newKey(t))
}

// chainOf makes a server certificate for 127.0.0.1 under ca, changed by change.
func chainOf(t *testing.T, ca authority, change func(*x509.Certificate), more ...authority) tls.Certificate {
	t.Helper()
	tpl := template("server")
	tpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	if change != nil {
		change(tpl)
	}
	leaf := issue(t, ca, tpl, newKey(t))
	out := tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}
	for _, m := range more {
		out.Certificate = append(out.Certificate, m.cert.Raw)
	}
	return out
}

// serveTLS serves a page over TLS.
func serveTLS(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, says(page("x")))
	return l.Addr().String()
}

type tlsCase struct {
	server  *tls.Config
	options tlsConfig
	verdict uptime.Verdict
	reason  uptime.Reason
}

func TestTLS(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	ca := newCA(t, authority{}, nil)
	mid := newCA(t, ca, nil)
	old := newCA(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	other := newCA(t, authority{}, nil)
	good := chainOf(t, ca, nil)
	with := func(change func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, change)}}
	}
	of := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	self := chainOf(t, authority{}, nil)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-2 * time.Second) }
	clientCA := x509.NewCertPool()
	clientCA.AddCert(ca.cert)
	wants := func(max uint16) *tls.Config {
		c := of(good)
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, clientCA, max
		return c
	}
	old10 := of(good)
	old10.MinVersion, old10.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	only12, only13 := of(good), of(good)
	only12.MaxVersion, only13.MinVersion = tls.VersionTLS12, tls.VersionTLS13
	mine := certOf(t, ca)
	for name, tt := range map[string]tlsCase{
		"a good chain is up":                      {server: of(good), verdict: up},
		"a good intermediate is up":               {server: of(chainOf(t, mid, nil, mid)), verdict: up},
		"a shuffled chain is up":                  {server: of(chainOf(t, mid, nil, other, mid)), verdict: up},
		"TLS 1.2 only is up":                      {server: only12, verdict: up},
		"TLS 1.3 only is up":                      {server: only13, verdict: up},
		"skip_verify takes an expired one":        {server: with(expired), options: tlsConfig{SkipVerify: true}, verdict: up},
		"expired by seconds is tls_expired":       {server: with(expired), verdict: down, reason: uptime.TLSExpired},
		"not yet valid":                           {server: with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), verdict: down, reason: uptime.TLSNotYetValid},
		"self-signed":                             {server: of(self), verdict: down, reason: uptime.TLSSelfSigned},
		"another CA is tls_untrusted":             {server: of(chainOf(t, other, nil, other)), verdict: down, reason: uptime.TLSUntrusted},
		"a missing intermediate is tls_untrusted": {server: of(chainOf(t, mid, nil)), verdict: down, reason: uptime.TLSUntrusted},
		"an expired intermediate is tls_expired":  {server: of(chainOf(t, old, nil, old)), verdict: down, reason: uptime.TLSExpired},
		"a wrong address is tls_hostname":         {server: with(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }), verdict: down, reason: uptime.TLSHostname},
		"a common name only is tls_hostname":      {server: with(func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName = nil, "127.0.0.1" }), verdict: down, reason: uptime.TLSHostname},
		"a wildcard too deep is tls_hostname":     {server: with(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }), options: tlsConfig{ServerName: "a.b.example.com"}, verdict: down, reason: uptime.TLSHostname},
		"a server_name that fits is up":           {server: with(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }), options: tlsConfig{ServerName: "a.example.com"}, verdict: up},
		"TLS 1.1 at most is tls_version":          {server: old10, verdict: down, reason: uptime.TLSVersion},
		"a client certificate wanted, TLS 1.2":    {server: wants(tls.VersionTLS12), verdict: down, reason: uptime.TLSClientCert},
		"a client certificate wanted, TLS 1.3":    {server: wants(0), verdict: down, reason: uptime.TLSClientCert},
		"a client certificate of another CA":      {server: wants(0), options: certOf(t, other), verdict: down, reason: uptime.TLSClientCert},
		"one of another CA, TLS 1.2":              {server: wants(tls.VersionTLS12), options: certOf(t, other), verdict: down, reason: uptime.TLSClientCert},
		"a client certificate wanted and given":   {server: wants(0), options: mine, verdict: up},
		"an RSA key of 1024 bits degrades":        {server: of(weakRSA(t, ca)), verdict: uptime.VerdictDegraded, reason: uptime.TLSWeak},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.options.CAPEM = ca.pem()
			out := run(t, uptime.Monitor{Target: "https://" + serveTLS(t, tt.server), Config: tlsOptions(t, tt.options)})
			check(t, out, tt.verdict, tt.reason)
			if out.Phases.TLS <= 0 {
				t.Errorf("phases = %+v, want a TLS phase", out.Phases)
			}
		})
	}
}

// certOf are the options of a monitor with a client certificate of ca.
func certOf(t *testing.T, ca authority) tlsConfig {
	t.Helper()
	key := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return tlsConfig{ClientCertPEM: issue(t, ca, template("client"), key).pem(),
		ClientKeyPEM: uptime.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}
}

// weakRSA is a server certificate with a 1024 bit key. The key is generated here
// because the library refuses shorter ones only.
func weakRSA(t *testing.T, ca authority) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tpl := template("server")
	tpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf := issue(t, ca, tpl, key)
	return tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: key}
}

// tlsOptions is a config with its key in the clear, as a client sends it.
func tlsOptions(t *testing.T, c tlsConfig) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"tls": map[string]any{
		"ca_pem": c.CAPEM, "client_cert_pem": c.ClientCertPEM, "client_key_pem": c.ClientKeyPEM.Reveal(),
		"server_name": c.ServerName, "skip_verify": c.SkipVerify, "expiry_days": c.ExpiryDays,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestHandshakesThatNeverHappen(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		handle func(net.Conn)
		reason uptime.Reason
	}{
		"plain HTTP on the port is tls_handshake": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, uptime.TLSHandshake},
		"a close after the hello is":              {func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }, uptime.TLSHandshake},
		"a reset after the hello is": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 16))
			testenv.Reset(c)
		}, uptime.TLSHandshake},
		"an alert is":            {func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }, uptime.TLSHandshake},
		"an unknown name is not": {func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 112}) }, uptime.TLSHostname},
		"a version alert is not": {func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 70}) }, uptime.TLSVersion},
		"a hang is tls_timeout":  {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, uptime.TLSTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			testenv.Serve(l, tt.handle)
			out := run(t, uptime.Monitor{Target: "https://" + l.Addr().String(), Timeout: short})
			check(t, out, uptime.VerdictDown, tt.reason)
		})
	}
}

func TestCertificateDaysAndDowngrade(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	cfg := &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10*24*time.Hour + time.Hour) })}}
	days := assert("cert_days", "", "gt", 14)
	days.Severity = uptime.SeverityDegraded
	m := uptime.Monitor{Target: "https://" + serveTLS(t, cfg), Config: tlsOptions(t, tlsConfig{CAPEM: ca.pem()}), Assertions: []uptime.Assertion{days}}
	out := run(t, m)
	check(t, out, uptime.VerdictDegraded, uptime.TLSExpiring)
	if len(out.Evidence.Certificates) != 1 || out.Evidence.Assertions[0].Actual != "10 days" {
		t.Errorf("evidence = %+v, want one certificate and 10 days", out.Evidence)
	}
	m.Assertions = []uptime.Assertion{assert("cert_days", "", "ge", 10)}
	check(t, run(t, m), uptime.VerdictUp, uptime.ReasonOK)

	plain := serve(t, says(page("x")))
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, says("HTTP/1.1 302 X\r\nLocation: http://"+plain+"\r\nContent-Length: 0\r\n\r\n"))
	m.Assertions, m.Target = nil, "https://"+l.Addr().String()
	check(t, run(t, m), uptime.VerdictDegraded, uptime.TLSDowngrade)
}

// A handshake brings up to 256 KiB of certificates, and each name of them is told
// several times. Not parallel: it measures memory.
func TestNamesOfACertificateAreTextAtLittleCost(t *testing.T) {
	names := template("many names")
	names.DNSNames = slices.Repeat([]string{"a"}, 80_000)
	long := template("")
	part := pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: ""}}
	var err error
	if long.RawSubject, err = asn1.Marshal(slices.Repeat(pkix.RDNSequence{part}, 10_000)); err != nil {
		t.Fatal(err)
	}
	for _, tpl := range []*x509.Certificate{names, long} {
		c := issue(t, authority{}, tpl, newKey(t)).cert
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f := verifyChain([]*x509.Certificate{c}, x509.NewCertPool(), "shop.example", time.Now())
		shown := certificates([]*x509.Certificate{c}, time.Now())
		all := certNames(c)
		runtime.ReadMemStats(&after)
		if f == nil || f.reason != uptime.TLSSelfSigned || len(shown) != 1 || shown[0].Subject == "" || all == "" {
			t.Errorf("fault %+v, evidence %+v, want a self-signed certificate", f, shown)
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 64 {
			t.Errorf("the names of a certificate of %d bytes took %d MB, want at most 64", len(c.Raw), mb)
		}
	}
}
