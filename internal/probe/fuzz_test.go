package probe

import (
	"bytes"
	"net"
	"testing"
	"time"

	"vedette/internal/uptime"
)

// FuzzResponse feeds a check whatever a server may send: it must end with a
// verdict about the target, and never with a bug of ours.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		page("hello"), packed("hello"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 302 X\r\nLocation: //x\r\n\r\n", "SSH-2.0\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.0 200\r\nContent-Encoding: deflate\r\n\r\nx\x9c",
	} {
		f.Add([]byte(s))
	}
	c, err := newHTTP().Compile(uptime.Monitor{Type: "http", Target: "http://192.0.2.1/", Timeout: time.Second, Assertions: []uptime.Assertion{
		assert("json", "$.a", "exists", nil), assert("body", "", "contains", "a"), assert("header", "X", "exists", nil),
	}}, testEnv())
	if err != nil {
		f.Fatal(err)
	}
	hc := c.(*httpCheck)
	f.Fuzz(func(t *testing.T, response []byte) {
		client, server := net.Pipe()
		defer client.Close()
		_ = client.SetDeadline(time.Now().Add(5 * time.Second))
		go func() {
			defer server.Close()
			_, _ = server.Read(make([]byte, 64<<10))
			_, _ = bytes.NewReader(response).WriteTo(server)
		}()
		r := &httpRun{httpCheck: hc, session: session{base: &hc.common}, scratch: hc.scratch.get(), hop: hop{target: hc.common.target, method: "GET", own: true}, wire: &notedConn{Conn: client}}
		r.begin(t.Context(), Attempt{})
		defer r.end()
		again, fault := r.talk(r.wire, hc.request)
		if out := r.conclude(fault, time.Since(r.start), r.describe); !again && out.Verdict == uptime.VerdictUnknown {
			t.Errorf("%s %s for %q", out.Reason, out.Message, response)
		}
	})
}

// FuzzAssertion compiles and runs whatever a user may ask for.
func FuzzAssertion(f *testing.F) {
	f.Add("json", "$.a[?@.b==1]", "eq", `1`, `{"a":[{"b":1}]}`)
	f.Add("json", "$..a", "length", `2`, `[[[1,2]]]`)
	f.Add("json", "$[*]", "contains", `"x"`, `["x"]`)
	f.Add("xpath", "//a[@b='1']/text()", "eq", `"x"`, `<p><a b=1>x</a>`)
	f.Add("xpath", "count(//*)", "gt", `1`, `<?xml version="1.0"?><a><b/></a>`)
	f.Add("xpath", "string(//b/i)", "length", `2`, `<b a=1><table><td></b><i>x`)
	f.Add("status", "", "in", `"200-299,3xx"`, ``)
	f.Add("body", "", "matches", `"a+"`, `aaa`)
	f.Add("header", "X", "not_contains", `"a"`, ``)
	f.Add("cert_days", "", "gt", `14`, ``)
	f.Fuzz(func(t *testing.T, source, property, op, value, body string) {
		var p uptime.Problems
		list := compileAssertions([]uptime.Assertion{{Source: source, Property: property, Op: op, Value: []byte(value)}}, httpSources(), &p)
		if p.Err() != nil {
			return
		}
		for i := range list {
			list[i].judge(&facts{status: 200, body: []byte(body), whole: true})
		}
	})
}
