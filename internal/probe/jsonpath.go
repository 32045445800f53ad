package probe

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/theory/jsonpath"
	"github.com/theory/jsonpath/spec"

	"vedette/internal/uptime"
)

// Bounds of a document and of a path into it, so that neither can cost more than
// a check may.
const (
	maxJSONDepth  = 128
	maxJSONValues = 200_000
	maxPath       = 512 // bytes
	maxInteger    = 300 // digits of one that is compared exactly; a float64 has no more
)

// document is a body as JSON, parsed when the first assertion asks for it.
type document struct {
	value any
	err   error
}

// parseJSON refuses depth and breadth beyond the bounds before it builds anything. A
// byte order mark, which some servers put first, is ignored (RFC 8259 §8.1).
func parseJSON(b []byte) *document {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if err := measureJSON(b); err != nil {
		return &document{err: err}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("an empty body")
		}
		return &document{err: err}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &document{err: errors.New("more after the JSON value")}
	}
	return &document{value: plainNumbers(v)}
}

func measureJSON(b []byte) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			if c == '\\' {
				i++
			}
			quoted = c != '"'
		case c == '"':
			quoted = true
		case c == '[' || c == '{':
			depth++
			values++
		case c == ']' || c == '}':
			depth--
		case c == ',':
			values++
		}
		if depth > maxJSONDepth {
			return fmt.Errorf("JSON nested deeper than %d", maxJSONDepth)
		}
		if values > maxJSONValues {
			return fmt.Errorf("JSON of more than %d values", maxJSONValues)
		}
	}
	return nil
}

// plainNumbers turns a json.Number into an int64 where its value is one, else into a
// float64, so that 1.0 is 1 in whatever it stands. Larger integers stay as they are
// written: rounded, the ids of two things could be equal.
func plainNumbers(v any) any {
	switch x := v.(type) {
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i
		}
		if len(x) <= maxInteger && !strings.ContainsAny(string(x), ".eE") {
			return x
		}
		f, _ := x.Float64()
		if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f)
		}
		return f
	case []any:
		for i := range x {
			x[i] = plainNumbers(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = plainNumbers(x[k])
		}
	}
	return v
}

// compileJSON looks at what an RFC 9535 path selects: its first result, or for
// exists whether there is one.
func compileJSON(a *assertion, path string, p *uptime.Problems) {
	a.stage, a.reason = stageBody, uptime.JSON
	expr, err := parsePath(a.Property)
	if err != nil {
		p.Add(path+".property", "%v", err)
		return
	}
	test := jsonTest(a, path, p)
	if test == nil {
		return
	}
	absent := a.Op == "not_exists"
	a.judge = func(f *facts) found {
		if !f.whole {
			return found{more: true, actual: "a body too large to parse"}
		}
		if f.document == nil {
			f.document = parseJSON(f.body)
		}
		if f.document.err != nil {
			return found{actual: "no usable JSON: " + f.document.err.Error()}
		}
		v, ok := expr.first(f.document.value)
		if !ok {
			return found{ok: absent, actual: "nothing at that path"}
		}
		return found{ok: test(v), actual: compactJSON(v)}
	}
}

// jsonPath is a compiled path.
type jsonPath []*spec.Segment

// parsePath refuses what can cost more than one walk of the document.
func parsePath(s string) (jsonPath, error) {
	if len(s) > maxPath {
		return nil, fmt.Errorf("is longer than %d bytes", maxPath)
	}
	if !strings.HasPrefix(s, "$") {
		return nil, fmt.Errorf("must be a JSONPath that begins with $, such as $.status")
	}
	path, err := jsonpath.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("is not a JSONPath (RFC 9535): %s", clean(strings.TrimPrefix(err.Error(), "jsonpath: "), 150))
	}
	out := jsonPath(path.Query().Segments())
	c := pathCost{union: 1}
	c.add(out)
	switch {
	case c.descents > 1 || c.filters > 1 || c.roots > 0:
		return nil, fmt.Errorf("may hold one .. and one filter, and no $ inside it: more could take too long")
	case c.union > 64:
		return nil, fmt.Errorf("may hold lists such as [0,1] that come to 64 combinations at most")
	case c.many > 1:
		return nil, fmt.Errorf("may hold one query inside its filter that finds several values")
	case c.patterns:
		return nil, fmt.Errorf("may not hold patterns, which could take too long; use the operator matches")
	}
	return out, nil
}

// pathCost is what can make a path dear: each step of a plain one visits a value at
// most once.
type pathCost struct {
	descents, filters, roots int
	union                    int  // how often lists of keys may lead to one value
	many                     int  // queries inside filters that find several values
	patterns                 bool // inside filters, which would try them on every value
}

func (c *pathCost) add(path jsonPath) {
	for _, segment := range path {
		if segment.IsDescendant() {
			c.descents++
		}
		c.union = min(c.union*len(segment.Selectors()), 1000)
		for _, selector := range segment.Selectors() {
			if f, ok := selector.(*spec.FilterSelector); ok {
				c.filter(f.String())
			}
		}
	}
}

var (
	quotedText   = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	filterQuery  = regexp.MustCompile(`[@$]((\.\.)?\[[^\[\]]*\])*`)
	filterSearch = regexp.MustCompile(`\b(match|search)\(`)
)

// filter adds what a filter holds, by the form in which the library writes it down:
// names and texts stand in double quotes, and every step of a query in brackets.
func (c *pathCost) filter(text string) {
	text = quotedText.ReplaceAllString(text, `""`)
	c.filters += strings.Count(text, "?")
	c.roots += strings.Count(text, "$")
	c.descents += strings.Count(text, "..")
	c.patterns = c.patterns || filterSearch.MatchString(text)
	for _, query := range filterQuery.FindAllString(text, -1) {
		if strings.ContainsAny(query, "*:,") || strings.Contains(query, "..") {
			c.many++
		}
		for step := range strings.SplitSeq(query, "]") {
			c.union = min(c.union*(1+strings.Count(step, ",")), 1000)
		}
	}
}

// first is the first value that the path selects. RFC 9535 leaves the order of an
// object's members open: here it is that of their names, so that the same document
// gives the same result each time.
func (p jsonPath) first(root any) (any, bool) { return p.from(root, root) }

func (p jsonPath) from(v, root any) (any, bool) {
	if len(p) == 0 {
		return v, true
	}
	for _, selector := range p[0].Selectors() {
		for _, next := range selected(selector, v, root) {
			if out, ok := p[1:].from(next, root); ok {
				return out, true
			}
		}
	}
	if p[0].IsDescendant() {
		for _, child := range children(v) {
			if out, ok := p.from(child, root); ok {
				return out, true
			}
		}
	}
	return nil, false
}

// selected are the values below v that one selector selects.
func selected(selector spec.Selector, v, root any) []any {
	switch s := selector.(type) {
	case spec.WildcardSelector:
		return children(v)
	case *spec.FilterSelector:
		return slices.DeleteFunc(slices.Clone(children(v)), func(c any) bool { return !s.Eval(c, root) })
	}
	return selector.Select(v, root)
}

// children are the items of an array, or the members of an object by their names. The
// former are not a copy.
func children(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		out := make([]any, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, v[k])
		}
		return out
	}
	return nil
}

// valueOps are what may be asked of a value found in a document.
var valueOps = []string{"exists", "not_exists", "eq", "ne", "lt", "le", "gt", "ge", "contains", "not_contains",
	"matches", "not_matches", "length", "min_length", "max_length"}

// jsonTest is the operator as a function of the value found.
func jsonTest(a *assertion, path string, p *uptime.Problems) func(any) bool {
	switch a.Op {
	case "exists":
		return func(any) bool { return true }
	case "not_exists":
		return func(any) bool { return false }
	case "length", "min_length", "max_length":
		return lengthTest(a, path, p)
	case "matches", "not_matches":
		match, positive, ok := compileMatch(a, path, p)
		if !ok {
			return nil
		}
		return func(v any) bool { return match([]byte(plainText(v))) == positive }
	}
	doc := parseJSON(a.Value)
	if doc.err != nil {
		p.Add(path+".value", "is missing")
		return nil
	}
	want := doc.value
	switch a.Op {
	case "contains":
		return func(v any) bool { return jsonContains(v, want) }
	case "not_contains":
		return func(v any) bool { return !jsonContains(v, want) }
	case "eq":
		return func(v any) bool { return jsonEqual(v, want) }
	case "ne":
		return func(v any) bool { return !jsonEqual(v, want) }
	}
	holds, ok := comparison(a.Op)
	if !ok {
		badOp(a, path, p, valueOps...)
		return nil
	}
	return func(v any) bool {
		c, comparable := jsonCompare(v, want)
		return comparable && holds(c)
	}
}

// lengthTest counts characters of a string, items of an array, keys of an object.
func lengthTest(a *assertion, path string, p *uptime.Problems) func(any) bool {
	n, ok := countValue(a.Value)
	if !ok {
		p.Add(path+".value", "must be a whole number, 0 or more")
		return nil
	}
	op := map[string]string{"length": "eq", "min_length": "ge", "max_length": "le"}[a.Op]
	holds, _ := comparison(op)
	return func(v any) bool {
		size := -1
		switch x := v.(type) {
		case string:
			size = utf8.RuneCountInString(x)
		case []any:
			size = len(x)
		case map[string]any:
			size = len(x)
		}
		return size >= 0 && holds(cmp.Compare(size, n))
	}
}

// jsonEqual compares numbers by value and takes a string for the number, boolean
// or null it spells, since forms can send nothing but strings.
func jsonEqual(a, b any) bool {
	if c, ok := jsonCompare(a, b); ok {
		return c == 0
	}
	_, aText := a.(string)
	_, bText := b.(string)
	if aText != bText {
		return plainText(a) == plainText(b) || spells(a, b) || spells(b, a)
	}
	return reflect.DeepEqual(a, b)
}

// spells reports whether a text is a number, perhaps with more zeros than it needs.
func spells(text, n any) bool {
	s, ok := text.(string)
	if _, isNumber := number(n); !ok || !isNumber {
		return false
	}
	c, ok := jsonCompare(parseJSON([]byte(s)).value, n)
	return ok && c == 0
}

// jsonCompare orders two numbers or two strings; anything else is not comparable.
func jsonCompare(a, b any) (int, bool) {
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			return x.Cmp(y), true
		}
	}
	x, xok := number(a)
	y, yok := number(b)
	if xok && yok {
		return cmp.Compare(x, y), true
	}
	s, sok := a.(string)
	t, tok := b.(string)
	return strings.Compare(s, t), sok && tok
}

func integer(v any) (*big.Int, bool) {
	switch x := v.(type) {
	case int64:
		return big.NewInt(x), true
	case json.Number:
		return new(big.Int).SetString(string(x), 10)
	}
	return nil, false
}

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case int64:
		return float64(x), true
	case float64:
		return x, true
	case json.Number:
		f, err := x.Float64()
		return f, err == nil
	}
	return 0, false
}

// jsonContains looks for text in a string, an item in an array, a key in an object.
func jsonContains(v, want any) bool {
	switch x := v.(type) {
	case string:
		return strings.Contains(x, plainText(want))
	case []any:
		for _, item := range x {
			if jsonEqual(item, want) {
				return true
			}
		}
	case map[string]any:
		_, ok := x[plainText(want)]
		return ok
	}
	return false
}

func plainText(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case int64:
		return strconv.FormatInt(x, 10)
	case json.Number:
		return string(x)
	}
	return compactJSON(v)
}

// compactJSON is a value as JSON, in which < > and & stand for themselves: patterns
// look for them.
func compactJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "a value that is not JSON"
	}
	return strings.TrimSuffix(b.String(), "\n")
}
