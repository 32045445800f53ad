package config

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// FileLoader reads a configuration file: YAML (and so JSON) whose keys are the
// names of the flags without dashes in front. An unknown key is an error that
// suggests the nearest name, so that a typing error never passes for a setting.
func FileLoader(r io.Reader) (kong.Resolver, error) {
	values := map[string]any{}
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && err != io.EOF {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return &fileResolver{values: values}, nil
}

type fileResolver struct{ values map[string]any }

// Validate refuses keys that no flag of any command bears.
func (f *fileResolver) Validate(app *kong.Application) error {
	names := map[string]bool{}
	_ = kong.Visit(app, func(n kong.Visitable, next kong.Next) error {
		if flag, ok := n.(*kong.Flag); ok {
			names[flag.Name] = true
		}
		return next(nil)
	})
	for key := range f.values {
		if !names[key] {
			return fmt.Errorf("configuration file: unknown key %q%s", key, suggest(key, names))
		}
	}
	return nil
}

// Resolve finds the flag's value in the file; the environment goes before it.
func (f *fileResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set { // kong itself would let the file win
			return nil, nil
		}
	}
	v, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = fmt.Sprint(e)
		}
		return strings.Join(parts, ","), nil
	}
	return fmt.Sprint(v), nil
}

// suggest is `, did you mean "x"?` for the nearest of names, or empty.
func suggest(key string, names map[string]bool) string {
	best, dist := "", 4
	for n := range names {
		if d := distance(key, n); d < dist || (d == dist && n < best) {
			best, dist = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance is Levenshtein's: how many letters to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost = 1 + min(diag, row[j], row[j-1])
			}
			diag, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
