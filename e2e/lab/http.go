package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// http is the targets that speak HTTP, well and badly.
func (l *lab) http() []scenario {
	web := l.web
	rows := []scenario{
		{name: "a page", want: "up", monitor: web(says(ok("hello")))},
		{name: "204 without a body", want: "up", monitor: web(says("HTTP/1.1 204 No Content\r\n\r\n"))},
		{name: "205, 206, 207 and 226 are of the 200s", want: "up", monitor: web(says(response("226 IM Used", "x")))},
		{name: "206 unasked", want: "up", monitor: web(says(response("206 Partial Content", "x")))},
		{name: "an empty 200", want: "up", monitor: web(says(ok("")))},
		{name: "404 that is asked for", want: "up", monitor: web(says(response("404 Not Found", "no"))).assert("status", "in", "404")},
		{name: "301 that is asked for and not followed", want: "up", monitor: web(says(response("301 Moved", "", "Location: /x"))).config("follow_redirects", false).assert("status", "in", "301")},
		{name: "500 that is asked for", want: "up", monitor: web(says(response("500 No", "no"))).assert("status", "in", "2xx,5xx")},
		{name: "a status other than one", want: "up", monitor: web(says(response("404 Not Found", "no"))).assert("status", "not_in", "500-599")},
		{name: "HEAD is 405 and GET is 200", want: "up", monitor: web(func(c net.Conn, head string) {
			if strings.HasPrefix(head, "HEAD") {
				says(response("405 Method Not Allowed", ""))(c, head)
				return
			}
			says(ok("x"))(c, head)
		})},
		{name: "100 Continue first", want: "up", monitor: web(says("HTTP/1.1 100 Continue\r\n\r\n", ok("x")))},
		{name: "103 Early Hints first", want: "up", monitor: web(says("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", ok("x")))},
		{name: "102 and three 103 first", want: "up", monitor: web(says("HTTP/1.1 102 Processing\r\n\r\n", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3), ok("x")))},
		{name: "60 KiB of headers", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\n", strings.Repeat("X-Big: "+strings.Repeat("b", 4000)+"\r\n", 15), "Content-Length: 0\r\n\r\n"))},
		{name: "one header of 60 KiB", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\nX-Big: " + strings.Repeat("b", 60000) + "\r\nContent-Length: 0\r\n\r\n"))},
		{name: "300 small headers", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\n", strings.Repeat("Set-Cookie: a=b\r\n", 300), "Content-Length: 0\r\n\r\n"))},
		{name: "HTTP/1.0, delimited by close", want: "up", monitor: web(says("HTTP/1.0 200 OK\r\n\r\nbody"))},
		{name: "HTTP/1.1, delimited by close", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody"))},
		{name: "HTTP/1.0 with a length", want: "up", monitor: web(says("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"))},
		{name: "no reason phrase", want: "up", monitor: web(says("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"))},
		{name: "a reason phrase of other words", want: "up", monitor: web(says("HTTP/1.1 200 Tout va très bien\r\nContent-Length: 0\r\n\r\n"))},
		{name: "lower-case header names", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-type: text/plain\r\n\r\nx"))},
		{name: "no space after a header's colon", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length:1\r\nX-Empty:\r\n\r\nx"))},
		{name: "one length, given twice", want: "up | down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"))},
		{name: "lines that end with LF alone", want: "up", monitor: web(says("HTTP/1.1 200 OK\nContent-Length: 1\n\nx"))},
		{name: "chunks", want: "up", monitor: web(says(chunked("hello ", "world")))},
		{name: "chunks of one byte", want: "up", monitor: web(says(chunked(strings.Split(strings.Repeat("x", 500), "")...)))},
		{name: "chunks with extensions", want: "up", monitor: web(says(chunkedHead + "3;name=value\r\nabc\r\n0\r\n\r\n"))},
		{name: "chunk sizes with leading zeros, in capitals", want: "up", monitor: web(says(chunkedHead + "00A\r\n0123456789\r\n0\r\n\r\n"))},
		{name: "Transfer-Encoding: Chunked, in capitals", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"))},
		{name: "trailers", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"))},
		{name: "a response byte by byte", want: "up", monitor: web(dribbles(ok("hello"), 1, 10*time.Millisecond))},
		{name: "a head in two segments, cut in a line", want: "up", monitor: web(func(c net.Conn, head string) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
			pause(100 * time.Millisecond)
			_, _ = io.WriteString(c, "Length: 1\r\n\r\nx")
		})},
		{name: "a connection kept open after the body", want: "up", monitor: web(stalls(ok("whole")))},
		{name: "a connection kept open after the last chunk", want: "up", monitor: web(stalls(chunked("whole")))},
		{name: "RST after the whole body", want: "up", monitor: web(resets(ok("whole")))},
		{name: "more bytes than the length", want: "up | down protocol", monitor: web(says(ok("whole") + "and more"))},
		{name: "a body of 1 MiB", want: "up", monitor: web(says(ok(strings.Repeat("x", 1<<20))))},
		{name: "a body of 20 MiB nobody asserts about", want: "up", monitor: web(func(c net.Conn, _ string) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n")
			block := make([]byte, 64<<10)
			for range 320 {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})},
		{name: "an answer before the request was read", want: "up", monitor: watch("http", "http://"+l.raw(func(c net.Conn) {
			_, _ = io.WriteString(c, ok("early"))
			hangs(c)
		})+"/")},
		{name: "a POST whose body arrives", want: "up", monitor: watch("http", "http://"+l.raw(func(c net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			_, _ = io.WriteString(c, ok(req.Method+" "+string(b)))
		})+"/").config("method", "POST").config("body", "a=1").assert("body", "contains", "POST a=1")},
		{name: "HEAD with a length and no body", want: "up", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")).config("method", "HEAD")},
		{name: "basic credentials that are wanted", want: "up", monitor: web(wants("Authorization: Basic dTpw")).config("auth", object{"kind": "basic", "username": "u", "password": "p"})},
		{name: "a bearer token that is wanted", want: "up", monitor: web(wants("Authorization: Bearer t0ken")).config("auth", object{"kind": "bearer", "token": "t0ken"})},
		{name: "a header that is wanted", want: "up", monitor: web(wants("X-Probe: yes")).config("headers", object{"X-Probe": "yes"})},
		{name: "a Host header with the port", want: "up", monitor: web(func(c net.Conn, head string) {
			wants("Host: "+c.LocalAddr().String())(c, head)
		})},
		{name: "a page over IPv6", want: "up", monitor: watch("http", "http://"+l.on("[::1]:0", says(ok("six")))+"/")},
		{name: "a path with a query and escapes", want: "up", monitor: watch("http", "http://"+l.page(func(c net.Conn, head string) {
			if path(head) != "/a%20b/?q=%C3%BC&r=1" {
				says(response("400 No", path(head)))(c, head)
				return
			}
			says(ok("x"))(c, head)
		})+"/a%20b/?q=%C3%BC&r=1#fragment")},
		{name: "Connection: upgrade offered, not asked", want: "up", monitor: web(says(ok("x", "Upgrade: h2c", "Connection: Upgrade")))},
		{name: "inverted, and refused", want: "up", monitor: watch("http", "http://"+l.refused()+"/").set("inverted", true)},

		{name: "HEAD is 200 and GET is 500", want: "down http_status", monitor: web(func(c net.Conn, head string) {
			if strings.HasPrefix(head, "HEAD") {
				says(ok(""))(c, head)
				return
			}
			says(response("500 No", "x"))(c, head)
		})},
		{name: "304 unasked", want: "down http_status", monitor: web(says("HTTP/1.1 304 Not Modified\r\n\r\n"))},
		{name: "101 unasked", want: "down http_status | down protocol", monitor: web(says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"))},
		{name: "200 where 201 is wanted", want: "down http_status", monitor: web(says(ok("x"))).assert("status", "in", "201")},
		{name: "301 that is not followed nor asked for", want: "down http_status", monitor: web(says(response("301 Moved", "", "Location: /x"))).config("follow_redirects", false)},
		{name: "inverted, and up", want: "down inverted", monitor: web(says(ok("x"))).set("inverted", true)},

		{name: "no byte", want: "down timeout", monitor: web(stalls("")).timeout("1s")},
		{name: "a status line that stops", want: "down timeout", monitor: web(stalls("HTTP/1.")).timeout("1s")},
		{name: "headers that stop", want: "down timeout", monitor: web(stalls("HTTP/1.1 200 OK\r\nX-")).timeout("1s")},
		{name: "headers that drip for ever", want: "down timeout", monitor: web(repeats("HTTP/1.1 200 OK\r\n", "X: y\r\n", 50*time.Millisecond)).timeout("1s")},
		{name: "one header that drips for ever", want: "down timeout", monitor: web(repeats("HTTP/1.1 200 OK\r\nX: ", "y", 50*time.Millisecond)).timeout("1s")},
		{name: "a body that stalls", want: "down timeout", monitor: web(stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")).timeout("1s")},
		{name: "a body that never begins", want: "down timeout", monitor: web(stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")).timeout("1s")},
		{name: "a body that stalls where text is wanted", want: "down timeout", monitor: web(stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")).timeout("1s").assert("body", "contains", "ok")},
		{name: "a body that trickles", want: "down timeout", monitor: web(repeats("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x", 50*time.Millisecond)).timeout("1s")},
		{name: "chunks that trickle", want: "down timeout", monitor: web(repeats(chunkedHead, "1\r\nx\r\n", 50*time.Millisecond)).timeout("1s")},
		{name: "chunks that stall", want: "down timeout", monitor: web(stalls(chunkedHead + "3\r\nabc\r\n")).timeout("1s")},
		{name: "a chunk size that stalls", want: "down timeout", monitor: web(stalls(chunkedHead + "3")).timeout("1s")},
		{name: "a last chunk whose end is missing", want: "down timeout", monitor: web(stalls(chunkedHead + "3\r\nabc\r\n0\r\n")).timeout("1s")},
		{name: "a body without length that stalls", want: "down timeout", monitor: web(stalls("HTTP/1.1 200 OK\r\n\r\nabc")).timeout("1s")},
		{name: "a body without length that trickles", want: "down timeout", monitor: web(repeats("HTTP/1.0 200 OK\r\n\r\n", "x", 50*time.Millisecond)).timeout("1s")},
		{name: "103 and then nothing", want: "down timeout", monitor: web(stalls("HTTP/1.1 103 Early Hints\r\n\r\n")).timeout("1s")},
		{name: "an error page whose body stalls", want: "down http_status | down timeout", monitor: web(stalls("HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nabc")).timeout("1s")},

		{name: "fewer bytes than the length", want: "down body_truncated", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))},
		{name: "no byte of the length", want: "down body_truncated", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))},
		{name: "one byte less than the length", want: "down body_truncated", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + strings.Repeat("x", 100000)))},
		{name: "fewer bytes than the length, text found", want: "down body_truncated", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")).assert("body", "contains", "ok")},
		{name: "no last chunk", want: "down body_truncated", monitor: web(says(chunkedHead + "3\r\nabc\r\n"))},
		{name: "a chunk cut in the middle", want: "down body_truncated", monitor: web(says(chunkedHead + "9\r\nabc"))},
		{name: "a chunk size cut", want: "down body_truncated", monitor: web(says(chunkedHead + "3\r\nabc\r\n1"))},
		{name: "no chunk at all", want: "down body_truncated", monitor: web(says(chunkedHead))},
		{name: "a last chunk cut", want: "down body_truncated", monitor: web(says(chunkedHead + "3\r\nabc\r\n0\r\n"))},
		{name: "RST in a body with a length", want: "down conn_reset | down body_truncated", monitor: web(resets("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))},
		{name: "RST in chunks", want: "down conn_reset | down body_truncated", monitor: web(resets(chunkedHead + "3\r\nabc\r\n"))},
		{name: "RST in a body without length", want: "down conn_reset | down body_truncated", monitor: web(resets("HTTP/1.0 200 OK\r\n\r\nabc"))},
		{name: "RST in the head", want: "down conn_reset", monitor: web(resets("HTTP/1.1 200 OK\r\nX-"))},
		{name: "close in the head", want: "down conn_closed | down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nX-"))},
		{name: "close in the status line", want: "down conn_closed | down protocol", monitor: web(says("HTTP/1.1 2"))},
		{name: "close after 100 Continue", want: "down conn_closed", monitor: web(says("HTTP/1.1 100 Continue\r\n\r\n"))},

		{name: "a chunk size that is no number", want: "down protocol", monitor: web(says(chunkedHead + "zz\r\nabc\r\n0\r\n\r\n"))},
		{name: "a negative chunk size", want: "down protocol", monitor: web(says(chunkedHead + "-3\r\nabc\r\n0\r\n\r\n"))},
		{name: "an enormous chunk size", want: "down protocol", monitor: web(says(chunkedHead + "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"))},
		{name: "no line end after a chunk", want: "down protocol", monitor: web(says(chunkedHead + "3\r\nabcdef\r\n0\r\n\r\n"))},
		{name: "two lengths that differ", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"))},
		{name: "a negative length", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"))},
		{name: "a length that is no number", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nab"))},
		{name: "a length that no number holds", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab"))},
		{name: "an unknown transfer encoding", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nab"))},
		{name: "a header without colon", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"))},
		{name: "a header with a space in its name", want: "up | down protocol", monitor: web(says("HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n"))},
		{name: "a header without a name", want: "down protocol", monitor: web(says("HTTP/1.1 200 OK\r\n: z\r\n\r\n"))},
		{name: "a status that is no number", want: "down protocol", monitor: web(says("HTTP/1.1 abc OK\r\n\r\n"))},
		{name: "a status of two digits", want: "down protocol", monitor: web(says("HTTP/1.1 20 OK\r\n\r\n"))},
		{name: "a status of four digits", want: "down protocol", monitor: web(says("HTTP/1.1 2000 OK\r\n\r\n"))},
		{name: "no version", want: "down protocol", monitor: web(says("HTTP 200 OK\r\n\r\n"))},
		{name: "a version nobody speaks", want: "down protocol", monitor: web(says("HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"))},
		{name: "SSH on the port", want: "down protocol", monitor: web(stalls("SSH-2.0-OpenSSH_9.6\r\n"))},
		{name: "SMTP on the port", want: "down protocol", monitor: web(stalls("220 mail.example ESMTP\r\n"))},
		{name: "TLS on the port", want: "down protocol | down http_status | down conn_closed", monitor: watch("http", "http://"+l.secure(shows(l.pki.leaf()), says(ok("x")))+"/")},
		{name: "binary", want: "down protocol", monitor: web(stalls("\x00\x01\x02\x03\x04\x05\x06\x07"))},
		{name: "HTTP/0.9", want: "down protocol", monitor: web(says("<html>hello</html>"))},
		{name: "one byte and close", want: "down protocol | down conn_closed", monitor: web(says("x"))},
		{name: "an empty line and close", want: "down protocol", monitor: web(says("\r\n"))},
		{name: "endless 1xx", want: "down protocol", monitor: web(repeats("", "HTTP/1.1 103 Early Hints\r\n\r\n", 0))},
		{name: "headers without end", want: "down headers_too_large", monitor: web(repeats("HTTP/1.1 200 OK\r\n", "X-Pad: 12345678\r\n", 0))},
		{name: "one header without end", want: "down headers_too_large", monitor: web(repeats("HTTP/1.1 200 OK\r\nX: ", "12345678", 0))},
		{name: "a status line without end", want: "down headers_too_large | down protocol", monitor: web(repeats("HTTP/1.1 200 ", "OKOKOKOK", 0))},
		{name: "trailers without end", want: "down protocol | down headers_too_large | down body_truncated", monitor: web(repeats(chunkedHead+"1\r\na\r\n0\r\n", "X-Pad: 12345678\r\n", 0))},
		{name: "an old connection deaf, new ones fine", want: "up", monitor: l.oneAnswerEach(), then: []change{{"at the next check", func() {}, "up"}}},
	}
	for _, code := range []int{400, 401, 403, 404, 410, 418, 429, 451, 500, 502, 503, 504, 520, 599, 999} {
		rows = append(rows, scenario{name: fmt.Sprintf("status %d", code), want: "down http_status", monitor: web(says(response(fmt.Sprintf("%d Odd", code), "no")))})
	}
	return rows
}

// wants answers 401 unless the request has a line.
func wants(line string) handler {
	return func(c net.Conn, head string) {
		if !strings.Contains(head, "\r\n"+line+"\r\n") {
			says(response("401 Unauthorized", head))(c, head)
			return
		}
		says(ok("welcome"))(c, head)
	}
}

// on is page at an address of one's choice.
func (l *lab) on(address string, h handler) string {
	ln := l.listenOn(address)
	serve(ln, onHead(h))
	return ln.Addr().String()
}

// oneAnswerEach answers the first request of each connection and none after it,
// though it says that it would.
func (l *lab) oneAnswerEach() monitor {
	return l.web(func(c net.Conn, head string) {
		says(ok("x", "Connection: keep-alive", "Keep-Alive: timeout=600"))(c, head)
		hangs(c)
	})
}
