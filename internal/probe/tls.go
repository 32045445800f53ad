package probe

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// minRSABits below which a key is weak (NIST SP 800-131A).
const minRSABits = 2048

// Alerts of RFC 8446 §6.
const (
	alertProtocolVersion     = 70
	alertUnrecognizedName    = 112
	alertCertificateRequired = 116
	alertNoProtocol          = 120 // RFC 7301 §3.2
)

// tlsConfig is how a monitor wants TLS spoken.
type tlsConfig struct {
	CAPEM         string        `json:"ca_pem" doc:"certificates in PEM form that are trusted beside the system's"`
	ClientCertPEM string        `json:"client_cert_pem" doc:"the monitor's own certificate, for servers that want one (mutual TLS)"`
	ClientKeyPEM  uptime.Secret `json:"client_key_pem" doc:"the key of client_cert_pem"`
	ServerName    string        `json:"server_name" doc:"the name to ask for and to find in the certificate; empty is the target's host"`
	SkipVerify    bool          `json:"skip_verify" doc:"whether a certificate that is not trusted may pass; the chain is kept all the same, and cert_days can be asserted"`
	ExpiryDays    int           `json:"expiry_days" min:"0" max:"365" doc:"days before a certificate of the chain expires from which on the check is degraded, tls_expiring; 0 is never"`
}

func defaultTLS() tlsConfig { return tlsConfig{ExpiryDays: 14} }

// tlsClient makes handshakes. It verifies by hand, so that the chain is known
// and the reason exact also when verification fails.
type tlsClient struct {
	roots      *x509.CertPool // nil: the system's
	cert       *tls.Certificate
	serverName string
	protocols  []string // of ALPN
	skipVerify bool
	expiryDays int
}

// tlsTrace is what a handshake leaves for evidence and assertions.
type tlsTrace struct {
	chain     []*x509.Certificate
	certSent  bool     // it wanted one and got ours
	offered   []string // protocols, in ALPN
	certAsked bool     // the server wanted a client certificate and we had none
	version   uint16
	weak      bool // an RSA key of the chain is too short
}

func newTLSClient(c tlsConfig, env Env, p *uptime.Problems) *tlsClient {
	t := &tlsClient{roots: env.Roots, serverName: c.ServerName, skipVerify: c.SkipVerify, expiryDays: c.ExpiryDays}
	if c.ServerName != "" {
		if _, err := asciiHost(c.ServerName); err != nil {
			p.Add("config.tls.server_name", "%v", err)
		}
	}
	if c.CAPEM != "" {
		t.roots = rootsWith(env.Roots)
		if !t.roots.AppendCertsFromPEM([]byte(c.CAPEM)) {
			p.Add("config.tls.ca_pem", "holds no certificate in PEM form")
		}
	}
	switch {
	case c.ClientCertPEM == "" && c.ClientKeyPEM == "":
	case c.ClientCertPEM == "":
		p.Add("config.tls.client_cert_pem", "is missing; a key needs its certificate")
	case c.ClientKeyPEM == "":
		p.Add("config.tls.client_key_pem", "is missing; a certificate needs its key")
	default:
		pair, err := tls.X509KeyPair([]byte(c.ClientCertPEM), []byte(c.ClientKeyPEM.Reveal()))
		if err != nil {
			p.Add("config.tls.client_cert_pem", "and client_key_pem are not a certificate and its key in PEM form")
		}
		t.cert = &pair
	}
	return t
}

// rootsWith is a copy of base, or of the system's roots, to add to.
func rootsWith(base *x509.CertPool) *x509.CertPool {
	if base != nil {
		return base.Clone()
	}
	system, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return system
}

// handshake speaks TLS on c, whose deadline is set. own says that host is the
// one the monitor names: after a redirect elsewhere neither the client
// certificate nor the server name is used.
func (t *tlsClient) handshake(c net.Conn, host string, own bool, tr *tlsTrace) (*tls.Conn, error) {
	conn := tls.Client(c, t.config(host, own, tr))
	return conn, conn.Handshake()
}

func (t *tlsClient) config(host string, own bool, tr *tlsTrace) *tls.Config {
	name := host
	if own && t.serverName != "" {
		name = t.serverName
	}
	tr.offered = t.protocols
	return &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: true, // VerifyConnection does it
		MinVersion:         tls.VersionTLS10,
		NextProtos:         t.protocols,
		Renegotiation:      tls.RenegotiateOnceAsClient, // so IIS and Apache ask for a client certificate for one path (TLS 1.2)
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if own && t.cert != nil {
				tr.certSent = true
				return t.cert, nil
			}
			tr.certAsked = true
			return &tls.Certificate{}, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			tr.chain, tr.version = s.PeerCertificates, s.Version
			return t.verify(s, name, tr)
		},
	}
}

// degraded is what is wrong with a connection that stands.
func (t *tlsClient) degraded(tr *tlsTrace, now time.Time) *fault {
	if tr.weak && !t.skipVerify {
		return &fault{uptime.VerdictDegraded, uptime.TLSWeak, "A certificate of the chain has an RSA key of fewer than 2048 bits."}
	}
	if t.expiryDays == 0 || t.skipVerify || len(tr.chain) == 0 {
		return nil
	}
	soonest := soonestExpiry(tr.chain)
	if soonest.NotAfter.Sub(now) >= time.Duration(t.expiryDays)*24*time.Hour {
		return nil
	}
	return &fault{uptime.VerdictDegraded, uptime.TLSExpiring, fmt.Sprintf("The certificate of %s expires on %s (%d days left).",
		clean(subjectText(soonest), 100), soonest.NotAfter.UTC().Format(time.RFC3339), daysLeft(tr.chain, now))}
}

// certError is a handshake we ended ourselves.
type certError struct{ fault *fault }

// Error implements error.
func (e certError) Error() string { return e.fault.message }

// verify judges version and chain. It offers TLS 1.0 so that an old server shows
// itself instead of failing for an unknown cause.
func (t *tlsClient) verify(s tls.ConnectionState, name string, tr *tlsTrace) error {
	if s.Version < tls.VersionTLS12 {
		return certError{down(uptime.TLSVersion, "The server speaks only %s; TLS 1.2 is the oldest that is safe.", tls.VersionName(s.Version))}
	}
	for _, c := range s.PeerCertificates {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
			tr.weak = true
		}
	}
	if t.skipVerify {
		return nil
	}
	if f := verifyChain(s.PeerCertificates, t.roots, name, time.Now()); f != nil {
		return certError{f}
	}
	return nil
}

// verifyChain is nil when the chain is good for name at now. The order is that of
// a person who mends it: validity, then trust, then the name.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, name string, now time.Time) *fault {
	leaf := chain[0]
	if f := validity(leaf, "certificate", now); f != nil {
		return f
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return trustFault(chain, now, err)
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return down(uptime.TLSHostname, "The certificate is not for %s but for %s.", name, clean(certNames(leaf), 200))
	}
	return nil
}

// trustFault looks for the cause of an untrusted chain, which the library keeps
// to itself.
func trustFault(chain []*x509.Certificate, now time.Time, err error) *fault {
	leaf := chain[0]
	for _, c := range chain[1:] {
		if f := validity(c, "intermediate certificate", now); f != nil && !isSelfIssued(c) {
			return f
		}
	}
	for _, c := range chain {
		if weakSignature(c.SignatureAlgorithm) && (c == leaf || !isSelfIssued(c)) {
			return down(uptime.TLSWeak, "The certificate of %s is signed with %s, which is broken.", clean(subjectText(c), 100), c.SignatureAlgorithm)
		}
	}
	if isSelfIssued(leaf) {
		return down(uptime.TLSSelfSigned, "The certificate is self-signed: %s.", clean(subjectText(leaf), 100))
	}
	if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok && inv.Reason == x509.Expired {
		return down(uptime.TLSExpired, "A certificate of the chain has expired.")
	}
	return down(uptime.TLSUntrusted, "The certificate's issuer is not trusted, or an intermediate is missing: %s.", clean(issuerText(leaf), 100))
}

func validity(c *x509.Certificate, what string, now time.Time) *fault {
	if now.After(c.NotAfter) {
		return down(uptime.TLSExpired, "The %s expired on %s.", what, c.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(c.NotBefore) {
		return down(uptime.TLSNotYetValid, "The %s is valid only from %s on.", what, c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

func isSelfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// maxNameBytes is how long a name of subject or issuer may be in a certificate to be
// written out. The library spends the square of that in time and memory: on the 256 KiB
// that a handshake may bring, seconds and gigabytes.
const maxNameBytes = 8 << 10

func subjectText(c *x509.Certificate) string { return nameText(c.RawSubject, c.Subject) }
func issuerText(c *x509.Certificate) string  { return nameText(c.RawIssuer, c.Issuer) }

func nameText(raw []byte, name pkix.Name) string {
	if len(raw) > maxNameBytes {
		return fmt.Sprintf("a name of %d bytes", len(raw))
	}
	return name.String()
}

func certNames(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames) // joined at once: a certificate may have 80,000 of them
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all (a common name does not count)"
	}
	return strings.Join(names, ", ")
}

// handshakeFault is what a failed handshake says, when nothing of ours explains
// it.
func (tr *tlsTrace) handshakeFault(err error) *fault {
	if c, ok := errors.AsType[certError](err); ok {
		return c.fault
	}
	if isTimeout(err) {
		return down(uptime.TLSTimeout, "The TLS handshake did not end in time.")
	}
	alert, alerted := remoteAlert(err)
	switch {
	case alert == alertProtocolVersion:
		return down(uptime.TLSVersion, "The server speaks none of the TLS versions we do.")
	case alert == alertNoProtocol:
		return down(uptime.Protocol, "The server speaks none of the protocols it was offered (%s).", strings.Join(tr.offered, ", "))
	case alert == alertUnrecognizedName:
		return down(uptime.TLSHostname, "The server knows no site of the name it was asked for.")
	case tr.certAsked, tr.certRefused(err):
		return down(uptime.TLSClientCert, "The server wants a client certificate, and the monitor has none it accepts.")
	case alerted:
		return down(uptime.TLSHandshake, "The server ended the TLS handshake with alert %d.", alert)
	}
	if rec, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return down(uptime.TLSHandshake, "The server does not speak TLS on this port (it sent %q).", rec.RecordHeader[:])
	}
	if isReset(err) {
		return down(uptime.TLSHandshake, "The server reset the connection in the TLS handshake.")
	}
	return down(uptime.TLSHandshake, "The TLS handshake failed: %s.", clean(err.Error(), 150))
}

// remoteAlert is the alert the peer sent. crypto/tls has no exported type for it:
// it is a uint8 inside a net.OpError of operation "remote error".
func remoteAlert(err error) (code uint8, ok bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

// certRefused reports whether the server's alert was about our certificate, which
// TLS 1.3 tells only after the handshake.
func (tr *tlsTrace) certRefused(err error) bool {
	alert, ok := remoteAlert(err)
	return ok && (tr.certAsked || alert == alertCertificateRequired || tr.certSent && aboutCert(alert))
}

// aboutCert reports whether an alert is one of bad_certificate to certificate_unknown
// or unknown_ca; after we sent a certificate it is about that one.
func aboutCert(alert uint8) bool { return 42 <= alert && alert <= 46 || alert == 48 }

// soonestExpiry is the certificate of the chain that ends first.
func soonestExpiry(chain []*x509.Certificate) *x509.Certificate {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
}

// daysLeft is whole days until the first certificate of the chain expires,
// rounded down, negative once one has.
func daysLeft(chain []*x509.Certificate, now time.Time) int {
	return wholeDays(soonestExpiry(chain).NotAfter.Sub(now))
}

func wholeDays(left time.Duration) int {
	days := int(left / (24 * time.Hour))
	if left < 0 {
		days--
	}
	return days
}

// certFields are what the source "cert" looks at, of the server's own certificate.
var certFields = map[string]func(*x509.Certificate) string{
	"subject":   subjectText,
	"issuer":    issuerText,
	"names":     certNames,
	"serial":    func(c *x509.Certificate) string { return c.SerialNumber.Text(16) },
	"sha256":    func(c *x509.Certificate) string { return hex.EncodeToString(sha256Of(c)) },
	"signature": func(c *x509.Certificate) string { return c.SignatureAlgorithm.String() },
	"key":       func(c *x509.Certificate) string { return c.PublicKeyAlgorithm.String() },
}

// certSources are what assertions of a type that speaks TLS may look at.
func certSources() map[string]source {
	names := strings.Join(slices.Sorted(maps.Keys(certFields)), ", ")
	return map[string]source{
		"cert_days": {about: "whole days until the first certificate of the chain expires", ops: numberOps, compile: compileCertDays},
		"cert": {about: "a field of the server's certificate", property: "one of " + names, ops: textOps,
			compile: func(a *assertion, path string, p *uptime.Problems) {
				field, ok := certFields[a.Property]
				if !ok {
					p.Add(path+".property", "must be one of %s", names)
					return
				}
				compileText(uptime.AssertFailed, func(f *facts) (string, bool) {
					if len(f.chain) == 0 {
						return "", false
					}
					return field(f.chain[0]), true
				})(a, path, p)
			}},
	}
}

func sha256Of(c *x509.Certificate) []byte {
	sum := sha256.Sum256(c.Raw)
	return sum[:]
}
