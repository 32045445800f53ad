package probe

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// pureHash is of the password s3cret-word (openssl passwd -6); the tool's own hash costs
// a second of this processor at every login.
const pureHash = "$6$vedette$UNqWI9Mtk1o8MvDtsoXAcRqRPh2Y5byGnu5aVRViIPAnO2U.bf9mrs1E6wh5gegpqZhpP1U/wv.z07wOR3/FJ1"

// pureServer is Pure-FTPd with one user. It
// answers a failed login some seconds late.
func pureServer(t *testing.T) *testenv.Program {
	tool := testenv.Install(t, "pure-pw", "pure-ftpd")
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "pure-ftpd", Package: "pure-ftpd",
		Prepare: func(s *testenv.Program) error {
			_, ca, key := talkCert()
			if err := os.WriteFile(filepath.Join(s.Dir, "both.pem"), []byte(ca+key), 0o600); err != nil {
				return err
			}
			users, db := filepath.Join(s.Dir, "users"), filepath.Join(s.Dir, "db")
			if err := os.WriteFile(users, []byte("monitor:"+pureHash+":65534:65534::"+s.Dir+"/./::::::::::::\n"), 0o600); err != nil {
				return err
			}
			if out, err := exec.Command(tool, "mkdb", db, "-f", users).CombinedOutput(); err != nil {
				return fmt.Errorf("pure-pw mkdb: %w: %s", err, out)
			}
			return os.Chmod(s.Dir, 0o755)
		},
		Args: func(s *testenv.Program) []string {
			return []string{
				"-S", fmt.Sprintf("127.0.0.1,%d", s.Port), "-l", "puredb:" + filepath.Join(s.Dir, "db"), "-Y", "1", "-H", "-E",
				"-2", filepath.Join(s.Dir, "both.pem"), "-g", filepath.Join(s.Dir, "pid"),
			}
		},
	})
}

// tlsBefore is TLS from the start, in front of a server that speaks in the clear.
func tlsBefore(address string) func(*testing.T) string {
	return talker(func(c net.Conn) {
		cert, _, _ := talkCert()
		back, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer back.Close()
		front := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		go func() {
			_, _ = io.Copy(front, back)
			front.Close()
		}()
		_, _ = io.Copy(back, front)
	})
}

func TestFTP(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	pure := pureServer(t)
	public := talkScript("S: 220 hi", "C: USER anonymous", "S: 331 your address?", "C: PASS vedette@", "S: 230 welcome", "hang") // Pure-FTPd wants a system user for it
	runExample(t, "ftp", 0, public(t), nil)
	runExample(t, "ftp", 1, pure.Addr, talkTrust)
	clear := `{"clear_text_login":true` + talkLogin + `}`
	greets := func(lines ...string) func(*testing.T) string {
		return talkScript(append([]string{"S: 220 hi"}, lines...)...)
	}
	talkCases(t, "ftp", map[string]talkCase{
		"Pure-FTPd greets in several lines":    {server: at(pure.Addr), assertions: []uptime.Assertion{assert("banner", "", "contains", "Pure-FTPd")}, verdict: up},
		"Pure-FTPd takes the login in TLS":     {server: at(pure.Addr), config: talkTrusts(`,"security":"starttls"` + talkLogin), verdict: up},
		"Pure-FTPd takes it in the clear":      {server: at(pure.Addr), config: clear, verdict: up},
		"anonymous is let in":                  {server: public, config: `{"anonymous":true}`, verdict: up},
		"Pure-FTPd behind TLS from the start":  {server: tlsBefore(pure.Addr), config: talkTrusts(`,"security":"tls"` + talkLogin), verdict: up},
		"a greeting that says soon, and comes": {server: talkScript("S: 120 soon", "S: 220 ready", "hang"), verdict: up},
		"a user without a password":            {server: greets("C: USER monitor", "S: 230 in", "hang"), config: clear, verdict: up},
		"text of its own between the lines":    {server: talkScript("S: 220-hi", "S: 550 is only text", "S: 220 ready", "hang"), verdict: up},
		"a welcome of pages":                   {server: greets("C: USER", "S: 331 go", "C: PASS", "S: 230-welcome"+strings.Repeat("\r\n  more", 300), "S: 230 in", "hang"), config: clear, verdict: up},
		"Pure-FTPd refuses a wrong password":   {server: at(pure.Addr), config: talkTrusts(`,"security":"starttls"` + talkWrong), timeout: 30 * time.Second, verdict: down, reason: uptime.AuthFailed},
		"Pure-FTPd refuses anonymous":          {server: at(pure.Addr), config: `{"anonymous":true}`, timeout: 30 * time.Second, verdict: down, reason: uptime.AuthFailed},
		"goodbye in place of TLS":              {server: greets("C: AUTH TLS", "S: 421 shutting down"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.NotReady},
		"an account is wanted":                 {server: greets("C: USER", "S: 331 go", "C: PASS", "S: 332 account?", "hang"), config: clear, verdict: down, reason: uptime.AuthFailed},
		"the login is not possible now":        {server: greets("C: USER", "S: 331 go", "C: PASS", "S: 421 later"), config: clear, verdict: down, reason: uptime.NotReady},
		"another greeting than the wanted":     {server: at(pure.Addr), assertions: []uptime.Assertion{assert("banner", "", "contains", "ProFTPD")}, verdict: down, reason: uptime.Banner},
		"a certificate that is not trusted":    {server: at(pure.Addr), config: `{"security":"starttls"}`, verdict: down, reason: uptime.TLSSelfSigned},
		"clear text, spoken to in TLS":         {server: at(pure.Addr), config: talkTrusts(`,"security":"tls"`), verdict: down, reason: uptime.TLSHandshake},
		"TLS, spoken to in clear text":         {server: tlsBefore(pure.Addr), timeout: short, verdict: down, reason: uptime.Timeout},
		"nothing listens":                      {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"silence":                              {server: talkSilent, timeout: short, verdict: down, reason: uptime.Timeout},
		"a close":                              {server: talkCloses, verdict: down, reason: uptime.ConnClosed},
		"a reset":                              {server: talkResets, verdict: down, reason: uptime.ConnReset},
		"another protocol":                     {server: talkSays("SSH-2.0-OpenSSH_9.2\r\n"), verdict: down, reason: uptime.Protocol},
		"421 in the greeting":                  {server: talkScript("S: 421 too many"), verdict: down, reason: uptime.NotReady},
		"a greeting without end":               {server: talkEndless("220-hello\r\n"), verdict: down, reason: uptime.Protocol},
		"a line without end":                   {server: talkEndless("220 hello"), verdict: down, reason: uptime.Protocol},
		"soon, without end":                    {server: talkEndless("120 soon\r\n"), verdict: down, reason: uptime.Protocol},
		"no AUTH TLS":                          {server: greets("C: AUTH TLS", "S: 500 what?", "hang"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.TLSHandshake},
		"injected answers":                     {server: greets("C: AUTH TLS", "S: 234 go\r\n230 in", "tls", "hang"), config: talkTrusts(`,"security":"starttls"`), verdict: down, reason: uptime.Protocol},
	})
}

// A server may send the address of a data connection unasked: it is never dialled.
func TestFTPDialsNoAddressOfTheServers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	passive := fmt.Sprintf("227 Entering Passive Mode (127,0,0,1,%d,%d)", port>>8, port&0xff)
	server := talkScript("S: 220 ready", "C: USER", "S: "+passive, "hang")
	check(t, talkRun(t, uptime.Monitor{Type: "ftp", Target: server(t), Config: json.RawMessage(`{"anonymous":true}`)}), uptime.VerdictDown, uptime.Protocol)
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("the address of a PASV answer was dialled")
	}
}

// A message that quotes what a server repeats writes some letters in another way.
func TestFTPTellsNoPasswordWithQuotationMarks(t *testing.T) {
	t.Parallel()
	server := talkScript("S: 220 hi", "C: USER u", "S: 331 go", "C: PASS", `S: PASS c4n"\ary-pa55word`, "hang")
	out := talkRun(t, uptime.Monitor{Type: "ftp", Target: server(t), Config: json.RawMessage(`{"clear_text_login":true,"username":"u","password":"c4n\"\\ary-pa55word"}`)})
	check(t, out, uptime.VerdictDown, uptime.Protocol)
	talkHidesSecrets(t, out, "ary-pa55word")
}

func TestFTPTellsNoPasswordAndSendsNoneInTheClear(t *testing.T) {
	t.Parallel()
	server := talkScript("S: 220 hi", "C: USER u", "S: 331 go", "C: PASS "+canary, "S: 530 not "+canary, "hang")
	out := talkRun(t, uptime.Monitor{Type: "ftp", Target: server(t), Config: json.RawMessage(`{"clear_text_login":true,"username":"u","password":"` + canary + `"}`)})
	check(t, out, uptime.VerdictDown, uptime.AuthFailed)
	talkHidesSecrets(t, out)
	for config, path := range map[string]string{
		`{"username":"u","password":"pass"}`:                                 "config.security",
		`{"security":"tls","username":"u\r\nDELE x","password":"p"}`:         "config.username",
		`{"security":"tls","username":"u","password":"p","anonymous": true}`: "config.anonymous",
	} {
		if _, err := New(testEnv()).Compile(uptime.Monitor{Type: "ftp", Target: "ftp.example.com", Config: json.RawMessage(config)}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Compile of %s = %v, want it to name %s", config, err, path)
		}
	}
}

func TestFTPLeavesNothingBehind(t *testing.T) {
	talkLeaves(t, "ftp", "", talkSilent, talkCloses, talkResets, talkEndless("220-x\r\n"))
}
