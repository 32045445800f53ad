package probe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vedette/internal/guard"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// serve answers each connection with handle, which gets it after one request
// head was read. It returns the server's address.
func serve(t *testing.T, handle func(c net.Conn, head string)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, handle)
	return l.Addr().String()
}

func serveOn(t *testing.T, l net.Listener, handle func(c net.Conn, head string)) {
	t.Cleanup(func() { l.Close() })
	testenv.Serve(l, func(c net.Conn) {
		r := bufio.NewReader(c)
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		handle(c, head)
	})
}

// says is a server of one fixed answer.
func says(parts ...string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		for _, p := range parts {
			_, _ = io.WriteString(c, p)
		}
	}
}

// stalls says something and then nothing more, until the prober goes.
func stalls(text string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

// repeats says text and then again without end.
func repeats(head, text string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, text)
		}
	}
}

// resets says something and breaks the connection off.
func resets(text string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, text)
		testenv.Reset(c)
	}
}

func page(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func packed(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", b.Len(), b.String())
}

func testEnv() Env {
	return Env{Guard: guard.New(guard.Options{Policy: guard.Allow()}), AlwaysEvidence: true}
}

func assert(source, property, op string, value any) uptime.Assertion {
	raw, _ := json.Marshal(value)
	return uptime.Assertion{Source: source, Property: property, Op: op, Value: raw}
}

// run makes one check and fails the test if it takes longer than it may.
func run(t *testing.T, m uptime.Monitor) Outcome {
	t.Helper()
	m.Type = "http"
	if m.Timeout == 0 {
		m.Timeout = 5 * time.Second
	}
	c, err := New(testEnv()).Compile(m)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > m.Timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, m.Timeout)
	}
	return out
}

func check(t *testing.T, out Outcome, v uptime.Verdict, r uptime.Reason) {
	t.Helper()
	if out.Verdict != v || out.Reason != r {
		t.Errorf("got %s %q (%s), want %s %q", out.Verdict, out.Reason, out.Message, v, r)
	}
	if (out.Message == "") != (out.Verdict == uptime.VerdictUp) {
		t.Errorf("message %q with verdict %s", out.Message, out.Verdict)
	}
	if out.Evidence == nil {
		t.Error("no evidence")
	}
}

type httpCase struct {
	handle     func(net.Conn, string)
	config     string
	assertions []uptime.Assertion
	verdict    uptime.Verdict
	reason     uptime.Reason
	timeout    time.Duration
}

// short is the timeout of checks that wait it out: as little as a busy machine allows.
const short = 600 * time.Millisecond

func runCases(t *testing.T, cases map[string]httpCase) {
	t.Helper()
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := run(t, uptime.Monitor{
				Target: "http://" + serve(t, tt.handle) + "/", Config: json.RawMessage(tt.config),
				Assertions: tt.assertions, Timeout: tt.timeout,
			})
			check(t, out, tt.verdict, tt.reason)
		})
	}
}

func TestHTTPMessages(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	status := func(v any) []uptime.Assertion { return []uptime.Assertion{assert("status", "", "in", v)} }
	runCases(t, map[string]httpCase{
		"a page is up":                          {handle: says(page("hello")), verdict: up},
		"204 without body is up":                {handle: says("HTTP/1.1 204 No Content\r\n\r\n"), verdict: up},
		"an asked 404 is up":                    {handle: says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), assertions: status("404"), verdict: up},
		"an asked class is up":                  {handle: says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), assertions: status("2xx,4xx"), verdict: up},
		"an asked number is up":                 {handle: says("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"), assertions: status(201), verdict: up},
		"a 301 asked without following is up":   {handle: says("HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), config: `{"follow_redirects":false}`, assertions: status("301"), verdict: up},
		"100-Continue first is up":              {handle: says("HTTP/1.1 100 Continue\r\n\r\n", page("x")), verdict: up},
		"103 first is up":                       {handle: says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", page("x")), verdict: up},
		"large but legal headers are up":        {handle: says("HTTP/1.1 200 OK\r\n", strings.Repeat("X-A: "+strings.Repeat("b", 4000)+"\r\n", 15), "Content-Length: 0\r\n\r\n"), verdict: up},
		"HTTP/1.0 delimited by close is up":     {handle: says("HTTP/1.0 200 OK\r\n\r\nbody"), verdict: up},
		"no reason phrase is up":                {handle: says("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"), verdict: up},
		"trailers are up":                       {handle: says(chunked, "1\r\na\r\n0\r\nX-T: 1\r\n\r\n"), verdict: up},
		"HEAD with a length is up":              {handle: says("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), config: `{"method":"HEAD"}`, verdict: up},
		"401 is http_status":                    {handle: says("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), verdict: down, reason: uptime.HTTPStatus},
		"503 is http_status":                    {handle: says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"), verdict: down, reason: uptime.HTTPStatus},
		"520 is http_status":                    {handle: says("HTTP/1.1 520 Odd\r\nContent-Length: 0\r\n\r\n"), verdict: down, reason: uptime.HTTPStatus},
		"999 is http_status":                    {handle: says("HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"), verdict: down, reason: uptime.HTTPStatus},
		"an unasked 304 is http_status":         {handle: says("HTTP/1.1 304 Not Modified\r\n\r\n"), verdict: down, reason: uptime.HTTPStatus},
		"an unasked 101 is http_status":         {handle: says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), verdict: down, reason: uptime.HTTPStatus},
		"no byte is timeout":                    {handle: stalls(""), verdict: down, reason: uptime.Timeout, timeout: short},
		"a stalled head is timeout":             {handle: stalls("HTTP/1.1 200 OK\r\nX-"), verdict: down, reason: uptime.Timeout, timeout: short},
		"a stalled body is timeout":             {handle: stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), verdict: down, reason: uptime.Timeout, timeout: short},
		"a stalled close-delimited body is too": {handle: stalls("HTTP/1.1 200 OK\r\n\r\nabc"), verdict: down, reason: uptime.Timeout, timeout: short},
		"too few bytes is body_truncated":       {handle: says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), verdict: down, reason: uptime.BodyTruncated},
		"no last chunk is body_truncated":       {handle: says(chunked, "3\r\nabc\r\n"), verdict: down, reason: uptime.BodyTruncated},
		"a cut last chunk is body_truncated":    {handle: says(chunked, "3\r\nabc\r\n0\r\n"), verdict: down, reason: uptime.BodyTruncated},
		"a stalled last chunk is timeout":       {handle: stalls(chunked + "3\r\nabc\r\n0\r\n"), verdict: down, reason: uptime.Timeout, timeout: short},
		"a version nobody speaks is protocol":   {handle: says("HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"), verdict: down, reason: uptime.Protocol},
		"a reset before the answer":             {handle: resets(""), verdict: down, reason: uptime.ConnReset},
		"a close before the answer":             {handle: says(), verdict: down, reason: uptime.ConnClosed},
		"a close within the head":               {handle: says("HTTP/1.1 200 OK\r\nX: y"), verdict: down, reason: uptime.ConnClosed},
		"a bad chunk size is protocol":          {handle: says(chunked, "zz\r\nabc\r\n0\r\n\r\n"), verdict: down, reason: uptime.Protocol},
		"two lengths are protocol":              {handle: says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), verdict: down, reason: uptime.Protocol},
		"a negative length is protocol":         {handle: says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"), verdict: down, reason: uptime.Protocol},
		"a header without colon is protocol":    {handle: says("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), verdict: down, reason: uptime.Protocol},
		"a bad status line is protocol":         {handle: says("HTTP/1.1 abc OK\r\n\r\n"), verdict: down, reason: uptime.Protocol},
		"SSH is protocol":                       {handle: stalls("SSH-2.0-OpenSSH_9.2\r\n"), verdict: down, reason: uptime.Protocol},
		"SMTP is protocol":                      {handle: stalls("220 mail ESMTP\r\n"), verdict: down, reason: uptime.Protocol},
		"binary is protocol":                    {handle: stalls("\x00\x01\x02\x03\x04\x05"), verdict: down, reason: uptime.Protocol},
		"HTTP/0.9 is protocol":                  {handle: says("<html>hello</html>"), verdict: down, reason: uptime.Protocol},
		"endless 1xx is protocol":               {handle: repeats("", "HTTP/1.1 103 Early Hints\r\n\r\n"), verdict: down, reason: uptime.Protocol},
		"headers without end":                   {handle: repeats("HTTP/1.1 200 OK\r\n", "X-Pad: 12345678\r\n"), verdict: down, reason: uptime.HeadersLarge},
		"one header line without end":           {handle: repeats("HTTP/1.1 200 OK\r\nX: ", "12345678"), verdict: down, reason: uptime.HeadersLarge},
		"an endless body nobody reads ends":     {handle: repeats("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("a", 64<<10)), verdict: up},
		"over the latency limit is slow":        {handle: says(page("x")), assertions: []uptime.Assertion{assert("duration", "", "lt", "1ns")}, verdict: down, reason: uptime.Slow},
	})
}

func TestContentAssertions(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	has := func(s string) []uptime.Assertion { return []uptime.Assertion{assert("body", "", "contains", s)} }
	not := func(s string) []uptime.Assertion { return []uptime.Assertion{assert("body", "", "not_contains", s)} }
	js := func(path, op string, v any) []uptime.Assertion {
		return []uptime.Assertion{assert("json", path, op, v)}
	}
	hd := func(name, op string, v any) []uptime.Assertion {
		return []uptime.Assertion{assert("header", name, op, v)}
	}
	deep := strings.Repeat("x", 500<<10) + "needle"
	doc := `{"status":"up","n":5,"list":[1,2,3],"o":{"a":null},"items":[{"id":1,"ok":true},{"id":2,"ok":false}]}`
	bomb := packed(strings.Repeat("\x00", 30<<20))
	runCases(t, map[string]httpCase{
		"a keyword is up":                          {handle: says(page("all ok")), assertions: has("ok"), verdict: up},
		"a keyword deep in a body is up":           {handle: says(page(deep)), assertions: has("needle"), verdict: up},
		"a keyword across chunks is up":            {handle: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnee\r\n3\r\ndle\r\n0\r\n\r\n"), assertions: has("needle"), verdict: up},
		"a keyword in gzip is up":                  {handle: says(packed("grüße needle")), assertions: has("grüße"), verdict: up},
		"a missing keyword is keyword":             {handle: says(page("parked")), assertions: has("ok"), verdict: down, reason: uptime.Keyword},
		"an empty body is keyword":                 {handle: says(page("")), assertions: has("ok"), verdict: down, reason: uptime.Keyword},
		"a pattern that matches is up":             {handle: says(page("v1.22")), assertions: []uptime.Assertion{assert("body", "", "matches", `v\d+\.\d+`)}, verdict: up},
		"a pattern that does not is keyword":       {handle: says(page("v1")), assertions: []uptime.Assertion{assert("body", "", "matches", `v\d+\.\d+`)}, verdict: down, reason: uptime.Keyword},
		"forbidden text is keyword_forbidden":      {handle: says(page(deep)), assertions: not("needle"), verdict: down, reason: uptime.KeywordBad},
		"no forbidden text is up":                  {handle: says(page("fine")), assertions: not("error"), verdict: up},
		"a JSON value is up":                       {handle: says(page(doc)), assertions: js("$.status", "eq", "up"), verdict: up},
		"JSON after a byte order mark is up":       {handle: says(page("\ufeff" + doc)), assertions: js("$.status", "eq", "up"), verdict: up},
		"a wrong JSON value is json":               {handle: says(page(doc)), assertions: js("$.status", "eq", "down"), verdict: down, reason: uptime.JSON},
		"a missing JSON value is json":             {handle: says(page(doc)), assertions: js("$.x", "exists", nil), verdict: down, reason: uptime.JSON},
		"a null where a value should be is json":   {handle: says(page(doc)), assertions: js("$.o.a", "eq", 1), verdict: down, reason: uptime.JSON},
		"a number in range is up":                  {handle: says(page(doc)), assertions: js("$.n", "le", 5), verdict: up},
		"a number out of range is json":            {handle: says(page(doc)), assertions: js("$.n", "gt", 5), verdict: down, reason: uptime.JSON},
		"a number equals its text":                 {handle: says(page(doc)), assertions: js("$.n", "eq", "5"), verdict: up},
		"an array contains an item":                {handle: says(page(doc)), assertions: js("$.list", "contains", 2), verdict: up},
		"an array has a length":                    {handle: says(page(doc)), assertions: js("$.list", "length", 3), verdict: up},
		"a filter selects":                         {handle: says(page(doc)), assertions: js("$.items[?@.id==2].ok", "eq", false), verdict: up},
		"truncated JSON is json":                   {handle: says(page(`{"status":"u`)), assertions: js("$.status", "exists", nil), verdict: down, reason: uptime.JSON},
		"HTML for JSON is json":                    {handle: says(page("<html>")), assertions: js("$.status", "exists", nil), verdict: down, reason: uptime.JSON},
		"nothing for JSON is json":                 {handle: says(page("")), assertions: js("$.status", "exists", nil), verdict: down, reason: uptime.JSON},
		"absurdly deep JSON is json, and no crash": {handle: says(page(strings.Repeat("[", 500_000))), assertions: js("$.a", "exists", nil), verdict: down, reason: uptime.JSON},
		"a header is up":                           {handle: says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"), assertions: hd("content-type", "contains", "json"), verdict: up},
		"a missing header is header":               {handle: says(page("")), assertions: hd("X-Build", "exists", nil), verdict: down, reason: uptime.Header},
		"gzip without assertion is up":             {handle: says(packed("x")), verdict: up},
		"corrupt gzip is decode":                   {handle: says(strings.Replace(packed(strings.Repeat("abc", 100)), "\x1f\x8b", "\x1f\x8c", 1)), verdict: down, reason: uptime.Decode},
		"claimed gzip is decode":                   {handle: says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"), assertions: has("hello"), verdict: down, reason: uptime.Decode},
		"a gzip bomb is body_too_large":            {handle: says(bomb), assertions: has("needle"), verdict: down, reason: uptime.BodyTooLarge},
		"a gzip bomb nobody reads is up":           {handle: says(bomb), verdict: up},
		"an infinite body is body_too_large":       {handle: repeats("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("a", 64<<10)), assertions: has("b"), verdict: down, reason: uptime.BodyTooLarge},
		"a match before the cap needs no rest":     {handle: says(page("needle" + deep)), config: `{"max_body_bytes":1000}`, assertions: has("needle"), verdict: up},
		"the status comes before the body":         {handle: says("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nabc"), assertions: has("ok"), verdict: down, reason: uptime.HTTPStatus},
	})
}

func TestSeverityDegradedIsNotDown(t *testing.T) {
	t.Parallel()
	a := assert("duration", "", "lt", "1ns")
	a.Severity = uptime.SeverityDegraded
	m := uptime.Monitor{Target: "http://" + serve(t, says(page("x"))), Assertions: []uptime.Assertion{a}}
	check(t, run(t, m), uptime.VerdictDegraded, uptime.Slow)
	m.Assertions = append(m.Assertions, assert("body", "", "contains", "y"))
	check(t, run(t, m), uptime.VerdictDown, uptime.Keyword)
}

func TestConnections(t *testing.T) {
	t.Parallel()
	closed := talkClosed(t)
	check(t, run(t, uptime.Monitor{Target: "http://" + closed}), uptime.VerdictDown, uptime.ConnRefused)
	out := run(t, uptime.Monitor{Target: "http://" + closed, Inverted: true})
	check(t, out, uptime.VerdictUp, uptime.ReasonOK)
	out = run(t, uptime.Monitor{Target: "http://" + serve(t, says(page(""))), Inverted: true})
	check(t, out, uptime.VerdictDown, uptime.Inverted)
	out = run(t, uptime.Monitor{Target: "http://169.254.169.254/latest"})
	check(t, out, uptime.VerdictUnknown, uptime.Blocked)
}

func TestOneDeadAddressOfTwoIsUp(t *testing.T) {
	t.Parallel()
	address := serve(t, says(page("x")))
	_, port, _ := net.SplitHostPort(address)
	// localhost is 127.0.0.1 and ::1 here, and only the first one listens.
	out := run(t, uptime.Monitor{Target: "http://localhost:" + port})
	check(t, out, uptime.VerdictUp, uptime.ReasonOK)
}

func TestAStoppedCheckIsUnknown(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	address := serve(t, func(c net.Conn, _ string) { close(reached); _, _ = io.Copy(io.Discard, c) })
	c, err := New(testEnv()).Compile(uptime.Monitor{Type: "http", Target: "http://" + address, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextWithCancel(t)
	go func() { <-reached; cancel() }()
	check(t, c.Run(ctx, Attempt{}), uptime.VerdictUnknown, uptime.Aborted)
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	to := func(location string) func(net.Conn, string) {
		return func(c net.Conn, head string) {
			if strings.HasPrefix(head, "GET /end ") {
				_, _ = io.WriteString(c, page("end"))
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: "+location+"\r\nContent-Length: 0\r\n\r\n")
		}
	}
	runCases(t, map[string]httpCase{
		"a relative redirect is up":              {handle: to("/end"), verdict: up},
		"a loop is redirect_limit":               {handle: to("/again"), verdict: down, reason: uptime.RedirectLimit},
		"one more than allowed is too":           {handle: to("/end"), config: `{"max_redirects":0}`, verdict: down, reason: uptime.RedirectLimit},
		"no Location is redirect_invalid":        {handle: says("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), verdict: down, reason: uptime.RedirectBad},
		"a file is redirect_invalid":             {handle: to("file:///etc/passwd"), verdict: down, reason: uptime.RedirectBad},
		"ftp is redirect_invalid":                {handle: to("ftp://example.com/"), verdict: down, reason: uptime.RedirectBad},
		"gopher is redirect_invalid":             {handle: to("gopher://example.com/"), verdict: down, reason: uptime.RedirectBad},
		"garbage is redirect_invalid":            {handle: to("http://%zz"), verdict: down, reason: uptime.RedirectBad},
		"a redirect to metadata is blocked":      {handle: to("http://169.254.169.254/"), verdict: uptime.VerdictUnknown, reason: uptime.Blocked},
		"a redirect to a dead port says refused": {handle: to("http://127.0.0.1:1/"), verdict: down, reason: uptime.ConnRefused},
	})
}

// What may not stand in a request's line is escaped there, as browsers do: a strict
// server, as the one here, answers 400 otherwise.
func TestURLsAreSentAsServersReadThem(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 9)
	target := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if location, ok := strings.CutPrefix(r.URL.Path, "/to"); ok {
			w.Header()["Location"] = []string{location + "?" + strings.ReplaceAll(r.URL.Query().Get("q"), "*", `"<>`)}
			w.WriteHeader(http.StatusFound)
			return
		}
		asked <- r.RequestURI
	})
	for _, tt := range []struct{ path, want string }{
		{"/a?q=ü", "/a?q=%C3%BC"},
		{"/to/a%20b?q=please+log+in", "/a%20b?please%20log%20in"},
		{"/to/ü?q=ü%26*%26a=%2541%23top", "/%C3%BC?%C3%BC&%22%3C%3E&a=%41"},
	} {
		check(t, run(t, uptime.Monitor{Target: target + tt.path}), uptime.VerdictUp, "")
		select {
		case got := <-asked:
			if got != tt.want {
				t.Errorf("%s asked for %s, want %s", tt.path, got, tt.want)
			}
		default:
			t.Errorf("%s asked for nothing, want %s", tt.path, tt.want)
		}
	}
}

func TestCredentialsStayAtTheirSite(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 4)
	other := serve(t, func(c net.Conn, head string) { heads <- head; _, _ = io.WriteString(c, page("x")) })
	first := serve(t, func(c net.Conn, head string) {
		heads <- head
		_, _ = io.WriteString(c, "HTTP/1.1 307 X\r\nLocation: http://"+other+"/?access_token=s3cr3t-in-url\r\nContent-Length: 0\r\n\r\n")
	})
	out := run(t, uptime.Monitor{Target: "http://" + first, Config: json.RawMessage(
		`{"auth":{"kind":"bearer","token":"t0ken-canary"},"headers":{"Cookie":"c00kie-canary","X-Mine":"canary","Accept":"text/html"}}`)})
	check(t, out, uptime.VerdictUp, uptime.ReasonOK)
	if h := <-heads; !strings.Contains(h, "Bearer t0ken-canary") || !strings.Contains(h, "c00kie-canary") {
		t.Errorf("the monitor's own site got %q, want its credentials", h)
	}
	if h := <-heads; strings.Contains(h, "canary") || !strings.Contains(h, "Accept: text/html") {
		t.Errorf("another site got %q, want no credentials and the harmless headers", h)
	}
	evidence, _ := json.Marshal(out.Evidence)
	if bytes.Contains(evidence, []byte("canary")) || bytes.Contains(evidence, []byte("s3cr3t")) {
		t.Errorf("evidence holds a secret: %s", evidence)
	}
}

func TestEvidenceBlotsOutWhatATargetEchoes(t *testing.T) {
	t.Parallel()
	address := serve(t, func(c net.Conn, head string) {
		_, _ = io.WriteString(c, fmt.Sprintf("HTTP/1.1 500 No\r\nSet-Cookie: a=b\r\nX-Echo: t0ken-canary\r\nContent-Length: %d\r\n\r\n%s", len(head), head))
	})
	out := run(t, uptime.Monitor{Target: "http://" + address, Config: json.RawMessage(`{"auth":{"kind":"bearer","token":"t0ken-canary"}}`)})
	check(t, out, uptime.VerdictDown, uptime.HTTPStatus)
	evidence, _ := json.Marshal(out.Evidence)
	if bytes.Contains(evidence, []byte("canary")) || out.Evidence.Headers["Set-Cookie"] != "" {
		t.Errorf("evidence holds a secret: %s", evidence)
	}
	if out.Evidence.Status != http.StatusInternalServerError || out.Evidence.Dialled != address || len(out.Evidence.Addresses) != 1 {
		t.Errorf("evidence = %+v, want status, address and what was dialled", out.Evidence)
	}
}

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

func TestTheHTTPExampleWorks(t *testing.T) {
	t.Parallel()
	address := serve(t, func(c net.Conn, head string) {
		if !strings.Contains(head, "Authorization: Bearer secret\r\n") {
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, page(`{"status":"up"}`))
	})
	runExample(t, "http", 2, "http://"+address+"/health", nil)
}
