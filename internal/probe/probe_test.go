package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"vedette/internal/uptime"
)

func TestCompileNamesEveryWrongField(t *testing.T) {
	t.Parallel()
	bad := func(config string) uptime.Monitor {
		return uptime.Monitor{Type: "http", Target: "http://example.com", Config: json.RawMessage(config)}
	}
	at := func(target string) uptime.Monitor { return uptime.Monitor{Type: "http", Target: target} }
	with := func(source, property, op string, v any) uptime.Monitor {
		m := at("http://example.com")
		m.Assertions = []uptime.Assertion{assert(source, property, op, v)}
		return m
	}
	for name, tt := range map[string]struct {
		monitor uptime.Monitor
		path    string
		says    string
	}{
		"an unknown type":           {uptime.Monitor{Type: "htpp"}, "type", "http"},
		"a missing scheme":          {at("example.com"), "target", "https://example.com"},
		"a user in the URL":         {at("http://u:p@example.com"), "target", "config.auth"},
		"another scheme":            {at("file:///etc/passwd"), "target", "http"},
		"a line break in the URL":   {at("http://example.com/\r\nX: y"), "target", "control"},
		"a backslash":               {at(`http://example.com\@evil`), "target", "backslash"},
		"full-width digits":         {at("http://１２７.0.0.1/"), "target", "127.0.0.1"},
		"port 0":                    {at("http://example.com:0/"), "target", "port"},
		"no host":                   {at("http:///x"), "target", "host"},
		"an unknown key":            {bad(`{"metod":"GET"}`), "config.metod", "method"},
		"an unknown nested key":     {bad(`{"tls":{"skip_verfy":true}}`), "config.tls.skip_verfy", "skip_verify"},
		"a wrong type":              {bad(`{"max_redirects":"5"}`), "config.max_redirects", "number"},
		"a header with a newline":   {bad(`{"headers":{"X-A":"b\r\nHost: evil"}}`), "config.headers.X-A", "control"},
		"a Host header":             {bad(`{"headers":{"host":"evil"}}`), "config.headers.host", "cannot be chosen"},
		"a hop-by-hop header":       {bad(`{"headers":{"Transfer-Encoding":"chunked"}}`), "config.headers.Transfer-Encoding", "cannot"},
		"CONNECT":                   {bad(`{"method":"CONNECT"}`), "config.method", "GET"},
		"a method that smuggles":    {bad(`{"method":"GET / HTTP/1.1"}`), "config.method", "GET"},
		"bearer without token":      {bad(`{"auth":{"kind":"bearer"}}`), "config.auth.token", "missing"},
		"text where JSON should be": {bad(`{"body_type":"json","body":"a=b"}`), "config.body", "JSON"},
		"JSON where text should be": {bad(`{"body":{"a":1}}`), "config.body", "body_type json"},
		"a form and a body":         {bad(`{"body_type":"form","body":"x","form":{"a":"b"}}`), "config.body", "config.form"},
		"a form that is not sent":   {bad(`{"form":{"a":"b"}}`), "config.form", "body_type form"},
		"a body too large":          {bad(`{"body":"` + strings.Repeat("x", maxRequestBody+1) + `"}`), "config.body", "larger"},
		"oauth2 without endpoint":   {bad(`{"auth":{"kind":"oauth2","client_id":"a"}}`), "config.auth.token_url", "https://"},
		"oauth2 without a client":   {bad(`{"auth":{"kind":"oauth2","token_url":"https://a.example/"}}`), "config.auth.client_id", "missing"},
		"a token file":              {bad(`{"auth":{"kind":"oauth2","client_id":"a","token_url":"file:///etc/passwd"}}`), "config.auth.token_url", "http"},
		"digest without a user":     {bad(`{"auth":{"kind":"digest"}}`), "config.auth.username", "missing"},
		"a resolver by name":        {bad(`{"resolver":"dns.example.com"}`), "config.resolver", "address"},
		"a CA that is none":         {bad(`{"tls":{"ca_pem":"x"}}`), "config.tls.ca_pem", "PEM"},
		"an unknown source":         {with("statsu", "", "in", "200"), "assertions[0].source", "status"},
		"an unknown op":             {with("body", "", "has", "x"), "assertions[0].op", "contains"},
		"a pattern RE2 refuses":     {with("body", "", "matches", "(a{1,1000}){1,1000}"), "assertions[0].value", "RE2"},
		"a status that is none":     {with("status", "", "in", "20x"), "assertions[0].value", "200-299"},
		"a duration without unit":   {with("duration", "", "lt", 800), "assertions[0].value", "unit"},
		"a server name of lines":    {bad(`{"tls":{"server_name":"a.example\r\nX: y"}}`), "config.tls.server_name", "host"},
		"a header of lines":         {with("header", "X-A\r\nX-B", "exists", nil), "assertions[0].property", "header"},
		"a path that is none":       {with("json", "status", "exists", nil), "assertions[0].property", "$"},
		"a path that costs":         {with("json", "$..a..b", "exists", nil), "assertions[0].property", ".."},
		"a filter that costs":       {with("json", "$[?$..a]", "exists", nil), "assertions[0].property", "filter"},
		"days that are null":        {with("cert_days", "", "ge", nil), "assertions[0].value", "number"},
		"a length that is null":     {with("json", "$.a", "min_length", nil), "assertions[0].value", "whole"},
		"a count that is null":      {with("xpath", "//a", "min_length", nil), "assertions[0].value", "whole"},
		"a length and a half":       {with("json", "$.a", "length", 1.5), "assertions[0].value", "whole"},
		"rows that are null":        {uptime.Monitor{Type: "mysql", Target: "db.example:3306", Assertions: []uptime.Assertion{assert("rows", "", "ge", nil)}}, "assertions[0].value", "number"},
		"an unknown severity":       {uptime.Monitor{Type: "http", Target: "http://example.com", Assertions: []uptime.Assertion{{Source: "status", Op: "in", Value: json.RawMessage(`"200"`), Severity: "bad"}}}, "assertions[0].severity", "degraded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(tt.monitor)
			e, ok := errors.AsType[*uptime.Error](err)
			if !ok || e.Kind != uptime.Invalid || len(e.Fields) == 0 {
				t.Fatalf("Compile = %v, want an Invalid error with fields", err)
			}
			if f := e.Fields[0]; f.Path != tt.path || !strings.Contains(f.Message, tt.says) {
				t.Errorf("field %q: %q, want %q with %q", f.Path, f.Message, tt.path, tt.says)
			}
		})
	}
}

func TestRedactAndMergeAreARoundTrip(t *testing.T) {
	t.Parallel()
	s := New(testEnv())
	stored := json.RawMessage(`{"auth":{"kind":"basic","username":"u","password":"canary1"},"headers":{"X-Api-Key":"canary2","Accept":"a"}}`)
	shown, err := s.Redact("http", stored)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(shown, []byte("canary")) || !bytes.Contains(shown, []byte(`"max_redirects":10`)) {
		t.Errorf("Redact = %s, want no secret and the defaults", shown)
	}
	merged, err := s.Merge("http", stored, shown)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"canary1", "canary2", `"Accept":"a"`} {
		if !bytes.Contains(merged, []byte(want)) {
			t.Errorf("Merge = %s, want it to hold %s", merged, want)
		}
	}
	if _, err := s.Merge("http", nil, shown); !uptime.Is(err, uptime.Invalid) {
		t.Errorf("Merge without a stored secret = %v, want Invalid", err)
	}
}

type panicking struct{}

func (panicking) Run(context.Context, Attempt) Outcome { panic("boom") }

func TestAPanicIsUnknownAndLoggedOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := &safeCheck{check: panicking{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		if out := c.Run(t.Context(), Attempt{}); out.Verdict != uptime.VerdictUnknown || out.Reason != uptime.InternalError {
			t.Errorf("got %s %s, want unknown internal_error", out.Verdict, out.Reason)
		}
	}
	if n := strings.Count(log.String(), "boom"); n != 1 {
		t.Errorf("the panic was logged %d times, want once", n)
	}
}

func TestReportTellsAPersonWhatHappened(t *testing.T) {
	t.Parallel()
	address := serve(t, says("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nX-Evil: \x9b2J\r\n\r\nno"))
	out := run(t, uptime.Monitor{Target: "http://" + address, Assertions: []uptime.Assertion{assert("status", "", "in", "200")}})
	var b strings.Builder
	if err := WriteReport(&b, "http://"+address, out, ReportOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"DOWN", "http_status", "first byte", "█", address, "HTTP/1.1 503", "fails: status"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("report holds an escape sequence:\n%q", b.String())
	}
	raw, err := json.Marshal(NewReport("x", out))
	if err != nil || !bytes.Contains(raw, []byte(`"verdict":"down","reason":"http_status"`)) {
		t.Errorf("JSON report = %s, %v", raw, err)
	}
}
