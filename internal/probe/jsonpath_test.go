package probe

import (
	"encoding/json"
	"testing"

	"vedette/internal/uptime"
)

// A path finds what RFC 9535 says, and the first of it.
func TestJSONPathFindsWhatTheStandardSays(t *testing.T) {
	t.Parallel()
	const (
		nested = `{"name":"x","sub":{"name":"y"}}`
		inner  = `{"z":{"a":1},"a":2}`
		lists  = `[[1,2],[3,[4]]]`
		pairs  = `[{"a":{"x":1},"b":{"x":2}},{"a":[1],"b":[1]},{"a":1,"b":1}]`
		rows   = `[{"s":"2024-01-02","n":5},{"s":"2023","n":"5"},{"s":true},{"s":null}]`
		names  = `{"a-b":1,"ä":2,"a.b":3,"":4,"a'b":5,"😀":6}`
	)
	for _, c := range []struct{ path, doc, want string }{
		{"$..name", nested, `"x"`},
		{"$..*", nested, `"x"`},
		{"$..a", inner, `2`},
		{"$..[0]", lists, `[1,2]`},
		{"$..[?@[1]][0]", lists, `1`},
		{"$[1,0][1]", lists, `[4]`},
		{"$[::-1][0]", lists, `3`},
		{"$[0:1, 1][0]", lists, `1`},
		{"$[?@.a == @.b].a", pairs, `[1]`},
		{"$[?@.a != @.b].a", pairs, `{"x":1}`},
		{"$[?@.s == '2023' || @.s == 'x' && @.n == 5].s", rows, `"2023"`},
		{"$[?(@.s == '2023' || @.s == 'x') && @.n == 5].s", rows, ``},
		{"$[?!(@.n)].s", rows, `true`},
		{"$[?!@.n].s", rows, `true`},
		{"$[?@.n == 5.0].s", rows, `"2024-01-02"`},
		{"$[?@.n == '5'].s", rows, `"2023"`},
		{"$[?@.n > '4'].s", rows, `"2023"`},
		{"$[?@.s == null].s", rows, `null`},
		{"$[?@.n == @.m].s", rows, `true`}, // nothing equals nothing
		{"$[?count(@.*) == 1].s", rows, `true`},
		{"$[?length(@.s) == 4].s", rows, `"2023"`},
		{"$[?value(@.n) == 5].s", rows, `"2024-01-02"`},
		{"$['a-b']", names, `1`},
		{"$.ä", names, `2`},
		{`$["a.b"]`, names, `3`},
		{"$['']", names, `4`},
		{`$['a\'b']`, names, `5`},
		{`$['\uD83D\uDE00']`, names, `6`},
		{"$ ['a-b']", names, `1`},
		{"$.a", `{"a":null}`, `null`},
		{"$.a.b", `{"a":null}`, ``},
		{"$.a[0]", `{"a":"text"}`, ``},
		{"$.a['0']", `{"a":[1]}`, ``},
		{"$[-1]", `[]`, ``},
		{"$.*", `{"b":1,"a":2}`, `2`}, // by their names, whatever the order of a map
		{"$.a", `{"a":1,"a":2}`, `2`},
		{"$.id", `{"id":18446744073709551615}`, `18446744073709551615`},
		{"$[?@.id > 9007199254740991].id", `[{"id":1},{"id":28446744073709551615}]`, `28446744073709551615`},
	} {
		path, err := parsePath(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		v, ok := path.first(parseJSON([]byte(c.doc)).value)
		got := ""
		if ok {
			got = compactJSON(v)
		}
		if got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.path, c.doc, got, c.want)
		}
	}
}

func TestWhatIsNoJSONPathIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"$.a-b", "$.1", "$[?@.n == 05]", "$[?@.a == ['x']]", "$[?@.a in ['x']]", "$[?@.a =~ 'x']", "$.a.length()", "$[?@.n + 1 == 2]", "$[?@.n == 1 == true]", "$[(@.length-1)]", "$a", "$.", "$ "} {
		if _, err := parsePath(path); err == nil {
			t.Errorf("%s passes, want it refused", path)
		}
	}
}

func TestJSONValuesAreComparedByValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		doc, op, value string
		want           bool
	}{
		{"18446744073709551615", "eq", "18446744073709551615", true},
		{"18446744073709551615", "eq", "18446744073709551614", false},
		{"18446744073709551615", "ne", "18446744073709551614", true},
		{"18446744073709551615", "gt", "18446744073709551614", true},
		{"18446744073709551615", "gt", "9223372036854775807", true},
		{"18446744073709551615", "lt", "1e30", true},
		{"18446744073709551615", "eq", `"18446744073709551615"`, true},
		{"18446744073709551615", "matches", `"^18446744073709551615$"`, true},
		{"-18446744073709551615", "lt", "0", true},
		{"9007199254740993", "eq", "9007199254740992", false},
		{"1.0", "eq", "1", true},
		{"1e2", "eq", "100", true},
		{"-0.0", "eq", "0", true},
		{"1.5", "gt", "1", true},
		{`[1.0,{"a":2e0}]`, "eq", `[1,{"a":2}]`, true},
		{`"1"`, "eq", "1", true},
		{`"1"`, "gt", "0", false},
		{"null", "eq", "null", true},
		{"null", "eq", `"null"`, true},
		{"null", "lt", "1", false},
		{"[]", "length", "0", true},
		{"1.5", "eq", `"1.50"`, true},
		{`"1.50"`, "eq", "1.5", true},
		{`"1.50"`, "eq", `"1.5"`, false}, // two texts
		{`"x"`, "eq", "0", false},
		{`{"k":"a<b&c"}`, "matches", `"a<b&c"`, true},
		{`["<script"]`, "not_matches", `"<script"`, false},
		{"[18446744073709551615]", "contains", "18446744073709551614", false},
	} {
		a := compileAssertions([]uptime.Assertion{{Source: "json", Property: "$", Op: c.op, Value: json.RawMessage(c.value)}}, map[string]source{"json": {property: "x", compile: compileJSON}}, &uptime.Problems{})
		f := a[0].judge(&facts{whole: true, body: []byte(c.doc)})
		if f.ok != c.want {
			t.Errorf("%s %s %s: %v (%s), want %v", c.doc, c.op, c.value, f.ok, f.actual, c.want)
		}
	}
}
