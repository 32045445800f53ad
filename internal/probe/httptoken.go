package probe

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

const (
	maxTokenAnswer = 64 << 10
	// tokenTime is how long a token is used whose endpoint does not say (expires_in is
	// only recommended, RFC 6749 §5.1). One that ends sooner is fetched again after a 401.
	tokenTime = 5 * time.Minute
)

// tokenSource gets access tokens by client credentials (RFC 6749 §4.4), and keeps one
// for the runs of its check.
type tokenSource struct {
	to      target
	request []byte

	mu    sync.Mutex // guards what follows
	token string
	until time.Time
}

// newTokenSource is nil for other kinds of auth.
func newTokenSource(a httpLogin, userAgent string, proxy *httpProxy, p *uptime.Problems) *tokenSource {
	if a.Kind != "oauth2" {
		return nil
	}
	to, err := parseURL(a.TokenURL, webSchemes)
	if err != nil {
		p.Add("config.auth.token_url", "%v", err)
		return nil
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(a.Scopes) > 0 {
		form.Set("scope", strings.Join(a.Scopes, " "))
	}
	uri, login := proxy.formOf(hop{target: to})
	if a.Style == "body" {
		form.Set("client_id", a.ClientID)
		form.Set("client_secret", a.ClientSecret.Reveal())
	} else {
		login += "Authorization: Basic " + a.clientLogin() + "\r\n"
	}
	body := form.Encode()
	return &tokenSource{to: to, request: []byte("POST " + uri + " HTTP/1.1\r\nHost: " + to.hostHeader() + "\r\n" + login +
		"User-Agent: " + userAgent + "\r\nAccept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		"Connection: close\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)}
}

// clientLogin is the client's name and secret, encoded first as forms are (§2.3.1).
func (a httpLogin) clientLogin() string {
	return base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(a.ClientID) + ":" + url.QueryEscape(a.ClientSecret.Reveal())))
}

// kept is the token that is still good, or "".
func (s *tokenSource) kept() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return s.token
	}
	return ""
}

// keep keeps a token until shortly before it ends.
func (s *tokenSource) keep(token string, lasts time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.until = token, time.Now().Add(lasts-max(lasts/10, 10*time.Second))
}

// bearer has the hop's credentials be a token: the kept one, or a fresh one. Whatever
// is wrong with the endpoint is auth_failed: nothing was asked of the target yet.
func (r *httpRun) bearer(fresh bool) *fault {
	token := r.tokens.kept()
	if fresh || token == "" {
		own := r.hop
		r.hop = hop{target: r.tokens.to, method: http.MethodPost}
		var f *fault
		if token, f = r.fetchToken(); f != nil {
			if f.verdict == uptime.VerdictDown {
				f.reason, f.message = uptime.AuthFailed, "The token endpoint gave no token. "+f.message
			}
			r.response, r.body = nil, bodyResult{} // its answer may hold secrets
			return f
		}
		r.hop, r.response, r.body, r.tlsTrace = own, nil, bodyResult{}, tlsTrace{}
	}
	r.learned = addSecrets(r.learned, token)
	r.hop.authorization = "Bearer " + token
	return nil
}

// fetchToken asks the endpoint, which must answer itself: a redirect would carry the
// client's secret elsewhere.
func (r *httpRun) fetchToken() (string, *fault) {
	conn, f := r.open()
	if f != nil {
		return "", f
	}
	defer func() { _ = conn.Close() }()
	first, f := r.ask(conn, r.tokens.request)
	if f != nil {
		return "", f
	}
	if status := r.response.StatusCode; isRedirect(status) {
		return "", down(uptime.AuthFailed, "It redirects (status %d), which is not followed; config.auth.token_url must be the address itself.", status)
	}
	r.source.left = -1
	r.body = r.readBody(r.ctx, r.response, maxTokenAnswer, maxTokenAnswer)
	r.phases.Transfer += time.Since(first)
	if f := r.bodyFault(); f != nil {
		return "", f
	}
	return r.readToken()
}

// readToken reads the endpoint's answer (§5.1, §5.2).
func (r *httpRun) readToken() (string, *fault) {
	var answer struct {
		Token   string          `json:"access_token"`
		Type    string          `json:"token_type"`
		Expires json.RawMessage `json:"expires_in"`
		Error   string          `json:"error"`
	}
	err := json.Unmarshal(bytes.TrimPrefix(r.body.kept, []byte(utf8BOM)), &answer)
	// The standard's is 200; some say 201, as to any POST, and golang.org/x/oauth2 takes that.
	if status := r.response.StatusCode; status < 200 || status > 299 || err == nil && answer.Token == "" && answer.Error != "" {
		return "", down(uptime.AuthFailed, "It answered with status %d %s.", status, clean(answer.Error, 60))
	}
	switch {
	case err != nil || answer.Token == "":
		return "", down(uptime.AuthFailed, "Its answer holds no access_token.")
	case answer.Type != "" && !strings.EqualFold(answer.Type, "bearer"):
		return "", down(uptime.AuthFailed, "Its token is of type %s, not bearer.", clean(answer.Type, 40))
	case !httpguts.ValidHeaderFieldValue(answer.Token):
		return "", down(uptime.AuthFailed, "Its token holds a control character.")
	}
	lasts := tokenTime // also where expires_in cannot be read; some send it as a string
	if seconds, err := strconv.ParseFloat(strings.Trim(string(answer.Expires), `"`), 64); err == nil && !math.IsNaN(seconds) {
		lasts = time.Duration(max(0, min(seconds, 86400)) * float64(time.Second))
	}
	r.tokens.keep(answer.Token, lasts)
	return answer.Token, nil
}
