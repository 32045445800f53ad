package api

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"vedette/internal/uptime"
)

type checkTypesOut struct {
	Body struct {
		Items []uptime.CheckType `json:"items" nullable:"false"`
	}
}

func (s *server) checkTypes(context.Context, *struct{}) (*checkTypesOut, error) {
	out := &checkTypesOut{}
	out.Body.Items = s.svc.CheckTypes()
	return out, nil
}

// withConfigs is the document as JSON with the config of every check type among its
// schemas, and the body of a monitor that says its config is one of them. It is for
// those who read: requests are not validated by it, since the probe does so itself and
// says more.
func withConfigs(document *huma.OpenAPI, types []uptime.CheckType) ([]byte, error) {
	plain, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	var whole map[string]any
	if err := json.Unmarshal(plain, &whole); err != nil {
		return nil, err
	}
	schemas := whole["components"].(map[string]any)["schemas"].(map[string]any)
	names := make([]string, len(types))
	configs := make([]any, len(types))
	for i, t := range types {
		names[i], configs[i] = t.Name, map[string]any{"$ref": "#/components/schemas/Config-" + t.Name}
		schemas["Config-"+t.Name] = configSchema(t)
	}
	body := schemas["MonitorBody"].(map[string]any)["properties"].(map[string]any)
	body["config"].(map[string]any)["anyOf"] = configs
	body["type"].(map[string]any)["enum"] = names
	return json.MarshalIndent(whole, "", "  ")
}

func configSchema(t uptime.CheckType) *huma.Schema {
	root := &huma.Schema{Type: huma.TypeObject, Description: t.About, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, o := range t.Options {
		at, name := root, o.Path
		for {
			group, rest, nested := strings.Cut(name, ".")
			if !nested {
				break
			}
			if at.Properties[group] == nil {
				at.Properties[group] = &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
			}
			at, name = at.Properties[group], rest
		}
		at.Properties[name] = optionSchema(o)
		if o.Required {
			at.Required = append(at.Required, name)
		}
	}
	return root
}

func optionSchema(o uptime.CheckOption) *huma.Schema {
	s := &huma.Schema{Type: o.Type, Description: o.About, WriteOnly: o.Secret}
	var least, most *float64
	if o.Min != nil {
		v := float64(*o.Min)
		least = &v
	}
	if o.Max != nil {
		v := float64(*o.Max)
		most = &v
	}
	switch o.Type {
	case "number":
		s.Minimum, s.Maximum = least, most
	case "duration":
		s.Type, s.Examples = huma.TypeString, []any{"30s"}
	case "any":
		s.Type = "" // of JSON Schema: without a type, every value passes
	case "list":
		s.Type, s.Items = huma.TypeArray, &huma.Schema{}
	}
	for _, v := range o.Values {
		s.Enum = append(s.Enum, v)
	}
	if o.Default != nil {
		s.Default = json.RawMessage(o.Default)
	}
	return s
}
