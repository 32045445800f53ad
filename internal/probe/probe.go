// Package probe makes one check of one target and says what it found: a
// verdict, a reason from the closed set of uptime, a sentence, the time of each
// phase and the evidence. It is the "probe" box of the diagram; the worker calls
// it and never learns what a type does.
//
// A check is fresh: look-up, connection and handshake are made anew, so that
// their faults show. It is bounded whatever the target does: in time (timeout
// plus 2 s), in header size, unpacked body and redirects. Every connection goes
// through the guard. What is wrong on our side (descriptors, resolver, a bug) is
// VerdictUnknown, never a verdict about the target.
//
// A check type is one file that implements Type, its test, and a line in New.
package probe

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// Env is what every type shares. Guard is required; the rest has a default.
type Env struct {
	Guard     *guard.Guard
	Resolver  string         // DNS server "address:port" for names; "" is the system's
	UserAgent string         // "" is Vedette
	Roots     *x509.CertPool // trusted beside a monitor's ca_pem; nil is the system's
	Logger    *slog.Logger   // nil discards
	Facts     Facts          // nil: types that dial nobody cannot be checked here
	// AlwaysEvidence fills Outcome.Evidence for up results too.
	AlwaysEvidence bool
}

// Set is the table of check types. It is safe for concurrent use.
type Set struct {
	env   Env
	types map[string]Type
}

// New makes the set of all types.
func New(env Env) *Set {
	env.UserAgent = cmp.Or(env.UserAgent, "Vedette")
	if env.Logger == nil {
		env.Logger = slog.New(slog.DiscardHandler)
	}
	return newSet(env,
		newDocker(),
		newGRPC(),
		newDNS(),
		newDomain(),
		newFTP(),
		newHTTP(),
		newKafka(),
		newMQTT(),
		newRabbitMQ(),
		newSNMP(),
		newWebSocket(),
		newMongoDB(),
		newMySQL(),
		newPostgres(),
		newIMAP(),
		newNTP(),
		newPOP3(),
		newSMTP(),
		newSSH(),
		newTCP(),
		newHandshake(),
		newRedis(),
		newPing(),
		newGroup(),
		newHeartbeat(),
		newHTTP(),
		newManual(),
		newSQLServer(),
		newUDP(),
	)
}

func newSet(env Env, types ...Type) *Set {
	s := &Set{env: env, types: make(map[string]Type, len(types))}
	for _, t := range types {
		s.types[t.Name()] = t
	}
	return s
}

// Types lists the names of all types, sorted.
func (s *Set) Types() []string { return slices.Sorted(maps.Keys(s.types)) }

// Describe is every type for documents and schemas, sorted by name.
func (s *Set) Describe() []uptime.CheckType {
	var out []uptime.CheckType
	for _, name := range s.Types() {
		out = append(out, s.types[name].Describe())
	}
	return out
}

// Compile makes the check of a monitor. Its error is of kind uptime.Invalid and
// names every wrong field of type, target, timeout, config and assertions.
func (s *Set) Compile(m uptime.Monitor) (Check, error) {
	t, err := s.find(m.Type)
	if err != nil {
		return nil, err
	}
	if m.Timeout == 0 {
		m.Timeout = uptime.DefaultTimeout
	}
	if m.Timeout < uptime.MinTimeout || m.Timeout > uptime.MaxTimeout {
		return nil, uptime.InvalidField("timeout", "must be from %s to %s", uptime.MinTimeout, uptime.MaxTimeout)
	}
	env := s.env
	env.AlwaysEvidence = env.AlwaysEvidence || m.Inverted
	c, err := t.Compile(m, env)
	if err != nil {
		return nil, err
	}
	return &safeCheck{check: c, inverted: m.Inverted, monitorID: m.ID, log: env.Logger}, nil
}

// Redact is config as its owner may read it: secrets are uptime.Redacted,
// defaults are filled in.
func (s *Set) Redact(typ string, config json.RawMessage) (json.RawMessage, error) {
	t, err := s.find(typ)
	if err != nil {
		return nil, err
	}
	return t.Redact(config)
}

// Merge is incoming with every uptime.Redacted value replaced by what stored
// holds in its place, so that a client can send back what it read. A placeholder
// that stands for nothing is an error of kind uptime.Invalid.
func (s *Set) Merge(typ string, stored, incoming json.RawMessage) (json.RawMessage, error) {
	if _, err := s.find(typ); err != nil {
		return nil, err
	}
	return mergeSecrets(stored, incoming)
}

func (s *Set) find(typ string) (Type, error) {
	if t, ok := s.types[typ]; ok {
		return t, nil
	}
	return nil, uptime.InvalidField("type", "%q is not a check type; there are: %s", typ, strings.Join(s.Types(), ", "))
}

// safeCheck keeps the promises that hold for every type: a panic is unknown, an
// inverted monitor swaps up and down, and a duration is always there.
type safeCheck struct {
	check     Check
	inverted  bool
	monitorID int64
	log       *slog.Logger
	panicked  atomic.Bool // the stack was logged
}

// Run implements Check.
func (s *safeCheck) Run(ctx context.Context, attempt Attempt) (out Outcome) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			out = s.bug(p, time.Since(start))
		}
	}()
	out = s.check.Run(ctx, attempt)
	if s.inverted {
		out = invert(out)
	}
	return out
}

// bug turns a panic into an outcome. Its stack is logged the first time only: a
// bug that shows every second must not fill the log.
func (s *safeCheck) bug(p any, took time.Duration) Outcome {
	if s.panicked.CompareAndSwap(false, true) {
		s.log.Error("probe panicked", slog.Int64("monitor_id", s.monitorID),
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
	return Outcome{
		Verdict: uptime.VerdictUnknown, Reason: uptime.InternalError, Duration: took,
		Message: "A bug of ours stopped this check; its stack is in the log.",
	}
}

// invert swaps what works and what does not. Unknown stays unknown.
func invert(o Outcome) Outcome {
	switch o.Verdict {
	case uptime.VerdictUp, uptime.VerdictDegraded:
		o.Verdict, o.Reason = uptime.VerdictDown, uptime.Inverted
		o.Message = "The target works, and this monitor wants it not to."
	case uptime.VerdictDown:
		o.Verdict, o.Reason, o.Message = uptime.VerdictUp, uptime.ReasonOK, ""
	}
	return o
}
