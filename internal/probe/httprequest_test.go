package probe

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vedette/internal/uptime"
)

// httpServer serves over the standard library, which reads requests strictly.
func httpServer(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL
}

func TestRequestBodies(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ config, body, contentType string }{
		"text goes as it is":                 {`{"method":"POST","body":"a=b\u0000c"}`, "a=b\x00c", ""},
		"a JSON object goes as JSON":         {`{"method":"POST","body_type":"json","body":{"a":[1,null]}}`, `{"a":[1,null]}`, "application/json"},
		"a JSON number does too":             {`{"method":"PUT","body_type":"json","body":1e3}`, `1e3`, "application/json"},
		"JSON written as text is not quoted": {`{"method":"POST","body_type":"json","body":"{\"a\":1}"}`, `{"a":1}`, "application/json"},
		"a header names the type":            {`{"method":"POST","body_type":"json","body":[],"headers":{"content-type":"application/ld+json"}}`, `[]`, "application/ld+json"},
		"a form is encoded":                  {`{"method":"POST","body_type":"form","form":{"b":"ü &","a":"1"}}`, "a=1&b=%C3%BC+%26", "application/x-www-form-urlencoded"},
		"a GET may have a body":              {`{"body":"q"}`, "q", ""},
		"null is no body":                    {`{"method":"POST","body":null}`, "", ""},
		"large text goes whole":              {`{"method":"POST","body":"` + strings.Repeat("x", maxRequestBody) + `"}`, strings.Repeat("x", maxRequestBody), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			target := httpServer(t, func(_ http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got <- r.Header.Get("Content-Type") + "|" + string(b)
			})
			check(t, run(t, uptime.Monitor{Target: target, Config: json.RawMessage(tt.config)}), uptime.VerdictUp, "")
			if g, want := <-got, tt.contentType+"|"+tt.body; g != want {
				t.Errorf("the server got %.200q, want %.200q", g, want)
			}
		})
	}
}

func TestFormCredentialsStayAtTheirSite(t *testing.T) {
	t.Parallel()
	other := httpServer(t, func(http.ResponseWriter, *http.Request) { t.Error("another site was asked") })
	target := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/leaves" {
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
			return
		}
		http.Error(w, "you sent "+r.FormValue("password"), http.StatusForbidden)
	})
	config := json.RawMessage(`{"method":"POST","body_type":"form","form":{"password":"p@ss-canary"}}`)
	out := run(t, uptime.Monitor{Target: target + "/leaves", Config: config})
	check(t, out, uptime.VerdictDown, uptime.RedirectBad)
	out = run(t, uptime.Monitor{Target: target, Config: config})
	check(t, out, uptime.VerdictDown, uptime.HTTPStatus)
	if evidence, _ := json.Marshal(out.Evidence); bytes.Contains(evidence, []byte("canary")) {
		t.Errorf("evidence holds a secret: %s", evidence)
	}
	shown, err := New(testEnv()).Redact("http", config)
	if err != nil || bytes.Contains(shown, []byte("canary")) {
		t.Errorf("Redact = %s, %v, want no secret", shown, err)
	}
}

func TestTheFormExampleWorks(t *testing.T) {
	t.Parallel()
	target := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.PostFormValue("user") != "monitor" || r.PostFormValue("password") != "secret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, "Welcome")
	})
	runExample(t, "http", 1, target, nil)
}
