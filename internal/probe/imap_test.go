package probe

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// dovecotConfig lets everybody in with one password. Verbs: its folder, and the ports
// of IMAP, IMAP in TLS, POP3 and POP3 in TLS.
const dovecotConfig = `
protocols = imap pop3
base_dir = %[1]s/run
log_path = /dev/stderr
ssl = yes
ssl_cert = <%[1]s/cert.pem
ssl_key = <%[1]s/key.pem
disable_plaintext_auth = no
auth_failure_delay = 0
first_valid_uid = 1
mail_location = maildir:%[1]s/mail
passdb {
  driver = static
  args = password=s3cret-word
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[1]s/mail
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = %[2]s
  }
  inet_listener imaps {
    address = 127.0.0.1
    port = %[3]s
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    address = 127.0.0.1
    port = %[4]s
  }
  inet_listener pop3s {
    address = 127.0.0.1
    port = %[5]s
    ssl = yes
  }
}
`

// dovecot is a running Dovecot.
type dovecot struct{ imap, imaps, pop3, pop3s string }

func dovecotServer(t *testing.T) dovecot {
	var d dovecot
	testenv.Start(t, testenv.ProgramSpec{
		Binary: "dovecot", Package: "dovecot-imapd dovecot-pop3d",
		Prepare: func(s *testenv.Program) error {
			d = dovecot{s.Addr, talkClosed(t), talkClosed(t), talkClosed(t)}
			_, ca, key := talkCert()
			args := []any{s.Dir}
			for _, a := range []string{d.imap, d.imaps, d.pop3, d.pop3s} {
				_, port, _ := net.SplitHostPort(a)
				args = append(args, port)
			}
			for name, text := range map[string]string{"cert.pem": ca, "key.pem": key, "conf": fmt.Sprintf(dovecotConfig, args...)} {
				if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			if err := os.Mkdir(filepath.Join(s.Dir, "mail"), 0o700); err != nil {
				return err
			}
			if err := os.Chmod(filepath.Join(s.Dir, "mail"), 0o777); err != nil { // it belongs to nobody
				return err
			}
			return os.Chmod(s.Dir, 0o755)
		},
		Args: func(s *testenv.Program) []string { return []string{"-F", "-c", filepath.Join(s.Dir, "conf")} },
	})
	return d
}

const (
	talkLogin = `,"username":"monitor","password":"s3cret-word"`
	talkWrong = `,"username":"monitor","password":"wrong-word"`
)

func TestIMAP(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	d := dovecotServer(t)
	runExample(t, "imap", 0, d.imap, talkTrust)
	runExample(t, "imap", 1, d.imaps, talkTrust)
	clear := func(more string) string { return `{"clear_text_login":true` + more + `}` }
	greets := func(lines ...string) func(*testing.T) string {
		return talkScript(append([]string{"S: * OK hi"}, lines...)...)
	}
	knows := func(capabilities string, lines ...string) func(*testing.T) string {
		return greets(append([]string{"C: v1 CAPABILITY", "S: * CAPABILITY IMAP4rev1 " + capabilities, "S: v1 OK done"}, lines...)...)
	}
	talkCases(t, "imap", map[string]talkCase{
		"Dovecot greets":                        {server: at(d.imap), assertions: []uptime.Assertion{assert("banner", "", "contains", "Dovecot")}, verdict: up},
		"Dovecot lists what it can do":          {server: at(d.imap), assertions: []uptime.Assertion{assert("capabilities", "", "contains", "IDLE")}, verdict: up},
		"Dovecot goes on in TLS":                {server: at(d.imap), config: talkTrusts(`,"security":"starttls"`), verdict: up},
		"Dovecot takes the login in TLS":        {server: at(d.imap), config: talkTrusts(`,"security":"starttls","select_inbox":true` + talkLogin), verdict: up},
		"Dovecot in TLS from the start":         {server: at(d.imaps), config: talkTrusts(`,"security":"tls"` + talkLogin), verdict: up},
		"Dovecot takes the login in the clear":  {server: at(d.imap), config: clear(talkLogin), verdict: up},
		"a login by LOGIN":                      {server: knows("", `C: v1 LOGIN "monitor" "s3cret-word"`, "S: v1 OK in", "hang"), config: clear(talkLogin), verdict: up},
		"quotes in the password":                {server: knows("", `C: v1 LOGIN "monitor" "a\"b\\c"`, "S: v1 OK in", "hang"), config: clear(`,"username":"monitor","password":"a\"b\\c"`), verdict: up},
		"a greeting of somebody known":          {server: talkScript("S: * PREAUTH hi", "C: v1 CAPABILITY", "S: * CAPABILITY IMAP4rev1", "S: v1 OK", "hang"), verdict: up},
		"a mailbox with many keywords":          {server: knows("", "C: v1 LOGIN", "S: v1 OK in", "C: v1 SELECT", "S: * FLAGS ("+strings.Repeat("$keyword ", 2000)+")", "S: v1 OK done", "hang"), config: clear(talkLogin + `,"select_inbox":true`), verdict: up},
		"Dovecot refuses a wrong password":      {server: at(d.imap), config: talkTrusts(`,"security":"starttls"` + talkWrong), verdict: down, reason: uptime.AuthFailed},
		"a wrong password by LOGIN":             {server: knows("", "C: v1 LOGIN", "S: v1 NO [AUTHENTICATIONFAILED] no", "hang"), config: clear(talkLogin), verdict: down, reason: uptime.AuthFailed},
		"LOGIN is forbidden and is not tried":   {server: knows("LOGINDISABLED", "hang"), config: clear(talkLogin), timeout: short, verdict: down, reason: uptime.AuthFailed},
		"PLAIN is offered where LOGIN is not":   {server: knows("LOGINDISABLED AUTH=PLAIN", "C: v1 AUTHENTICATE PLAIN", "S: + ", "C: AG1vbml0b3IAczNjcmV0LXdvcmQ=", "S: v1 OK in", "hang"), config: clear(talkLogin), verdict: up},
		"logins that cannot be judged now":      {server: knows("AUTH=PLAIN", "C: v1 AUTHENTICATE PLAIN", "S: + ", "C: AG1vbml0b3IAczNjcmV0LXdvcmQ=", "S: v1 NO [UNAVAILABLE] later", "hang"), config: clear(talkLogin), verdict: down, reason: uptime.NotReady},
		"an inbox that cannot be opened":        {server: knows("", "C: v1 LOGIN", "S: v1 OK in", "C: v1 SELECT", "S: v1 NO store is gone", "hang"), config: clear(talkLogin + `,"select_inbox":true`), verdict: down, reason: uptime.NotReady},
		"Dovecot lacks a capability":            {server: at(d.imap), assertions: []uptime.Assertion{assert("capabilities", "", "contains", "NOTHING")}, verdict: down, reason: uptime.AssertFailed},
		"Dovecot has a certificate not trusted": {server: at(d.imap), config: `{"security":"starttls"}`, verdict: down, reason: uptime.TLSSelfSigned},
		"clear text, spoken to in TLS":          {server: at(d.imap), config: talkTrusts(`,"security":"tls"`), verdict: down, reason: uptime.TLSHandshake},
		"TLS, spoken to in clear text":          {server: at(d.imaps), timeout: short, verdict: down, reason: uptime.Timeout},
		"nothing listens":                       {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"silence":                               {server: talkSilent, timeout: short, verdict: down, reason: uptime.Timeout},
		"a close":                               {server: talkCloses, verdict: down, reason: uptime.ConnClosed},
		"a reset":                               {server: talkResets, verdict: down, reason: uptime.ConnReset},
		"another protocol":                      {server: talkSays("220 mail.example.com ESMTP\r\n"), verdict: down, reason: uptime.Protocol},
		"a greeting that is goodbye":            {server: talkScript("S: * BYE full", "hang"), verdict: down, reason: uptime.NotReady},
		"goodbye in place of an answer":         {server: greets("C: v1 CAPABILITY", "S: * BYE going down"), verdict: down, reason: uptime.NotReady},
		"an answer with another tag":            {server: greets("C: v1 CAPABILITY", "S: a1 OK", "hang"), verdict: down, reason: uptime.Protocol},
		"an answer without capabilities":        {server: greets("C: v1 CAPABILITY", "S: v1 OK", "hang"), verdict: down, reason: uptime.Protocol},
		"answers without end":                   {server: talkEndless("* OK still here\r\n"), verdict: down, reason: uptime.Protocol},
		"a line without end":                    {server: talkEndless("* OK "), verdict: down, reason: uptime.Protocol},
		"no STARTTLS":                           {server: greets("C: v1 STARTTLS", "S: v1 NO no", "hang"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.TLSHandshake},
		"injected answers":                      {server: greets("C: v1 STARTTLS", "S: v1 OK go\r\n* CAPABILITY X", "tls", "hang"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.Protocol},
	})
}

func TestIMAPConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ config, path string }{
		"a password in clear text":    {`{"username":"u","password":"pass"}`, "config.security"},
		"a password without a user":   {`{"security":"tls","password":"pass"}`, "config.username"},
		"a line break in a password":  {`{"security":"tls","username":"u","password":"a\r\nv2 DELETE x"}`, "config.password"},
		"an inbox without a username": {`{"select_inbox":true}`, "config.select_inbox"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(uptime.Monitor{Type: "imap", Target: "imap.example.com", Config: json.RawMessage(tt.config)})
			if err == nil || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("Compile = %v, want it to name %s", err, tt.path)
			}
		})
	}
}

func TestIMAPTellsNoPassword(t *testing.T) {
	t.Parallel()
	server := talkScript("S: * OK hi", "C: v1 CAPABILITY", "S: * CAPABILITY X", "S: v1 OK", "C: v1 LOGIN", `S: v1 NO you said "`+canary+`"`, "hang")
	out := talkRun(t, uptime.Monitor{Type: "imap", Target: server(t), Config: json.RawMessage(`{"clear_text_login":true,"username":"u","password":"` + canary + `"}`)})
	check(t, out, uptime.VerdictDown, uptime.AuthFailed)
	talkHidesSecrets(t, out)
}

func TestIMAPLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "imap", "", talkSilent, talkCloses, talkResets, talkEndless("* OK x\r\n"))
}
