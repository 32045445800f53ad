package main

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
)

// to is a redirect.
func to(location string) string { return redirected("302 Found", location) }

func redirected(status, location string) string {
	return response(status, "moved", "Location: "+location)
}

// routes answers each path with its response, and others with 404.
func routes(of map[string]string) handler {
	return func(c net.Conn, head string) {
		r, there := of[path(head)]
		if !there {
			r = response("404 Not Found", path(head))
		}
		says(r)(c, head)
	}
}

// steps redirects n times, each time one path deeper, and then answers.
func steps(n int) handler {
	return func(c net.Conn, head string) {
		at := path(head)
		if len(at)-1 >= n {
			says(ok("arrived"))(c, head)
			return
		}
		says(to(at+"x"))(c, head)
	}
}

// redirect is the targets that send elsewhere.
func (l *lab) redirect() []scenario {
	web := l.web
	good := l.pki.leaf()
	secure := "https://" + l.secure(shows(good), says(ok("secure")))
	plain := "http://" + l.page(says(ok("plain")))
	trusting := func(m monitor) monitor { return m.config("tls.ca_pem", l.pki.pem()) }
	viaTLS := func(location string) monitor {
		return trusting(watch("http", "https://"+l.secure(shows(good), says(to(location)))+"/"))
	}
	rows := []scenario{
		{name: "five hops", want: "up", monitor: web(steps(5))},
		{name: "ten hops, as many as allowed", want: "up", monitor: web(steps(10))},
		{name: "two hops of two allowed", want: "up", monitor: web(steps(2)).config("max_redirects", 2)},
		{name: "a relative path", want: "up", monitor: watch("http", "http://"+l.page(routes(map[string]string{"/a/b": to("c"), "/a/c": ok("x")}))+"/a/b")},
		{name: "a relative path upwards", want: "up", monitor: watch("http", "http://"+l.page(routes(map[string]string{"/a/b/c": to("../d"), "/a/d": ok("x")}))+"/a/b/c")},
		{name: "an absolute path", want: "up", monitor: web(routes(map[string]string{"/": to("/x"), "/x": ok("x")}))},
		{name: "a query alone", want: "up", monitor: web(routes(map[string]string{"/": to("?x=1"), "/?x=1": ok("x")}))},
		{name: "a fragment", want: "up", monitor: web(routes(map[string]string{"/": to("/x#part"), "/x": ok("x")}))},
		{name: "without a scheme", want: "up", monitor: web(says(to(strings.TrimPrefix(plain, "http:") + "/")))},
		{name: "http to https", want: "up", monitor: trusting(web(says(to(secure + "/"))))},
		{name: "https to https", want: "up", monitor: viaTLS(secure + "/")},
		{name: "https to http where that is allowed", want: "up", monitor: viaTLS(plain+"/").config("allow_downgrade", true)},
		{name: "303 after POST becomes GET", want: "up", monitor: web(method(map[string]string{"POST /": redirected("303 See Other", "/x"), "GET /x": ok("x")})).config("method", "POST")},
		{name: "307 keeps POST", want: "up", monitor: web(method(map[string]string{"POST /": redirected("307 Temporary Redirect", "/x"), "POST /x": ok("x")})).config("method", "POST")},
		{name: "308 keeps POST", want: "up", monitor: web(method(map[string]string{"POST /": redirected("308 Permanent Redirect", "/x"), "POST /x": ok("x")})).config("method", "POST")},
		{name: "a redirect whose body stalls", want: "up", monitor: web(func(c net.Conn, head string) {
			if path(head) == "/x" {
				says(ok("x"))(c, head)
				return
			}
			stalls("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 1000\r\n\r\nabc")(c, head)
		})},
		{name: "a redirect with an endless body", want: "up", monitor: web(func(c net.Conn, head string) {
			if path(head) == "/x" {
				says(ok("x"))(c, head)
				return
			}
			repeats("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", strings.Repeat("x", 8<<10), 0)(c, head)
		})},
		{name: "the bearer token stays at its host", want: "up", monitor: web(says(to("http://localhost:"+port(l.page(leaks))+"/"))).config("auth", object{"kind": "bearer", "token": "t0ken-canary"})},
		{name: "the password stays at its host", want: "up", monitor: web(says(to("http://localhost:"+port(l.page(leaks))+"/"))).config("auth", object{"kind": "basic", "username": "u", "password": "canary"})},
		{name: "headers with keys stay at their host", want: "up", monitor: web(says(to("http://localhost:"+port(l.page(leaks))+"/"))).config("headers", object{"X-Api-Key": "canary", "Cookie": "session=canary"})},
		{name: "the token is shown at its own host again", want: "up", monitor: web(func(c net.Conn, head string) {
			if path(head) == "/" {
				says(to("/x"))(c, head)
				return
			}
			wants("Authorization: Bearer t0ken")(c, head)
		}).config("auth", object{"kind": "bearer", "token": "t0ken"})},

		{name: "to itself", want: "down redirect_limit", monitor: web(says(to("/")))},
		{name: "round two pages", want: "down redirect_limit", monitor: web(routes(map[string]string{"/": to("/b"), "/b": to("/")}))},
		{name: "round three pages", want: "down redirect_limit", monitor: web(routes(map[string]string{"/": to("/b"), "/b": to("/c"), "/c": to("/")}))},
		{name: "on to a longer path for ever", want: "down redirect_limit", monitor: web(steps(1 << 20))},
		{name: "on to a new query for ever", want: "down redirect_limit", monitor: web(counts())},
		{name: "round two hosts", want: "down redirect_limit", monitor: l.pingPong()},
		{name: "eleven hops", want: "down redirect_limit", monitor: web(steps(11))},
		{name: "three hops of two allowed", want: "down redirect_limit", monitor: web(steps(3)).config("max_redirects", 2)},
		{name: "one hop of none allowed", want: "down redirect_limit", monitor: web(steps(1)).config("max_redirects", 0)},
		{name: "to a refused port", want: "down conn_refused", monitor: web(says(to("http://" + l.refused() + "/")))},
		{name: "to a host that drops SYNs", want: "down conn_timeout | down timeout", monitor: web(says(to("http://" + l.deaf() + "/"))).timeout("1s")},
		{name: "to a name that does not exist", want: "down dns_nxdomain", monitor: web(says(to("http://nothing.test/"))).config("resolver", l.resolver(rcode(nxdomain)))},
		{name: "to a 500", want: "down http_status", monitor: web(routes(map[string]string{"/": to("/x"), "/x": response("500 No", "")}))},
		{name: "to a 404", want: "down http_status", monitor: web(routes(map[string]string{"/": to("/x")}))},
		{name: "to a page that hangs", want: "down timeout", monitor: web(says(to("http://" + l.page(stalls("")) + "/"))).timeout("1s")},
		{name: "to a body that is cut", want: "down body_truncated", monitor: web(routes(map[string]string{"/": to("/x"), "/x": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"}))},
		{name: "to an expired certificate", want: "down tls_expired", monitor: trusting(web(says(to("https://" + l.secure(shows(l.pki.leaf(endsIn(-10*hour))), says(ok("x"))) + "/"))))},
		{name: "to an untrusted certificate", want: "down tls_untrusted | down tls_self_signed", monitor: web(says(to(secure + "/")))},
		{name: "to a port without TLS", want: "down tls_handshake", monitor: web(says(to("https://" + l.raw(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			says(response("400 Bad Request", "plain"))(c, "")
		}) + "/")))},
		{name: "https to http", want: "degraded tls_downgrade | down tls_downgrade", monitor: viaTLS(plain + "/")},
		{name: "to a parked page", want: "down keyword", monitor: web(routes(map[string]string{"/": to("/sale"), "/sale": ok("This domain is for sale.")})).assert("body", "contains", "Welcome to our shop")},
		{name: "without a location", want: "down redirect_invalid", monitor: web(says(response("302 Found", "")))},
		{name: "to the cloud's metadata", want: "unknown blocked_address", monitor: web(says(to("http://169.254.169.254/latest/")))},
	}
	for _, bad := range []string{"file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "javascript:alert(1)", "data:text/plain,ok", "http://%zz/", "http://", "http://[::1/", "http://127.0.0.1:99999/"} {
		rows = append(rows, scenario{name: "to " + bad, want: "down redirect_invalid", monitor: web(says(to(bad)))})
	}
	return rows
}

func port(address string) string {
	return address[strings.LastIndexByte(address, ':')+1:]
}

// leaks answers 500 to a request that holds a secret of ours.
func leaks(c net.Conn, head string) {
	if strings.Contains(head, "canary") || strings.Contains(head, "Authorization:") || strings.Contains(head, "Cookie:") {
		says(response("500 Leaked", ""))(c, head)
		return
	}
	says(ok("clean"))(c, head)
}

// method answers each method and path with its response.
func method(of map[string]string) handler {
	return func(c net.Conn, head string) {
		f := strings.Fields(head)
		r, there := of[f[0]+" "+f[1]]
		if !there {
			r = response("405 Method Not Allowed", "")
		}
		says(r)(c, head)
	}
}

// counts redirects to a query that was never asked for before.
func counts() handler {
	var n atomic.Int64
	return func(c net.Conn, head string) { says(to(fmt.Sprintf("/?n=%d", n.Add(1))))(c, head) }
}

// pingPong is two hosts that redirect to one another.
func (l *lab) pingPong() monitor {
	var second string
	first := l.page(func(c net.Conn, head string) { says(to("http://"+second+"/"))(c, head) })
	second = l.page(says(to("http://" + first + "/")))
	return watch("http", "http://"+first+"/")
}
