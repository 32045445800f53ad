package probe

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// eximConfig is Exim with TLS, both kinds of AUTH, and one recipient it knows.
const eximConfig = `
primary_hostname = mail.test
keep_environment =
daemon_startup_retries = 0
tls_advertise_hosts = *
tls_certificate = %[1]s/cert.pem
tls_privatekey = %[1]s/key.pem
tls_on_connect_ports = %[2]s
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%slog
pid_file_path =
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = rcpt
qualify_domain = mail.test
begin acl
rcpt:
  accept local_parts = postmaster
  deny message = no such mailbox here
begin authenticators
%[3]s
LOGIN:
  driver = plaintext
  server_prompts = User : Pass
  server_condition = ${if and {{eq{$auth1}{monitor}}{eq{$auth2}{s3cret-word}}}}
`

const eximPlain = `PLAIN:
  driver = plaintext
  server_prompts = :
  server_condition = ${if and {{eq{$auth2}{monitor}}{eq{$auth3}{s3cret-word}}}}`

// eximServer starts Exim; implicit is TLS from the start.
func eximServer(t *testing.T, implicit bool, authenticators string) *testenv.Program {
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "exim4", Package: "exim4-daemon-light",
		Prepare: func(s *testenv.Program) error {
			_, ca, key := talkCert()
			ports := ""
			if implicit {
				ports = fmt.Sprint(s.Port)
			}
			for name, text := range map[string]string{"cert.pem": ca, "key.pem": key, "conf": fmt.Sprintf(eximConfig, s.Dir, ports, authenticators)} {
				if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return os.Chmod(s.Dir, 0o777) // Exim gives up root for a user of its own
		},
		Args: func(s *testenv.Program) []string {
			return []string{"-bdf", "-C", filepath.Join(s.Dir, "conf"), "-oX", "127.0.0.1." + fmt.Sprint(s.Port)}
		},
	})
}

func TestSMTP(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	exim, implicit, onlyLogin := eximServer(t, false, eximPlain), eximServer(t, true, eximPlain), eximServer(t, false, "")
	runExample(t, "smtp", 0, exim.Addr, talkTrust)
	runExample(t, "smtp", 1, exim.Addr, talkTrust)
	startTLS := func(more string) string { return talkTrusts(`,"security":"starttls"` + more) }
	login := `,"username":"monitor","password":"s3cret-word"`
	dialogue := func(lines ...string) func(*testing.T) string {
		return talkScript(append([]string{"S: 220 ready", "C: EHLO", "S: 250-me", "S: 250 AUTH PLAIN", "C: STARTTLS", "S: 220 go", "tls", "C: EHLO"}, lines...)...)
	}
	has := func(what string) []uptime.Assertion {
		return []uptime.Assertion{assert("capabilities", "", "contains", what)}
	}
	talkCases(t, "smtp", map[string]talkCase{
		"Exim greets":                            {server: at(exim.Addr), verdict: up},
		"Exim greets as it should":               {server: at(exim.Addr), assertions: []uptime.Assertion{assert("banner", "", "contains", "mail.test ESMTP Exim")}, verdict: up},
		"Exim lists STARTTLS":                    {server: at(exim.Addr), assertions: has("STARTTLS"), verdict: up},
		"Exim goes on in TLS":                    {server: at(exim.Addr), config: startTLS(""), verdict: up},
		"Exim speaks TLS from the start":         {server: at(implicit.Addr), config: talkTrusts(`,"security":"tls"`), verdict: up},
		"Exim takes the login by PLAIN":          {server: at(exim.Addr), config: startTLS(login), verdict: up},
		"Exim takes the login by LOGIN":          {server: at(onlyLogin.Addr), config: startTLS(login), verdict: up},
		"Exim takes the recipient":               {server: at(exim.Addr), config: `{"rcpt_to":"postmaster@mail.test"}`, verdict: up},
		"Exim takes our name":                    {server: at(exim.Addr), config: `{"helo":"monitor.example.com"}`, verdict: up},
		"an old server that only knows HELO":     {server: talkScript("S: 220 ready", "C: EHLO", "S: 500 what?", "C: HELO", "S: 250 me", "hang"), verdict: up},
		"Exim has a certificate not trusted":     {server: at(exim.Addr), config: `{"security":"starttls"}`, verdict: down, reason: uptime.TLSSelfSigned},
		"Exim refuses a wrong password":          {server: at(exim.Addr), config: startTLS(`,"username":"monitor","password":"wrong-word"`), verdict: down, reason: uptime.AuthFailed},
		"Exim refuses a wrong password (LOGIN)":  {server: at(onlyLogin.Addr), config: startTLS(`,"username":"monitor","password":"wrong-word"`), verdict: down, reason: uptime.AuthFailed},
		"Exim refuses the recipient":             {server: at(exim.Addr), config: `{"mail_from":"a@mail.test","rcpt_to":"nobody@mail.test"}`, verdict: down, reason: uptime.Protocol},
		"Exim lacks an extension":                {server: at(exim.Addr), assertions: has("NOTHING"), verdict: down, reason: uptime.AssertFailed},
		"Exim greets otherwise":                  {server: at(exim.Addr), assertions: []uptime.Assertion{assert("banner", "", "contains", "Postfix")}, verdict: down, reason: uptime.Banner},
		"TLS from the start, spoken to in clear": {server: at(implicit.Addr), timeout: short, verdict: down, reason: uptime.Timeout},
		"clear text, spoken to in TLS":           {server: at(exim.Addr), config: talkTrusts(`,"security":"tls"`), verdict: down, reason: uptime.TLSHandshake},
		"nothing listens":                        {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"silence":                                {server: talkSilent, timeout: short, verdict: down, reason: uptime.Timeout},
		"a close":                                {server: talkCloses, verdict: down, reason: uptime.ConnClosed},
		"a reset":                                {server: talkResets, verdict: down, reason: uptime.ConnReset},
		"another protocol":                       {server: talkSays("SSH-2.0-OpenSSH_9.2\r\n"), verdict: down, reason: uptime.Protocol},
		"a greeting without end":                 {server: talkEndless("220-hello\r\n"), verdict: down, reason: uptime.Protocol},
		"a line without end":                     {server: talkEndless("220 hello"), verdict: down, reason: uptime.Protocol},
		"421 in the greeting":                    {server: talkScript("S: 421 too many connections"), verdict: down, reason: uptime.NotReady},
		"554 in the greeting":                    {server: talkScript("S: 554 no service", "hang"), verdict: down, reason: uptime.NotReady},
		"goodbye after the greeting":             {server: talkScript("S: 220 ready", "S: 421 shutting down"), verdict: down, reason: uptime.NotReady},
		"no STARTTLS":                            {server: talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 502 what?", "hang"), config: startTLS(""), verdict: down, reason: uptime.TLSHandshake},
		"goodbye in place of TLS":                {server: talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 421 shutting down"), config: startTLS(""), verdict: down, reason: uptime.NotReady},
		"injected answers":                       {server: talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 220 go\r\n235 welcome", "tls", "hang"), config: startTLS(""), verdict: down, reason: uptime.Protocol},
		"AUTH offered before TLS only":           {server: dialogue("S: 250 me", "hang"), config: startTLS(login), verdict: down, reason: uptime.AuthFailed},
		"AUTH that cannot tell now":              {server: dialogue("S: 250-me\r\n250 AUTH PLAIN", "C: AUTH PLAIN AG1vbml0b3IAczNjcmV0LXdvcmQ=", "S: 454 later", "hang"), config: startTLS(login), verdict: down, reason: uptime.NotReady},
		"a close in the middle of AUTH":          {server: dialogue("S: 250-me\r\n250 AUTH PLAIN", "C: AUTH"), config: startTLS(login), verdict: down, reason: uptime.ConnClosed},
	})
}

func TestSMTPConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ config, path string }{
		"a password in clear text":       {`{"username":"u","password":"pass"}`, "config.security"},
		"a password without a user":      {`{"security":"tls","password":"pass"}`, "config.username"},
		"a line break in the name":       {`{"security":"tls","username":"u\r\nRSET"}`, "config.username"},
		"a line break in helo":           {`{"helo":"a\r\nRSET"}`, "config.helo"},
		"a line break in an address":     {`{"rcpt_to":"a@b\r\nDATA"}`, "config.rcpt_to"},
		"a parameter behind an address":  {`{"mail_from":"a@b> SIZE=1"}`, "config.mail_from"},
		"a name beside an address":       {`{"rcpt_to":"A <a@b>"}`, "config.rcpt_to"},
		"quotes that hide the same":      {`{"rcpt_to":"\"a> SIZE=1\"@b"}`, "config.rcpt_to"},
		"a parameter in place of a name": {`{"helo":"a b"}`, "config.helo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(uptime.Monitor{Type: "smtp", Target: "mx.example.com", Config: json.RawMessage(tt.config)})
			if err == nil || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("Compile = %v, want it to name %s", err, tt.path)
			}
		})
	}
}

// A server may say the password back, as it was sent and as it was before.
func TestSMTPTellsNoPassword(t *testing.T) {
	t.Parallel()
	plain := base64Of("\x00monitor\x00" + canary)
	server := talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 220 go", "tls", "C: EHLO", "S: 250-me\r\n250 AUTH PLAIN",
		"C: AUTH", "S: 535 you said "+plain+" that is "+canary, "hang")
	out := talkRun(t, uptime.Monitor{Type: "smtp", Target: server(t), Config: json.RawMessage(talkTrusts(`,"security":"starttls","username":"monitor","password":"` + canary + `"`))})
	check(t, out, uptime.VerdictDown, uptime.AuthFailed)
	talkHidesSecrets(t, out, plain)
	if !strings.Contains(out.Evidence.Body, "535 you said") {
		t.Errorf("evidence %q, want the rest of the answer", out.Evidence.Body)
	}
}

// A long answer is told as far as it is of use, which may be the middle of the password.
func TestSMTPTellsNoPartOfAPassword(t *testing.T) {
	t.Parallel()
	for cut := 4; cut < len(canary); cut++ {
		server := talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 220 go", "tls", "C: EHLO", "S: 250-me\r\n250 AUTH PLAIN",
			"C: AUTH", "S: 535 "+strings.Repeat("x", 150-len("535 ")-cut)+canary+" is wrong", "hang")
		out := talkRun(t, uptime.Monitor{Type: "smtp", Target: server(t), Config: json.RawMessage(talkTrusts(`,"security":"starttls","username":"monitor","password":"` + canary + `"`))})
		check(t, out, uptime.VerdictDown, uptime.AuthFailed)
		talkHidesSecrets(t, out, canary[:4])
	}
}

func TestSMTPLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "smtp", "", talkSilent, talkCloses, talkResets, talkEndless("220-x\r\n"))
}
