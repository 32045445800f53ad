package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// dockerEngine is a protocol-true fake of an engine's API, for lack of an engine: it
// answers for one container as version 27 does, in the parts that are looked at. health
// "" is a container without a health check.
func dockerEngine(state, health string, more string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/{name}/json", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if req.PathValue("name") != "web" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"message":"No such container: %s"}`, req.PathValue("name"))
			return
		}
		checked := ""
		if health != "" {
			checked = `,"Health":{"Status":"` + health + `","FailingStreak":0,"Log":[]}`
		}
		fmt.Fprintf(w, `{"Id":"4f66ad9a","Name":"/web","RestartCount":2,"State":{"Status":%q,"Running":%t,"ExitCode":137%s},"Config":{"Env":["PASSWORD=canary"]}%s}`,
			state, state == "running", checked, more)
	})
	return mux
}

func dockerTCP(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return "tcp://" + s.Listener.Addr().String()
}

// dockerSocket is a path for a socket, short enough for one.
func dockerSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vd-docker-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "docker.sock")
}

func dockerUnix(t *testing.T, h http.Handler) string {
	t.Helper()
	path := dockerSocket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return "unix://" + path
}

// A test as root may open every socket, so the error is made here.
func TestASocketThatWeMayNotOpenSaysNothingOfItsServer(t *testing.T) {
	t.Parallel()
	err := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	f := socketFault(t.Context(), "/run/docker.sock", err)
	if f.verdict != uptime.VerdictUnknown || f.reason != uptime.BadConfig || !strings.Contains(f.message, "/run/docker.sock") {
		t.Errorf("fault = %+v, want a configuration that names the socket", f)
	}
}

func TestDocker(t *testing.T) {
	t.Parallel()
	degraded, down, up := uptime.VerdictDegraded, uptime.VerdictDown, uptime.VerdictUp
	const web = `{"container":"web"}`
	running := dockerTCP(t, dockerEngine("running", "", ""))
	of := func(state, health string) string { return dockerTCP(t, dockerEngine(state, health, "")) }
	raw := func(talk func(net.Conn)) string { return "tcp://" + brokerServe(t, talk) }
	status := func(code int) string {
		return dockerTCP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	}
	server, ca := brokerTLS(t)
	s := httptest.NewUnstartedServer(dockerEngine("running", "healthy", ""))
	s.TLS = server
	s.StartTLS()
	t.Cleanup(s.Close)
	secure := "tcp://" + s.Listener.Addr().String()
	text := func(source, v string) []uptime.Assertion { return []uptime.Assertion{assert(source, "", "eq", v)} }
	number := func(source, op string, n int) []uptime.Assertion {
		return []uptime.Assertion{assert(source, "", op, n)}
	}
	file := dockerSocket(t)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	brokerCases(t, "docker", map[string]brokerCase{
		"a running container is up":          {target: running, config: web, verdict: up},
		"a healthy one is up":                {target: of("running", "healthy"), config: web, verdict: up},
		"one over a Unix socket is up":       {target: dockerUnix(t, dockerEngine("running", "healthy", "")), config: web, verdict: up},
		"one over TLS is up":                 {target: secure, config: brokerConfig(map[string]any{"container": "web", "security": "tls", "tls": map[string]any{"ca_pem": ca}}), verdict: up},
		"one that may have ended is up":      {target: of("exited", ""), config: web, assertions: text("state", "exited"), verdict: up},
		"the restarts are counted":           {target: running, config: web, assertions: number("restarts", "eq", 2), verdict: up},
		"the exit code is there":             {target: running, config: web, assertions: number("exit_code", "eq", 137), verdict: up},
		"no health check is none":            {target: running, config: web, assertions: text("health", "none"), verdict: up},
		"a slow answer in time is up":        {target: raw(brokerLate(brokerAnswers(page(`{"State":{"Status":"running"}}`)))), config: web, verdict: up},
		"a health check under way degrades":  {target: of("running", "starting"), config: web, verdict: degraded, reason: uptime.NotReady},
		"an unhealthy one is not_ready":      {target: of("running", "unhealthy"), config: web, verdict: down, reason: uptime.NotReady, says: "unhealthy"},
		"an exited one is not_ready":         {target: of("exited", "unhealthy"), config: web, verdict: down, reason: uptime.NotReady, says: "137"},
		"a paused one is not_ready":          {target: of("paused", ""), config: web, verdict: down, reason: uptime.NotReady, says: "paused"},
		"one that restarts is not_ready":     {target: of("restarting", ""), config: web, verdict: down, reason: uptime.NotReady},
		"one that is not there is not_ready": {target: running, config: `{"container":"shop"}`, verdict: down, reason: uptime.NotReady, says: "no container shop"},
		"a name stays one part of the path":  {target: running, config: `{"container":"web/json?x=../"}`, verdict: down, reason: uptime.NotReady},
		"another state than asserted":        {target: of("exited", ""), config: web, assertions: text("state", "running"), verdict: down, reason: uptime.NotReady, says: "exited"},
		"more restarts than asserted":        {target: running, config: web, assertions: number("restarts", "lt", 2), verdict: down, reason: uptime.AssertFailed},
		"an engine that forbids":             {target: status(403), config: web, verdict: down, reason: uptime.AuthFailed},
		"an engine in trouble":               {target: status(500), config: web, verdict: down, reason: uptime.HTTPStatus, says: "500"},
		"an answer that is no container":     {target: raw(brokerAnswers(page(`{"State":{}}`))), config: web, verdict: down, reason: uptime.Protocol},
		"an answer that is no JSON":          {target: raw(brokerAnswers(page("<html>"))), config: web, verdict: down, reason: uptime.Protocol},
		"an answer without end":              {target: dockerTCP(t, dockerEngine("running", "", `,"x":"`+strings.Repeat("x", dockerLimit)+`"`)), config: web, verdict: down, reason: uptime.BodyTooLarge},
		"an answer that is cut":              {target: raw(brokerAnswers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), config: web, verdict: down, reason: uptime.ConnClosed},
		"a head without end":                 {target: raw(brokerRepeats("HTTP/1.1 200 OK\r\n", "X: "+strings.Repeat("y", 4000)+"\r\n")), config: web, verdict: down, reason: uptime.HeadersLarge},
		"SSH is protocol":                    {target: raw(brokerSays("SSH-2.0-OpenSSH_9.2\r\n")), config: web, verdict: down, reason: uptime.Protocol},
		"an untrusted certificate":           {target: secure, config: `{"container":"web","security":"tls"}`, verdict: down, reason: uptime.TLSUntrusted},
		"no TLS on a port with it":           {target: secure, config: web, verdict: down, reason: uptime.HTTPStatus, says: "400"},
		"refused":                            {target: "tcp://" + talkClosed(t), config: web, verdict: down, reason: uptime.ConnRefused},
		"a socket that is not there":         {target: "unix://" + dockerSocket(t), config: web, verdict: down, reason: uptime.ConnRefused},
		"a file that is no socket":           {target: "unix://" + file, config: web, verdict: down, reason: uptime.ConnRefused},
		"silent after connect":               {target: raw(brokerSilent), config: web, timeout: short, verdict: down, reason: uptime.Timeout},
		"a body that stalls":                 {target: raw(brokerSays("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), config: web, timeout: short, verdict: down, reason: uptime.Timeout},
		"closed without an answer":           {target: raw(brokerCloses), config: web, verdict: down, reason: uptime.ConnClosed},
	})
}

// A Unix socket is allowed exactly where loopback is: also when the policy lists only
// that.
func TestDockerAsksTheGuardForASocket(t *testing.T) {
	t.Parallel()
	target := dockerUnix(t, dockerEngine("running", "", ""))
	loopback, err := guard.Parse("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		policy  guard.Policy
		verdict uptime.Verdict
		reason  uptime.Reason
	}{
		"denied":        {guard.Deny(), uptime.VerdictUnknown, uptime.Blocked},
		"allowed":       {guard.Allow(), uptime.VerdictUp, uptime.ReasonOK},
		"loopback only": {loopback, uptime.VerdictUp, uptime.ReasonOK},
	} {
		env := testEnv()
		env.Guard = guard.New(guard.Options{Policy: tt.policy})
		c, err := New(env).Compile(uptime.Monitor{Type: "docker", Target: target, Timeout: 5 * time.Second, Config: json.RawMessage(`{"container":"web"}`)})
		if err != nil {
			t.Fatal(err)
		}
		if out := c.Run(t.Context(), Attempt{}); out.Verdict != tt.verdict || out.Reason != tt.reason {
			t.Errorf("%s: got %s %q, want %s %q", name, out.Verdict, out.Reason, tt.verdict, tt.reason)
		}
	}
}

// An engine that is behind with taking connections may yet take ours.
func TestDockerWaitsForRoomAtTheSocket(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		takes   bool
		timeout time.Duration
		verdict uptime.Verdict
		reason  uptime.Reason
	}{
		"room in time":    {true, 5 * time.Second, uptime.VerdictUp, uptime.ReasonOK},
		"room at no time": {false, short, uptime.VerdictDown, uptime.ConnTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dockerSocket(t)
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err == nil {
				err = errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0))
			}
			if err != nil {
				t.Fatal(err)
			}
			file := os.NewFile(uintptr(fd), path)
			l, err := net.FileListener(file)
			file.Close()
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewUnstartedServer(dockerEngine("running", "", ""))
			s.Listener.Close()
			s.Listener = l
			for { // until there is room for no more
				c, err := net.Dial("unix", path)
				if err != nil {
					break
				}
				t.Cleanup(func() { c.Close() })
			}
			if tt.takes {
				time.AfterFunc(short, s.Start)
			}
			c, err := New(testEnv()).Compile(uptime.Monitor{Type: "docker", Target: "unix://" + path, Timeout: tt.timeout, Config: json.RawMessage(`{"container":"web"}`)})
			if err != nil {
				t.Fatal(err)
			}
			check(t, c.Run(t.Context(), Attempt{}), tt.verdict, tt.reason)
			l.Close()
			if tt.takes {
				s.Close()
			}
		})
	}
}

func TestDockerRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, config, path string }{
		{"unix:///var/run/docker.sock", `{}`, "config.container"},
		{"unix:///var/run/docker.sock", `{"container":"web","security":"tls"}`, "config.security"},
		{"unix://docker.sock", `{"container":"web"}`, "target"},
		{"unix:///" + strings.Repeat("x", 120), `{"container":"web"}`, "target"},
		{"http://127.0.0.1:2375", `{"container":"web"}`, "target"},
		{"tcp://127.0.0.1", `{"container":"web"}`, "target"},
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: "docker", Target: tt.target, Config: json.RawMessage(tt.config)})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != tt.path {
			t.Errorf("Compile of %.40s %s = %v, want a problem of %s", tt.target, tt.config, err, tt.path)
		}
	}
}

func TestDockerExamples(t *testing.T) {
	t.Parallel()
	runExample(t, "docker", 0, dockerUnix(t, dockerEngine("running", "healthy", "")), nil)
}

func TestDockerLeavesNothingBehind(t *testing.T) {
	brokerSteady(t, "docker",
		brokerCase{target: "tcp://" + brokerServe(t, brokerSilent), config: `{"container":"web"}`},
		brokerCase{target: dockerUnix(t, dockerEngine("exited", "", "")), config: `{"container":"web"}`},
	)
}
