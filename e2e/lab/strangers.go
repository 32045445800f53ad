package main

import (
	"io"
	"net"
	"strings"
)

// strangers is what must be said whatever a type speaks: of a port where nobody
// listens, of a server that says nothing, hangs up, or speaks something else.
func (l *lab) strangers() []scenario {
	var rows []scenario
	for kind, m := range map[string]monitor{
		"websocket": nil, "grpc": nil, "imap": nil, "pop3": nil, "ftp": nil, "ssh": nil, "mqtt": nil, "kafka": nil,
		"postgres": nil, "mysql": nil, "sqlserver": nil, "mongodb": nil, "redis": nil,
		"rabbitmq": monitor{}.config("username", "u").config("password", "p"),
	} {
		to := func(address string) monitor {
			if kind == "websocket" {
				address = "ws://" + address + "/"
			}
			w := watch(kind, address)
			if m["config"] != nil {
				w = w.set("config", m["config"])
			}
			return w
		}
		rows = append(rows,
			scenario{name: kind + ": refused", want: "down conn_refused", monitor: to(l.refused())},
			scenario{name: kind + ": SYNs dropped", want: "down conn_timeout", monitor: to(silentNet + ":99")},
			scenario{name: kind + ": silence", want: "down timeout", monitor: to(l.raw(hangs))},
			scenario{name: kind + ": hangs up", want: "down conn_closed | down protocol | down conn_reset | down banner", monitor: to(l.raw(func(net.Conn) {}))},
			scenario{name: kind + ": another protocol without end", want: "down protocol | down banner | down timeout | down body_too_large", monitor: to(l.raw(func(c net.Conn) {
				for {
					if _, err := io.WriteString(c, strings.Repeat("\xff\xfe stranger\r\n", 1000)); err != nil {
						return
					}
					pause(1e6)
				}
			})).timeout(shortTimeout)},
		)
	}
	return rows
}
