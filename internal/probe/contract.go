package probe

import (
	"context"
	"encoding/json"
	"time"

	"vedette/internal/uptime"
)

// Outcome is what one probe found. A failed check is data, not an error.
type Outcome struct {
	Verdict  uptime.Verdict
	Reason   uptime.Reason
	Message  string // one sentence for a person; empty when up
	Duration time.Duration
	Phases   uptime.Phases
	// Evidence is filled when the verdict is not up, and always under
	// Env.AlwaysEvidence: building it costs, and an up result keeps none.
	Evidence *uptime.Evidence
}

// Check is a monitor made ready to run: parsed, validated, compiled once and used
// by many goroutines at once.
type Check interface {
	// Run makes one fresh attempt. It returns by the monitor's timeout + 2 s whatever
	// the target does, and sooner when ctx ends (verdict unknown, reason Aborted).
	Run(ctx context.Context, a Attempt) Outcome
}

// Attempt says which attempt of a slot this is. The zero Attempt is the first one,
// of which nothing special is wanted.
type Attempt struct {
	// Number is 0, then 1 and on for the confirmations of a failure: those begin with
	// another address of the target, and a failing one finds out what else works.
	Number int
	// Evidence asks for the evidence of an up result too.
	Evidence bool
	// Diagnose asks a first attempt too to find out what else works when it fails.
	Diagnose bool
}

// Type is a check type: one file, its test, and one line in the table of New. It is
// written as a kind.
type Type interface {
	// Name is the monitor's "type".
	Name() string
	// Compile validates target, config and assertions and makes the check. Its errors
	// are of kind uptime.Invalid and name every wrong field ("config.method",
	// "assertions[2].value").
	Compile(m uptime.Monitor, env Env) (Check, error)
	// Describe is the type for documents and schemas.
	Describe() uptime.CheckType
	// Redact is config with its secrets replaced by uptime.Redacted and its defaults
	// filled in, as the owner may read it.
	Redact(config json.RawMessage) (json.RawMessage, error)
}

// Facts are what types that dial nobody judge by: what was told to us, and what we
// know of other monitors. Their errors are of ours and make unknown.
type Facts interface {
	// Heartbeat is what is known of a heartbeat monitor's pings.
	Heartbeat(ctx context.Context, monitorID int64) (uptime.Heartbeat, error)
	// Members are those of owner's monitors that have one of the ids, and those that are
	// no groups and have one of the tags, each once.
	Members(ctx context.Context, owner int64, ids []int64, tags []string) ([]uptime.Member, error)
	// ManualState is what a person said of a monitor; the zero state if nobody did.
	ManualState(ctx context.Context, monitorID int64) (uptime.ManualState, error)
}
