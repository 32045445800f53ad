package probe

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// kind is a check type as its file writes it down. C is its config: a struct whose
// tags name, describe and bound every option (see describe.go), so that
// validation, docs/checks.md and the API's schema come from one place.
type kind[C any] struct {
	name     string
	about    string            // what an up verdict means, one or two sentences
	target   targetForm        // how the monitor's target is written
	config   C                 // the defaults
	sources  map[string]source // what assertions may look at, beside the times
	examples []uptime.CheckExample
	passive  bool // dials nobody: see passive.go
	// compile checks what the tags cannot say and makes the check; most types end
	// it with b.check. What it notes in b.problems is told to the user and the check
	// is thrown away.
	compile func(b *builder, cfg *C) Check
}

// builder is what a type's compile works with.
type builder struct {
	monitor  uptime.Monitor
	target   target // zero when the target could not be read
	env      Env
	problems *uptime.Problems
	base     base
}

// Name implements Type.
func (k kind[C]) Name() string { return k.name }

// Compile implements Type.
func (k kind[C]) Compile(m uptime.Monitor, env Env) (Check, error) {
	var p uptime.Problems
	cfg := k.config
	decodeConfig(m.Config, &cfg, &p)
	to, err := k.target.parse(m.Target)
	if err != nil {
		p.Add("target", "%v", err)
	}
	b := &builder{monitor: m, target: to, env: env, problems: &p, base: base{
		monitorID: m.ID, target: to, label: clean(strings.TrimSpace(k.name+" "+m.Target), 2048), timeout: m.Timeout, always: env.AlwaysEvidence, inverted: m.Inverted,
		secrets: secretValues(cfg), assertions: compileAssertions(m.Assertions, k.allSources(), &p),
		dial: newDialer(env, netConfig{}),
	}}
	if k.passive {
		b.checkPassive()
	}
	c := k.compile(b, &cfg)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Redact implements Type.
func (k kind[C]) Redact(raw json.RawMessage) (json.RawMessage, error) {
	cfg := k.config
	var p uptime.Problems
	decodeConfig(raw, &cfg, &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(cfg)
}

func (k kind[C]) allSources() map[string]source {
	if k.passive {
		return nil // its times are those of our own database
	}
	return merged(timeSources(), k.sources)
}

// network applies the options about names and addresses.
func (b *builder) network(c netConfig) {
	for _, o := range []struct {
		path  string
		value *string
	}{{"config.resolver", &c.Resolver}, {"config.second_resolver", &c.SecondResolver}} {
		if *o.value == "" {
			continue
		}
		server, ok := parseResolver(*o.value)
		if !ok {
			b.problems.Add(o.path, "must be the address of a DNS server, such as 192.0.2.53:53")
		}
		*o.value = server
	}
	b.base.dial = newDialer(b.env, c)
}

// tls applies the options about TLS.
func (b *builder) tls(c tlsConfig) { b.base.tls = newTLSClient(c, b.env, b.problems) }

// asserts reports whether some assertion looks at source.
func (b *builder) asserts(source string) bool {
	for i := range b.base.assertions {
		if b.base.assertions[i].Source == source {
			return true
		}
	}
	return false
}

// check makes a check of a function that does the type's talking.
func (b *builder) check(do prober) Check { return &plainCheck{base: b.base, do: do} }

// prober is one attempt: it dials with r, talks, notes what assertions may look at
// (r.setText and the like) and what is to be shown (r.seen). nil means that the
// target works as far as the type itself can tell; assertions are judged after it.
// Whatever it opened through r is closed for it.
type prober func(r *session) *fault

// plainCheck is a check whose type is one prober.
type plainCheck struct {
	base
	do prober
}

// Run implements Check.
func (c *plainCheck) Run(parent context.Context, attempt Attempt) Outcome {
	r := &session{base: &c.base, seen: new(uptime.Evidence)}
	r.begin(parent, attempt)
	defer r.end()
	// A driver may hold a connection past the deadline, which is cut a little later.
	defer time.AfterFunc(r.timeout+cutAfter, r.closeAll).Stop()
	f := c.do(r)
	if f == nil && !r.complete {
		f = r.ended() // a driver may swallow the deadline
	}
	return r.conclude(f, time.Since(r.start)-r.waited, nil)
}
