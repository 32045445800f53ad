package probe

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"sort"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

// Bounds and defaults of the HTTP type.
const (
	defaultMaxBody  = 1 << 20
	maxMaxBody      = 16 << 20
	defaultRedirect = 10
	maxRedirect     = 50
	maxRequestBody  = 1 << 20
	maxRequestHead  = 32 << 10
)

// httpConfig is the config of an HTTP monitor.
type httpConfig struct {
	Method          string     `json:"method"`
	Headers         httpHeader `json:"headers"`
	Body            string     `json:"body"`
	FollowRedirects bool       `json:"follow_redirects"`
	MaxRedirects    int        `json:"max_redirects"`
	// AllowDowngrade keeps a redirect from https to http from degrading the verdict.
	AllowDowngrade bool      `json:"allow_downgrade"`
	Auth           httpAuth  `json:"auth"`
	TLS            tlsConfig `json:"tls"`
	IPVersion      string    `json:"ip_version"`
	Resolver       string    `json:"resolver"`
	MaxBodyBytes   int64     `json:"max_body_bytes"`
}

// httpAuth is how the monitor proves who it is. Kind is "", "none", "basic" or
// "bearer".
type httpAuth struct {
	Kind     string        `json:"kind"`
	Username string        `json:"username"`
	Password uptime.Secret `json:"password"`
	Token    uptime.Secret `json:"token"`
}

// httpHeader are headers to send; those that look like credentials are shown
// redacted.
type httpHeader map[string]string

// MarshalJSON redacts.
func (h httpHeader) MarshalJSON() ([]byte, error) {
	shown := make(map[string]string, len(h))
	for k, v := range h {
		if isSensitive(k) && v != "" {
			v = uptime.Redacted
		}
		shown[k] = v
	}
	return json.Marshal(shown)
}

// isSensitive reports whether a header or query parameter of that name likely
// holds a credential.
func isSensitive(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "cookie", "token", "key", "secret", "password", "passwd", "signature", "session", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func defaultHTTPConfig() httpConfig {
	return httpConfig{
		Method: http.MethodGet, FollowRedirects: true, MaxRedirects: defaultRedirect,
		IPVersion: "any", MaxBodyBytes: defaultMaxBody,
	}
}

// httpType is the "http" check type.
type httpType struct{ scratch *scratchPool }

func newHTTP() httpType { return httpType{scratch: newScratchPool()} }

// Name implements Type.
func (httpType) Name() string { return "http" }

// Redact implements Type.
func (httpType) Redact(raw json.RawMessage) (json.RawMessage, error) {
	cfg := defaultHTTPConfig()
	var p uptime.Problems
	decodeConfig(raw, &cfg, &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(cfg)
}

// httpCheck is an HTTP monitor made ready.
type httpCheck struct {
	cfg        httpConfig
	first      target
	request    []byte // of the first hop, ready to send
	userAgent  string
	timeout    time.Duration
	dial       *dialer
	tls        *tlsClient
	assertions []assertion
	wantsBody  bool // some assertion reads it
	ownStatus  bool // some assertion judges the status
	always     bool // Env.AlwaysEvidence
	secrets    []string
	scratch    *scratchPool
}

// Compile implements Type.
func (t httpType) Compile(m uptime.Monitor, env Env) (Check, error) {
	var p uptime.Problems
	cfg := defaultHTTPConfig()
	decodeConfig(m.Config, &cfg, &p)
	first, err := parseTarget(m.Target)
	if err != nil {
		p.Add("target", "%v", err)
	}
	cfg.validate(&p)
	c := &httpCheck{
		cfg: cfg, first: first, userAgent: env.UserAgent, timeout: m.Timeout,
		dial: newDialer(env, cfg.Resolver, cfg.IPVersion), tls: newTLSClient(cfg.TLS, env, &p),
		assertions: compileAssertions(m.Assertions, httpSources(), &p),
		always:     env.AlwaysEvidence, scratch: t.scratch,
	}
	for i := range c.assertions {
		c.wantsBody = c.wantsBody || c.assertions[i].stage == stageBody
		c.ownStatus = c.ownStatus || c.assertions[i].Source == "status"
	}
	if c.wantsBody && cfg.Method == http.MethodHead {
		p.Add("config.method", "HEAD has no body for an assertion to look at; use GET")
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	c.secrets = cfg.secretValues()
	c.request = c.buildRequest(hop{target: first, method: cfg.Method, own: true})
	return c, nil
}

// httpSources are what an HTTP assertion may look at.
func httpSources() map[string]compiler {
	return durationSources(map[string]compiler{
		"status": compileStatus, "body": compileBody, "json": compileJSON,
		"header": compileHeader, "cert_days": compileCertDays,
	})
}

// validate notes what is wrong with the values; the keys were checked before.
func (c *httpConfig) validate(p *uptime.Problems) {
	if !httpguts.ValidHeaderFieldName(c.Method) || c.Method != strings.ToUpper(c.Method) || len(c.Method) > 20 ||
		c.Method == http.MethodConnect || c.Method == http.MethodTrace {
		p.Add("config.method", "must be a method such as GET, HEAD or POST, in capitals; CONNECT and TRACE are not sent")
	}
	if len(c.Body) > maxRequestBody {
		p.Add("config.body", "is larger than %d bytes", maxRequestBody)
	}
	if c.MaxRedirects < 0 || c.MaxRedirects > maxRedirect {
		p.Add("config.max_redirects", "must be from 0 to %d", maxRedirect)
	}
	if c.MaxBodyBytes < 1 || c.MaxBodyBytes > maxMaxBody {
		p.Add("config.max_body_bytes", "must be from 1 to %d", maxMaxBody)
	}
	switch c.IPVersion {
	case "any", "4", "6":
	default:
		p.Add("config.ip_version", "must be any, 4 or 6")
	}
	c.validateHeaders(p)
	c.validateAuth(p)
	if c.Resolver == "" {
		return
	}
	server, ok := parseResolver(c.Resolver)
	if !ok {
		p.Add("config.resolver", "must be the address of a DNS server, such as 192.0.2.53:53")
		return
	}
	c.Resolver = server
}

// validateHeaders refuses what would smuggle: controls, the host, and the names
// that steer the connection (RFC 9110 §7.6.1).
func (c *httpConfig) validateHeaders(p *uptime.Problems) {
	size := 0
	for name, value := range c.Headers {
		size += len(name) + len(value) + 4
		path := "config.headers." + clean(name, 60)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			p.Add(path, "is not a header name")
		case !httpguts.ValidHeaderFieldValue(value):
			p.Add(path, "holds a control character")
		}
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Trailer",
			"Transfer-Encoding", "Upgrade", "Content-Length", "Expect", "Http2-Settings":
			p.Add(path, "is set by Vedette and cannot be chosen")
		}
	}
	if size > maxRequestHead {
		p.Add("config.headers", "are larger than %d bytes together", maxRequestHead)
	}
}

func (c *httpConfig) validateAuth(p *uptime.Problems) {
	switch c.Auth.Kind {
	case "", "none":
		return
	case "basic":
		if c.Auth.Username == "" && c.Auth.Password == "" {
			p.Add("config.auth.username", "is missing")
		}
		if strings.Contains(c.Auth.Username, ":") {
			p.Add("config.auth.username", "must not hold a colon (RFC 7617)")
		}
	case "bearer":
		if c.Auth.Token == "" {
			p.Add("config.auth.token", "is missing")
		} else if !httpguts.ValidHeaderFieldValue(c.Auth.Token.Reveal()) {
			p.Add("config.auth.token", "holds a control character")
		}
	default:
		p.Add("config.auth.kind", "must be none, basic or bearer")
	}
	for name := range c.Headers {
		if http.CanonicalHeaderKey(name) == "Authorization" {
			p.Add("config.headers.Authorization", "and config.auth cannot both be there")
		}
	}
}

// secretValues are texts that no evidence may show. Very short ones would blot
// out ordinary words, and protect nothing.
func (c *httpConfig) secretValues() []string {
	all := []string{c.Auth.Password.Reveal(), c.Auth.Token.Reveal()}
	for k, v := range c.Headers {
		if isSensitive(k) {
			all = append(all, v)
		}
	}
	kept := all[:0]
	for _, s := range all {
		if len(s) >= 4 {
			kept = append(kept, s)
		}
	}
	sort.Slice(kept, func(i, j int) bool { return len(kept[i]) > len(kept[j]) })
	return kept
}

// parseResolver takes an address with or without a port.
func parseResolver(s string) (string, bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, 53).String(), true
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.String(), err == nil && ap.Port() != 0
}

// redactURL is u without credentials: no user, no fragment, and no values of
// query parameters that look like secrets.
func redactURL(u *url.URL) string {
	c := *u
	c.User, c.Fragment, c.RawFragment = nil, "", ""
	parts := strings.Split(c.RawQuery, "&")
	for i, part := range parts {
		if name, _, ok := strings.Cut(part, "="); ok && isSensitive(name) {
			parts[i] = name + "=" + uptime.Redacted
		}
	}
	c.RawQuery = strings.Join(parts, "&")
	return clean(c.String(), 2048)
}
