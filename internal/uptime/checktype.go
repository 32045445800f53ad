package uptime

import "encoding/json"

// CheckType describes a check type for documents, schemas and forms. It is made
// from the type's own config struct.
type CheckType struct {
	Name    string        `json:"name"`
	About   string        `json:"about"`  // what an up verdict means
	Target  string        `json:"target"` // how a target is written
	Options []CheckOption `json:"options"`
	Sources []CheckSource `json:"sources"` // what assertions may look at
	// Examples were each run by the type's test.
	Examples []CheckExample `json:"examples"`
}

// CheckOption is one option of a type's config.
type CheckOption struct {
	Path     string          `json:"path"`              // dotted, below config: "auth.password"
	Type     string          `json:"type"`              // string, number, boolean, duration, list, object or any
	Default  json.RawMessage `json:"default,omitempty"` // absent when it is the type's zero value
	Values   []string        `json:"values,omitempty"`  // the only ones there are
	Min      *int64          `json:"min,omitempty"`
	Max      *int64          `json:"max,omitempty"`
	Required bool            `json:"required,omitempty"`
	Secret   bool            `json:"secret,omitempty"` // never shown again once stored
	About    string          `json:"about"`
}

// CheckSource is something the assertions of a type may look at.
type CheckSource struct {
	Name     string   `json:"name"`
	About    string   `json:"about"`
	Property string   `json:"property,omitempty"` // what the assertion's property names; "" when it takes none
	Ops      []string `json:"ops"`
}

// CheckExample is a monitor of a type. Config and Assertions are JSON; "" leaves them
// out.
type CheckExample struct {
	Title      string `json:"title"`
	Target     string `json:"target"`
	Config     string `json:"config,omitempty"`
	Assertions string `json:"assertions,omitempty"`
}
