package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// scenario is one row: a target, the monitor that watches it, and what must be said.
type scenario struct {
	name string
	// want is verdict and reason as one text: "up", "down tls_expired". Several that
	// are all right are separated by " | ".
	want    string
	monitor monitor
	// then is what happens to the target later: the next check must say what the
	// change makes true.
	then []change
	// tale, if there is one, is told instead: see flapping.go.
	tale *tale
	// acts are what a job does, of which the monitor is the heartbeat: heartbeat.go.
	acts  []act
	class string
}

// change is a later act of a scenario.
type change struct {
	name string
	do   func()
	want string
}

// object is any JSON object.
type object = map[string]any

// monitor is what is sent to the API, in the API's own words.
type monitor object

// watch is a monitor of a type that believes the first failure.
func watch(kind, target string) monitor {
	return monitor{"type": kind, "target": target, "interval": "30s", "confirm": object{"failures": 0}}
}

// Timeouts of a monitor that names none: one that a busy machine does not use up
// where an answer is due, and a short one where the timeout is what is wanted.
const (
	longTimeout  = "10s"
	shortTimeout = "2s"
	stepInterval = "3s" // of scenarios that go on; no longer timeout is possible there
)

// set is m with another field.
func (m monitor) set(key string, value any) monitor {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// config is m with an option of its type; a dot leads into an option's own options.
func (m monitor) config(path string, value any) monitor {
	config, _ := m["config"].(object)
	return m.set("config", with(config, strings.Split(path, "."), value))
}

func with(o object, path []string, value any) object {
	o = maps.Clone(o)
	if o == nil {
		o = object{}
	}
	if len(path) == 1 {
		o[path[0]] = value
		return o
	}
	inner, _ := o[path[0]].(object)
	o[path[0]] = with(inner, path[1:], value)
	return o
}

// timeout is m with another timeout.
func (m monitor) timeout(limit string) monitor { return m.set("timeout", limit) }

// assert is m with one assertion more. rest is its value, or its property and its
// value, or those and its severity.
func (m monitor) assert(source, op string, rest ...any) monitor {
	a := object{"source": source, "op": op}
	keys := map[int][]string{0: nil, 1: {"value"}, 2: {"property", "value"}, 3: {"property", "value", "severity"}}[len(rest)]
	for i, key := range keys {
		if rest[i] != nil {
			a[key] = rest[i]
		}
	}
	list, _ := m["assertions"].([]object)
	return m.set("assertions", append(slices.Clone(list), a))
}

// answer is a verdict with its reason.
type answer struct{ verdict, reason string }

func (a answer) String() string { return strings.TrimSpace(a.verdict + " " + a.reason) }

// answers reads a want.
func answers(want string) []answer {
	var out []answer
	for text := range strings.SplitSeq(want, " | ") {
		verdict, reason, _ := strings.Cut(text, " ")
		out = append(out, answer{verdict, reason})
	}
	return out
}

// healthy reports whether a target with this want works: up is right of it.
func healthy(want string) bool {
	return slices.ContainsFunc(answers(want), func(a answer) bool { return a.verdict == "up" })
}

// Least of what a table must hold to say anything.
const (
	leastScenarios = 250
	leastHealthy   = 1.0 / 3
)

// table is all scenarios; it starts their targets.
func (l *lab) table() ([]scenario, error) {
	var all []scenario
	for _, of := range []struct {
		class string
		rows  func() []scenario
	}{
		{"dns", l.dns}, {"tcp", l.tcp}, {"tls", l.tls}, {"http", l.http}, {"http", l.http2}, {"types", l.strangers}, {"types", l.services}, {"redirect", l.redirect},
		{"content", l.content}, {"bomb", l.bombs}, {"dns", l.dnsType}, {"tcp", l.tcpType}, {"tls", l.tlsType}, {"smtp", l.smtp}, {"slow", l.slow}, {"flapping", l.flapping}, {"heartbeat", l.heartbeat},
	} {
		for _, s := range of.rows() {
			s.class = of.class
			s.settle()
			all = append(all, s)
		}
	}
	return all, checkTable(all)
}

// settle fills in what the row leaves open.
func (s *scenario) settle() {
	limit := longTimeout
	if strings.Contains(s.want, "timeout") {
		limit = shortTimeout
	}
	if s.then != nil {
		s.monitor = s.monitor.set("interval", stepInterval)
		limit = stepInterval
	}
	if s.monitor["timeout"] == nil {
		s.monitor = s.monitor.timeout(limit)
	}
}

// checkTable refuses a table that would flatter: too small, too few that work, or
// with one name for two rows.
func checkTable(all []scenario) error {
	names, works := map[string]bool{}, 0
	for _, s := range all {
		if names[s.title()] {
			return fmt.Errorf("two scenarios are called %q", s.title())
		}
		names[s.title()] = true
		if healthy(s.want) {
			works++
		}
	}
	if len(all) < leastScenarios || float64(works) < leastHealthy*float64(len(all)) {
		return fmt.Errorf("%d scenarios, %d of them healthy: want %d, and a third of them healthy", len(all), works, leastScenarios)
	}
	return nil
}

func (s *scenario) title() string { return s.class + ": " + s.name }

// body is the request that makes the monitor.
func (s *scenario) body() ([]byte, error) {
	return json.Marshal(s.monitor.set("name", s.title()))
}
