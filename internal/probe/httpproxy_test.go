package probe

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/guard"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// proxyConfig is a config that goes through a proxy, with more options.
func proxyConfig(proxy, user, password, ca string) json.RawMessage {
	raw, _ := json.Marshal(map[string]any{"proxy": proxy, "proxy_username": user, "proxy_password": password, "tls": map[string]any{"ca_pem": ca}})
	return raw
}

// TestRealProxies goes through tinyproxy and microsocks, with and without credentials.
func TestRealProxies(t *testing.T) {
	t.Parallel()
	tiny := func(login string) string {
		s := testenv.Start(t, testenv.ProgramSpec{Binary: "tinyproxy", Package: "tinyproxy-bin",
			Prepare: func(s *testenv.Program) error {
				conf := fmt.Sprintf("Port %d\nListen 127.0.0.1\nLogLevel Critical\nMaxClients 50\nAllow 127.0.0.1\n%s", s.Port, login)
				return os.WriteFile(filepath.Join(s.Dir, "conf"), []byte(conf), 0o644)
			},
			Args: func(s *testenv.Program) []string { return []string{"-d", "-c", filepath.Join(s.Dir, "conf")} }})
		return "http://" + s.Addr
	}
	socks := func(login ...string) string {
		s := testenv.Start(t, testenv.ProgramSpec{Binary: "microsocks", Package: "microsocks",
			Args: func(s *testenv.Program) []string {
				return append([]string{"-i", "127.0.0.1", "-p", strconv.Itoa(s.Port)}, login...)
			}})
		return "socks5://" + s.Addr
	}
	ca := newCA(t, authority{}, nil)
	plain := "http://" + serve(t, says(page("through")))
	secure := "https://" + serveTLS(t, &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}})
	named := strings.Replace(plain, "127.0.0.1", "localhost", 1)
	open, locked, openSocks, lockedSocks := tiny(""), tiny("BasicAuth user pass-canary\n"), socks(), socks("-u", "user", "-P", "pass-canary")
	gone := "http://127.0.0.1:1"
	up, down := uptime.VerdictUp, uptime.VerdictDown
	for name, tt := range map[string]struct {
		proxy, user, password, target string
		verdict                       uptime.Verdict
		reason                        uptime.Reason
		says                          string
	}{
		"http by request":                    {open, "", "", plain, up, "", ""},
		"http by name":                       {open, "", "", named, up, "", ""},
		"https by CONNECT":                   {open, "", "", secure, up, "", ""},
		"http with credentials":              {locked, "user", "pass-canary", plain, up, "", ""},
		"https with credentials":             {locked, "user", "pass-canary", secure, up, "", ""},
		"http without credentials":           {locked, "", "", plain, down, uptime.AuthFailed, "The proxy"},
		"https with wrong credentials":       {locked, "user", "wrong-canary", secure, down, uptime.AuthFailed, "The proxy"},
		"https to nobody":                    {open, "", "", "https://127.0.0.1:1", down, uptime.ConnUnreach, "The proxy"},
		"socks":                              {openSocks, "", "", plain, up, "", ""},
		"socks by name":                      {openSocks, "", "", named, up, "", ""},
		"https by socks":                     {openSocks, "", "", secure, up, "", ""},
		"socks with credentials":             {lockedSocks, "user", "pass-canary", secure, up, "", ""},
		"socks without credentials":          {lockedSocks, "", "", plain, down, uptime.AuthFailed, "The proxy"},
		"socks with wrong credentials":       {lockedSocks, "user", "wrong-canary", plain, down, uptime.AuthFailed, "The proxy"},
		"socks to nobody":                    {openSocks, "", "", gone, down, uptime.ConnRefused, "The proxy"},
		"socks to a name that is none":       {openSocks, "", "", "http://nowhere.invalid/", down, uptime.ConnUnreach, "The proxy"},
		"no proxy there":                     {gone, "", "", plain, down, uptime.ConnRefused, "The proxy"},
		"an HTTP proxy asked for SOCKS":      {strings.Replace(open, "http", "socks5", 1), "", "", plain, down, "", "The proxy"},
		"a SOCKS proxy asked for HTTP":       {strings.Replace(openSocks, "socks5", "http", 1), "", "", secure, down, "", "The proxy"},
		"metadata is refused before it":      {open, "", "", "http://169.254.169.254/", uptime.VerdictUnknown, uptime.Blocked, "not allowed"},
		"the target's certificate is judged": {open, "", "", strings.Replace(secure, "127.0.0.1", "localhost", 1), down, uptime.TLSHostname, "not for localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := run(t, uptime.Monitor{Target: tt.target, Config: proxyConfig(tt.proxy, tt.user, tt.password, ca.pem())})
			if out.Verdict != tt.verdict || tt.reason != "" && out.Reason != tt.reason || !strings.Contains(out.Message, tt.says) {
				t.Errorf("%s %s (%s), want %s %s with %q", out.Verdict, out.Reason, out.Message, tt.verdict, tt.reason, tt.says)
			}
			if b, _ := json.Marshal(out); bytes.Contains(b, []byte("canary")) {
				t.Errorf("outcome holds a secret: %s", b)
			}
		})
	}
}

// Proxies that misbehave are told as proxies.
func TestProxiesThatFail(t *testing.T) {
	t.Parallel()
	socksThen := func(parts ...string) func(net.Conn) {
		return func(c net.Conn) {
			for _, p := range parts {
				_, _ = c.Read(make([]byte, 512))
				_, _ = io.WriteString(c, p)
			}
			_, _ = io.Copy(io.Discard, c)
		}
	}
	for name, tt := range map[string]struct {
		scheme string
		handle func(net.Conn)
		reason uptime.Reason
	}{
		"a silent HTTP proxy":                {"http", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, uptime.Timeout},
		"one that closes":                    {"http", func(c net.Conn) { _, _ = c.Read(make([]byte, 512)) }, uptime.ConnClosed},
		"one that speaks something else":     {"http", func(c net.Conn) { _, _ = io.WriteString(c, "220 mail ESMTP\r\n"); _, _ = io.Copy(io.Discard, c) }, uptime.Protocol},
		"a head without end":                 {"http", func(c net.Conn) { repeats("HTTP/1.1 200 OK\r\n", "X: "+strings.Repeat("y", 4000)+"\r\n")(c, "") }, uptime.HeadersLarge},
		"403":                                {"http", func(c net.Conn) { _, _ = c.Read(make([]byte, 512)); says("HTTP/1.1 403 No\r\n\r\n")(c, "") }, uptime.HTTPStatus},
		"interim answers without end":        {"http", func(c net.Conn) { repeats("", "HTTP/1.1 102 Processing\r\n\r\n")(c, "") }, uptime.Protocol},
		"no TLS where it should be":          {"https", func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, uptime.TLSHandshake},
		"a silent SOCKS proxy":               {"socks5", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, uptime.Timeout},
		"SOCKS4":                             {"socks5", socksThen("\x00\x5b"), uptime.Protocol},
		"half a SOCKS reply":                 {"socks5", socksThen("\x05\x00", "\x05\x00\x00"), uptime.Timeout},
		"a SOCKS reply about the way":        {"socks5", socksThen("\x05\x00", "\x05\x06\x00\x01\x00"), uptime.ConnTimeout},
		"an unknown SOCKS reply":             {"socks5", socksThen("\x05\x00", "\x05\x63\x00\x01\x00"), uptime.ConnUnreach},
		"a SOCKS proxy that wants something": {"socks5", socksThen("\x05\xff"), uptime.AuthFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := tt.scheme + "://" + serveRaw(t, tt.handle)
			out := run(t, uptime.Monitor{Target: "https://shop.test/", Config: proxyConfig(proxy, "", "", ""), Timeout: short})
			check(t, out, uptime.VerdictDown, tt.reason)
			if !strings.Contains(out.Message, "he proxy") {
				t.Errorf("message %q, want the proxy in it", out.Message)
			}
		})
	}
}

func TestTheGuardJudgesTheProxy(t *testing.T) {
	t.Parallel()
	lab := newGuardLab(t)
	for _, scheme := range []string{"http", "socks5", "https"} {
		for _, host := range []string{"127.0.0.1", "private.test", "[::1]", "localhost"} {
			c, err := lab.set.Compile(uptime.Monitor{Type: "http", Target: "http://allowed.test/", Config: proxyConfig(scheme+"://"+host+":"+lab.port, "", "", "")})
			if err != nil {
				t.Fatal(err)
			}
			check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUnknown, uptime.Blocked)
		}
	}
	// A proxy that is allowed is asked for no address that is not.
	for _, target := range []string{"http://127.0.0.1:" + lab.port, "https://[::1]:" + lab.port, "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/"} {
		c, err := lab.set.Compile(uptime.Monitor{Type: "http", Target: target, Config: proxyConfig("http://"+allowedHost+":"+lab.port, "", "", "")})
		if err != nil {
			t.Fatal(err)
		}
		check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUnknown, uptime.Blocked)
	}
	if n := lab.private.Load(); n != 0 {
		t.Errorf("%d connections came to the private address", n)
	}
}

// The environment's proxies never count.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	var asked atomic.Int32
	proxy := serveRaw(t, func(net.Conn) { asked.Add(1) })
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://"+proxy)
	}
	check(t, run(t, uptime.Monitor{Target: "http://" + serve(t, says(page("x")))}), uptime.VerdictUp, "")
	if asked.Load() != 0 {
		t.Error("the environment's proxy was asked")
	}
}

// Through a proxy a target's name is not looked up here, its port and form are as they
// should be, and only the proxy sees its credentials.
func TestWhatAProxyIsAsked(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 2)
	proxy := serve(t, func(c net.Conn, head string) { heads <- head; _, _ = io.WriteString(c, page("x")) })
	env := testEnv()
	env.Resolver = "127.0.0.1:1"
	run := func(target, token string) {
		t.Helper()
		config, _ := json.Marshal(map[string]any{"proxy": "http://" + proxy, "proxy_username": "u", "proxy_password": "p", "auth": map[string]any{"kind": "bearer", "token": token}})
		c, err := New(env).Compile(uptime.Monitor{Type: "http", Target: target, Config: config, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		c.Run(t.Context(), Attempt{})
	}
	run("http://shop.test/a?b=c", "t0ken")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(<-heads)))
	if err != nil || r.RequestURI != "http://shop.test/a?b=c" || r.Host != "shop.test" || r.Header.Get("Proxy-Authorization") != "Basic dTpw" || r.Header.Get("Authorization") != "Bearer t0ken" {
		t.Errorf("%+v, %v: want the absolute form with both credentials", r, err)
	}
	run("https://shop.test/a", "t0ken")
	if h := <-heads; !strings.HasPrefix(h, "CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n") || strings.Contains(h, "t0ken") || !strings.Contains(h, "\r\nProxy-Authorization: Basic dTpw\r\n") {
		t.Errorf("%q, want CONNECT with the proxy's credentials only", h)
	}
	for host, want := range map[string]string{"shop.test": "\x05\x01\x00\x03\x09shop.test\x00\x50", "192.0.2.1": "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50",
		"2001:db8::1": "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50"} {
		if got := string(socksRequest(target{host: host, port: 80})); got != want {
			t.Errorf("socksRequest(%s) = %q, want %q", host, got, want)
		}
	}
}

// A proxy may itself be reached over TLS, and is verified whatever the monitor says
// about its target.
func TestAProxyOverTLS(t *testing.T) {
	t.Parallel()
	ca := newCA(t, authority{}, nil)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{chainOf(t, ca, nil)}})
	if err != nil {
		t.Fatal(err)
	}
	inner := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{chainOf(t, authority{}, nil)}})
	serveOn(t, l, func(c net.Conn, head string) {
		if !strings.HasPrefix(head, "CONNECT") {
			_, _ = io.WriteString(c, page("x"))
			return
		}
		to, err := net.Dial("tcp", strings.Fields(head)[1])
		if err != nil {
			return
		}
		defer to.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, c); to.Close() }()
		_, _ = io.Copy(c, to)
	})
	clear := http2Server(t, authority{}, func(http.ResponseWriter, *http.Request) {}, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	for name, tt := range map[string]struct {
		target, version, ca string
		verdict             uptime.Verdict
		reason              uptime.Reason
	}{
		"http":                {"http://shop.test/", "any", ca.pem(), uptime.VerdictUp, ""},
		"https in it":         {"https://" + inner, "any", ca.pem(), uptime.VerdictUp, ""},
		"h2c in it":           {clear, "h2c", ca.pem(), uptime.VerdictUp, ""},
		"not trusted, though": {"https://" + inner, "any", "", uptime.VerdictDown, uptime.TLSUntrusted},
	} {
		config, _ := json.Marshal(map[string]any{"proxy": "https://" + l.Addr().String(), "http_version": tt.version, "tls": map[string]any{"ca_pem": tt.ca, "skip_verify": true}})
		out := run(t, uptime.Monitor{Target: tt.target, Config: config})
		if out.Verdict != tt.verdict || out.Reason != tt.reason {
			t.Errorf("%s: %s %s (%s), want %s %s", name, out.Verdict, out.Reason, out.Message, tt.verdict, tt.reason)
		}
	}
}

func TestProxyOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"proxy":"ftp://a.example"}`:                                              "config.proxy",
		`{"proxy":"http://u:p@a.example"}`:                                         "config.proxy",
		`{"proxy":"http://a.example/path"}`:                                        "config.proxy",
		`{"proxy":"http://2130706433"}`:                                            "config.proxy",
		`{"proxy_password":"x"}`:                                                   "config.proxy",
		`{"proxy":"http://a","proxy_username":"a:b"}`:                              "config.proxy_username",
		`{"proxy":"http://a","proxy_password":"` + strings.Repeat("x", 256) + `"}`: "config.proxy_password",
		`{"headers":{"Proxy-Authorization":"Basic x"}}`:                            "config.headers.Proxy-Authorization",
	} {
		_, err := New(Env{Guard: guard.New(guard.Options{})}).Compile(uptime.Monitor{Type: "http", Target: "http://example.com", Config: json.RawMessage(config)})
		if !uptime.Is(err, uptime.Invalid) || !strings.Contains(compactProblems(err), `"`+path+`"`) {
			t.Errorf("%.80s: %s, want a problem at %s", config, compactProblems(err), path)
		}
	}
}
