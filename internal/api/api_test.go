package api_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

const good = `{"name":"Shop","type":"http","target":"https://shop.example/","config":{"password":"canary-secret"}}`

func TestOpenAPIIsTheGolden(t *testing.T) {
	t.Parallel()
	_, got := newWorld(t).do("", "GET", "/openapi.json", "")
	const file = "testdata/openapi.golden.json"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("the API's description changed: look at it with go test ./internal/api -update and git diff")
	}
}

// Every route of the document, asked by everybody who must not.
func TestEveryRouteKeepsOthersOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if res, body := w.do("other", "POST", "/api/v1/monitors", good); res.StatusCode != 201 {
		t.Fatalf("create: %d %s", res.StatusCode, body)
	}
	_, spec := w.do("", "GET", "/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]struct {
			Permission string `json:"x-permission"`
		}
	}
	if err := json.Unmarshal([]byte(spec), &doc); err != nil {
		t.Fatal(err)
	}
	routes := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			routes++
			method, url := strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "1")
			want := map[string]int{"": 401}
			switch op.Permission {
			case "public":
				continue
			case "write":
				want["viewer"], want["reader"] = 403, 403
			case "private":
				want["viewer"] = 403
			case "credentials", "admin":
				want["admin"], want["viewer"], want["reader"] = 403, 403, 403
			case "read", "self":
			default:
				t.Errorf("%s %s declares permission %q", method, path, op.Permission)
			}
			if strings.HasPrefix(path, "/api/v1/monitors/{id}") && method != "PUT" && (op.Permission == "write" && method == "POST" || strings.HasSuffix(path, "{id}") && method == "GET") {
				want["editor"] = 404
			}
			for who, status := range want {
				if res, body := w.do(who, method, url, ""); res.StatusCode != status {
					t.Errorf("%s %s by %q: got %d, want %d: %s", method, path, who, res.StatusCode, status, body)
				}
			}
		}
	}
	if routes < 30 {
		t.Errorf("walked %d routes only", routes)
	}
}

func TestBadInputNamesItsFieldAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name, body string
		status     int
		fields     []string
	}{
		{"every wrong field at once", `{"name":"a\u000ab","type":"http","target":"x","interval":"1ms","timeout":"9h"}`, 422, []string{"name", "target", "interval", "timeout"}},
		{"a number is no duration", `{"name":"a","type":"http","target":"http://x","interval":"30"}`, 422, []string{"interval"}},
		{"an unknown type", `{"name":"a","type":"ftp","target":"http://x"}`, 422, []string{"type"}},
		{"an owner cannot be chosen", `{"name":"a","type":"http","target":"http://x","owner_id":1}`, 422, []string{"owner_id"}},
		{"an id cannot be chosen", `{"name":"a","type":"http","target":"http://x","id":1}`, 422, []string{"id"}},
		{"a password in the target", `{"name":"a","type":"http","target":"http://u:canary-secret@x"}`, 422, []string{"target"}},
		{"a placeholder without a secret", `{"name":"a","type":"http","target":"http://x","config":{"password":"***"}}`, 422, []string{"config.password"}},
		{"a key given twice", `{"name":"a","name":"b","type":"http","target":"http://x"}`, 400, nil},
		{"no JSON", `{`, 400, nil},
	} {
		res, body := w.do("editor", "POST", "/api/v1/monitors", c.body)
		if res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d %s, want %d: %s", c.name, res.StatusCode, res.Header.Get("Content-Type"), c.status, body)
		}
		for _, f := range c.fields {
			if !strings.Contains(body, `"location":"`+f+`"`) {
				t.Errorf("%s: %s is not named in %s", c.name, f, body)
			}
		}
		if strings.Contains(body, "canary") {
			t.Errorf("%s: the answer repeats a secret: %s", c.name, body)
		}
	}
	if len(w.store.monitors) != 0 {
		t.Errorf("rejected requests made %d monitors", len(w.store.monitors))
	}
}

func TestUpdatesNeedTheCurrentETagAndKeepSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res, body := w.do("editor", "POST", "/api/v1/monitors", good)
	if strings.Contains(body, "canary") || !strings.Contains(body, "nobody is told") {
		t.Errorf("created: %s", body)
	}
	tag := res.Header.Get("ETag")
	changed := strings.Replace(good, "canary-secret", "***", 1)
	for _, c := range []struct {
		name, tag string
		status    int
	}{{"without If-Match", "", 428}, {"stale", `"9"`, 412}, {"current", tag, 200}, {"the same again", tag, 412}} {
		if res, body := w.do("editor", "PUT", "/api/v1/monitors/1", changed, "If-Match", c.tag); res.StatusCode != c.status {
			t.Errorf("%s: got %d, want %d: %s", c.name, res.StatusCode, c.status, body)
		}
	}
	if got := string(w.store.monitors[1].Config); !strings.Contains(got, "canary-secret") {
		t.Errorf("the stored secret is gone: %s", got)
	}
	if strings.Contains(w.log.String(), "canary") || strings.Contains(w.log.String(), "vdt_") {
		t.Errorf("the log holds a secret:\n%s", w.log)
	}
}

func TestARepeatedCreateDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, first := w.do("editor", "POST", "/api/v1/monitors", good, "Idempotency-Key", "k1")
	_, second := w.do("editor", "POST", "/api/v1/monitors", good, "Idempotency-Key", "k1")
	if first != second || len(w.store.monitors) != 1 {
		t.Errorf("got %d monitors; first %s second %s", len(w.store.monitors), first, second)
	}
	if res, _ := w.do("editor", "POST", "/api/v1/monitors", strings.Replace(good, "Shop", "Other", 1), "Idempotency-Key", "k1"); res.StatusCode != 409 {
		t.Errorf("the key with another body: got %d, want 409", res.StatusCode)
	}
}

func TestSessionsAreFreshRevocableAndSameSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	login := `{"email":"editor@example.org","password":"` + password + `"}`
	res, body := w.do("", "POST", "/api/v1/sessions", login, "Cookie", "vedette_session=planted")
	if res.StatusCode != 201 || len(res.Cookies()) != 1 {
		t.Fatalf("log in: %d %s", res.StatusCode, body)
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Value == "planted" {
		t.Errorf("cookie: %+v", c)
	}
	cookie := c.Name + "=" + c.Value
	if res, _ := w.do("", "POST", "/api/v1/monitors", good, "Cookie", cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); res.StatusCode != 403 {
		t.Errorf("a cross-site POST: got %d, want 403", res.StatusCode)
	}
	change := `{"password":"` + password + `","new_password":"another long password"}`
	if res, body := w.do("", "PUT", "/api/v1/me/password", change, "Cookie", cookie); res.StatusCode/100 != 2 {
		t.Errorf("change password: %d %s", res.StatusCode, body)
	}
	if res, _ := w.do("", "GET", "/api/v1/me", "", "Cookie", cookie); res.StatusCode != 401 {
		t.Errorf("the session survives a new password: got %d, want 401", res.StatusCode)
	}
}

func TestGuessingIsThrottled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var last *http.Response
	for range 11 {
		last, _ = w.do("", "POST", "/api/v1/sessions", `{"email":"nobody@example.org","password":"wrong"}`)
	}
	if last.StatusCode != 429 || last.Header.Get("Retry-After") == "" {
		t.Errorf("the eleventh guess: got %d, want 429 with Retry-After", last.StatusCode)
	}
}

func TestAStreamResumesAndShowsOnlyOnesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do("editor", "POST", "/api/v1/monitors", good)
	w.do("other", "POST", "/api/v1/monitors", good)
	w.do("editor", "POST", "/api/v1/monitors", good)
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key["editor"])
	req.Header.Set("Last-Event-ID", "1")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			if id != "3" {
				t.Errorf("first event after 1: got %s, want 3 (2 is another's)", id)
			}
			return
		}
	}
	t.Errorf("the stream ended: %v", lines.Err())
}

// What a database cannot take is refused before it is asked: the fake has no lists
// and would panic.
func TestTextThatNoDatabaseTakesIsRefusedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cursor := base64.RawURLEncoding.EncodeToString([]byte("1 1 \x00"))
	login := `{"email":"a\u0000@example.org","password":"wrong"}`
	for _, c := range []struct {
		method, path, body, field string
		header                    []string
		status                    int
	}{
		{"GET", "/api/v1/monitors?q=%00", "", "query.q", nil, 422},
		{"GET", "/api/v1/monitors?tag=ok&tag=%ff", "", "query.tag", nil, 422},
		{"GET", "/api/v1/monitors?type=%00", "", "query.type", nil, 422},
		{"GET", "/api/v1/monitors?q=%zz", "", "query", nil, 422},
		{"GET", "/api/v1/monitors/1/results?cursor=" + cursor, "", "query.cursor", nil, 422},
		{"POST", "/api/v1/monitors", good, "header.Idempotency-Key", []string{"Idempotency-Key", "\xff"}, 422},
		{"POST", "/api/v1/sessions", login, "email", nil, 422},
		{"POST", "/api/v1/monitors", strings.Replace(good, "Shop", "\xff", 1), "body", nil, 400},
	} {
		who := "editor"
		if strings.HasSuffix(c.path, "/sessions") {
			who = ""
		}
		res, body := w.do(who, c.method, c.path, c.body, c.header...)
		if res.StatusCode != c.status || !strings.Contains(body, `"location":"`+c.field+`"`) {
			t.Errorf("%s %s: got %d, want %d for %s: %s", c.method, c.path, res.StatusCode, c.status, c.field, body)
		}
	}
}

// A client that sends a whole body before it reads is answered, not reset.
func TestABodyThatIsTooLargeIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := strings.Repeat("x", 6<<20)
	for name, framed := range map[string]string{
		"by length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body),
		"in chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body),
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /api/v1/monitors HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "+w.key["editor"]+"\r\n"+framed); err != nil {
			t.Fatalf("%s: send: %v", name, err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %s %s, want a 413 problem", name, res.Status, res.Header.Get("Content-Type"))
		}
	}
}

func TestAWrongMethodIsToldTheRightOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		method, path, allow string
		status              int
	}{
		{"PATCH", "/api/v1/monitors/1", "GET, HEAD, PUT, DELETE", 405},
		{"GET", "/api/v1/monitors/1/pause", "POST", 405},
		{"POST", "/healthz", "GET, HEAD", 405},
		{"GET", "/api/v1/nothing", "", 404},
	} {
		res, body := w.do("editor", c.method, c.path, "")
		if res.StatusCode != c.status || res.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: got %d, Allow %q, want %d, %q: %s", c.method, c.path, res.StatusCode, res.Header.Get("Allow"), c.status, c.allow, body)
		}
	}
}
