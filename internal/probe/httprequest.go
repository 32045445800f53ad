package probe

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"vedette/internal/uptime"
)

// hostHeader is the value of Host: the port only where it is not the scheme's.
func (t target) hostHeader() string {
	host := strings.TrimSuffix(t.host, ".")
	if strings.Contains(host, ":") {
		host, _, _ = strings.Cut(host, "%") // a zone is of this machine only
		host = "[" + host + "]"
	}
	if t.secure && t.port == 443 || !t.secure && t.port == 80 {
		return host
	}
	return host + ":" + strconv.Itoa(int(t.port))
}

// sameSite reports whether credentials meant for t may go to o: the same host on
// the same port, or on https after http. Never from https to http.
func (t target) sameSite(o target) bool {
	if t.host != o.host || t.secure && !o.secure {
		return false
	}
	return t.port == o.port || !t.secure && t.port == 80 && o.secure && o.port == 443
}

// hop is one request of a check.
type hop struct {
	target
	method   string
	own      bool // still the site the monitor names: credentials may go along
	dropBody bool // a redirect turned the request into a GET
	// authorization is the header of that name, for the own site; "" sends none.
	authorization string
}

// firstHop is the request to the monitor's own target.
func (c *httpCheck) firstHop() hop {
	return hop{target: c.common.target, method: c.cfg.Method, own: true, authorization: c.cfg.Auth.oneHeader().header()}
}

// buildRequest is the request as bytes. Away from the monitor's own site only
// headers that cannot be credentials are sent.
func (c *httpCheck) buildRequest(h hop) []byte {
	b := make([]byte, 0, 512+len(c.body))
	uri, login := c.proxy.formOf(h)
	b = append(b, h.method+" "+uri+" HTTP/1.1\r\nHost: "+h.hostHeader()+"\r\n"+login...)
	seen := map[string]bool{}
	for name, value := range c.cfg.Headers {
		key := http.CanonicalHeaderKey(name)
		if !h.own && !travels(key) || h.dropBody && strings.HasPrefix(key, "Content-") {
			continue
		}
		seen[key] = true
		b = append(b, name+": "+value+"\r\n"...)
	}
	add := func(name, value string) {
		if !seen[name] {
			b = append(b, name+": "+value+"\r\n"...)
		}
	}
	add("User-Agent", c.userAgent)
	add("Accept", "*/*")
	add("Accept-Encoding", "gzip")
	if c.bodyType != "" && !h.dropBody {
		add("Content-Type", c.bodyType)
	}
	if h.own && h.authorization != "" {
		add("Authorization", h.authorization)
	}
	b = append(b, "Connection: close\r\n"...)
	if h.dropBody || len(c.body) == 0 && (h.method == http.MethodGet || h.method == http.MethodHead) {
		return append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "+strconv.Itoa(len(c.body))+"\r\n\r\n"...)
	return append(b, c.body...)
}

// requestBody is the body to send and its type.
func (c *httpConfig) requestBody(p *uptime.Problems) (body []byte, contentType string) {
	text, isText := stringValue(json.RawMessage(c.Body))
	switch {
	case c.BodyType == "form" && (text != "" || !isText && len(c.Body) > 0):
		p.Add("config.body", "is not for body_type form; write the fields into config.form")
	case c.BodyType != "form" && len(c.Form) > 0:
		p.Add("config.form", "is for body_type form only")
	}
	switch c.BodyType {
	case "form":
		values := url.Values{}
		for name, value := range c.Form {
			values.Set(name, value)
		}
		body, contentType = []byte(values.Encode()), "application/x-www-form-urlencoded"
	case "json":
		// A string is JSON already written down, as a text field of a form holds it.
		body, contentType = []byte(c.Body), "application/json"
		if isText {
			body = []byte(text)
		}
		if !json.Valid(body) {
			p.Add("config.body", "is not JSON; body_type raw sends any text")
		}
	default:
		body = []byte(text)
		if len(c.Body) > 0 && !isText {
			p.Add("config.body", "must be a string; body_type json sends other values")
		}
	}
	if len(body) > maxRequestBody {
		p.Add("config.body", "is larger than %d bytes", maxRequestBody)
	}
	return body, contentType
}

// travels reports whether a header may follow a redirect to another site.
func travels(key string) bool {
	switch key {
	case "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "Pragma", "User-Agent":
		return true
	}
	return false
}

// encoded are forms of the credentials that a target may echo.
func (a httpLogin) encoded() []string {
	switch a.Kind {
	case "basic":
		return a.oneHeader().encoded()
	case "oauth2":
		return []string{a.clientLogin(), url.QueryEscape(a.ClientSecret.Reveal())}
	}
	return nil
}

// encoded is as that of httpLogin.
func (a httpAuth) encoded() []string {
	if a.Kind != "basic" {
		return nil
	}
	return []string{strings.TrimPrefix(a.header(), "Basic ")}
}

func (a httpAuth) header() string {
	switch a.Kind {
	case "basic":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password.Reveal()))
	case "bearer":
		return "Bearer " + a.Token.Reveal()
	}
	return ""
}

// isRedirect reports whether status is one to follow.
func isRedirect(status int) bool {
	switch status {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// next is the hop that a redirect asks for.
func (h hop) next(status int, header http.Header) (hop, *fault) {
	location := header.Get("Location")
	if location == "" {
		return hop{}, down(uptime.RedirectBad, "Status %d is a redirect without a Location.", status)
	}
	u, err := url.Parse(strings.TrimSpace(location))
	if err != nil {
		return hop{}, down(uptime.RedirectBad, "The redirect's Location is not a URL.")
	}
	u = h.url.ResolveReference(u)
	u.User = nil // credentials a server hands out are not ours to send
	t, err := targetOf(u, webSchemes)
	if err != nil {
		return hop{}, down(uptime.RedirectBad, "The redirect's Location %v.", err)
	}
	n := hop{target: t, method: h.method, own: h.own && h.sameSite(t), dropBody: h.dropBody, authorization: h.authorization}
	// RFC 9110 §15.4: 303 always becomes a GET, 301 and 302 by custom when it was a POST.
	if status == 303 && h.method != http.MethodHead || (status == 301 || status == 302) && h.method == http.MethodPost {
		n.method, n.dropBody = http.MethodGet, true
	}
	return n, nil
}
