package probe

import (
	"encoding/json"
	"strings"
	"testing"

	"vedette/internal/uptime"
)

func TestPOP3(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	d := dovecotServer(t)
	runExample(t, "pop3", 0, d.pop3, talkTrust)
	runExample(t, "pop3", 1, d.pop3s, talkTrust)
	clear := `{"clear_text_login":true` + talkLogin + `}`
	greets := func(lines ...string) func(*testing.T) string {
		return talkScript(append([]string{"S: +OK hi"}, lines...)...)
	}
	talkCases(t, "pop3", map[string]talkCase{
		"Dovecot greets":                       {server: at(d.pop3), assertions: []uptime.Assertion{assert("banner", "", "contains", "Dovecot")}, verdict: up},
		"Dovecot lists what it can do":         {server: at(d.pop3), assertions: []uptime.Assertion{assert("capabilities", "", "contains", "UIDL")}, verdict: up},
		"Dovecot goes on in TLS":               {server: at(d.pop3), config: talkTrusts(`,"security":"starttls"`), verdict: up},
		"Dovecot takes the login in TLS":       {server: at(d.pop3), config: talkTrusts(`,"security":"starttls"` + talkLogin), verdict: up},
		"Dovecot in TLS from the start":        {server: at(d.pop3s), config: talkTrusts(`,"security":"tls"` + talkLogin), verdict: up},
		"Dovecot takes the login in the clear": {server: at(d.pop3), config: clear, verdict: up},
		"an old server without CAPA":           {server: greets("C: CAPA", "S: -ERR what?", "C: USER monitor", "S: +OK", "C: PASS s3cret-word", "S: +OK in", "hang"), config: clear, verdict: up},
		"Dovecot refuses a wrong password":     {server: at(d.pop3), config: talkTrusts(`,"security":"starttls"` + talkWrong), verdict: down, reason: uptime.AuthFailed},
		"the mailbox is in use":                {server: greets("C: CAPA", "S: -ERR", "C: USER", "S: +OK", "C: PASS", "S: -ERR [IN-USE] locked", "hang"), config: clear, verdict: down, reason: uptime.NotReady},
		"Dovecot lacks a capability":           {server: at(d.pop3), assertions: []uptime.Assertion{assert("capabilities", "", "contains", "NOTHING")}, verdict: down, reason: uptime.AssertFailed},
		"a certificate that is not trusted":    {server: at(d.pop3), config: `{"security":"starttls"}`, verdict: down, reason: uptime.TLSSelfSigned},
		"clear text, spoken to in TLS":         {server: at(d.pop3), config: talkTrusts(`,"security":"tls"`), verdict: down, reason: uptime.TLSHandshake},
		"nothing listens":                      {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"silence":                              {server: talkSilent, timeout: short, verdict: down, reason: uptime.Timeout},
		"a close":                              {server: talkCloses, verdict: down, reason: uptime.ConnClosed},
		"a reset":                              {server: talkResets, verdict: down, reason: uptime.ConnReset},
		"another protocol":                     {server: talkSays("* OK IMAP4rev1\r\n"), verdict: down, reason: uptime.Protocol},
		"a greeting that is an error":          {server: talkScript("S: -ERR full", "hang"), verdict: down, reason: uptime.NotReady},
		"capabilities without end":             {server: talkEndless("+OK x\r\n"), verdict: down, reason: uptime.Protocol},
		"a line without end":                   {server: talkEndless("+OK "), verdict: down, reason: uptime.Protocol},
		"a close in the middle of the login":   {server: greets("C: CAPA", "S: -ERR", "C: USER"), config: clear, verdict: down, reason: uptime.ConnClosed},
		"no STLS":                              {server: greets("C: STLS", "S: -ERR no", "hang"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.TLSHandshake},
		"injected answers":                     {server: greets("C: STLS", "S: +OK go\r\n+OK in", "tls", "hang"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.Protocol},
	})
}

func TestPOP3TellsNoPasswordAndSendsNoneInTheClear(t *testing.T) {
	t.Parallel()
	server := talkScript("S: +OK hi", "C: CAPA", "S: -ERR", "C: USER", "S: +OK", "C: PASS "+canary, "S: -ERR not "+canary, "hang")
	out := talkRun(t, uptime.Monitor{Type: "pop3", Target: server(t), Config: json.RawMessage(`{"clear_text_login":true,"username":"u","password":"` + canary + `"}`)})
	check(t, out, uptime.VerdictDown, uptime.AuthFailed)
	talkHidesSecrets(t, out)
	_, err := New(testEnv()).Compile(uptime.Monitor{Type: "pop3", Target: "pop.example.com", Config: json.RawMessage(`{"username":"u","password":"pass"}`)})
	if err == nil || !strings.Contains(err.Error(), "config.security") {
		t.Errorf("Compile = %v, want it to name config.security", err)
	}
}

func TestPOP3LeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "pop3", "", talkSilent, talkCloses, talkResets, talkEndless("+OK x\r\n"))
}
