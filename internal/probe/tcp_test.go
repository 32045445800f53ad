package probe

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

func TestTCP(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	redis := testenv.Redis(t)
	expects := `{"expect": "220 ready"}`
	cert, _, _ := talkCert()
	secure := func(cfg *tls.Config, text string) func(*testing.T) string {
		return talker(func(c net.Conn) {
			s := tls.Server(c, cfg)
			_, _ = io.WriteString(s, text)
			_, _ = io.Copy(io.Discard, s)
		})
	}
	ours := &tls.Config{Certificates: []tls.Certificate{cert}}
	echo := talker(func(c net.Conn) {
		line, _ := bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "you said "+line)
	})
	talkCases(t, "tcp", map[string]talkCase{
		"a real Redis takes the connection":            {server: at(redis.Addr), verdict: up},
		"a real Redis answers PING":                    {server: at(redis.Addr), config: `{"send":"PING\\r\\n","expect":"+PONG\\r\\n"}`, verdict: up},
		"a silent server is up when only connected to": {server: talkSilent, verdict: up},
		"a server that talks is up without a wish":     {server: talkSays("hello"), verdict: up},
		"taken and closed without a byte is up":        {server: talkCloses, verdict: up},
		"the banner is the wanted one":                 {server: talkSays("220 ready\r\n"), config: expects, verdict: up},
		"a banner in two segments is up": {server: talker(func(c net.Conn) {
			_, _ = io.WriteString(c, "220 re")
			<-time.After(50 * time.Millisecond)
			_, _ = io.WriteString(c, "ady\r\n")
			_, _ = io.Copy(io.Discard, c)
		}), config: expects, verdict: up},
		"a banner that is slow but in time is up": {server: talker(func(c net.Conn) {
			<-time.After(short)
			_, _ = io.WriteString(c, "220 ready\r\n")
		}), config: expects, verdict: up},
		"what is sent is what was written":                 {server: echo, config: `{"send":"a\\tb\\n","expect":"you said a\\tb"}`, verdict: up},
		"a banner deep in the output is found":             {server: talkSays(strings.Repeat("x", 60<<10), "220 ready"), config: expects, verdict: up},
		"TLS from the start, and a banner":                 {server: secure(ours, "220 ready\r\n"), config: talkTrusts(`,"security":"tls","expect":"220 ready"`), verdict: up},
		"TLS from the start, connected only":               {server: secure(ours, ""), config: talkTrusts(`,"security":"tls"`), verdict: up},
		"an assertion on the banner holds":                 {server: talkSays("SSH-2.0-x\r\n"), assertions: []uptime.Assertion{assert("banner", "", "matches", "^SSH-2")}, verdict: up},
		"an assertion on the banner fails":                 {server: talkSays("220 mail\r\n"), assertions: []uptime.Assertion{assert("banner", "", "matches", "^SSH-2")}, verdict: down, reason: uptime.Banner},
		"an assertion on the address fails":                {server: talkSilent, assertions: []uptime.Assertion{assert("address", "", "eq", "192.0.2.1")}, verdict: down, reason: uptime.AssertFailed},
		"nothing listens":                                  {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"taken and reset is down though nothing is wanted": {server: talkResets, verdict: down, reason: uptime.ConnReset},
		"taken and reset when something is wanted":         {server: talkResets, config: expects, verdict: down, reason: uptime.ConnReset},
		"closed without the wanted banner":                 {server: talkCloses, config: expects, verdict: down, reason: uptime.ConnClosed},
		"another banner, then closed":                      {server: talkScript("S: SSH-2.0-x"), config: expects, verdict: down, reason: uptime.Banner},
		"another banner, then silence":                     {server: talkSays("SSH-2.0-x\r\n"), config: expects, timeout: short, verdict: down, reason: uptime.Banner},
		"no banner in time":                                {server: talkSilent, config: expects, timeout: short, verdict: down, reason: uptime.Timeout},
		"a banner without end":                             {server: talkEndless("no end in sight "), config: expects, verdict: down, reason: uptime.Banner},
		"the wanted text only behind the first 64 KiB":     {server: talkSays(strings.Repeat("x", maxText), "220 ready"), config: expects, verdict: down, reason: uptime.Banner},
		"half a banner, then a reset":                      {server: talkScript("S: 22", "reset"), config: expects, verdict: down, reason: uptime.ConnReset},
		"TLS wanted of a server that talks first":          {server: talkSays("220 ready\r\n"), config: talkTrusts(`,"security":"tls"`), verdict: down, reason: uptime.TLSHandshake},
		"a certificate that is not trusted":                {server: secure(ours, ""), config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSSelfSigned},
		"a client certificate wanted, and none there":      {server: secure(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}, ""), config: talkTrusts(`,"security":"tls"`), verdict: down, reason: uptime.TLSClientCert},
		"a client certificate asked for, not needed":       {server: secure(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}, ""), config: talkTrusts(`,"security":"tls"`), verdict: up},
	})
}

// What a connect-only check waits for bad news is not the target's time.
func TestListeningForAResetIsNoPartOfTheDuration(t *testing.T) {
	t.Parallel()
	start := time.Now()
	out := talkRun(t, uptime.Monitor{Type: "tcp", Target: talkSilent(t)})
	check(t, out, uptime.VerdictUp, uptime.ReasonOK)
	if took := time.Since(start); took < resetWait || out.Duration > took-resetWait {
		t.Errorf("duration %s of %s, want it without the %s of listening", out.Duration, took, resetWait)
	}
}

// A check that ends because we listened too long would be a false alarm.
func TestListeningNeverUsesUpTheTimeout(t *testing.T) {
	t.Parallel()
	var out Outcome
	for range 5 { // a busy machine may take longer than that to connect
		if out = talkRun(t, uptime.Monitor{Type: "tcp", Target: talkSilent(t), Timeout: uptime.MinTimeout}); out.Verdict == uptime.VerdictUp {
			break
		}
	}
	check(t, out, uptime.VerdictUp, uptime.ReasonOK)
}

func TestTCPKeepsWhatWasReceivedAsEvidence(t *testing.T) {
	t.Parallel()
	out := talkRun(t, uptime.Monitor{Type: "tcp", Target: talkEndless("abc")(t), Config: json.RawMessage(`{"expect":"nothing of it"}`)})
	check(t, out, uptime.VerdictDown, uptime.Banner)
	if e := out.Evidence; len(e.Body) != evidenceBody || !strings.HasPrefix(e.Body, "abcabc") || e.BodyBytes < maxText || e.BodyBytes > maxText+maxLine {
		t.Errorf("evidence body of %d bytes, %d bytes read; want %d and at most a little above %d", len(e.Body), e.BodyBytes, evidenceBody, maxText)
	}
}

func TestTCPLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "tcp", `{"expect":"x"}`, talkSilent, talkCloses, talkResets, talkEndless("y"))
}

func TestTCPConfigIsCheckedWhenSaved(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ target, config, path string }{
		"a target without a port":     {"example.com", `{}`, "target"},
		"an escape that is none":      {"example.com:1", `{"send":"\\q"}`, "config.send"},
		"half an escape":              {"example.com:1", `{"expect":"\\x4"}`, "config.expect"},
		"starttls without a protocol": {"example.com:1", `{"security":"starttls"}`, "config.starttls_protocol"},
		"a protocol without starttls": {"example.com:1", `{"starttls_protocol":"smtp"}`, "config.starttls_protocol"},
		"a security that is none":     {"example.com:1", `{"security":"ssl"}`, "config.security"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(uptime.Monitor{Type: "tcp", Target: tt.target, Config: json.RawMessage(tt.config)})
			if err == nil || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("Compile = %v, want it to name %s", err, tt.path)
			}
		})
	}
}

func TestTCPExamples(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t)
	runExample(t, "tcp", 0, redis.Addr, nil)
	runExample(t, "tcp", 1, redis.Addr, nil)
	runExample(t, "tcp", 2, talkLDAP(t), talkTrust)
}
