package probe

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// A config struct says all about its options in tags:
//
//	json      the option's name
//	doc       a sentence for docs/checks.md and the API's schema; every option has one
//	enum      the only values, with commas between; the zero value passes too
//	min, max  the bounds of a number, of a span (as "1s") or of a list's length
//	required  "true": the zero value is refused
//
// A field that is a struct is a group of options; an embedded one lends its own.

// option is one leaf of a config struct.
type option struct {
	path  string // dotted
	field reflect.StructField
	value reflect.Value
}

// options are the leaves of a config in their order. v is a struct.
func options(v reflect.Value, path string) []option {
	var out []option
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			out = append(out, options(v.Field(i), path)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Struct {
			out = append(out, options(v.Field(i), path+name+".")...)
			continue
		}
		out = append(out, option{path + name, f, v.Field(i)})
	}
	return out
}

// checkValues notes every option that its tags forbid.
func checkValues(cfg any, p *uptime.Problems) {
	for _, o := range options(reflect.ValueOf(cfg).Elem(), "") {
		path := "config." + o.path
		if o.field.Tag.Get("required") == "true" && o.value.IsZero() {
			p.Add(path, "is missing")
			continue
		}
		if values := o.values(); values != nil && !o.value.IsZero() && !slices.Contains(values, o.value.String()) {
			p.Add(path, "must be %s", oneOf(values))
		}
		least, most, n := o.bound("min"), o.bound("max"), o.size()
		if least != nil && n < *least || most != nil && n > *most {
			p.Add(path, "must be %s", o.between(least, most))
		}
	}
}

func (o option) values() []string {
	if v := o.field.Tag.Get("enum"); v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

// bound is a tag that holds a number or, for a span, a time.
func (o option) bound(tag string) *int64 {
	text, ok := o.field.Tag.Lookup(tag)
	if !ok {
		return nil
	}
	if d, err := time.ParseDuration(text); err == nil && o.field.Type == reflect.TypeFor[span]() {
		n := int64(d)
		return &n
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic("probe: tag " + tag + " of option " + o.path + ": " + err.Error())
	}
	return &n
}

// size is what bounds are compared with.
func (o option) size() int64 {
	switch o.value.Kind() {
	case reflect.Int, reflect.Int64, reflect.Int32:
		return o.value.Int()
	case reflect.Slice, reflect.Map, reflect.String:
		return int64(o.value.Len())
	}
	return 0
}

func (o option) between(least, most *int64) string {
	show := func(n int64) string {
		if o.field.Type == reflect.TypeFor[span]() {
			return time.Duration(n).String()
		}
		return strconv.FormatInt(n, 10)
	}
	what := map[reflect.Kind]string{reflect.Slice: " items", reflect.Map: " entries", reflect.String: " bytes"}[o.value.Kind()]
	switch {
	case most == nil:
		return "at least " + show(*least) + what
	case least == nil:
		return "at most " + show(*most) + what
	}
	return "from " + show(*least) + " to " + show(*most) + what
}

func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// Describe implements Type.
func (k kind[C]) Describe() uptime.CheckType {
	t := uptime.CheckType{Name: k.name, About: k.about, Target: k.target.about, Examples: k.examples}
	cfg := k.config
	for _, o := range options(reflect.ValueOf(&cfg).Elem(), "") {
		t.Options = append(t.Options, o.describe())
	}
	sources := k.allSources()
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		s := sources[name]
		t.Sources = append(t.Sources, uptime.CheckSource{Name: name, About: s.about, Property: s.property, Ops: s.ops})
	}
	return t
}

func (o option) describe() uptime.CheckOption {
	d := uptime.CheckOption{
		Path: o.path, Type: optionType(o.field.Type), Values: o.values(), Min: o.bound("min"), Max: o.bound("max"),
		Required: o.field.Tag.Get("required") == "true", Secret: o.field.Type == reflect.TypeFor[uptime.Secret](), About: o.field.Tag.Get("doc"),
	}
	if !o.value.IsZero() {
		d.Default, _ = json.Marshal(o.value.Interface()) // a default is plain data
	}
	return d
}

func optionType(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[span]():
		return "duration"
	case reflect.TypeFor[anyJSON]():
		return "any"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "object"
	}
	return "number"
}

// secretValues are texts that no evidence may show: the secrets of a config. Very
// short ones would blot out ordinary words, and protect nothing.
func secretValues(cfg any) []string {
	var out []string
	v := reflect.New(reflect.TypeOf(cfg)).Elem()
	v.Set(reflect.ValueOf(cfg))
	for _, o := range options(v, "") {
		if s, ok := o.value.Interface().(uptime.Secret); ok {
			out = addSecrets(out, s.Reveal())
		}
	}
	return out
}

// addSecrets keeps the longest first, so that no secret is blotted out in part. A message
// that quotes a target with %q writes quotation marks and backslashes in another way.
func addSecrets(to []string, secrets ...string) []string {
	for _, s := range secrets {
		if len(s) < 4 {
			continue
		}
		to = append(to, s)
		if quoted := strconv.Quote(s); len(quoted) > len(s)+2 {
			to = append(to, quoted[1:len(quoted)-1])
		}
	}
	sort.Slice(to, func(i, j int) bool { return len(to[i]) > len(to[j]) })
	return to
}

// anyJSON is an option whose value may be of any kind. null is as if left out.
type anyJSON json.RawMessage

// MarshalJSON implements json.Marshaler.
func (v anyJSON) MarshalJSON() ([]byte, error) {
	if len(v) == 0 {
		return []byte(`""`), nil
	}
	return v, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *anyJSON) UnmarshalJSON(b []byte) error {
	if *v = nil; string(b) != "null" {
		*v = anyJSON(bytes.Clone(b))
	}
	return nil
}

// span is a time in a config, written with its unit: "1m30s".
type span time.Duration

// MarshalJSON implements json.Marshaler.
func (d span) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *span) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return &json.UnmarshalTypeError{Value: string(bytes.TrimSpace(b)), Type: reflect.TypeFor[span]()}
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return &json.UnmarshalTypeError{Value: strconv.Quote(text), Type: reflect.TypeFor[span]()}
	}
	*d = span(v)
	return nil
}
