package probe

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/uptime"
)

// TestDigestVectors is RFC 7616 §3.9.1, and §3.5 of RFC 2617.
func TestDigestVectors(t *testing.T) {
	t.Parallel()
	const head = `Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=%s, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	login := digestLogin{"Mufasa", "Circle of Life", "GET", "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"}
	md5Head, shaHead := fmt.Sprintf(head, "MD5"), fmt.Sprintf(head, "SHA-256")
	for name, tt := range map[string]struct {
		login  digestLogin
		values []string
		want   []string
	}{
		"MD5":                 {login, []string{md5Head}, []string{`response="8ca523f5e9506fed4657c9700eebdbec"`, `opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`, "algorithm=MD5", "qop=auth, nc=00000001"}},
		"SHA-256":             {login, []string{shaHead}, []string{`response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"`, "algorithm=SHA-256"}},
		"the stronger of two": {login, []string{md5Head, shaHead}, []string{"algorithm=SHA-256"}},
		"two in one line":     {login, []string{`Basic realm="a, Digest b", ` + md5Head + `, Negotiate`}, []string{`response="8ca523f5e9506fed4657c9700eebdbec"`}},
		"no qop (RFC 2069)":   {digestLogin{"Mufasa", "CircleOfLife", "GET", "/dir/index.html", ""}, []string{`Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"`}, []string{`response="1949323746fe6a43ef61f9606e7febea"`}},
		"space around equals": {login, []string{strings.NewReplacer("=", " = ", "Digest ", "Digest\t").Replace(`Digest realm="http-auth@example.org", qop="auth", algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"`)}, []string{`response="8ca523f5e9506fed4657c9700eebdbec"`}},
		"empty items":         {login, []string{", " + strings.Replace(md5Head, ",", ",,", 1) + ","}, []string{`response="8ca523f5e9506fed4657c9700eebdbec"`}},
		"only auth-int":       {login, []string{`Digest realm="a", qop="auth-int", nonce="b"`}, nil},
		"another algorithm":   {login, []string{`Digest realm="a", qop="auth", nonce="b", algorithm=ROT13`}, nil},
		"no nonce":            {login, []string{`Digest realm="a", qop="auth"`}, nil},
		"another scheme":      {login, []string{`Basic realm="Digest realm", nonce="x"`, "Negotiate"}, nil},
		"quotes in the realm": {login, []string{`digest realm="a \"b\", c", nonce="n"`}, []string{`realm="a \"b\", c"`}},
	} {
		got := tt.login.answer(digestChallenges(tt.values))
		if tt.want == nil && got != "" {
			t.Errorf("%s: %s, want no answer", name, got)
		}
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s, want it to hold %s", name, got, want)
			}
		}
	}
}

func FuzzDigestChallenge(f *testing.F) {
	f.Add(`Digest realm="a", nonce="b", qop="auth"`)
	f.Add(`Basic realm="x, y", Digest nonce="\"", algorithm=SHA-256-sess`)
	f.Fuzz(func(t *testing.T, value string) {
		answer := digestLogin{"u", "p", "GET", "/", "c"}.answer(digestChallenges([]string{value}))
		if answer != "" && !strings.HasPrefix(answer, "Digest ") {
			t.Errorf("%q makes %q", value, answer)
		}
	})
}

// digestServer lets Mufasa in, and counts what it was asked. What it expects is
// computed here from RFC 7616's words, not by the code under test.
func digestServer(t *testing.T, algorithm string) (target string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	sum := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	return httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := fmt.Sprint("nonce", asked.Add(1))
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		p := url.Values{}
		for _, item := range strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Digest "), ", ") {
			k, v, _ := strings.Cut(item, "=")
			p.Set(k, strings.Trim(v, `"`))
		}
		secret := sum("Mufasa:lions:Circle of Life")
		if algorithm == "MD5-sess" {
			secret = sum(secret + ":" + p.Get("nonce") + ":" + p.Get("cnonce"))
		}
		want := sum(secret + ":" + p.Get("nonce") + ":00000001:" + p.Get("cnonce") + ":auth:" + sum(r.Method+":"+r.URL.RequestURI()))
		if p.Get("response") != want || p.Get("uri") != r.URL.RequestURI() {
			w.Header().Add("WWW-Authenticate", `Basic realm="lions"`)
			w.Header().Add("WWW-Authenticate", `Digest realm="lions", qop="auth", algorithm=`+algorithm+`, nonce="`+n+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.Copy(w, r.Body)
		_, _ = io.WriteString(w, "hello Mufasa")
	}), asked
}

func TestDigest(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		algorithm, path, config string
		verdict                 uptime.Verdict
		requests                int32
	}{
		"the right password is up":      {"MD5", "/a?b=c", `{"auth":{"kind":"digest","username":"Mufasa","password":"Circle of Life"}}`, uptime.VerdictUp, 2},
		"of a session too":              {"MD5-sess", "/", `{"auth":{"kind":"digest","username":"Mufasa","password":"Circle of Life"}}`, uptime.VerdictUp, 2},
		"with a body":                   {"MD5", "/", `{"method":"POST","body":"x","auth":{"kind":"digest","username":"Mufasa","password":"Circle of Life"}}`, uptime.VerdictUp, 2},
		"after a redirect":              {"MD5", "/moved", `{"auth":{"kind":"digest","username":"Mufasa","password":"Circle of Life"}}`, uptime.VerdictUp, 3},
		"a wrong password is not":       {"MD5", "/", `{"auth":{"kind":"digest","username":"Mufasa","password":"Scar-canary"}}`, uptime.VerdictDown, 2},
		"an unknown algorithm is asked": {"ROT13", "/", `{"auth":{"kind":"digest","username":"Mufasa","password":"Circle of Life"}}`, uptime.VerdictDown, 1},
		"none sent unasked":             {"MD5", "/", `{}`, uptime.VerdictDown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, asked := digestServer(t, tt.algorithm)
			m := uptime.Monitor{Target: target + tt.path, Config: json.RawMessage(tt.config)}
			reason := uptime.HTTPStatus
			if tt.verdict == uptime.VerdictUp {
				m.Assertions, reason = []uptime.Assertion{assert("body", "", "contains", "hello Mufasa")}, ""
			}
			check(t, run(t, m), tt.verdict, reason)
			if n := asked.Load(); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
		})
	}
}

func TestDigestCredentialsStayAtTheirSite(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 9)
	other := serve(t, func(c net.Conn, head string) {
		heads <- head
		_, _ = io.WriteString(c, "HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"lions\", qop=\"auth\", nonce=\"n\"\r\nContent-Length: 0\r\n\r\n")
	})
	target := httpServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://"+other, http.StatusFound) })
	check(t, run(t, uptime.Monitor{Target: target, Config: json.RawMessage(`{"auth":{"kind":"digest","username":"u","password":"p"}}`)}), uptime.VerdictDown, uptime.HTTPStatus)
	if h := <-heads; strings.Contains(h, "Authorization") || len(heads) > 0 {
		t.Errorf("another site got %q and %d more requests, want no answer to its challenge", h, len(heads))
	}
}

// tokenLab is a token endpoint and an API that takes its tokens.
type tokenLab struct {
	endpoint, api  string
	given, refused atomic.Int32
	valid          atomic.Value // the token that the API takes
	answer         atomic.Value // what the endpoint answers, %s is a new token; "" is 401, and "201 " before it that status
}

func newTokenLab(t *testing.T) *tokenLab {
	t.Helper()
	lab := &tokenLab{}
	lab.answer.Store(`{"access_token":"%s","token_type":"Bearer","expires_in":3600}`)
	lab.endpoint = httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		id, secret, basic := r.BasicAuth()
		if !basic {
			id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		}
		token := fmt.Sprint("t0ken-canary-", lab.given.Add(1))
		answer, created := strings.CutPrefix(lab.answer.Load().(string), "201 ")
		if r.PostFormValue("grant_type") != "client_credentials" || id != "monitor" || secret != "s3cret%2Bcanary" && secret != "s3cret+canary" || answer == "" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
			return
		}
		lab.valid.Store(token)
		if strings.HasPrefix(answer, "http") {
			http.Redirect(w, r, answer, http.StatusTemporaryRedirect)
			return
		}
		if created {
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(answer, "%s", token))
	})
	lab.api = httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if token, _ := lab.valid.Load().(string); token == "" || r.Header.Get("Authorization") != "Bearer "+token {
			lab.refused.Add(1)
			http.Error(w, "you sent "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"orders":[1]}`)
	})
	return lab
}

func (lab *tokenLab) compile(t *testing.T, style, secret, endpoint string) Check {
	t.Helper()
	config, _ := json.Marshal(map[string]any{"auth": map[string]any{
		"kind": "oauth2", "token_url": endpoint, "client_id": "monitor", "client_secret": secret, "scopes": []string{"a", "b"}, "style": style}})
	c, err := New(testEnv()).Compile(uptime.Monitor{Type: "http", Target: lab.api, Config: config, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokensAreKeptAndFetchedAgain(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"basic", "body"} {
		lab := newTokenLab(t)
		c := lab.compile(t, style, "s3cret+canary", lab.endpoint+"/token?x=y")
		given := func(what string, want int32) {
			t.Helper()
			if n := lab.given.Load(); n != want {
				t.Errorf("%s, %s: %d tokens were given out, want %d", style, what, n, want)
			}
		}
		for range 3 {
			check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUp, "")
		}
		given("three checks", 1)
		lab.valid.Store("revoked")
		check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUp, "")
		given("a revoked token", 2)
		lab.answer.Store(`{"access_token":"wrong-canary","expires_in":"3600"}`)
		lab.valid.Store("revoked")
		c.Run(t.Context(), Attempt{})
		lab.valid.Store("revoked")
		out := c.Run(t.Context(), Attempt{})
		if evidence, _ := json.Marshal(out); bytes.Contains(evidence, []byte("canary")) {
			t.Errorf("outcome holds a secret: %s", evidence)
		}
		check(t, out, uptime.VerdictDown, uptime.HTTPStatus)
		given("a token that is refused, in two checks", 4)
		lab.answer.Store(`{"access_token":"%s","expires_in":5}`)
		for range 2 {
			check(t, c.Run(t.Context(), Attempt{}), uptime.VerdictUp, "")
		}
		given("tokens that end at once", 6)
	}
}

// Endpoints go further than RFC 6749 §5.1 lets them, and clients with them.
func TestTokensOfUnusualAnswers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer string
		given  int32 // in two checks
	}{
		"a lifetime as text":        {`{"access_token":"%s","expires_in":"3600"}`, 1},
		"a lifetime with fractions": {`{"access_token":"%s","expires_in":3599.97}`, 1},
		"an empty lifetime":         {`{"access_token":"%s","expires_in":""}`, 1},
		"a lifetime in words":       {`{"access_token":"%s","expires_in":"never"}`, 1},
		"a lifetime that is none":   {`{"access_token":"%s","expires_in":"NaN"}`, 1},
		"a lifetime of an object":   {`{"access_token":"%s","expires_in":{}}`, 1},
		"a lifetime below zero":     {`{"access_token":"%s","expires_in":-1e300}`, 2},
		"no lifetime":               {`{"access_token":"%s","expires_in":null}`, 1},
		"a byte order mark":         {"\xef\xbb\xbf" + `{"access_token":"%s"}`, 1},
		"status 201":                {`201 {"access_token":"%s"}`, 1},
	} {
		lab := newTokenLab(t)
		lab.answer.Store(tt.answer)
		c := lab.compile(t, "", "s3cret+canary", lab.endpoint)
		for range 2 {
			if out := c.Run(t.Context(), Attempt{}); out.Verdict != uptime.VerdictUp {
				t.Errorf("%s: %s %s (%s), want up", name, out.Verdict, out.Reason, out.Message)
			}
		}
		if n := lab.given.Load(); n != tt.given {
			t.Errorf("%s: %d tokens in two checks, want %d", name, n, tt.given)
		}
	}
}

func TestTroubleAtTheTokenEndpointSaysSo(t *testing.T) {
	t.Parallel()
	elsewhere := httpServer(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect of the token endpoint was followed") })
	for name, tt := range map[string]struct{ answer, secret, endpoint, says string }{
		"a wrong secret":          {"", "wrong-canary", "", "401 invalid_client"},
		"no JSON":                 {"<html>", "", "", "no access_token"},
		"an error as status 200":  {`{"error":"invalid_scope"}`, "", "", "invalid_scope"},
		"no token":                {`{"expires_in":1}`, "", "", "no access_token"},
		"a token of another sort": {`{"access_token":"x","token_type":"mac"}`, "", "", "mac"},
		"a token of two lines":    {`{"access_token":"x\r\nHost: y"}`, "", "", "control"},
		"a redirect":              {elsewhere, "", "", "redirects"},
		"nobody there":            {"", "", "http://127.0.0.1:1/", "refused the connection"},
		"no HTTP there":           {"", "", "http://" + serve(t, says("SSH-2.0-x\r\n")), "does not speak HTTP"},
		"a body without end":      {"", "", "http://" + serve(t, says("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")), "before the body was complete"},
		"a server error":          {"", "", "http://" + serve(t, says("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")), "500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := newTokenLab(t)
			lab.answer.Store(tt.answer)
			if tt.secret == "" {
				tt.secret = "s3cret+canary"
			}
			if tt.endpoint == "" {
				tt.endpoint = lab.endpoint
			}
			out := lab.compile(t, "", tt.secret, tt.endpoint).Run(t.Context(), Attempt{})
			check(t, out, uptime.VerdictDown, uptime.AuthFailed)
			if !strings.Contains(out.Message, "token endpoint") || !strings.Contains(out.Message, tt.says) {
				t.Errorf("message %q, want the token endpoint and %q", out.Message, tt.says)
			}
			if evidence, _ := json.Marshal(out); bytes.Contains(evidence, []byte("canary")) {
				t.Errorf("outcome holds a secret: %s", evidence)
			}
			if lab.refused.Load() != 0 {
				t.Error("the target was asked without a token")
			}
		})
	}
}

func TestTheGuardJudgesTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	lab := newTokenLab(t)
	out := lab.compile(t, "", "s3cret+canary", "http://169.254.169.254/latest").Run(t.Context(), Attempt{})
	check(t, out, uptime.VerdictUnknown, uptime.Blocked)
}

func TestTheTokenExampleWorks(t *testing.T) {
	t.Parallel()
	lab := newTokenLab(t)
	runExample(t, "http", 0, lab.api, func(config map[string]any) {
		auth := config["auth"].(map[string]any)
		auth["token_url"], auth["client_secret"] = lab.endpoint, "s3cret+canary"
	})
}

// A type that sends one header must not take a login that needs two steps: it would
// never be made.
func TestOnlyHTTPTakesLoginsOfTwoSteps(t *testing.T) {
	t.Parallel()
	config := json.RawMessage(`{"auth":{"kind":"digest","username":"u","password":"p"}}`)
	for typ, target := range map[string]string{"http": "http://a.example", "websocket": "ws://a.example"} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: typ, Target: target, Config: config})
		if refused := uptime.Is(err, uptime.Invalid); refused != (typ != "http") {
			t.Errorf("%s with digest: %s", typ, compactProblems(err))
		}
	}
}
