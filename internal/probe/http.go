package probe

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

// Bounds and defaults of the HTTP type.
const (
	defaultMaxBody  = 1 << 20
	defaultRedirect = 10
	maxRequestBody  = 1 << 20
	maxRequestHead  = 32 << 10
)

// httpConfig is the config of an HTTP monitor.
type httpConfig struct {
	Method          string     `json:"method" doc:"GET, HEAD, POST or another method, in capitals; not CONNECT or TRACE"`
	Headers         httpHeader `json:"headers" doc:"request headers; those that look like credentials are kept secret, and not sent to another host after a redirect"`
	BodyType        string     `json:"body_type" enum:"raw,json,form" doc:"what the request's body is: text as it stands, JSON, or the fields of form; json and form set Content-Type where headers do not"`
	Body            anyJSON    `json:"body" doc:"request body, 1 MiB at most: a string, sent as it is; with body_type json also any other JSON value"`
	Form            httpHeader `json:"form" doc:"fields of body_type form, encoded as a browser does; those that look like credentials are kept secret, and not sent to another host after a redirect"`
	FollowRedirects bool       `json:"follow_redirects" doc:"whether the answer judged is the one at the end of redirects"`
	MaxRedirects    int        `json:"max_redirects" min:"0" max:"50" doc:"more of them are down, redirect_limit"`
	AllowDowngrade  bool       `json:"allow_downgrade" doc:"whether a redirect from https to http may pass without degraded"`
	Auth            httpLogin  `json:"auth"`
	TLS             tlsConfig  `json:"tls"`
	netConfig
	Version       string        `json:"http_version" enum:"any,1.1,2,h2c" doc:"the version of HTTP: any and 1.1 are HTTP/1.1; 2 is HTTP/2 over TLS, and a server that does not speak it is down; h2c is HTTP/2 without TLS, spoken at once"`
	Proxy         string        `json:"proxy" doc:"the URL of a proxy to go through: http://, https:// or socks5://, without a user; the target's name is looked up by the proxy, so that --private-targets judges the proxy's address and a target written as an address, and not what a name means behind the proxy; the environment's proxies never count"`
	ProxyUsername uptime.Secret `json:"proxy_username" doc:"whom the proxy knows us as"`
	ProxyPassword uptime.Secret `json:"proxy_password" doc:"and how we prove it"`
	MaxBodyBytes  int64         `json:"max_body_bytes" min:"1" max:"16777216" doc:"unpacked bytes of the body that assertions look at; a larger body is down, body_too_large, if they cannot be judged without the rest"`
}

// httpAuth is how a monitor proves who it is with one header. Kind "" is none.
type httpAuth struct {
	Kind     string        `json:"kind" enum:"none,basic,bearer" doc:"how the monitor proves who it is"`
	Username string        `json:"username" doc:"of basic"`
	Password uptime.Secret `json:"password" doc:"of basic"`
	Token    uptime.Secret `json:"token" doc:"of bearer"`
}

// httpLogin is how an HTTP monitor proves who it is: with one header, or in two steps.
type httpLogin struct {
	Kind         string        `json:"kind" enum:"none,basic,bearer,digest,oauth2" doc:"how the monitor proves who it is; oauth2 is by client credentials (RFC 6749 §4.4)"`
	Username     string        `json:"username" doc:"of basic and digest"`
	Password     uptime.Secret `json:"password" doc:"of basic and digest"`
	Token        uptime.Secret `json:"token" doc:"of bearer"`
	TokenURL     string        `json:"token_url" doc:"of oauth2: where tokens are given out; trouble there is down, auth_failed"`
	ClientID     string        `json:"client_id" doc:"of oauth2"`
	ClientSecret uptime.Secret `json:"client_secret" doc:"of oauth2"`
	Scopes       []string      `json:"scopes" max:"50" doc:"of oauth2: what the token is to be good for"`
	Style        string        `json:"style" enum:"basic,body" doc:"of oauth2: whether the client proves itself in the Authorization header or in the form; a token is kept until shortly before it ends"`
}

// oneHeader is the part that needs no second step.
func (a httpLogin) oneHeader() httpAuth { return httpAuth{a.Kind, a.Username, a.Password, a.Token} }

// validate notes what is wrong with the credentials.
func (a httpLogin) validate(headers httpHeader, p *uptime.Problems) {
	one := a.oneHeader()
	switch {
	case a.Kind == "digest":
		one.Kind = "basic" // its rules are the same
	case a.Kind == "oauth2" && a.ClientID == "":
		p.Add("config.auth.client_id", "is missing")
	}
	one.validate(headers, p)
}

// httpHeader are headers or form fields to send; those that look like credentials
// are shown redacted.
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

// secrets are the values that are shown redacted.
func (h httpHeader) secrets() []string {
	var out []string
	for k, v := range h {
		if isSensitive(k) && v != "" {
			out = append(out, v, url.QueryEscape(v))
			if _, token, ok := strings.Cut(v, " "); ok && strings.EqualFold(k, "Authorization") {
				out = append(out, token) // behind a scheme such as Bearer; a target may repeat it alone
			}
		}
	}
	return out
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

// newHTTP is the "http" check type.
func newHTTP() Type {
	scratch := newScratchPool()
	return kind[httpConfig]{
		name:   "http",
		about:  "Makes a request and reads the answer to its end. Up is a status of 200 to 299 after redirects, unless an assertion is about the status.",
		target: urls("an `http://` or `https://` URL", webSchemes...),
		config: httpConfig{
			Method: http.MethodGet, FollowRedirects: true, MaxRedirects: defaultRedirect,
			TLS: defaultTLS(), netConfig: defaultNet(), MaxBodyBytes: defaultMaxBody,
		},
		sources: httpSources(),
		examples: []uptime.CheckExample{{
			Title: "An API that wants a token", Target: "https://api.example/v1/orders?limit=1",
			Config:     `{"auth":{"kind":"oauth2","token_url":"https://login.example/token","client_id":"monitor","client_secret":"secret","scopes":["orders.read"]}}`,
			Assertions: `[{"source":"json","property":"$.orders","op":"min_length","value":1}]`,
		}, {
			Title: "A log-in form that must let the monitor in", Target: "https://shop.example/login",
			Config:     `{"method":"POST","body_type":"form","form":{"user":"monitor","password":"secret"}}`,
			Assertions: `[{"source":"body","op":"contains","value":"Welcome"}]`,
		}, {
			Title: "A shop's health page that must say so", Target: "https://shop.example/health",
			Config: `{"headers":{"Accept":"application/json"},"auth":{"kind":"bearer","token":"secret"}}`,
			Assertions: `[{"source":"status","op":"in","value":"200-299"},{"source":"json","property":"$.status","op":"eq","value":"up"},
			 {"source":"duration","op":"lt","value":"2s","severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *httpConfig) Check { return compileHTTP(b, cfg, scratch) },
	}
}

// httpCheck is an HTTP monitor made ready.
type httpCheck struct {
	common    base
	cfg       httpConfig
	body      []byte       // of the request
	bodyType  string       // its Content-Type where the headers name none; "" is none
	request   []byte       // of the first hop, ready to send
	tokens    *tokenSource // nil unless auth is oauth2
	proxy     *httpProxy   // nil: connections are direct
	userAgent string
	wantsBody bool // some assertion reads it
	ownStatus bool // some assertion judges the status
	scratch   *scratchPool
}

func compileHTTP(b *builder, cfg *httpConfig, scratch *scratchPool) Check {
	cfg.validate(b.problems)
	b.network(cfg.netConfig)
	b.tls(cfg.TLS)
	b.base.tls.protocols = cfg.protocols()
	cfg.validateVersion(b.target, b.problems)
	b.base.secrets = addSecrets(b.base.secrets, slices.Concat(cfg.Headers.secrets(), cfg.Form.secrets(), cfg.Auth.encoded())...)
	c := &httpCheck{common: b.base, cfg: *cfg, userAgent: b.env.UserAgent, ownStatus: b.asserts("status"), scratch: scratch}
	c.body, c.bodyType = cfg.requestBody(b.problems)
	c.proxy = newHTTPProxy(cfg, b.problems)
	if c.proxy != nil {
		c.common.secrets = addSecrets(c.common.secrets, strings.TrimPrefix(c.proxy.login(), "Basic "))
	}
	c.tokens = newTokenSource(cfg.Auth, b.env.UserAgent, c.proxy, b.problems)
	for i := range c.common.assertions {
		c.wantsBody = c.wantsBody || c.common.assertions[i].stage == stageBody
	}
	if c.wantsBody && cfg.Method == http.MethodHead {
		b.problems.Add("config.method", "HEAD has no body for an assertion to look at; use GET")
	}
	if c.common.target.url != nil {
		c.request = c.buildRequest(c.firstHop())
	}
	return c
}

// httpSources are what an HTTP assertion may look at.
func httpSources() map[string]source {
	return merged(addressSource(), certSources(), map[string]source{
		"status": {about: "the status code; the value is codes and ranges such as \"200-299,301\"", ops: []string{"in", "not_in", "eq", "ne"}, compile: compileStatus},
		"body":   {about: "the unpacked body as text", ops: textOps, compile: compileBody},
		"json":   {about: "a value of a JSON body", property: "a JSONPath (RFC 9535)", ops: valueOps, compile: compileJSON},
		"header": {about: "a response header; several lines of it are joined with a comma", property: "the header's name", ops: append([]string{"exists", "not_exists"}, textOps...), compile: compileHeader},
		"xpath":  {about: "a part of an HTML or XML body: the text of the first node that is selected, without spaces around it; length counts the nodes", property: "an XPath 1.0 expression, for a body of 4 MiB at most", ops: valueOps, compile: compileXPath},
	})
}

// validate notes what is wrong with the values; the keys were checked before.
func (c *httpConfig) validate(p *uptime.Problems) {
	if !httpguts.ValidHeaderFieldName(c.Method) || c.Method != strings.ToUpper(c.Method) || len(c.Method) > 20 ||
		c.Method == http.MethodConnect || c.Method == http.MethodTrace {
		p.Add("config.method", "must be a method such as GET, HEAD or POST, in capitals; CONNECT and TRACE are not sent")
	}
	c.Headers.validate(p)
	c.Auth.validate(c.Headers, p)
}

// validate refuses what would smuggle: controls, the host, and the names that steer
// the connection (RFC 9110 §7.6.1).
func (h httpHeader) validate(p *uptime.Problems) {
	size := 0
	for name, value := range h {
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

// validate notes what is wrong with the credentials. headers are what is sent beside
// them.
func (a httpAuth) validate(headers httpHeader, p *uptime.Problems) {
	switch a.Kind {
	case "", "none":
		return
	case "basic":
		if a.Username == "" && a.Password == "" {
			p.Add("config.auth.username", "is missing")
		}
		if strings.Contains(a.Username, ":") || !httpguts.ValidHeaderFieldValue(a.Username) {
			p.Add("config.auth.username", "must not hold a colon (RFC 7617) or a control character")
		}
	case "bearer":
		if a.Token == "" {
			p.Add("config.auth.token", "is missing")
		} else if !httpguts.ValidHeaderFieldValue(a.Token.Reveal()) {
			p.Add("config.auth.token", "holds a control character")
		}
	}
	for name := range headers {
		if http.CanonicalHeaderKey(name) == "Authorization" {
			p.Add("config.headers.Authorization", "and config.auth cannot both be there")
		}
	}
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
