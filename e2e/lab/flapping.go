package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// tale is a target that changes from check to check, and the incidents that are to
// be told of it.
type tale struct {
	server *scripted
	fewest int // incidents
	most   int
	open   bool // the last of them, at the end
}

// scripted answers the n-th request by the n-th letter of a script, and those after
// its end by the last: u is up, s is slow, x is 503, r is RST, t is no answer.
type scripted struct {
	script string
	asked  atomic.Int64
}

func (s *scripted) handle(c net.Conn, head string) {
	n := int(s.asked.Add(1))
	switch s.script[min(n, len(s.script))-1] {
	case 'x':
		says(response("503 Service Unavailable", ""))(c, head)
	case 'r':
		resets("")(c, head)
	case 't':
		stalls("")(c, head)
	case 's':
		late(400*time.Millisecond, says(ok("slow")))(c, head)
	default:
		says(ok("up"))(c, head)
	}
}

// flapping is the targets that come and go, each under two confirmations.
func (l *lab) flapping() []scenario {
	tell := func(name, script, want string, fewest, most int, open bool) scenario {
		s := &scripted{script: script}
		m := l.web(s.handle).set("interval", "2s").timeout("800ms").set("confirm", object{"failures": 2, "interval": "100ms", "successes": 1})
		if strings.Contains(script, "t") { // three attempts end before the next slot
			m = m.set("interval", "3s")
		}
		return scenario{name: name, want: want, monitor: m.assert("duration", "lt", nil, "300ms", "degraded"), tale: &tale{s, fewest, most, open}}
	}
	inside := tell("single successes inside an outage", "uxxxxuxxxuxxxuu", "down http_status", 1, 1, false)
	inside.monitor = inside.monitor.set("confirm", object{"failures": 2, "interval": "100ms", "successes": 2})
	return []scenario{
		tell("one 503", "uuuxuuu", "up", 0, 0, false),
		tell("one RST", "uuuruuu", "up", 0, 0, false),
		tell("one timeout", "uuutuuu", "up", 0, 0, false),
		tell("two bad of three", "uuuxxuuu", "up", 0, 0, false),
		tell("isolated failures, often", "uu"+strings.Repeat("xu", 12), "up", 0, 0, false),
		tell("isolated failures of all kinds, often", "uu"+strings.Repeat("xurutu", 2), "up", 0, 0, false),
		tell("three bad", "uuxxxuu", "down http_status", 1, 1, false),
		tell("three RSTs", "uurrruu", "down conn_reset", 1, 1, false),
		tell("three timeouts", "uutttuu", "down timeout", 1, 1, false),
		tell("always bad", strings.Repeat("x", 12), "down http_status", 1, 1, true),
		tell("bad after good, for ever", "uu"+strings.Repeat("x", 12), "down http_status", 1, 1, true),
		tell("another reason while down", "uuxxxrrttxuu", "down http_status", 1, 1, false),
		tell("a slow phase", "uu"+strings.Repeat("s", 6)+"uu", "up", 0, 0, false),
		tell("slow and up by turns", strings.Repeat("us", 6), "up", 0, 0, false),
		inside,
		tell("short blocks of bad and good", "uu"+strings.Repeat("xxxxuuu", 3), "down http_status", 1, 3, false),
	}
}

// followTale waits until the script is told, and counts the incidents.
func (s *session) followTale(ctx context.Context, row *scenario, id int64) error {
	t := row.tale
	err := until(ctx, 90*time.Second, row.title()+": the script is told", func() (bool, error) {
		return int(t.server.asked.Load()) > len(t.server.script), nil // the one after the last: that has been judged
	})
	if err != nil {
		return err
	}
	j := judgement{title: row.title(), want: row.want}
	// Alerts go out a little after the incident is stored.
	err = until(ctx, 5*time.Second, "the incidents are as wanted", func() (bool, error) {
		var problem error
		j.got, problem, err = s.story(ctx, t, id)
		j.message = fmt.Sprint(problem)
		return problem == nil, err
	})
	if ctx.Err() == nil {
		err = nil // it is in the report
	}
	s.judge(j)
	return err
}

// story is what was told of a monitor: down if there was an incident, up if none.
// problem is what is wrong with their number or their alerts.
func (s *session) story(ctx context.Context, t *tale, id int64) (got answer, problem, err error) {
	type incident struct {
		ID     int64
		Open   bool
		Reason string
	}
	all, err := list[incident](ctx, s.p, fmt.Sprintf("/api/v1/monitors/%d/incidents?", id))
	if err != nil {
		return got, nil, err
	}
	got = answer{"up", ""}
	if len(all) > 0 {
		got = answer{"down", all[len(all)-1].Reason}
	}
	if len(all) < t.fewest || len(all) > t.most {
		return answer{fmt.Sprintf("%d incidents", len(all)), ""}, fmt.Errorf("want %d to %d", t.fewest, t.most), nil
	}
	if len(all) > 0 && all[0].Open != t.open {
		return answer{fmt.Sprintf("the last incident open: %v", all[0].Open), ""}, fmt.Errorf("want %v", t.open), nil
	}
	for _, i := range all {
		var whole struct {
			Deliveries []struct{}
		}
		if err := s.p.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/incidents/%d", i.ID), nil, &whole); err != nil {
			return got, nil, err
		}
		want := 2
		if i.Open {
			want = 1
		}
		if len(whole.Deliveries) != want {
			return answer{fmt.Sprintf("%d alerts", len(whole.Deliveries)), ""}, fmt.Errorf("want %d", want), nil
		}
	}
	return got, nil, nil
}
