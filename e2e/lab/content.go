package main

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const doc = `{"status":"up","n":5,"big":9007199254740993,"list":[1,2,3],"o":{"a":null},"items":[{"id":1,"ok":true},{"id":2,"ok":false}],"ü":"ß"}`

func zipped(text string) string { return ok(packed(text), "Content-Encoding: gzip") }

// deflated is body packed by a writer of one of deflate's two forms.
func deflated(wrap func(io.Writer) io.WriteCloser, body string) string {
	var b bytes.Buffer
	w := wrap(&b)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return ok(b.String(), "Content-Encoding: deflate")
}

// content is the targets whose answer is asserted about.
func (l *lab) content() []scenario {
	has := func(body, text string) monitor { return l.web(says(body)).assert("body", "contains", text) }
	lacks := func(body, text string) monitor { return l.web(says(body)).assert("body", "not_contains", text) }
	js := func(body, op, path string, value any) monitor {
		return l.web(says(ok(body))).assert("json", op, path, value)
	}
	deep := strings.Repeat("x", 500<<10) + "needle"
	bare := func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, -1)) }
	wrapped := func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }
	rows := []scenario{
		{name: "a keyword", want: "up", monitor: has(ok("all is ok"), "ok")},
		{name: "a keyword deep in a body", want: "up", monitor: has(ok(deep), "needle")},
		{name: "a keyword across chunks", want: "up", monitor: has(chunked("nee", "dle"), "needle")},
		{name: "a keyword across segments", want: "up", monitor: l.web(dribbles(ok("needle"), 1, 0)).assert("body", "contains", "needle")},
		{name: "a keyword in gzip", want: "up", monitor: has(zipped("a needle"), "needle")},
		{name: "a keyword in gzip, in chunks", want: "up", monitor: has("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"+afterHead(chunked(packed("a needle")[:12], packed("a needle")[12:])), "needle")},
		{name: "a keyword in gzip of two members", want: "up", monitor: has(ok(packed("nee")+packed("dle"), "Content-Encoding: gzip"), "needle")},
		{name: "a keyword in X-GZIP, in capitals", want: "up", monitor: has(ok(packed("needle"), "Content-Encoding: X-GZIP"), "needle")},
		{name: "a keyword in deflate", want: "up", monitor: has(deflated(wrapped, "a needle"), "needle")},
		{name: "a keyword in bare deflate", want: "up", monitor: has(deflated(bare, "a needle"), "needle")},
		{name: "a keyword in identity", want: "up", monitor: has(ok("needle", "Content-Encoding: identity"), "needle")},
		{name: "an empty body that says it is gzip", want: "up", monitor: l.web(says(ok("", "Content-Encoding: gzip")))},
		{name: "a keyword beyond ASCII", want: "up", monitor: has(ok("Grüße, 世界 ✓"), "世界 ✓")},
		{name: "a keyword beyond ASCII across chunks", want: "up", monitor: has(chunked("Gr\xc3", "\xbc\xc3\x9fe"), "Grüße")},
		{name: "a keyword after bytes that are no text", want: "up", monitor: has(ok("\x80\x00\xfe\x01needle"), "needle")},
		{name: "a keyword before the length is reached", want: "up", monitor: has(ok("ok"+strings.Repeat(" ", 1000)), "ok")},
		{name: "a pattern", want: "up", monitor: l.web(says(ok("version 1.22"))).assert("body", "matches", `version \d+\.\d+`)},
		{name: "a pattern that would take others for ever", want: "up", monitor: l.web(says(ok(strings.Repeat("a", 50000)))).assert("body", "not_matches", `^(a+)+$b`)},
		{name: "the whole body", want: "up", monitor: l.web(says(ok("pong"))).assert("body", "eq", "pong")},
		{name: "no forbidden text", want: "up", monitor: lacks(ok("fine"), "error")},
		{name: "a value of JSON", want: "up", monitor: js(doc, "eq", "$.status", "up")},
		{name: "a number of JSON in its range", want: "up", monitor: js(doc, "le", "$.n", 5)},
		{name: "a large number of JSON", want: "up", monitor: js(doc, "gt", "$.big", 9007199254740000)},
		{name: "an item of a list in JSON", want: "up", monitor: js(doc, "contains", "$.list", 2)},
		{name: "a filter of JSON", want: "up", monitor: js(doc, "eq", "$.items[?@.id==2].ok", false)},
		{name: "a name of JSON beyond ASCII", want: "up", monitor: js(doc, "eq", "$['ü']", "ß")},
		{name: "JSON after a byte order mark", want: "up", monitor: js("\ufeff"+doc, "eq", "$.status", "up")},
		{name: "JSON between spaces", want: "up", monitor: js("\r\n\t "+doc+"\n\n", "eq", "$.status", "up")},
		{name: "JSON in gzip in chunks", want: "up", monitor: l.web(says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"+afterHead(chunked(packed(doc))))).assert("json", "eq", "$.status", "up")},
		{name: "JSON that calls itself HTML", want: "up", monitor: l.web(says(ok(doc, "Content-Type: text/html"))).assert("json", "eq", "$.status", "up")},
		{name: "a header", want: "up", monitor: l.web(says(ok("x", "Content-Type: application/json"))).assert("header", "contains", "content-type", "json")},
		{name: "a header given twice", want: "up", monitor: l.web(says(ok("x", "Via: a", "Via: b"))).assert("header", "contains", "via", "b")},
		{name: "no header, as wanted", want: "up", monitor: l.web(says(ok("x"))).assert("header", "not_exists", "x-debug", nil)},

		{name: "a missing keyword", want: "down keyword", monitor: has(ok("nothing here"), "needle")},
		{name: "another page with 200", want: "down keyword", monitor: has(ok("<h1>It works!</h1>"), "Welcome to our shop")},
		{name: "a keyword in other letters", want: "down keyword", monitor: has(ok("NEEDLE"), "needle")},
		{name: "an empty body", want: "down keyword", monitor: has(ok(""), "needle")},
		{name: "204 where text is wanted", want: "down keyword", monitor: has("HTTP/1.1 204 No Content\r\n\r\n", "needle")},
		{name: "a missing keyword in gzip", want: "down keyword", monitor: has(zipped("nothing"), "needle")},
		{name: "a pattern that is not there", want: "down keyword", monitor: l.web(says(ok("version x"))).assert("body", "matches", `version \d+`)},
		{name: "more than the whole body", want: "down keyword", monitor: l.web(says(ok("pong\n"))).assert("body", "eq", "pong")},
		{name: "forbidden text", want: "down keyword_forbidden", monitor: lacks(ok("a fatal error"), "error")},
		{name: "forbidden text deep in a body", want: "down keyword_forbidden", monitor: lacks(ok(deep), "needle")},
		{name: "forbidden text in gzip", want: "down keyword_forbidden", monitor: lacks(zipped("stack trace"), "trace")},
		{name: "forbidden text across chunks", want: "down keyword_forbidden", monitor: lacks(chunked("stack tr", "ace"), "trace")},
		{name: "a wrong value of JSON", want: "down json", monitor: js(`{"status":"down"}`, "eq", "$.status", "up")},
		{name: "a missing value of JSON", want: "down json", monitor: js(`{"state":"up"}`, "eq", "$.status", "up")},
		{name: "null in JSON", want: "down json", monitor: js(`{"status":null}`, "eq", "$.status", "up")},
		{name: "another type in JSON", want: "down json", monitor: js(`{"n":"many"}`, "gt", "$.n", 3)},
		{name: "a list where a value is wanted", want: "down json", monitor: js(`["up"]`, "eq", "$.status", "up")},
		{name: "JSON that is cut", want: "down json", monitor: js(`{"status":"up","n":`, "eq", "$.status", "up")},
		{name: "JSON with more after it", want: "down json", monitor: js(`{"status":"up"}}`, "eq", "$.status", "up")},
		{name: "HTML for JSON", want: "down json", monitor: js(`<html>502</html>`, "eq", "$.status", "up")},
		{name: "a number of JSON out of its range", want: "down json", monitor: js(doc, "gt", "$.n", 5)},
		{name: "nothing for JSON", want: "down json", monitor: js("", "eq", "$.status", "up")},
		{name: "JSON nested absurdly deep", want: "down json", monitor: js(strings.Repeat("[", 400_000), "exists", "$[0]", nil)},
		{name: "JSON nested deep and closed", want: "down json", monitor: js(strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000), "exists", "$.b", nil)},
		{name: "a missing header", want: "down header", monitor: l.web(says(ok("x"))).assert("header", "exists", "x-build", nil)},
		{name: "a wrong header", want: "down header", monitor: l.web(says(ok("x", "Content-Type: text/html"))).assert("header", "contains", "content-type", "json")},
		{name: "corrupt gzip", want: "down decode", monitor: l.web(says(ok("\x1f\x8b\x08"+strings.Repeat("\xff", 100), "Content-Encoding: gzip")))},
		{name: "gzip with a wrong sum", want: "down decode", monitor: l.web(says(ok(packed("a needle")[:len(packed("a needle"))-8]+"\x00\x00\x00\x00\x08\x00\x00\x00", "Content-Encoding: gzip")))},
		{name: "gzip that is cut, framed whole", want: "down decode", monitor: l.web(says(ok(packed(doc)[:40], "Content-Encoding: gzip")))},
		{name: "plain text that says it is gzip", want: "down decode", monitor: l.web(says(ok("hello, plain", "Content-Encoding: gzip")))},
		{name: "plain text that says it is gzip, text wanted", want: "down decode", monitor: has(ok("hello, needle", "Content-Encoding: gzip"), "needle")},
		{name: "an encoding nobody asked for", want: "down decode", monitor: has(ok("\x1b\x0a\x00", "Content-Encoding: br"), "needle")},
		{name: "gzip framed short", want: "down body_truncated", monitor: l.web(says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 500\r\n\r\n%s", packed(doc))))},
		{name: "a body larger than is looked at", want: "down body_too_large", monitor: has(ok(strings.Repeat("x", 2<<20)), "needle")},
		{name: "a keyword before the limit of a larger body", want: "up", monitor: has(ok("needle"+strings.Repeat("x", 2<<20)), "needle")},
	}
	return rows
}

func afterHead(response string) string {
	_, body, _ := strings.Cut(response, "\r\n\r\n")
	return body
}

// anything is every verdict about a target: what counts is the time and the memory.
const anything = "up | degraded | down timeout | down body_too_large | down keyword | down decode | down json | down protocol | down headers_too_large | down body_truncated | down conn_reset"

// bombs are targets that would have memory or time without bound. The limits of a
// run are the point; every verdict in time will do where nothing is asserted.
func (l *lab) bombs() []scenario {
	const tooLarge = "down body_too_large | down keyword | down timeout"
	bomb := packed(strings.Repeat("\x00", 64<<20))
	nested := packed(bomb)
	// As fast as matters, and no faster: the lab shares the machine with the product.
	const every = 2 * time.Millisecond
	endless := func(head string) handler { return repeats(head, strings.Repeat("x", 64<<10), every) }
	wanting := func(m monitor) monitor { return m.assert("body", "contains", "needle").timeout("2s") }
	most := func(m monitor) monitor { return m.config("max_body_bytes", 16<<20) }
	var rows []scenario
	for _, b := range []struct {
		name string
		h    handler
		most bool
	}{
		{"a gzip bomb of 64 MiB", says(ok(bomb, "Content-Encoding: gzip")), true},
		{"a gzip bomb within another", says(ok(nested, "Content-Encoding: gzip")), false},
		{"gzip without end", repeats("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", bomb, every), false},
		{"a body without end", endless("HTTP/1.1 200 OK\r\n\r\n"), true},
		{"chunks without end", repeats(chunkedHead, "10000\r\n"+strings.Repeat("x", 64<<10)+"\r\n", every), true},
		{"one enormous chunk", endless(chunkedHead + "7fffffffffff\r\n"), false},
		{"a length of petabytes", endless("HTTP/1.1 200 OK\r\nContent-Length: 4503599627370496\r\n\r\n"), false},
	} {
		rows = append(rows,
			scenario{name: b.name, want: anything, monitor: l.web(b.h).timeout("2s")},
			scenario{name: b.name + ", text wanted", want: tooLarge, monitor: wanting(l.web(b.h))},
		)
		if b.most { // such a monitor may cost its 16 MiB: a few of them at once, not all
			rows = append(rows, scenario{name: b.name + ", text wanted in 16 MiB", want: tooLarge, monitor: wanting(most(l.web(b.h)))})
		}
	}
	return append(rows,
		scenario{name: "JSON without end", want: "down json | down body_too_large | down timeout", monitor: most(l.web(repeats("HTTP/1.1 200 OK\r\n\r\n[", strings.Repeat("[1,", 8<<10), 0))).assert("json", "exists", "$[0]", nil).timeout("2s")},
		scenario{name: "JSON of 8 MiB of small values", want: "up | down json | down body_too_large", monitor: most(l.web(says(ok("["+strings.Repeat("1,", 4<<20)+"1]")))).assert("json", "exists", "$[0]", nil)},
		scenario{name: "redirects without end that grow", want: "down redirect_limit | down redirect_invalid | down headers_too_large", monitor: l.web(func(c net.Conn, head string) {
			says(to(path(head)+strings.Repeat("x", 2000)))(c, head)
		})},
		scenario{name: "a redirect of 100 KiB", want: "down redirect_invalid | down http_status | down redirect_limit | down headers_too_large", monitor: l.web(func(c net.Conn, head string) {
			says(to("/"+strings.Repeat("x", 100<<10)))(c, head)
		})},
	)
}
