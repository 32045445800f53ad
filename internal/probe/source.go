package probe

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vedette/internal/uptime"
)

// source is something an assertion may look at.
type source struct {
	about    string // for docs/checks.md
	property string // what the assertion's property names; "" when it has none
	ops      []string
	compile  compiler
}

// merged is all of the maps in one; a later one wins.
func merged(all ...map[string]source) map[string]source {
	out := map[string]source{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

var (
	textOps   = []string{"contains", "not_contains", "matches", "not_matches", "eq", "ne"}
	numberOps = []string{"eq", "ne", "lt", "le", "gt", "ge"}
	listOps   = []string{"contains", "not_contains", "eq", "ne", "matches", "not_matches", "length", "min_length", "max_length"}
	orderOps  = []string{"lt", "le", "gt", "ge"}
)

// textSource looks at what setText noted under name. Text that was not noted is
// nothing, which no positive operator matches.
func textSource(name, about string, reason uptime.Reason) source {
	return source{about: about, ops: textOps, compile: compileText(reason, func(f *facts) (string, bool) {
		v, ok := f.text[name]
		return v, ok
	})}
}

// compileText makes the judge of a text. get's ok is false when there is none.
func compileText(reason uptime.Reason, get func(*facts) (v string, ok bool)) compiler {
	return func(a *assertion, path string, p *uptime.Problems) {
		a.stage, a.reason = stageEnd, reason
		match, positive, ok := compileMatch(a, path, p)
		if !ok {
			return
		}
		a.judge = func(f *facts) found {
			v, there := get(f)
			return found{ok: (there && match([]byte(v))) == positive, actual: v}
		}
	}
}

// numberSource looks at what setNumber noted under name. unit follows the number
// where it is shown: " ms", "%".
func numberSource(name, about, unit string, reason uptime.Reason) source {
	return source{about: about, ops: numberOps, compile: func(a *assertion, path string, p *uptime.Problems) {
		a.stage, a.reason = stageEnd, reason
		want, ok := numberValue(a.Value)
		if !ok {
			p.Add(path+".value", "must be a number")
			return
		}
		holds, ok := comparison(a.Op)
		if !ok {
			badOp(a, path, p, numberOps...)
			return
		}
		a.judge = func(f *facts) found {
			v, there := f.number[name]
			if !there {
				return found{}
			}
			return found{ok: holds(cmp.Compare(v, want)), actual: strconv.FormatFloat(v, 'f', -1, 64) + unit}
		}
	}}
}

// listSource looks at what setList noted under name. contains wants an item that
// equals the value, matches an item that matches; eq compares with one item or a
// list of them, in any order; length and its kin count.
func listSource(name, about string, reason uptime.Reason) source {
	return source{about: about, ops: listOps, compile: func(a *assertion, path string, p *uptime.Problems) {
		a.stage, a.reason = stageEnd, reason
		test := listTest(a, path, p)
		if test == nil {
			return
		}
		a.judge = func(f *facts) found {
			v := f.list[name]
			return found{ok: test(v), actual: strings.Join(v, ", ")}
		}
	}}
}

func listTest(a *assertion, path string, p *uptime.Problems) func([]string) bool {
	switch a.Op {
	case "length", "min_length", "max_length":
		n, ok := countValue(a.Value)
		if !ok {
			p.Add(path+".value", "must be a whole number, 0 or more")
			return nil
		}
		holds, _ := comparison(map[string]string{"length": "eq", "min_length": "ge", "max_length": "le"}[a.Op])
		return func(v []string) bool { return holds(cmp.Compare(len(v), n)) }
	case "eq", "ne":
		want, ok := stringList(a.Value)
		if !ok {
			p.Add(path+".value", "must be a string or a list of strings")
			return nil
		}
		slices.Sort(want)
		return func(v []string) bool { return slices.Equal(slices.Sorted(slices.Values(v)), want) == (a.Op == "eq") }
	case "contains", "not_contains":
		want, ok := stringValue(a.Value)
		if !ok {
			p.Add(path+".value", "must be a string")
			return nil
		}
		return func(v []string) bool { return slices.Contains(v, want) == (a.Op == "contains") }
	case "matches", "not_matches":
		match, positive, ok := compileMatch(a, path, p)
		if !ok {
			return nil
		}
		return func(v []string) bool {
			return slices.ContainsFunc(v, func(s string) bool { return match([]byte(s)) }) == positive
		}
	}
	badOp(a, path, p, listOps...)
	return nil
}

func stringList(raw json.RawMessage) ([]string, bool) {
	if s, ok := stringValue(raw); ok {
		return []string{s}, true
	}
	var list []string
	return list, json.Unmarshal(raw, &list) == nil && list != nil
}

// addressSource looks at the address that was dialled, without its port.
func addressSource() map[string]source {
	return map[string]source{"address": {
		about: "the IP address that was dialled", ops: textOps,
		compile: compileText(uptime.AssertFailed, func(f *facts) (string, bool) {
			return f.dialled.Addr().String(), f.dialled.IsValid()
		}),
	}}
}
