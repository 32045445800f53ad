package probe

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// sshKey is a new key in OpenSSH form and its public half.
func sshKey(t *testing.T) (private string, public ssh.PublicKey, signer ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(crypto.PrivateKey(key), "")
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), signer.PublicKey(), signer
}

// sshdServer is OpenSSH with a host key, letting in whoever has the user's key; more
// are lines of its configuration.
func sshdServer(t *testing.T, host string, user ssh.PublicKey, more string) *testenv.Program {
	return testenv.Start(t, testenv.ProgramSpec{
		Binary: "sshd", Package: "openssh-server",
		Prepare: func(s *testenv.Program) error {
			conf := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %[2]s/host\nAuthorizedKeysFile %[2]s/keys\nStrictModes no\nPidFile none\nUsePAM no\nPermitRootLogin yes\nPersourceMaxStartups none\nMaxStartups 100\n%s", s.Port, s.Dir, more)
			for name, text := range map[string]string{"host": host, "keys": string(ssh.MarshalAuthorizedKey(user)), "conf": conf} {
				if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return os.MkdirAll("/run/sshd", 0o755) // its init script makes it
		},
		Args: func(s *testenv.Program) []string { return []string{"-D", "-e", "-f", filepath.Join(s.Dir, "conf")} },
	})
}

// sshFake is a server of our library that takes one password, in the given ways. It
// stands in for OpenSSH, whose passwords are those of the system.
func sshFake(host ssh.Signer, password string, interactive bool, after func(ssh.Conn)) func(*testing.T) string {
	config := &ssh.ServerConfig{}
	config.AddHostKey(host)
	wrong := errors.New("wrong password")
	if interactive {
		config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 || answers[0] != password {
				return nil, wrong
			}
			return nil, nil
		}
	} else {
		config.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if string(p) != password {
				return nil, wrong
			}
			return nil, nil
		}
	}
	return talker(func(c net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		if after != nil {
			after(conn)
		}
		for ch := range channels {
			_ = ch.Reject(ssh.Prohibited, "")
		}
	})
}

// sshCut is a server that is cut off in the middle of its answer to a login.
func sshCut(host ssh.Signer) func(*testing.T) string {
	return talker(func(c net.Conn) {
		cut := &sshCutConn{Conn: c}
		config := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
			cut.now.Store(true)
			return nil, nil
		}}
		config.AddHostKey(host)
		_, _, _, _ = ssh.NewServerConn(cut, config)
	})
}

// sshCutConn ends in the middle of what is written once now is set.
type sshCutConn struct {
	net.Conn
	now atomic.Bool
}

// Write implements io.Writer.
func (c *sshCutConn) Write(b []byte) (int, error) {
	if !c.now.Load() {
		return c.Conn.Write(b)
	}
	_, _ = c.Conn.Write(b[:3])
	return 0, net.ErrClosed
}

// sshAsks is a server that asks so many questions again and again, after so many bytes
// of instructions.
func sshAsks(host ssh.Signer, questions, instructions int) func(*testing.T) string {
	config := &ssh.ServerConfig{KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (_ *ssh.Permissions, err error) {
		for err == nil {
			_, err = ask("", strings.Repeat("x", instructions), make([]string, questions), make([]bool, questions))
		}
		return nil, err
	}}
	config.AddHostKey(host)
	return talker(func(c net.Conn) { _, _, _, _ = ssh.NewServerConn(c, config) })
}

func TestSSH(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	host, hostPublic, hostSigner := sshKey(t)
	mine, minePublic, _ := sshKey(t)
	other, _, _ := sshKey(t)
	sshd := sshdServer(t, host, minePublic, "")
	old := sshdServer(t, host, minePublic, "KexAlgorithms diffie-hellman-group1-sha1\nCiphers 3des-cbc\nMACs hmac-sha1\n")
	pin := ssh.FingerprintSHA256(hostPublic)
	runExample(t, "ssh", 0, sshd.Addr, nil)
	runExample(t, "ssh", 1, sshd.Addr, func(c map[string]any) { c["host_key_sha256"] = pin })
	key := func(k string) string {
		raw, _ := json.Marshal(map[string]string{"username": "root", "private_key": k})
		return string(raw)
	}
	word := func(w string) string { return `{"username":"monitor","password":"` + w + `"}` }
	talkCases(t, "ssh", map[string]talkCase{
		"OpenSSH answers":                      {server: at(sshd.Addr), assertions: []uptime.Assertion{assert("banner", "", "matches", "^SSH-2.0-OpenSSH")}, verdict: up},
		"OpenSSH has the pinned key":           {server: at(sshd.Addr), config: `{"host_key_sha256":"` + pin + `"}`, verdict: up},
		"the pin without its prefix":           {server: at(sshd.Addr), config: `{"host_key_sha256":"` + strings.TrimPrefix(pin, "SHA256:") + `"}`, verdict: up},
		"the key type is the wanted one":       {server: at(sshd.Addr), assertions: []uptime.Assertion{assert("host_key_type", "", "eq", "ssh-ed25519"), assert("host_key", "", "eq", pin)}, verdict: up},
		"OpenSSH takes the key":                {server: at(sshd.Addr), config: key(mine), verdict: up},
		"old algorithms are no fault":          {server: at(old.Addr), verdict: up},
		"a password is taken":                  {server: sshFake(hostSigner, "s3cret-word", false, nil), config: word("s3cret-word"), verdict: up},
		"a password is asked for":              {server: sshFake(hostSigner, "s3cret-word", true, nil), config: word("s3cret-word"), verdict: up},
		"text before the greeting":             {server: talkBefore(at(sshd.Addr), "welcome\r\n"), verdict: up},
		"another key than the pinned":          {server: at(sshd.Addr), config: `{"host_key_sha256":"SHA256:uNiVztksCsDhcc0u9e8BrBYUnH3sPgcu7ArYyzIVDrA"}`, verdict: down, reason: uptime.HostKey},
		"another key, and no login goes there": {server: sshFake(hostSigner, "s3cret-word", false, nil), config: `{"username":"monitor","password":"s3cret-word","host_key_sha256":"SHA256:uNiVztksCsDhcc0u9e8BrBYUnH3sPgcu7ArYyzIVDrA"}`, verdict: down, reason: uptime.HostKey},
		"another key type than the wanted":     {server: at(sshd.Addr), assertions: []uptime.Assertion{assert("host_key_type", "", "eq", "ssh-rsa")}, verdict: down, reason: uptime.HostKey},
		"OpenSSH refuses another key":          {server: at(sshd.Addr), config: key(other), verdict: down, reason: uptime.AuthFailed},
		"OpenSSH refuses a password":           {server: at(sshd.Addr), config: `{"username":"root","password":"wrong-word"}`, verdict: down, reason: uptime.AuthFailed},
		"a wrong password":                     {server: sshFake(hostSigner, "s3cret-word", false, nil), config: word("wrong-word"), verdict: down, reason: uptime.AuthFailed},
		"a wrong answer":                       {server: sshFake(hostSigner, "s3cret-word", true, nil), config: word("wrong-word"), verdict: down, reason: uptime.AuthFailed},
		"questions without end":                {server: sshAsks(hostSigner, 1, 100_000), config: word("s3cret-word"), verdict: down, reason: uptime.Protocol},
		"a close in the login":                 {server: sshCut(hostSigner), config: word("s3cret-word"), verdict: down, reason: uptime.ConnClosed},
		"no password over old algorithms":      {server: at(old.Addr), config: word("s3cret-word"), verdict: down, reason: uptime.Protocol},
		"nothing listens":                      {server: talkClosed, verdict: down, reason: uptime.ConnRefused},
		"silence":                              {server: talkSilent, timeout: short, verdict: down, reason: uptime.Timeout},
		"silence after the greeting":           {server: talkSays("SSH-2.0-x\r\n"), timeout: short, verdict: down, reason: uptime.Timeout},
		"a close":                              {server: talkCloses, verdict: down, reason: uptime.ConnClosed},
		"a close after the greeting": {server: talker(func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
		}), verdict: down, reason: uptime.ConnClosed},
		"a reset":                    {server: talkResets, verdict: down, reason: uptime.ConnReset},
		"another protocol":           {server: talkSays("220 mail ESMTP\r\n"), timeout: short, verdict: down, reason: uptime.Protocol},
		"SSH 1":                      {server: talkSays("SSH-1.5-old\r\n"), verdict: down, reason: uptime.Banner},
		"garbage after the greeting": {server: talkSays("SSH-2.0-x\r\n", strings.Repeat("\xff", 64)), verdict: down, reason: uptime.Protocol},
		"lines without end":          {server: talkEndless("welcome\r\n"), verdict: down, reason: uptime.Protocol},
		"a line without end":         {server: talkEndless("SSH-2.0-x"), verdict: down, reason: uptime.Protocol},
	})
}

// talkBefore is another server with text before all that it says.
func talkBefore(server func(*testing.T) string, text string) func(*testing.T) string {
	return func(t *testing.T) string {
		address := server(t)
		return talker(func(c net.Conn) {
			back, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer back.Close()
			_, _ = io.WriteString(c, text)
			go func() {
				_, _ = io.Copy(c, back)
				c.Close()
			}()
			_, _ = io.Copy(back, c)
		})(t)
	}
}

func TestSSHConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ config, path string }{
		"a fingerprint that is none":  {`{"host_key_sha256":"aa:bb"}`, "config.host_key_sha256"},
		"a key that is none":          {`{"username":"u","private_key":"x"}`, "config.private_key"},
		"a user without anything":     {`{"username":"u"}`, "config.username"},
		"a password without its user": {`{"password":"pass"}`, "config.username"},
		"options of another type":     {`{"security":"tls"}`, "config.security"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(uptime.Monitor{Type: "ssh", Target: "host.example.com", Config: json.RawMessage(tt.config)})
			if err == nil || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("Compile = %v, want it to name %s", err, tt.path)
			}
		})
	}
}

// Also where a server asks for something all the time, and after logins.
func TestSSHLeavesNothingBehindAndTellsNoPassword(t *testing.T) {
	_, _, host := sshKey(t)
	busy := sshFake(host, canary, false, func(c ssh.Conn) {
		for i := range 100 {
			if _, _, err := c.SendRequest(fmt.Sprintf("keepalive-%d", i), false, nil); err != nil {
				return
			}
		}
	})
	config := `{"username":"monitor","password":"` + canary + `"}`
	talkLeaves(t, "ssh", config, busy, sshFake(host, "another", false, nil), talkSilent, talkCloses, talkSays("SSH-2.0-x\r\n"), talkEndless("x\r\n"))
	out := talkRun(t, uptime.Monitor{Type: "ssh", Target: sshFake(host, "another", false, nil)(t), Config: json.RawMessage(config)})
	check(t, out, uptime.VerdictDown, uptime.AuthFailed)
	talkHidesSecrets(t, out)
	out = talkRun(t, uptime.Monitor{Type: "ssh", Target: talkSays("SSH-2.0-\x1b[31m" + canary + "\r\n")(t), Config: json.RawMessage(config), Timeout: short})
	check(t, out, uptime.VerdictDown, uptime.Timeout)
	talkHidesSecrets(t, out)
	if strings.Contains(out.Evidence.Protocol, "\x1b") {
		t.Errorf("the evidence holds an escape: %q", out.Evidence.Protocol)
	}
}

// A message may hold 50,000 hidden questions, each of which wants the password.
func TestSSHIsFrugal(t *testing.T) {
	_, _, host := sshKey(t)
	dbFrugal(t, "ssh", dbCase{
		target: sshAsks(host, 10_000, 0)(t), config: map[string]any{"username": "monitor", "password": strings.Repeat("x", 1024)},
		verdict: uptime.VerdictDown, reason: uptime.Protocol,
	})
}

// FuzzSSH feeds a handshake whatever a server may say.
func FuzzSSH(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14"))
	f.Add([]byte("hello\r\nSSH-2.0-x\n\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := &sshCheck{sshConfig: &sshConfig{}}
		r := &session{base: &base{timeout: time.Second, target: target{host: "192.0.2.1"}}, seen: new(uptime.Evidence)}
		r.begin(t.Context(), Attempt{})
		defer r.end()
		talk := newConversation(r, talkReplay{strings.NewReader(string(answer))})
		banner, fault := talk.sshGreeting()
		if fault == nil {
			fault = c.agree(r, &greetedConn{talk.conn, io.MultiReader(strings.NewReader(banner+"\r\n"), talk.in)})
		}
		if fault == nil || fault.verdict != uptime.VerdictDown {
			t.Errorf("%+v for %q", fault, answer)
		}
	})
}
