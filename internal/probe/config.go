package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"vedette/internal/uptime"
)

// decodeConfig reads raw into the struct dst points to, which holds the
// defaults. An unknown key is a problem that names the nearest known one. Empty
// raw and null leave the defaults.
func decodeConfig(raw json.RawMessage, dst any, p *uptime.Problems) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		checkValues(dst, p)
		return
	}
	before := len(*p)
	checkKeys(raw, reflect.TypeOf(dst).Elem(), "config", p)
	if len(*p) > before {
		return
	}
	err := json.Unmarshal(raw, dst)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		path := "config"
		if wrong.Field != "" {
			path += "." + wrong.Field
		}
		p.Add(path, "must be a %s, not a %s", jsonKind(wrong.Type), wrong.Value)
		return
	}
	if err != nil {
		p.Add("config", "is not valid JSON")
		return
	}
	checkValues(dst, p)
}

// checkKeys compares the keys of an object with the fields of a struct, letter by
// letter (the decoder would take Method for method, and the last of both), and goes
// down into what holds other structs. What is of another kind is left to the decoder.
func checkKeys(raw json.RawMessage, t reflect.Type, path string, p *uptime.Problems) {
	switch t.Kind() {
	case reflect.Struct:
	case reflect.Slice:
		var list []json.RawMessage
		_ = json.Unmarshal(raw, &list)
		for i, value := range list {
			checkKeys(value, t.Elem(), fmt.Sprintf("%s[%d]", path, i), p)
		}
		return
	case reflect.Map:
		var object map[string]json.RawMessage
		_ = json.Unmarshal(raw, &object)
		for key, value := range object {
			checkKeys(value, t.Elem(), path+"."+key, p)
		}
		return
	default:
		return
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return
	}
	fields := map[string]reflect.Type{}
	fieldTypes(t, fields)
	for key, value := range object {
		ft, ok := fields[key]
		if !ok {
			p.Add(path+"."+key, "is not an option%s", suggest(key, fields))
			continue
		}
		checkKeys(value, ft, path+"."+key, p)
	}
}

// fieldTypes collects the keys of a struct, those of embedded structs among them.
func fieldTypes(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			fieldTypes(f.Type, into)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		into[name] = f.Type
	}
}

func jsonKind(t reflect.Type) string {
	if t == reflect.TypeFor[span]() {
		return `time with its unit, such as "90s"`
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	case reflect.Map, reflect.Struct:
		return "object"
	case reflect.Slice:
		return "list"
	}
	return "number"
}

// suggest names the known key nearest to key, if one is near enough to be meant.
func suggest[V any](key string, known map[string]V) string {
	best, distance := "", 1+len(key)/2
	for k := range known {
		if d := editDistance(key, k); d < distance || d == distance && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance is Levenshtein's, on bytes, case ignored.
func editDistance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// mergeSecrets implements Set.Merge on plain JSON: a placeholder is recognised by
// its text, wherever it stands.
func mergeSecrets(stored, incoming json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(incoming, []byte(uptime.Redacted)) {
		return incoming, nil
	}
	var in, old any
	if json.Unmarshal(incoming, &in) != nil {
		return nil, uptime.InvalidField("config", "is not valid JSON")
	}
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &old); err != nil {
			return nil, uptime.Errorf(uptime.Internal, "merge config: stored config: %w", err)
		}
	}
	var p uptime.Problems
	merged := mergeValue(in, old, "config", &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(merged)
}

func mergeValue(in, old any, path string, p *uptime.Problems) any {
	switch v := in.(type) {
	case string:
		if v != uptime.Redacted {
			return v
		}
		if s, ok := old.(string); ok {
			return s
		}
		p.Add(path, "%s keeps a stored secret, and none is stored here; send the secret itself", uptime.Redacted)
	case map[string]any:
		was, _ := old.(map[string]any)
		for k := range v {
			v[k] = mergeValue(v[k], was[k], path+"."+k, p)
		}
	}
	return in
}
