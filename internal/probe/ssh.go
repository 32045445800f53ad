package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"vedette/internal/uptime"
)

// sshConfig is config of type ssh.
type sshConfig struct {
	HostKey    string        `json:"host_key_sha256" max:"64" doc:"the fingerprint of the server's key, as ssh-keygen -l prints it (SHA256:…): of the Ed25519 key if the server has one, else of its ECDSA, else of its RSA key"`
	Username   string        `json:"username" max:"255" doc:"whom to log in as; empty is no login: the check ends when the server has proved its key"`
	Password   uptime.Secret `json:"password" max:"1024" doc:"the password of username"`
	PrivateKey uptime.Secret `json:"private_key" max:"16384" doc:"the private key of username, in PEM or OpenSSH form and without a passphrase"`
	netConfig
}

// newSSH is the type for SSH servers.
func newSSH() Type {
	return kind[sshConfig]{
		name: "ssh",
		about: "Up means that the server says it speaks SSH 2, agrees on keys, proves that its host key is its own, and does what is asked for: " +
			"has the host key that is pinned, takes a login. No command is run.",
		target: hostPort(22),
		config: sshConfig{netConfig: defaultNet()},
		sources: merged(addressSource(), map[string]source{
			"banner":        textSource("banner", "the line the server introduces itself with, such as `SSH-2.0-OpenSSH_9.2p1`", uptime.Banner),
			"host_key":      textSource("host_key", "the fingerprint of the host key, such as `SHA256:…`", uptime.HostKey),
			"host_key_type": textSource("host_key_type", "the type of the host key, such as `ssh-ed25519`", uptime.HostKey),
		}),
		examples: []uptime.CheckExample{
			{Title: "An SSH server answers", Target: "host.example.com", Assertions: `[{"source": "banner", "op": "contains", "value": "OpenSSH"}]`},
			{
				Title: "An SSH server is still the same one", Target: "host.example.com:2222",
				Config: `{"host_key_sha256": "SHA256:uNiVztksCsDhcc0u9e8BrBYUnH3sPgcu7ArYyzIVDrA"}`,
			},
		},
		compile: func(b *builder, cfg *sshConfig) Check {
			b.network(cfg.netConfig)
			return b.check(compileSSH(b, cfg).run)
		},
	}
}

type sshCheck struct {
	*sshConfig
	pin  string // "SHA256:…", "" is none
	auth []ssh.AuthMethod
}

func compileSSH(b *builder, cfg *sshConfig) *sshCheck {
	c := &sshCheck{sshConfig: cfg}
	if cfg.HostKey != "" {
		c.pin = "SHA256:" + strings.TrimRight(strings.TrimPrefix(cfg.HostKey, "SHA256:"), "=")
		if len(c.pin) != len("SHA256:")+43 { // 32 bytes in base64
			b.problems.Add("config.host_key_sha256", "must be a fingerprint as ssh-keygen -l prints it, SHA256: and 43 characters")
		}
	}
	if cfg.PrivateKey != "" {
		key, err := ssh.ParsePrivateKey([]byte(cfg.PrivateKey.Reveal()))
		if err != nil {
			b.problems.Add("config.private_key", "is not a private key in PEM or OpenSSH form, or has a passphrase")
		} else {
			c.auth = append(c.auth, ssh.PublicKeys(key))
		}
	}
	if cfg.Password != "" {
		c.auth = append(c.auth, ssh.Password(cfg.Password.Reveal()), ssh.KeyboardInteractive(c.answer))
	}
	if (cfg.Username == "") != (len(c.auth) == 0 && cfg.PrivateKey == "") {
		b.problems.Add("config.username", "needs a password or a private_key, and they need it")
	}
	return c
}

// maxQuestions is how many questions are answered at once: a server may ask for 50,000
// in one message, and the answer would hold the password as often.
const maxQuestions = 16

var errQuestions = fmt.Errorf("more than %d questions", maxQuestions)

// answer gives the password to each hidden question of keyboard-interactive, which is
// all that a server with PAM may offer.
func (c *sshCheck) answer(_, _ string, questions []string, echo []bool) ([]string, error) {
	if len(questions) > maxQuestions {
		return nil, errQuestions
	}
	out := make([]string, len(questions))
	for i := range questions {
		if !echo[i] {
			out[i] = c.Password.Reveal()
		}
	}
	return out, nil
}

// errKnown ends a handshake that nothing more is wanted of.
var errKnown = errors.New("the host key is known")

func (c *sshCheck) run(r *session) *fault {
	talk, f := r.converse("none")
	if f != nil {
		return f
	}
	banner, f := talk.sshGreeting()
	if f != nil {
		return f
	}
	r.seen.Protocol = banner
	r.setText("banner", banner)
	return c.agree(r, &greetedConn{talk.conn, io.MultiReader(strings.NewReader(banner+"\r\n"), talk.in)})
}

// agree exchanges keys and, if that is asked for, logs in.
func (c *sshCheck) agree(r *session, conn net.Conn) *fault {
	var key atomic.Pointer[ssh.PublicKey] // set by a goroutine of the library, which may outlive the handshake
	var asked atomic.Bool                 // the server was asked to let us in
	config := &ssh.ClientConfig{
		User: c.Username, Auth: c.auth, HostKeyAlgorithms: sshHostKeys(),
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key.Store(&k)
			if c.Username == "" || c.pin != "" && ssh.FingerprintSHA256(k) != c.pin {
				return errKnown
			}
			return nil
		},
		AuthCallback: func(*ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			asked.Store(true)
			return nil, nil
		},
	}
	if c.Username == "" {
		allowOld(config)
	}
	begin := time.Now()
	client, channels, requests, err := ssh.NewClientConn(conn, r.target.host, config)
	r.phases.Transfer = time.Since(begin)
	if k := key.Load(); k != nil {
		print := ssh.FingerprintSHA256(*k)
		r.setText("host_key", print)
		r.setText("host_key_type", (*k).Type())
		if c.pin != "" && print != c.pin {
			return down(uptime.HostKey, "The server's host key is %s (%s), which is not the pinned one.", print, (*k).Type())
		}
	}
	switch {
	case err == nil:
		hangUp(client, channels, requests)
		return nil
	case errors.Is(err, errKnown):
		return nil
	case !asked.Load():
		return r.talkFault(err, "the key exchange")
	}
	f := r.talkFault(err, "its answer to the login")
	if f.reason == uptime.Protocol && !errors.Is(err, errTooMuch) && !errors.Is(err, errQuestions) { // what the library has no type for
		return authFailed("it takes none of the ways to log in that the monitor has")
	}
	return f
}

// sshHostKeys are the types of host keys in the order of OpenSSH's own client, so
// that the fingerprint is the one that people see.
func sshHostKeys() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// allowOld lets servers pass that know only what is broken by now: they are up, and
// nothing is told to them. A password is never sent that way.
func allowOld(c *ssh.ClientConfig) {
	good, old := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	c.KeyExchanges = append(good.KeyExchanges, old.KeyExchanges...)
	c.Ciphers = append(good.Ciphers, old.Ciphers...)
	c.MACs = append(good.MACs, old.MACs...)
	c.HostKeyAlgorithms = append(c.HostKeyAlgorithms, old.HostKeys...)
}

// hangUp closes a connection and waits until the library has let go of it; a server
// that asks for something all the time would hold it up.
func hangUp(client ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	_ = client.Close()
	for channels != nil || requests != nil {
		select {
		case _, ok := <-channels:
			if !ok {
				channels = nil
			}
		case _, ok := <-requests:
			if !ok {
				requests = nil
			}
		}
	}
}

// sshGreeting is the line that begins with SSH-; there may be others before it (RFC
// 4253 §4.2).
func (c *conversation) sshGreeting() (string, *fault) {
	for {
		line, f := c.line(greeting)
		switch {
		case f != nil && c.lines > 1 && f.reason == uptime.Timeout:
			return "", down(uptime.Protocol, "The server does not speak SSH: it sent %q.", clean(c.r.seen.Body, 100))
		case f != nil:
			return "", f
		case strings.HasPrefix(line, "SSH-2.0-"), strings.HasPrefix(line, "SSH-1.99-"):
			return line, nil
		case strings.HasPrefix(line, "SSH-"):
			return "", down(uptime.Banner, "The server speaks %q, which is not SSH 2.", clean(line, 100))
		}
	}
}

// greetedConn is a connection whose greeting was read already, and is read again.
type greetedConn struct {
	net.Conn
	in io.Reader
}

// Read implements io.Reader.
func (c *greetedConn) Read(b []byte) (int, error) { return c.in.Read(b) }
