package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vedette/internal/middleware"
	"vedette/internal/uptime"
)

// Pings of jobs come in outside the API: whoever knows the secret URL may send them,
// with GET, HEAD or POST. The paths are those of Healthchecks, and Uptime Kuma's push
// URL, so that senders need not change.

const (
	pingsPerMinute = 300              // of one heartbeat; more are refused, and need not be kept
	pingBodyTime   = 10 * time.Second // in which a body must be here
	maxPingDrain   = 16 << 20         // bytes of a body that are read at all
)

// withPings sends pings to one handler and everything else to another.
func (s *server) withPings(pings, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/ping/") || strings.HasPrefix(r.URL.Path, "/api/push/") {
			pings.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// pings serves the URLs of heartbeats.
func (s *server) pings() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"/ping/{token}":          s.ping,
		"/ping/{token}/{$}":      s.ping,
		"/ping/{token}/{signal}": s.ping,
		"/api/push/{token}":      s.push,
		"/":                      func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusNotFound, "not found") },
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			middleware.Route(r.Context(), pattern) // a path holds a secret: it is not logged
			w.Header().Set("Cache-Control", "no-store")
			if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
				w.Header().Set("Allow", "GET, HEAD, POST")
				answer(w, http.StatusMethodNotAllowed, "send GET, HEAD or POST")
				return
			}
			h(w, r)
		})
	}
	return mux
}

var runID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// ping is Healthchecks' form: the signal is empty, start, fail, log or an exit code;
// the query may name the run, rid=UUID.
func (s *server) ping(w http.ResponseWriter, r *http.Request) {
	p, ok := signal(r.PathValue("signal"))
	if !ok {
		answer(w, http.StatusNotFound, "not found")
		return
	}
	if p.Run = strings.ToLower(r.URL.Query().Get("rid")); p.Run != "" && !runID.MatchString(p.Run) {
		answer(w, http.StatusBadRequest, "invalid uuid format")
		return
	}
	status, said := s.receive(w, r, p)
	answer(w, status, said)
}

// signal is what the end of a path says.
func signal(text string) (uptime.Ping, bool) {
	switch text {
	case "":
		return uptime.Ping{Kind: uptime.PingSuccess}, true
	case "start":
		return uptime.Ping{Kind: uptime.PingStart}, true
	case "fail":
		return uptime.Ping{Kind: uptime.PingFail}, true
	case "log":
		return uptime.Ping{Kind: uptime.PingLog}, true
	}
	code, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return uptime.Ping{}, false
	}
	p := uptime.Ping{ExitCode: int(code)}
	if code != 0 {
		p.Kind = uptime.PingFail
	}
	return p, true
}

// push is Uptime Kuma's form: ?status=up|down&msg=…&ping=milliseconds, answered in
// JSON. Like there, any other status than up is a failure.
func (s *server) push(w http.ResponseWriter, r *http.Request) {
	q := pushQuery(r.URL.RawQuery)
	p := uptime.Ping{Body: q["msg"]}
	if status := q["status"]; status != "" && status != "up" {
		p.Kind = uptime.PingFail
	}
	if ms, err := strconv.ParseFloat(q["ping"], 64); err == nil && ms > 0 && ms < 1e9 {
		p.Took = time.Duration(ms * float64(time.Millisecond))
	}
	status, said := s.receive(w, r, p)
	out := struct {
		OK  bool   `json:"ok"`
		Msg string `json:"msg,omitempty"`
	}{OK: status == http.StatusOK}
	if !out.OK {
		out.Msg = said
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the client is gone: nobody to tell
}

// pushQuery reads a query as senders write it by hand: a value may hold a semicolon or a
// lone percent sign. url.ParseQuery drops such a pair, and a status that is not there
// would be a success. Of a name that comes twice the first counts.
func pushQuery(raw string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		name, text, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(text)
		if err != nil {
			value = text
		}
		if _, ok := out[name]; !ok {
			out[name] = value
		}
	}
	return out
}

// receive keeps a ping and says what to answer. It is kept before the rest of a large
// body is read: the job did what it wanted to tell.
func (s *server) receive(w http.ResponseWriter, r *http.Request, p uptime.Ping) (status int, said string) {
	token := r.PathValue("token")
	if !s.mayPing(r.Context(), token) {
		w.Header().Set("Retry-After", "60")
		return http.StatusTooManyRequests, "rate limited"
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(pingBodyTime)) // a server that cannot has its own
	body, _ := io.ReadAll(io.LimitReader(r.Body, uptime.MaxPingBody))               // what came of it is what there is
	if len(body) > 0 {
		p.Body = string(body)
	}
	err := s.svc.RecordPing(context.WithoutCancel(r.Context()), token, p) // many do not wait for the answer
	_, _ = io.CopyN(io.Discard, r.Body, maxPingDrain)                     // else the sender may see a reset instead of our answer
	switch {
	case uptime.Is(err, uptime.NotFound):
		return http.StatusNotFound, "not found"
	case err != nil:
		middleware.Failed(r.Context(), err)
		w.Header().Set("Retry-After", "5")
		return http.StatusServiceUnavailable, "not recorded; send it again"
	}
	return http.StatusOK, "OK"
}

// mayPing counts pings per token; a limiter that does not answer lets them pass.
func (s *server) mayPing(ctx context.Context, token string) bool {
	if s.limiter == nil {
		return true
	}
	sum := sha256.Sum256([]byte(token)) // the counters are no place for secrets
	ok, err := s.limiter.Allow(ctx, "ping:"+hex.EncodeToString(sum[:16]), pingsPerMinute, time.Minute)
	return ok || err != nil
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client is gone: nobody to tell
}

// pingURL is where a heartbeat's pings go; empty for who may not know it.
func (s *server) pingURL(ctx context.Context, v uptime.MonitorView) (string, error) {
	token, err := s.svc.PingToken(ctx, middleware.Actor(ctx), v)
	if err != nil || token == "" {
		return "", err
	}
	return s.public + "/ping/" + token.Reveal(), nil
}

func (s *server) rotatePingToken(ctx context.Context, in *ByID) (*monitorOut, error) {
	v, err := s.svc.RotatePingToken(ctx, middleware.Actor(ctx), in.ID)
	return s.monitorOut(ctx, v, err)
}

type pingJSON struct {
	ID       int64     `json:"id"`
	At       time.Time `json:"at"`
	Kind     string    `json:"kind" enum:"success,fail,start,log"`
	ExitCode int       `json:"exit_code"`
	Run      string    `json:"rid,omitempty" doc:"Id of the run"`
	Took     string    `json:"took,omitempty" doc:"As the sender says"`
	Body     string    `json:"body,omitempty" doc:"Its first 10 KiB; absent for a viewer"`
}

func showPing(p uptime.Ping) pingJSON {
	out := pingJSON{ID: p.ID, At: p.At.UTC(), Kind: p.Kind.String(), ExitCode: p.ExitCode, Run: p.Run, Body: p.Body}
	if p.Took > 0 {
		out.Took = p.Took.String()
	}
	return out
}

type pingsIn struct {
	ByID
	Page
}

func (s *server) listPings(ctx context.Context, in *pingsIn) (*list[pingJSON], error) {
	before, err := in.id()
	if err != nil {
		return nil, err
	}
	rows, err := s.svc.Pings(ctx, middleware.Actor(ctx), in.ByID.ID, before, in.Limit+1)
	return pageOf(rows, in.Limit, func(p uptime.Ping) string { return decimal(p.ID) }, showPing), err
}

type statusIn struct {
	ByID
	Body struct {
		Verdict string `json:"verdict" enum:"up,degraded,down"`
		Message string `json:"message,omitempty" doc:"Why, in 500 characters at most"`
	}
}

type statusOut struct {
	Body struct {
		Verdict string    `json:"verdict" enum:"up,degraded,down"`
		Message string    `json:"message,omitempty"`
		At      time.Time `json:"at" doc:"The results will have this instant"`
	}
}

func (s *server) setStatus(ctx context.Context, in *statusIn) (*statusOut, error) {
	st := uptime.ManualState{Message: in.Body.Message}
	if err := st.Verdict.UnmarshalText([]byte(in.Body.Verdict)); err != nil {
		return nil, uptime.InvalidField("verdict", "%s", err)
	}
	st, err := s.svc.SetStatus(ctx, middleware.Actor(ctx), in.ID, st)
	out := &statusOut{}
	out.Body.Verdict, out.Body.Message, out.Body.At = st.Verdict.String(), st.Message, st.At
	return out, err
}
