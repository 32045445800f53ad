package main

import "net"

// tcp is the targets that fail at or just after the connection.
func (l *lab) tcp() []scenario {
	web := func(address string) monitor { return watch("http", "http://"+address+"/") }
	raw := func(h func(net.Conn)) monitor { return web(l.raw(h)) }
	return []scenario{
		{name: "http: refused", want: "down conn_refused", monitor: web(l.refused())},
		{name: "http: refused over IPv6", want: "down conn_refused", monitor: web(l.reserve("::1", 0).Addr)},
		{name: "http: a full backlog drops SYNs", want: "down conn_timeout", monitor: web(l.deaf()).timeout("1s")},
		{name: "http: a network that drops SYNs", want: "down conn_timeout", monitor: web(silentNet + ":80").timeout("1s")},
		{name: "http: a network that drops SYNs over IPv6", want: "down conn_timeout", monitor: web("[" + silentNet6 + "]:80").timeout("1s")},
		{name: "http: no route", want: "down conn_unreachable", monitor: web(goneNet + ":80")},
		{name: "http: no route over IPv6", want: "down conn_unreachable", monitor: web("[" + goneNet6 + "]:80")},
		{name: "http: accepted, then RST", want: "down conn_reset", monitor: raw(reset)},
		{name: "http: accepted, then FIN", want: "down conn_closed", monitor: raw(func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); hangs(c) })},
		// The request meets a closed socket, whose system answers with RST.
		{name: "http: accepted, then closed", want: "down conn_closed | down conn_reset", monitor: raw(func(net.Conn) {})},
		{name: "http: FIN after the request", want: "down conn_closed", monitor: l.web(says())},
		{name: "http: RST after the request", want: "down conn_reset", monitor: l.web(resets(""))},
		{name: "http: accepted, then nothing", want: "down timeout", monitor: raw(hangs).timeout("1s")},
		{name: "http: metadata of a cloud", want: "unknown blocked_address", monitor: web("169.254.169.254")},
		{name: "http: an address of the whole 127.0.0.0/8", want: "up", monitor: web(l.on("127.77.0.1:0", says(ok("x"))))},
	}
}
