package probe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"vedette/internal/uptime"
)

type groupConfig struct {
	Members []int64  `json:"members" doc:"Ids of monitors of yours, groups among them" max:"200"`
	Tags    []string `json:"tags" doc:"Monitors of yours with one of these tags are members too, except groups" max:"20"`
	Rule    string   `json:"rule" doc:"How many members must be down for the group to be down" enum:"any,all,at_least"`
	AtLeast int      `json:"at_least" doc:"With the rule at_least: that many, or all if there are fewer" min:"0" max:"200"`
}

func newGroup() Type {
	return kind[groupConfig]{
		name: "group",
		about: "Up means that the states of its members, as they are known at that moment, say so. The group is down when as many members are down as `rule` says, " +
			"unknown when members of which nothing is known could make it so, and degraded when a member is down or degraded otherwise. Paused members do not count.",
		target: noTarget("none; leave it out"),
		config: groupConfig{Rule: "any"},
		examples: []uptime.CheckExample{
			{Title: "Down as soon as one part is", Config: `{"members":[1,2]}`},
			{Title: "Down when two of the replicas are", Config: `{"tags":["replica"],"rule":"at_least","at_least":2}`},
		},
		passive: true,
		compile: compileGroup,
	}
}

func compileGroup(b *builder, cfg *groupConfig) Check {
	if len(cfg.Members)+len(cfg.Tags) == 0 {
		b.problems.Add("config.members", "is empty; name monitors here, or tags in config.tags")
	}
	for i, id := range cfg.Members {
		if id <= 0 || slices.Index(cfg.Members, id) != i {
			b.problems.Add(fmt.Sprintf("config.members[%d]", i), "must be the id of a monitor, each once")
		}
	}
	for i, tag := range cfg.Tags {
		if strings.TrimSpace(tag) == "" {
			b.problems.Add(fmt.Sprintf("config.tags[%d]", i), "is empty")
		}
	}
	if (cfg.Rule == "at_least") != (cfg.AtLeast > 0) {
		b.problems.Add("config.at_least", "is for the rule at_least, which needs it")
	}
	if cfg.AtLeast > len(cfg.Members) && len(cfg.Tags) == 0 {
		b.problems.Add("config.at_least", "is more than there are members, %d", len(cfg.Members))
	}
	owner := b.monitor.OwnerID
	return b.passive(func(r *session, facts Facts) *fault {
		members, err := facts.Members(r.ctx, owner, cfg.Members, cfg.Tags)
		if err != nil {
			return r.factsFault(err)
		}
		return cfg.judge(members)
	})
}

// Members are the ids that a group's config names; none for any other type.
func (s *Set) Members(typ string, config json.RawMessage) []int64 {
	var cfg groupConfig
	if typ != "group" || json.Unmarshal(config, &cfg) != nil {
		return nil
	}
	return cfg.Members
}

// judge is the verdict of the members that count.
func (cfg *groupConfig) judge(members []uptime.Member) *fault {
	if len(members) == 0 {
		return unknown(uptime.BadConfig, "None of this group's members exists any more; name others.")
	}
	var n int
	names := map[uptime.Verdict][]string{}
	for _, m := range members {
		if m.Enabled {
			n++
			names[m.Verdict] = append(names[m.Verdict], m.Name)
		}
	}
	if n == 0 {
		return unknown(uptime.MembersOpen, "All members of this group are paused.")
	}
	need := map[string]int{"any": 1, "all": n, "at_least": min(cfg.AtLeast, n)}[cfg.Rule]
	downs, unknowns, weak := names[uptime.VerdictDown], names[uptime.VerdictUnknown], names[uptime.VerdictDegraded]
	switch {
	case len(downs) >= need:
		return down(uptime.Members, "%d of %d members are down: %s.", len(downs), n, listed(downs))
	case len(downs)+len(unknowns) >= need:
		return unknown(uptime.MembersOpen, "It depends on members of which nothing is known: %s.", listed(unknowns))
	case len(downs) > 0:
		return &fault{uptime.VerdictDegraded, uptime.Members, fmt.Sprintf("%d of %d members are down: %s.", len(downs), n, listed(downs))}
	case len(weak) > 0:
		return &fault{uptime.VerdictDegraded, uptime.Members, fmt.Sprintf("%d of %d members are degraded: %s.", len(weak), n, listed(weak))}
	}
	return nil
}

// listed names a few of them.
func listed(names []string) string {
	const most = 10
	more := len(names) - most
	names = slices.Clone(names[:min(len(names), most)])
	for i := range names {
		names[i] = clean(names[i], 60)
	}
	if more > 0 {
		return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}
