package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// authority is a certificate that signs others.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// edit changes what a certificate says before it is signed.
type edit func(*x509.Certificate)

func template(name string, edits []edit) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, e := range edits {
		e(t)
	}
	return t
}

// sign makes t's certificate; without an authority it signs itself.
func (a *authority) sign(t *x509.Certificate, key crypto.Signer) *authority {
	if a == nil {
		a = &authority{t, key}
	}
	der := must(x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key))
	return &authority{must(x509.ParseCertificate(der)), key}
}

func newKey() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func newAuthority() *authority { return (*authority)(nil).intermediate("Lab CA") }

// intermediate is an authority below a.
func (a *authority) intermediate(name string, edits ...edit) *authority {
	return a.sign(template(name, append(edits, func(c *x509.Certificate) { c.IsCA = true })), newKey())
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// leaf is a server's certificate for 127.0.0.1, ::1 and shop.test.
func (a *authority) leaf(edits ...edit) tls.Certificate { return a.leafOf(newKey(), edits...) }

func (a *authority) leafOf(key crypto.Signer, edits ...edit) tls.Certificate {
	names := func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, []string{"shop.test"}
	}
	leaf := a.sign(template("server", append([]edit{names}, edits...)), key)
	return tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: key}
}

// chain is cert with the certificates of others sent after it, in that order.
func chain(cert tls.Certificate, others ...*authority) tls.Certificate {
	for _, o := range others {
		cert.Certificate = append(cert.Certificate, o.cert.Raw)
	}
	return cert
}

func rsaKey(bits int) crypto.Signer { return must(rsa.GenerateKey(rand.Reader, bits)) }

// shows is a server that shows a certificate.
func shows(c tls.Certificate, edits ...func(*tls.Config)) *tls.Config {
	cfg := &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS10}
	for _, e := range edits {
		e(cfg)
	}
	return cfg
}
