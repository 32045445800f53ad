package probe

import (
	"cmp"
	"time"

	"vedette/internal/uptime"
)

type manualConfig struct{}

func newManual() Type {
	return kind[manualConfig]{
		name:     "manual",
		about:    "Up means that a person said so: the state is set by `PUT /api/v1/monitors/{id}/status`, told at once, and stays until it is set again. Before it was ever set it is unknown.",
		target:   noTarget("none; leave it out"),
		examples: []uptime.CheckExample{{Title: "A site that only people can judge"}},
		passive:  true,
		compile:  func(b *builder, _ *manualConfig) Check { return b.passive(manual) },
	}
}

func manual(r *session, facts Facts) *fault {
	st, err := facts.ManualState(r.ctx, r.monitorID)
	if err != nil {
		return r.factsFault(err)
	}
	if st.At.IsZero() {
		return unknown(uptime.Pending, "Nobody has set this monitor's state yet.")
	}
	if st.Verdict == uptime.VerdictUp {
		return nil
	}
	said := cmp.Or(clean(st.Message, 500), "A person set this state.")
	r.seen.Request = "set by hand at " + st.At.UTC().Format(time.RFC3339)
	return &fault{st.Verdict, uptime.SetByHand, said}
}
