package probe

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// drips says head at once and text byte by byte, again and again, until the prober
// goes.
func drips(head, text string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		_, err := io.WriteString(c, head)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; err == nil; i++ {
			<-tick.C
			_, err = c.Write([]byte{text[i%len(text)]})
		}
	}
}

func TestHTTPFidelity(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	by := func(method map[string]string) func(net.Conn, string) {
		return func(c net.Conn, head string) {
			status := method[strings.Fields(head)[0]]
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		}
	}
	cases := map[string]httpCase{
		"HEAD 200 and GET 500 is http_status": {handle: by(map[string]string{"HEAD": "200 OK", "GET": "500 No"}), verdict: down, reason: uptime.HTTPStatus},
		"HEAD 405 and GET 200 is up":          {handle: by(map[string]string{"HEAD": "405 No", "GET": "200 OK"}), verdict: up},
		"headers that drip are timeout":       {handle: drips("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), verdict: down, reason: uptime.Timeout, timeout: short},
		"a status line that drips is":         {handle: drips("H", "TTP/1.1 200 "), verdict: down, reason: uptime.Timeout, timeout: short},
		"a body that trickles is":             {handle: drips("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", "a"), verdict: down, reason: uptime.Timeout, timeout: short},
		"chunks that trickle are":             {handle: drips("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"), verdict: down, reason: uptime.Timeout, timeout: short},
		"a reset in the body is conn_reset":   {handle: resets("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc"), verdict: down, reason: uptime.ConnReset},
		"two equal lengths are up":            {handle: says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"), verdict: up},
		"lengths in a list are protocol":      {handle: says("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\na"), verdict: down, reason: uptime.Protocol},
		"another transfer coding is protocol": {handle: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: smoke\r\n\r\na"), verdict: down, reason: uptime.Protocol},
		"a chunk of negative size is":         {handle: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n"), verdict: down, reason: uptime.Protocol},
		"an answer over 16 interim ones is":   {handle: says(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 17), page("x")), verdict: down, reason: uptime.Protocol},
		"16 interim ones are up":              {handle: says(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 16), page("x")), verdict: up},
		"an FTP greeting is protocol":         {handle: stalls("220 ftp ready\r\n"), verdict: down, reason: uptime.Protocol},
		"an h2 server's first frame is":       {handle: stalls("\x00\x00\x12\x04\x00\x00\x00\x00\x00"), verdict: down, reason: uptime.Protocol},
		"lower-case names are up":             {handle: says("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-a: b\r\ncontent-length: 1\r\n\r\na"), assertions: []uptime.Assertion{assert("header", "X-A", "eq", "b")}, verdict: up},
		"an answer in one-byte pieces is up":  {handle: says(strings.Split(page("abc"), "")...), verdict: up},
		"slow, but in time, is up":            {handle: func(c net.Conn, _ string) { <-time.After(short / 3); _, _ = io.WriteString(c, page("x")) }, verdict: up},
	}
	for _, status := range []int{403, 404, 429, 500, 502, 504} {
		cases[fmt.Sprint(status, " is http_status")] = httpCase{handle: says(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status)), verdict: down, reason: uptime.HTTPStatus}
	}
	runCases(t, cases)
}

func TestTheTimeOfAWaitIsThatOfItsPhase(t *testing.T) {
	t.Parallel()
	out := run(t, uptime.Monitor{Target: "http://" + serve(t, stalls("")), Timeout: short})
	check(t, out, uptime.VerdictDown, uptime.Timeout)
	if out.Phases.FirstByte < short/2 || out.Evidence.Phases["first_byte"] == "" {
		t.Errorf("phases = %+v, want the wait in first_byte", out.Phases)
	}
}

// What the TLS of one hop left behind is no reason for the failure of the next.
func TestAWishForACertificateIsOfItsHop(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	closes := serve(t, says(""))
	serveOn(t, l, says("HTTP/1.1 302 Found\r\nLocation: http://"+closes+"\r\nContent-Length: 0\r\n\r\n"))
	out := run(t, uptime.Monitor{Target: "https://" + l.Addr().String(), Config: versionConfig("any", ca.pem(), nil)})
	check(t, out, uptime.VerdictDown, uptime.ConnClosed)
}

func TestAnOldConnectionThatIsDeafDoesNotMatter(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	address := serve(t, func(c net.Conn, _ string) {
		connections.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na")
		_, _ = io.Copy(io.Discard, c) // and never answers on it again
	})
	c, err := New(testEnv()).Compile(uptime.Monitor{Type: "http", Target: "http://" + address, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUp, "")
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("3 checks made %d connections, want one each", n)
	}
}

func TestContentFidelity(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	has := func(s string) []uptime.Assertion { return []uptime.Assertion{assert("body", "", "contains", s)} }
	typed := func(contentType, body string) func(net.Conn, string) {
		return says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", contentType, len(body), body))
	}
	cut := packed(strings.Repeat("abcdefgh", 1000))
	_, cut, _ = strings.Cut(cut, "\r\n\r\n")
	cut = cut[:len(cut)-6]
	runCases(t, map[string]httpCase{
		"ISO-8859-1 as declared":                {handle: typed("text/plain; charset=ISO-8859-1", "gr\xfc\xdfe"), assertions: has("grüße"), verdict: up},
		"windows-1252 as declared":              {handle: typed("text/html; charset=windows-1252", "5 \x80"), assertions: has("5 €"), verdict: up},
		"Shift JIS as declared":                 {handle: typed("text/html; charset=Shift_JIS", "\x93\xfa\x96\x7b"), assertions: has("日本"), verdict: up},
		"UTF-16 with a byte order mark":         {handle: typed("text/plain", "\xff\xfeo\x00k\x00"), assertions: has("ok"), verdict: up},
		"UTF-16 without one, as declared":       {handle: typed("text/plain; charset=utf-16be", "\x00o\x00k"), assertions: has("ok"), verdict: up},
		"a meta element that names it":          {handle: typed("text/html", `<meta charset="iso-8859-2"><p>`+"\xb3"), assertions: has("<p>ł"), verdict: up},
		"a declaration of XML that names it":    {handle: typed("text/xml", `<?xml version="1.0" encoding="ISO-8859-2"?><p>`+"\xb3"), assertions: has("<p>ł"), verdict: up},
		"one that cannot be true":               {handle: typed("text/xml", `<?xml version="1.0" encoding="UTF-16"?><p>ok`+"\xb3"), assertions: has("<p>ok"), verdict: up},
		"HTML that is not said to be":           {handle: says("HTTP/1.0 200 OK\r\n\r\n", `<html><meta charset="iso-8859-2"><p>`+"\xb3"), assertions: has("<p>ł"), verdict: up},
		"HTML that names none, as browsers do":  {handle: typed("text/html", "<p>gr\xfc\xdfe"), assertions: has("grüße"), verdict: up},
		"UTF-8 that is declared wrongly":        {handle: typed("text/html; charset=ISO-8859-1", "<p>grüße"), assertions: has("grüße"), verdict: up},
		"an unknown charset is left alone":      {handle: typed("text/plain; charset=klingon", "ok \xff"), assertions: has("ok"), verdict: up},
		"text of another charset is not there":  {handle: typed("text/plain; charset=ISO-8859-1", "gr\xfc\xdfe"), assertions: has("grusse"), verdict: down, reason: uptime.Keyword},
		"forbidden text hides in no charset":    {handle: typed("text/plain; charset=utf-16le", "e\x00r\x00r\x00"), assertions: []uptime.Assertion{assert("body", "", "not_contains", "err")}, verdict: down, reason: uptime.KeywordBad},
		"JSON with a byte order mark":           {handle: typed("application/json", "\xef\xbb\xbf{\"a\":1}"), assertions: []uptime.Assertion{assert("json", "$.a", "eq", 1)}, verdict: up},
		"JSON in ISO-8859-1, as declared":       {handle: typed("application/json; charset=latin1", "{\"a\":\"\xfc\"}"), assertions: []uptime.Assertion{assert("json", "$.a", "eq", "ü")}, verdict: up},
		"a character cut by the cap":            {handle: typed("text/html", "grüße needle "+strings.Repeat("ü", 100)), config: `{"max_body_bytes":18}`, assertions: has("grüße"), verdict: up},
		"a keyword across every chunk":          {handle: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n\xc3\r\n", "1;x=y\r\n\xbc\r\n", "1\r\nb\r\n0\r\n\r\n"), assertions: has("üb"), verdict: up},
		"forbidden text in gzip":                {handle: says(packed(strings.Repeat("fine ", 50_000) + "error")), assertions: []uptime.Assertion{assert("body", "", "not_contains", "error")}, verdict: down, reason: uptime.KeywordBad},
		"gzip that ends too early is decode":    {handle: says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(cut), cut)), verdict: down, reason: uptime.Decode},
		"a coding we did not offer is decode":   {handle: says("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok"), assertions: has("ok"), verdict: down, reason: uptime.Decode},
		"nor does forbidden text hide in it":    {handle: says("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok"), config: `{"max_body_bytes":100}`, assertions: []uptime.Assertion{assert("body", "", "not_contains", "ok")}, verdict: down, reason: uptime.Decode},
		"it is up where nobody looks at it":     {handle: says("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok"), verdict: up},
		"JSON null for all is json":             {handle: typed("application/json", "null"), assertions: []uptime.Assertion{assert("json", "$.a", "exists", nil)}, verdict: down, reason: uptime.JSON},
		"two JSON values are json":              {handle: typed("application/json", "{}{}"), assertions: []uptime.Assertion{assert("json", "$", "exists", nil)}, verdict: down, reason: uptime.JSON},
		"a header that is not as said":          {handle: typed("text/html", ""), assertions: []uptime.Assertion{assert("header", "Content-Type", "contains", "json")}, verdict: down, reason: uptime.Header},
		"a page of another site is keyword":     {handle: typed("text/html", "<title>This domain is parked"), assertions: has("Our shop"), verdict: down, reason: uptime.Keyword},
		"a failing JSON number over 2^53 shows": {handle: typed("application/json", `{"a":9007199254740993}`), assertions: []uptime.Assertion{assert("json", "$.a", "eq", json.Number("9007199254740992"))}, verdict: down, reason: uptime.JSON},
	})
}

func TestRedirectFidelity(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	hops := func(c net.Conn, head string) { // /5 leads to /4 and so on, /a to /b to /a, /g/ to a longer path each time
		path := strings.Fields(head)[1]
		to := path + "x"
		switch path {
		case "/0":
			_, _ = io.WriteString(c, page("end"))
			return
		case "/1", "/2", "/3", "/4", "/5":
			to = string('0' + path[1] - '0' - 1)
		case "/a":
			to = "/b"
		case "/b":
			to = "/a"
		case "/parked":
			_, _ = io.WriteString(c, page("this domain is parked"))
			return
		case "/broken":
			_, _ = io.WriteString(c, "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
			return
		case "/to/parked", "/to/broken":
			to = strings.TrimPrefix(path, "/to")
		case "/to/nowhere":
			to = "http://nowhere.test/"
		case "/to/slashes":
			to = "http:///x"
		}
		_, _ = io.WriteString(c, "HTTP/1.1 308 X\r\nLocation: "+to+"\r\nContent-Length: 0\r\n\r\n")
	}
	address := serve(t, hops)
	nxdomain := dnsServer(t, func(id uint16, q dnsmessage.Question) []byte { return reply(id, q, dnsmessage.RCodeNameError) })
	for path, tt := range map[string]struct {
		keyword string
		verdict uptime.Verdict
		reason  uptime.Reason
	}{
		"/5":          {"end", up, ""},
		"/a":          {"", down, uptime.RedirectLimit},
		"/g":          {"", down, uptime.RedirectLimit},
		"/to/parked":  {"our shop", down, uptime.Keyword},
		"/to/broken":  {"", down, uptime.HTTPStatus},
		"/to/nowhere": {"", down, uptime.DNSNXDomain},
		"/to/slashes": {"", down, uptime.RedirectBad},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			m := uptime.Monitor{Target: "http://" + address + path, Config: json.RawMessage(`{"resolver":"` + nxdomain + `"}`)}
			if tt.keyword != "" {
				m.Assertions = []uptime.Assertion{assert("body", "", "contains", tt.keyword)}
			}
			check(t, run(t, m), tt.verdict, tt.reason)
		})
	}
}

func TestARedirectToHTTPSIsUp(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	secure := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}})
	target := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+secure+"/", http.StatusMovedPermanently)
	})
	check(t, run(t, uptime.Monitor{Target: target, Config: tlsOptions(t, tlsConfig{CAPEM: ca.pem()})}), uptime.VerdictUp, "")
	check(t, run(t, uptime.Monitor{Target: target}), uptime.VerdictDown, uptime.TLSUntrusted)
}

func TestTLSFidelity(t *testing.T) {
	t.Parallel()
	down, up, degraded := uptime.VerdictDown, uptime.VerdictUp, uptime.VerdictDegraded
	ca := newCA(t, authority{}, nil)
	good := chainOf(t, ca, nil)
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(5 * 24 * time.Hour) }
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-2 * time.Second) }
	with := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	noCipher := with(good)
	noCipher.MaxVersion, noCipher.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA256}
	slow := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { <-time.After(short / 3); return &good, nil }}
	mid := newCA(t, ca, soon)
	days := assert("cert_days", "", "ge", 0)
	for name, tt := range map[string]struct {
		tlsCase
		assertions []uptime.Assertion
	}{
		"signed with SHA-1 is tls_weak":           {tlsCase{server: with(sha1Signed(t, ca)), verdict: down, reason: uptime.TLSWeak}, nil},
		"no cipher in common is tls_handshake":    {tlsCase{server: noCipher, verdict: down, reason: uptime.TLSHandshake}, nil},
		"a slow handshake is up":                  {tlsCase{server: slow, verdict: up}, nil},
		"expiring within days is tls_expiring":    {tlsCase{server: with(chainOf(t, ca, soon)), options: tlsConfig{ExpiryDays: 14}, verdict: degraded, reason: uptime.TLSExpiring}, nil},
		"an intermediate that is, is too":         {tlsCase{server: with(chainOf(t, mid, nil, mid)), options: tlsConfig{ExpiryDays: 14}, verdict: degraded, reason: uptime.TLSExpiring}, nil},
		"not within fewer days is up":             {tlsCase{server: with(chainOf(t, ca, soon)), options: tlsConfig{ExpiryDays: 4}, verdict: up}, nil},
		"skip_verify still reports expiry":        {tlsCase{server: with(chainOf(t, ca, expired)), options: tlsConfig{SkipVerify: true}, verdict: down, reason: uptime.TLSExpired}, []uptime.Assertion{days}},
		"skip_verify takes a self-signed one":     {tlsCase{server: with(chainOf(t, authority{}, nil)), options: tlsConfig{SkipVerify: true}, verdict: up}, nil},
		"another name than asked is tls_hostname": {tlsCase{server: with(chainOf(t, ca, func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} })), options: tlsConfig{ServerName: "b.example"}, verdict: down, reason: uptime.TLSHostname}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.options.CAPEM = ca.pem()
			check(t, run(t, uptime.Monitor{Target: "https://" + serveTLS(t, tt.server), Config: tlsOptions(t, tt.options), Assertions: tt.assertions}), tt.verdict, tt.reason)
		})
	}
}

// sha1Signed is a certificate that ca signed with RSA and SHA-1, which the library
// does not do any more: one it made is signed again by hand.
func sha1Signed(t *testing.T, ca authority) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tpl := template("RSA CA")
	tpl.IsCA = true
	rsaCA := issue(t, ca, tpl, key)
	leaf := chainOf(t, rsaCA, nil, rsaCA)
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(leaf.Certificate[0], &c); err != nil {
		t.Fatal(err)
	}
	sha256RSA, sha1RSA := "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
	c.TBS.FullBytes = []byte(strings.Replace(string(c.TBS.FullBytes), sha256RSA, sha1RSA, 1))
	c.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	sum := sha1.Sum(c.TBS.FullBytes)
	if c.Signature.Bytes, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, sum[:]); err != nil {
		t.Fatal(err)
	}
	c.Signature.BitLength = 8 * len(c.Signature.Bytes)
	if leaf.Certificate[0], err = asn1.Marshal(c); err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestHandshakesThatGoWrong(t *testing.T) {
	t.Parallel()
	hello := "\x16\x03\x03\x40\x00" // a record that is never complete
	for name, tt := range map[string]struct {
		handle func(net.Conn)
		reason uptime.Reason
	}{
		"an alert about the name is tls_hostname": {func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 112}) }, uptime.TLSHostname},
		"a handshake that drips is tls_timeout":   {func(c net.Conn) { drips(hello, "\x00")(c, "") }, uptime.TLSTimeout},
		"an SSH server is tls_handshake":          {func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") }, uptime.TLSHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := serveRaw(t, tt.handle)
			check(t, run(t, uptime.Monitor{Target: "https://" + address, Timeout: short}), uptime.VerdictDown, tt.reason)
		})
	}
}

// serveRaw hands each connection over as it is accepted.
func serveRaw(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	testenv.Serve(l, handle)
	return l.Addr().String()
}

func TestACertificateSwappedUnderALiveServiceShows(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	good, bad := chainOf(t, ca, nil), chainOf(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	var now atomic.Pointer[tls.Certificate]
	now.Store(&good)
	target := serveTLS(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.Load(), nil }})
	m := uptime.Monitor{Type: "http", Target: "https://" + target, Config: tlsOptions(t, tlsConfig{CAPEM: ca.pem()}), Timeout: 5 * time.Second}
	c, err := New(testEnv()).Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUp, "")
	now.Store(&bad)
	check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictDown, uptime.TLSExpired)
}
