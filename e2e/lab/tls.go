package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// tls is the targets whose handshake or certificate is what matters.
func (l *lab) tls() []scenario {
	ca := l.pki
	mid, deep := ca.intermediate("Lab Intermediate"), (*authority)(nil)
	deep = mid.intermediate("Lab Issuing CA")
	other := newAuthority()
	oldMid := ca.intermediate("Old Intermediate", endsIn(-hour))
	soonMid := ca.intermediate("Soon Intermediate", endsIn(5*day))
	youngMid := ca.intermediate("Young Intermediate", beginsIn(hour))
	var none *authority
	over := func(cfg *tls.Config) monitor { return l.https(l.secure(cfg, says(ok("x")))) }
	named := func(c tls.Certificate, name string) monitor {
		return over(shows(c)).config("tls.server_name", name)
	}
	names := func(n ...string) edit {
		return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = n, nil }
	}
	version := func(least, most uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.MaxVersion = least, most }
	}
	mutual := func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AddCert(ca.cert)
	}
	mine := func(m monitor, by *authority) monitor {
		key := newKey()
		cert := by.sign(template("client", nil), key)
		return m.config("tls.client_cert_pem", cert.pem()).config("tls.client_key_pem", keyPEM(key))
	}
	suites := func(ids ...uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, ids }
	}
	good := ca.leaf()
	return append(l.handshakes(), []scenario{
		{name: "a good certificate", want: "up", monitor: over(shows(good))},
		{name: "an intermediate", want: "up", monitor: over(shows(chain(mid.leaf(), mid)))},
		{name: "two intermediates", want: "up", monitor: over(shows(chain(deep.leaf(), deep, mid)))},
		{name: "two intermediates, shuffled", want: "up", monitor: over(shows(chain(deep.leaf(), mid, deep)))},
		{name: "an intermediate and one that is not needed", want: "up", monitor: over(shows(chain(mid.leaf(), other, mid)))},
		{name: "the root sent too", want: "up", monitor: over(shows(chain(mid.leaf(), mid, ca)))},
		{name: "an intermediate sent twice", want: "up", monitor: over(shows(chain(mid.leaf(), mid, mid)))},
		{name: "an RSA key", want: "up", monitor: over(shows(ca.leafOf(rsaKey(2048))))},
		{name: "a P-384 key", want: "up", monitor: over(shows(ca.leafOf(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)))))},
		{name: "TLS 1.2 only", want: "up", monitor: over(shows(good, version(tls.VersionTLS12, tls.VersionTLS12)))},
		{name: "TLS 1.3 only", want: "up", monitor: over(shows(good, version(tls.VersionTLS13, tls.VersionTLS13)))},
		{name: "TLS 1.0 to 1.3", want: "up", monitor: over(shows(good, version(tls.VersionTLS10, tls.VersionTLS13)))},
		{name: "one cipher, ChaCha20", want: "up", monitor: over(shows(good, suites(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)))},
		{name: "a curve that takes one more round trip", want: "up", monitor: over(shows(good, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }))},
		{name: "a handshake of a second", want: "up", monitor: l.https(l.slowly(shows(good), 300*time.Millisecond, says(ok("x"))))},
		{name: "a handshake byte by byte", want: "up", monitor: l.https(l.sliced(shows(good), says(ok("x"))))},
		{name: "a close without close_notify after the whole body", want: "up", monitor: over(shows(good))},
		{name: "a wildcard", want: "up", monitor: named(ca.leaf(names("*.shop.test")), "www.shop.test")},
		{name: "a name in capitals", want: "up", monitor: named(ca.leaf(names("WWW.Shop.Test")), "www.shop.test")},
		{name: "the second of many names", want: "up", monitor: named(ca.leaf(names("a.test", "shop.test", "b.test")), "shop.test")},
		{name: "a name by our DNS", want: "up", monitor: l.https("shop.test:"+port(l.secure(shows(good), says(ok("x"))))).config("resolver", l.resolver(address("127.0.0.1")))},
		{name: "an IPv6 address", want: "up", monitor: l.https(l.secureOn("[::1]:0", shows(good), says(ok("x"))))},
		{name: "self-signed, and trusted as such", want: "up", monitor: func() monitor {
			c := none.leaf()
			return over(shows(c)).config("tls.ca_pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})))
		}()},
		{name: "a client certificate wanted and given", want: "up", monitor: mine(over(shows(good, mutual)), ca)},
		{name: "a client certificate asked for and not needed", want: "up", monitor: over(shows(good, func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }))},
		{name: "by SNI, the right one of two", want: "up", monitor: over(&tls.Config{Certificates: []tls.Certificate{other.leaf(), good}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := other.leaf()
			if h.ServerName == "shop.test" {
				c = good
			}
			return &c, nil
		}}).config("tls.server_name", "shop.test")},
		{name: "not verified, as asked: another CA", want: "up", monitor: over(shows(other.leaf())).config("tls.skip_verify", true)},
		{name: "not verified, as asked: expired", want: "up", monitor: over(shows(ca.leaf(endsIn(-hour)))).config("tls.skip_verify", true)},
		{name: "not verified, as asked: expired, and days asserted", want: "down tls_expired | degraded tls_expired", monitor: over(shows(ca.leaf(endsIn(-hour)))).config("tls.skip_verify", true).assert("cert_days", "gt", 0)},
		{name: "expires in 30 days", want: "up", monitor: over(shows(ca.leaf(endsIn(30 * day))))},
		{name: "expires in 5 days, which is allowed", want: "up", monitor: over(shows(ca.leaf(endsIn(5*day)))).config("tls.expiry_days", 3)},
		{name: "days of the certificate as wanted", want: "up", monitor: over(shows(good)).assert("cert_days", "gt", 60)},

		{name: "expires in 5 days", want: "degraded tls_expiring", monitor: over(shows(ca.leaf(endsIn(5 * day))))},
		{name: "expires in an hour", want: "degraded tls_expiring", monitor: over(shows(ca.leaf(endsIn(hour))))},
		{name: "an intermediate expires in 5 days", want: "degraded tls_expiring", monitor: over(shows(chain(soonMid.leaf(), soonMid)))},
		{name: "fewer days than asserted", want: "degraded tls_expiring", monitor: over(shows(ca.leaf(endsIn(40*day)))).assert("cert_days", "gt", nil, 60, "degraded")},
		{name: "fewer days than asserted, down", want: "down tls_expiring", monitor: over(shows(ca.leaf(endsIn(40*day)))).assert("cert_days", "gt", 60)},
		{name: "an RSA key of 1024 bits", want: "degraded tls_weak | down tls_weak", monitor: over(shows(ca.leafOf(rsaKey(1024))))},
		{name: "signed with SHA-1", want: "down tls_weak", monitor: over(shows(l.sha1Leaf())).config("tls.ca_pem", l.sha1CA.pem())},

		{name: "expired a day ago", want: "down tls_expired", monitor: over(shows(ca.leaf(endsIn(-day))))},
		{name: "expired seconds ago", want: "down tls_expired", monitor: over(shows(ca.leaf(endsIn(-2 * time.Second))))},
		{name: "expired and self-signed", want: "down tls_expired", monitor: over(shows(none.leaf(endsIn(-day))))},
		{name: "an expired intermediate", want: "down tls_expired", monitor: over(shows(chain(oldMid.leaf(), oldMid)))},
		{name: "not valid until tomorrow", want: "down tls_not_yet_valid", monitor: over(shows(ca.leaf(beginsIn(day))))},
		{name: "not valid for a minute yet", want: "down tls_not_yet_valid", monitor: over(shows(ca.leaf(beginsIn(time.Minute))))},
		{name: "an intermediate that is not valid yet", want: "down tls_not_yet_valid", monitor: over(shows(chain(youngMid.leaf(), youngMid)))},
		{name: "self-signed", want: "down tls_self_signed", monitor: over(shows(none.leaf()))},
		{name: "self-signed with an RSA key", want: "down tls_self_signed", monitor: over(shows(none.leafOf(rsaKey(2048))))},
		{name: "another CA", want: "down tls_untrusted", monitor: over(shows(other.leaf()))},
		{name: "another CA, sent too", want: "down tls_untrusted", monitor: over(shows(chain(other.leaf(), other)))},
		{name: "a CA of the same name and another key", want: "down tls_untrusted", monitor: over(shows(newAuthority().leaf()))},
		{name: "a missing intermediate", want: "down tls_untrusted", monitor: over(shows(mid.leaf()))},
		{name: "the second intermediate missing", want: "down tls_untrusted", monitor: over(shows(chain(deep.leaf(), deep)))},
		{name: "signed by a certificate that is no CA", want: "down tls_untrusted", monitor: over(shows(l.bySomeone()))},
		{name: "a wrong host", want: "down tls_hostname", monitor: named(ca.leaf(names("other.test")), "shop.test")},
		{name: "a wrong address", want: "down tls_hostname", monitor: over(shows(ca.leaf(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} })))},
		{name: "a common name only", want: "down tls_hostname", monitor: named(ca.leaf(names(), commonName("shop.test")), "shop.test")},
		{name: "an address in a common name", want: "down tls_hostname", monitor: over(shows(ca.leaf(names(), commonName("127.0.0.1"))))},
		{name: "an address as a DNS name", want: "down tls_hostname", monitor: over(shows(ca.leaf(names("127.0.0.1"))))},
		{name: "a wildcard that is too deep", want: "down tls_hostname", monitor: named(ca.leaf(names("*.shop.test")), "a.b.shop.test")},
		{name: "a wildcard for the name itself", want: "down tls_hostname", monitor: named(ca.leaf(names("*.shop.test")), "shop.test")},
		{name: "no name at all", want: "down tls_hostname", monitor: over(shows(ca.leaf(names())))},
		{name: "an unknown SNI that gets another's certificate", want: "down tls_hostname", monitor: named(ca.leaf(names("default.test")), "shop.test")},
		{name: "TLS 1.0 only", want: "down tls_version", monitor: over(shows(good, version(tls.VersionTLS10, tls.VersionTLS10)))},
		{name: "TLS 1.1 at most", want: "down tls_version", monitor: over(shows(good, version(tls.VersionTLS10, tls.VersionTLS11)))},
		{name: "no cipher in common", want: "down tls_handshake", monitor: over(shows(good, suites(tls.TLS_RSA_WITH_AES_128_CBC_SHA)))},
		{name: "a client certificate wanted, TLS 1.3", want: "down tls_client_cert", monitor: over(shows(good, mutual))},
		{name: "a client certificate wanted, TLS 1.2", want: "down tls_client_cert", monitor: over(shows(good, mutual, version(0, tls.VersionTLS12)))},
		{name: "a client certificate of another CA", want: "down tls_client_cert | down tls_handshake", monitor: mine(over(shows(good, mutual)), other)},
		l.swapped(ca),
	}...)
}

// handshakes are the targets that never come to a certificate.
func (l *lab) handshakes() []scenario {
	sends := func(b ...byte) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write(b)
		}
	}
	alert := func(code byte) func(net.Conn) { return sends(21, 3, 3, 0, 2, 2, code) }
	var rows []scenario
	for _, r := range []struct {
		name, want string
		handle     func(net.Conn)
	}{
		{"alert handshake_failure", "down tls_handshake", alert(40)},
		{"alert internal_error", "down tls_handshake", alert(80)},
		{"alert unrecognized_name", "down tls_hostname | down tls_handshake", alert(112)},
		{"alert protocol_version", "down tls_version", alert(70)},
		{"FIN after the hello", "down tls_handshake", sends()},
		{"RST after the hello", "down tls_handshake", func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); reset(c) }},
		{"FIN before the hello", "down tls_handshake", func(net.Conn) {}},
		{"FIN in the middle of a record", "down tls_handshake", sends(22, 3, 3, 0, 100, 2, 0)},
		{"plain HTTP on the port", "down tls_handshake", func(c net.Conn) { sends([]byte(response("400 Bad Request", "plain"))...)(c) }},
		{"SSH on the port", "down tls_handshake", func(c net.Conn) { sends([]byte("SSH-2.0-OpenSSH_9.6\r\n")...)(c) }},
		{"SMTP on the port", "down tls_handshake", func(c net.Conn) { sends([]byte("220 mail ESMTP\r\n")...)(c) }},
		{"binary", "down tls_handshake", sends(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)},
		{"a record of garbage", "down tls_handshake", sends(22, 3, 3, 0, 4, 0xff, 0xff, 0xff, 0xff)},
		{"records without end", "down tls_handshake", func(c net.Conn) {
			for {
				if _, err := c.Write([]byte{22, 3, 3, 0, 4, 0, 0, 0, 0}); err != nil {
					return
				}
			}
		}},
		{"a hang in the handshake", "down tls_timeout", hangs},
		{"a drip in the handshake", "down tls_timeout", func(c net.Conn) { drip(c, "\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", "\x00", 50*time.Millisecond) }},
		{"a hang after half a record", "down tls_timeout", func(c net.Conn) { _, _ = io.WriteString(c, "\x16\x03\x03\x00\x7a\x02"); hangs(c) }},
	} {
		rows = append(rows, scenario{name: r.name, want: r.want, monitor: l.https(l.raw(r.handle)).timeout("1500ms")})
	}
	return rows
}

// https watches a target that is trusted through the lab's CA.
func (l *lab) https(address string) monitor {
	return watch("http", "https://"+address+"/").config("tls.ca_pem", l.pki.pem())
}

func (l *lab) secureOn(address string, cfg *tls.Config, h handler) string {
	ln := tls.NewListener(l.listenOn(address), cfg)
	serve(ln, onHead(h))
	return ln.Addr().String()
}

// slowly is secure, and waits before each thing that it sends.
func (l *lab) slowly(cfg *tls.Config, wait time.Duration, h handler) string {
	return l.raw(func(c net.Conn) { onHead(h)(tls.Server(slowConn{c, wait, 0}, cfg)) })
}

// sliced is secure, and sends each thing byte by byte.
func (l *lab) sliced(cfg *tls.Config, h handler) string {
	return l.raw(func(c net.Conn) { onHead(h)(tls.Server(slowConn{c, 0, 1}, cfg)) })
}

// slowConn sends late, or in pieces of a size.
type slowConn struct {
	net.Conn
	wait time.Duration
	size int
}

// Write implements io.Writer.
func (c slowConn) Write(b []byte) (int, error) {
	pause(c.wait)
	if c.size == 0 {
		return c.Conn.Write(b)
	}
	for i := 0; i < len(b); i += c.size {
		if n, err := c.Conn.Write(b[i:min(len(b), i+c.size)]); err != nil {
			return i + n, err
		}
	}
	return len(b), nil
}

// swapped is a service whose certificate is replaced by an expired one, and mended.
func (l *lab) swapped(ca *authority) scenario {
	good, expired := ca.leaf(), ca.leaf(endsIn(-hour))
	var now atomic.Pointer[tls.Certificate]
	now.Store(&good)
	cfg := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.Load(), nil }}
	return scenario{name: "a certificate under a live service", want: "up", monitor: l.https(l.secure(cfg, says(ok("x")))), then: []change{
		{"swapped for an expired one", func() { now.Store(&expired) }, "down tls_expired"},
		{"mended", func() { now.Store(&good) }, "up"},
	}}
}

// sha1Leaf is a certificate whose signature is of SHA-1, and sha1CA its authority.
func (l *lab) sha1Leaf() tls.Certificate {
	l.sha1CA = (*authority)(nil).sign(template("SHA-1 CA", []edit{func(c *x509.Certificate) { c.IsCA = true }}), rsaKey(2048))
	return l.sha1CA.leaf(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
}

// bySomeone is a certificate signed with that of a server, which may not sign.
func (l *lab) bySomeone() tls.Certificate {
	key := newKey()
	server := l.pki.sign(template("no CA", nil), key)
	return chain(server.leaf(), server)
}

func keyPEM(key crypto.Signer) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))
}

func endsIn(d time.Duration) edit {
	return func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-100*day), time.Now().Add(d)
	}
}

func beginsIn(d time.Duration) edit {
	return func(c *x509.Certificate) { c.NotBefore = time.Now().Add(d) }
}

func commonName(name string) edit {
	return func(c *x509.Certificate) { c.Subject.CommonName = name }
}
