package main

import (
	"net"
	"time"
)

// slow is the targets that answer, late.
func (l *lab) slow() []scenario {
	page := says(ok("x"))
	limit := func(m monitor, source, at string) monitor { return m.assert(source, "lt", nil, at, "degraded") }
	good := l.pki.leaf()
	return []scenario{
		{name: "a second, of three", want: "up", monitor: l.web(late(time.Second, page))},
		{name: "two seconds, of three", want: "up", monitor: l.web(late(2*time.Second, page))},
		{name: "a body over a second", want: "up", monitor: l.web(dribbles(ok("0123456789"), 1, 20*time.Millisecond))},
		{name: "below the threshold", want: "up", monitor: limit(l.web(page), "duration", "2s")},
		{name: "over the threshold", want: "degraded slow", monitor: limit(l.web(late(700*time.Millisecond, page)), "duration", "500ms")},
		{name: "over the threshold of down", want: "down slow", monitor: l.web(late(700*time.Millisecond, page)).assert("duration", "lt", "500ms")},
		{name: "a first byte over its threshold", want: "degraded slow", monitor: limit(l.web(late(700*time.Millisecond, page)), "first_byte", "500ms")},
		{name: "a body over its threshold", want: "degraded slow", monitor: limit(l.web(func(c net.Conn, head string) {
			says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")(c, head)
			pause(700 * time.Millisecond)
			says("x")(c, head)
		}), "transfer", "500ms")},
		{name: "a handshake over its threshold", want: "degraded slow", monitor: limit(l.https(l.slowly(shows(good), 400*time.Millisecond, page)), "tls", "300ms")},
		{name: "a look-up over its threshold", want: "degraded slow", monitor: limit(watch("http", "http://shop.test:"+port(l.page(page))+"/").config("resolver", l.resolver(after(700*time.Millisecond, address("127.0.0.1")))), "dns", "500ms")},
		{name: "slow and wrong is wrong", want: "down http_status", monitor: limit(l.web(late(700*time.Millisecond, says(response("500 No", "")))), "duration", "500ms")},
		{name: "later than the timeout", want: "down timeout", monitor: l.web(late(3*time.Second, page)).timeout("1s")},
		{name: "the shortest timeout there is", want: "down timeout", monitor: l.web(stalls("")).timeout("100ms")},
	}
}
