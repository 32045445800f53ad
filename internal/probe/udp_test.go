package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vedette/internal/uptime"
)

func TestUDP(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	says := func(answers ...string) func(*testing.T) string {
		return udpTalker(func([]byte) (out [][]byte) {
			for _, a := range answers {
				out = append(out, []byte(a))
			}
			return out
		})
	}
	echo, silent := udpTalker(func(q []byte) [][]byte { return [][]byte{q} }), says()
	game := udpTalker(func(q []byte) [][]byte {
		if !bytes.Equal(q, []byte("\xff\xff\xff\xffTSource Engine Query\x00")) {
			return nil
		}
		return [][]byte{[]byte("\xff\xff\xff\xffI\x11name")}
	})
	runExample(t, "udp", 0, game(t), nil)
	runExample(t, "udp", 1, silent(t), nil)
	chrony := chronyServer(t, "local stratum 5\n") // a real server to which our bytes are a question
	talkCases(t, "udp", map[string]talkCase{
		"chrony answers bytes of ours":      {server: at(chrony.Addr), config: `{"send":"\\x23` + strings.Repeat(`\\x00`, 47) + `","expect":"\\x24\\x05"}`, verdict: up},
		"any answer will do":                {server: says("x"), verdict: up},
		"an empty answer is one":            {server: says(""), verdict: up},
		"the wanted answer":                 {server: echo, config: `{"send":"ping\\x00","expect":"ping\\x00"}`, verdict: up},
		"another answer, then the wanted":   {server: says("no", "yes"), config: `{"expect":"yes"}`, verdict: up},
		"silence, and none was expected":    {server: silent, config: `{"expect_answer":false}`, verdict: up},
		"an answer, though none was needed": {server: says("x"), config: `{"expect_answer":false}`, verdict: up},
		"an assertion on the answer holds":  {server: says("v1.2"), assertions: []uptime.Assertion{assert("banner", "", "matches", "^v1")}, verdict: up},
		"slow but in time": {server: udpTalker(func([]byte) [][]byte {
			<-time.After(short)
			return [][]byte{[]byte("x")}
		}), verdict: up},
		"an assertion on the answer fails":    {server: says("v2.0"), assertions: []uptime.Assertion{assert("banner", "", "matches", "^v1")}, verdict: down, reason: uptime.Banner},
		"silence":                             {server: silent, timeout: short, verdict: down, reason: uptime.Timeout},
		"silence where text is expected":      {server: silent, config: `{"expect":"x"}`, timeout: short, verdict: down, reason: uptime.Timeout},
		"another answer":                      {server: says("no"), config: `{"expect":"yes"}`, timeout: short, verdict: down, reason: uptime.Banner},
		"the wanted text in two answers":      {server: says("y", "es"), config: `{"expect":"yes"}`, timeout: short, verdict: down, reason: uptime.Banner},
		"nothing listens":                     {server: udpClosed, verdict: down, reason: uptime.ConnRefused},
		"nothing listens, no answer expected": {server: udpClosed, config: `{"expect_answer":false}`, verdict: down, reason: uptime.ConnRefused},
		"answers without end": {server: udpTalker(func([]byte) [][]byte {
			return slices.Repeat([][]byte{[]byte("no")}, maxDatagrams+100)
		}), config: `{"expect":"yes"}`, timeout: time.Second, verdict: down, reason: uptime.Banner},
		"large answers without end": {server: udpTalker(func([]byte) (out [][]byte) {
			return slices.Repeat([][]byte{bytes.Repeat([]byte("no"), 30_000)}, 1500)
		}), config: `{"expect":"yes"}`, timeout: time.Second, verdict: down, reason: uptime.Banner},
	})
}

// Listening for a refusal is not the target's time, and never ends the check.
func TestUDPListeningIsNoPartOfTheDuration(t *testing.T) {
	t.Parallel()
	silent := udpTalker(func([]byte) [][]byte { return nil })(t)
	for _, timeout := range []time.Duration{icmpWait * 3 / 4, 5 * time.Second} {
		out := talkRun(t, uptime.Monitor{Type: "udp", Target: silent, Timeout: timeout, Config: json.RawMessage(`{"expect_answer":false}`)})
		check(t, out, uptime.VerdictUp, uptime.ReasonOK)
		if out.Duration >= icmpWait {
			t.Errorf("duration = %s with timeout %s, want it without the second of listening", out.Duration, timeout)
		}
	}
}

func TestUDPConfigIsChecked(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"expect":"x","expect_answer":false}`:                "config.expect_answer",
		`{"send":"\\q"}`:                                      "config.send",
		fmt.Sprintf(`{"send":%q}`, strings.Repeat("x", 1401)): "config.send",
	} {
		if _, err := New(testEnv()).Compile(uptime.Monitor{Type: "udp", Target: "h.example.com:1", Config: json.RawMessage(config)}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Compile of %.60s = %v, want it to name %s", config, err, path)
		}
	}
}

func TestUDPLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "udp", "", udpClosed, udpTalker(func([]byte) [][]byte { return nil }))
}
