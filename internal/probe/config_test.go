package probe

import (
	"encoding/json"
	"strings"
	"testing"

	"vedette/internal/uptime"
)

func TestConfigKeysMatchExactly(t *testing.T) {
	t.Parallel()
	type item struct {
		Name string `json:"name"`
	}
	type config struct {
		Mode  string `json:"mode"`
		Group struct {
			Limit int `json:"limit"`
		} `json:"group"`
		Items []item            `json:"items"`
		Named map[string]item   `json:"named"`
		Free  map[string]string `json:"free"`
	}
	for raw, path := range map[string]string{
		`{"mode":"a","free":{"MODE":"b"}}`:      "",
		`{"Mode":"a"}`:                          "config.Mode",
		`{"mode":"a","MODE":"b"}`:               "config.MODE",
		`{"group":{"limit":1,"Limit":2}}`:       "config.group.Limit",
		`{"items":[{"name":"a"},{"Name":"b"}]}`: "config.items[1].Name",
		`{"named":{"x":{"nam":"b"}}}`:           "config.named.x.nam",
	} {
		var c config
		var p uptime.Problems
		decodeConfig(json.RawMessage(raw), &c, &p)
		switch {
		case path == "" && len(p) > 0:
			t.Errorf("%s: %v, want no problem", raw, p)
		case path != "" && (len(p) != 1 || p[0].Path != path || !strings.Contains(p[0].Message, "did you mean")):
			t.Errorf("%s: %v, want one problem at %s with the right name", raw, p, path)
		}
	}
}
