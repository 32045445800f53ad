package probe

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"vedette/internal/uptime"
)

// Bounds of evidence, as uptime.Evidence documents them.
const (
	evidenceHeaders = 64
	evidenceHeader  = 512
	evidenceActual  = 256
	evidenceCerts   = 10
	evidenceNames   = 20
)

// describe adds what only HTTP shows.
func (r *httpRun) describe(e *uptime.Evidence) {
	e.Request = r.hop.method + " " + redactURL(r.hop.url)
	e.Redirects, e.Statuses, e.BodyBytes = r.redirects, r.statuses, r.body.bytes
	if r.response == nil {
		return
	}
	e.Status, e.Protocol = r.response.StatusCode, r.response.Proto
	e.Headers = r.headers()
	e.Body = text(r.body.kept, evidenceBody)
}

func (t *dialTrace) describe(e *uptime.Evidence) {
	for _, a := range t.addresses {
		e.Addresses = append(e.Addresses, a.String())
	}
	if t.dialled.IsValid() {
		e.Dialled = shown(t.dialled)
	}
	for _, a := range t.attempts {
		d := uptime.DialAttempt{Address: shown(a.to)}
		if a.fault != nil {
			d.Error = string(a.fault.reason)
		}
		e.Attempts = append(e.Attempts, d)
	}
	if len(t.attempts) == 0 && t.dialled.IsValid() {
		e.Attempts = []uptime.DialAttempt{{Address: e.Dialled}}
	}
}

// shown is an address with its port, if it has one: a ping's has none.
func shown(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// headers is the response head without cookies and credentials.
func (r *httpRun) headers() map[string]string {
	out := map[string]string{}
	for name, values := range r.response.Header {
		if isSensitive(name) || len(out) >= evidenceHeaders {
			continue
		}
		value := strings.Join(values, ", ")
		if name == "Location" {
			value = r.location(value)
		}
		out[clean(name, 100)] = r.shown(value, evidenceHeader-4)
	}
	return out
}

// location is a Location header without the credentials it may carry.
func (r *httpRun) location(v string) string {
	u, err := r.hop.url.Parse(v)
	if err != nil {
		return v
	}
	return redactURL(u)
}

func certificates(chain []*x509.Certificate, now time.Time) []uptime.Certificate {
	var out []uptime.Certificate
	for _, c := range chain[:min(len(chain), evidenceCerts)] {
		names := slices.Clone(c.DNSNames[:min(len(c.DNSNames), evidenceNames)])
		for i := range names {
			names[i] = clean(names[i], 256)
		}
		var addresses []string
		for _, a := range c.IPAddresses[:min(len(c.IPAddresses), evidenceNames)] {
			addresses = append(addresses, a.String())
		}
		out = append(out, uptime.Certificate{
			Subject: clean(subjectText(c), 256), Issuer: clean(issuerText(c), 256), DNSNames: names, Addresses: addresses,
			NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), DaysLeft: wholeDays(c.NotAfter.Sub(now)),
			Key: keyText(c), Signature: c.SignatureAlgorithm.String(), SHA256: hex.EncodeToString(sha256Of(c)),
		})
	}
	return out
}

// keyText is the kind and size of a certificate's key.
func keyText(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return "RSA " + strconv.Itoa(k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

func phaseTexts(p uptime.Phases) map[string]string {
	out := map[string]string{}
	for name, d := range map[string]time.Duration{
		"dns": p.DNS, "connect": p.Connect, "tls": p.TLS, "first_byte": p.FirstByte, "transfer": p.Transfer,
	} {
		if d > 0 {
			out[name] = d.Round(time.Microsecond).String()
		}
	}
	return out
}

// text is at most n bytes of b as valid UTF-8 without NUL.
func text(b []byte, n int) string {
	b = b[:min(len(b), n)]
	s := strings.ToValidUTF8(string(b), "\uFFFD")
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
