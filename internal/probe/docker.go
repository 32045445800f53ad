package probe

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vedette/internal/uptime"
)

const (
	dockerLimit = 1 << 20 // bytes of what the engine says of a container
	socketPath  = 107     // bytes of a Unix socket's path (sun_path of unix(7), less its NUL)
)

// dockerConfig is the config of a Docker monitor.
type dockerConfig struct {
	Container string    `json:"container" required:"true" max:"255" doc:"the container's name or id"`
	Security  string    `json:"security" enum:"none,tls" doc:"whether TLS is spoken, over TCP"`
	TLS       tlsConfig `json:"tls"`
	netConfig
}

// newDocker is the "docker" check type.
func newDocker() Type {
	return kind[dockerConfig]{
		name: "docker",
		about: "Asks a Docker engine for a container. Up is one that runs and, if it has a health check, is healthy, unless an assertion is about `state` or `health`; " +
			"one whose health check has not ended yet is degraded. A socket of this machine is allowed where private targets are.",
		target: targetForm{"`unix:///path/docker.sock` or `tcp://host:port`", parseEngine},
		config: dockerConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"state":     textSource("state", "created, running, paused, restarting, removing, exited or dead", uptime.NotReady),
			"health":    textSource("health", "starting, healthy, unhealthy, or none", uptime.NotReady),
			"restarts":  numberSource("restarts", "how often the engine has restarted the container", "", uptime.AssertFailed),
			"exit_code": numberSource("exit_code", "the code that the container last ended with", "", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{{
			Title: "A container that does not keep restarting", Target: "unix:///var/run/docker.sock",
			Config:     `{"container":"web"}`,
			Assertions: `[{"source":"restarts","op":"lt","value":5,"severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *dockerConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			if cfg.Security == "tls" && b.target.url != nil {
				b.problems.Add("config.security", "must be none: a Unix socket speaks no TLS")
			}
			c := &dockerCheck{cfg: cfg, agent: b.env.UserAgent, ownState: b.asserts("state") || b.asserts("health")}
			return b.check(c.do)
		},
	}
}

// parseEngine reads where an engine listens. The path of a Unix socket is in the
// target's url.
func parseEngine(raw string) (target, error) {
	if address, ok := strings.CutPrefix(raw, "tcp://"); ok {
		return splitHostPort(address, 0)
	}
	path, ok := strings.CutPrefix(raw, "unix://")
	if err := plainTarget(raw); err != nil {
		return target{}, err
	}
	if !ok || !strings.HasPrefix(path, "/") || len(path) > socketPath {
		return target{}, errors.New("must be unix:///path/docker.sock or tcp://host:port")
	}
	return target{url: &url.URL{Scheme: "unix", Path: path}}, nil
}

// dockerCheck is a Docker monitor made ready.
type dockerCheck struct {
	cfg      *dockerConfig
	agent    string
	ownState bool // some assertion judges the state
}

// do asks the engine and judges the container.
func (c *dockerCheck) do(r *session) *fault {
	conn, f := c.dial(r)
	if f != nil {
		return f
	}
	status, body, f := c.ask(r, conn)
	if f != nil {
		return f
	}
	switch status {
	case http.StatusOK:
		return c.judge(r, body)
	case http.StatusNotFound:
		return down(uptime.NotReady, "The engine has no container %s.", clean(c.cfg.Container, 100))
	case http.StatusUnauthorized, http.StatusForbidden:
		return down(uptime.AuthFailed, "The engine does not let us ask (status %d).", status)
	}
	return down(uptime.HTTPStatus, "The engine answers with status %d %s.", status, http.StatusText(status))
}

func (c *dockerCheck) dial(r *session) (net.Conn, *fault) {
	if r.target.url != nil {
		return r.local(r.target.url.Path)
	}
	conn, f := r.connect()
	if f != nil || c.cfg.Security != "tls" {
		return conn, f
	}
	secured, f := r.secure(conn, r.target.host, true)
	if f != nil {
		return nil, f
	}
	return secured, nil
}

// ask makes the one request and reads its answer.
func (c *dockerCheck) ask(r *session, conn net.Conn) (status int, body []byte, f *fault) {
	request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://docker/containers/"+url.PathEscape(c.cfg.Container)+"/json", nil)
	if err != nil {
		return 0, nil, unknown(uptime.BadConfig, "The container's name cannot be asked for.")
	}
	request.Close = true
	request.Header.Set("User-Agent", c.agent)
	r.seen.Request = "GET " + clean(request.URL.RequestURI(), 300)
	begin := time.Now()
	if err := request.Write(conn); err != nil {
		return 0, nil, r.talkFault(err, "the answer")
	}
	source := &headLimit{r: conn, left: maxHead}
	in := bufio.NewReader(source)
	head, err := in.Peek(5)
	r.phases.FirstByte = time.Since(begin)
	if len(head) > 0 && !isHTTP(head) {
		return 0, nil, down(uptime.Protocol, "The server does not speak HTTP: it sent %q.", clean(string(head), 20))
	}
	if err != nil {
		return 0, nil, r.talkFault(err, "the answer")
	}
	response, err := http.ReadResponse(in, request)
	if source.left == 0 {
		return 0, nil, down(uptime.HeadersLarge, "The response head is larger than %d KiB.", maxHead>>10)
	}
	if err != nil {
		return 0, nil, r.talkFault(firstError(source.err, err), "the answer")
	}
	source.left = -1
	r.seen.Status, r.seen.Protocol = response.StatusCode, response.Proto
	body, err = io.ReadAll(io.LimitReader(response.Body, dockerLimit+1))
	r.phases.Transfer = time.Since(begin) - r.phases.FirstByte
	if err != nil {
		return 0, nil, r.talkFault(err, "the end of the answer")
	}
	if len(body) > dockerLimit {
		return 0, nil, down(uptime.BodyTooLarge, "The answer is larger than %d KiB.", dockerLimit>>10)
	}
	return response.StatusCode, body, nil
}

// firstError is what a reader said, or else what its caller made of it.
func firstError(reader, caller error) error {
	if reader != nil {
		return reader
	}
	return caller
}

// judge looks at the container. Its environment, which may hold secrets, is neither
// kept nor shown.
func (c *dockerCheck) judge(r *session, body []byte) *fault {
	var container struct {
		RestartCount int
		State        *struct {
			Status   string
			ExitCode int
			Health   *struct{ Status string }
		}
	}
	if json.Unmarshal(body, &container) != nil || container.State == nil || container.State.Status == "" {
		return down(uptime.Protocol, "The answer does not tell of a container.")
	}
	state, health := container.State.Status, "none"
	if h := container.State.Health; h != nil && h.Status != "" {
		health = h.Status
	}
	r.setText("state", state)
	r.setText("health", health)
	r.setNumber("restarts", float64(container.RestartCount))
	r.setNumber("exit_code", float64(container.State.ExitCode))
	r.seen.Body = "state " + clean(state, 40) + ", health " + clean(health, 40)
	switch {
	case c.ownState:
	case state == "exited" || state == "dead":
		return down(uptime.NotReady, "The container %s is %s, with code %d.", clean(c.cfg.Container, 100), state, container.State.ExitCode)
	case state != "running":
		return down(uptime.NotReady, "The container %s does not run: it is %s.", clean(c.cfg.Container, 100), clean(state, 40))
	case health == "starting":
		r.facts.degraded = &fault{uptime.VerdictDegraded, uptime.NotReady, "The container runs, and its health check has not ended yet."}
	case health != "none" && health != "healthy":
		return down(uptime.NotReady, "The container %s runs, and its health check says %s.", clean(c.cfg.Container, 100), clean(health, 40))
	}
	return nil
}
