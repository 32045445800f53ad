package uptime

import (
	"encoding/json"
	"log/slog"
)

// Redacted is what a Secret shows instead of itself. A client that sends it back
// in an update means "leave as it is".
const Redacted = "***"

// Secret is a string that no log, error, format verb or JSON encoder shows: they
// all print Redacted, or nothing when it is empty. Decoding JSON fills it.
// Stored configs keep their secrets because they are stored as the raw JSON that
// came in, sealed, and never through this type's encoder.
type Secret string

// Reveal is the text itself, for the one place that must send it.
func (s Secret) Reveal() string { return string(s) }

// String redacts.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// GoString redacts in %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue redacts in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON redacts in JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }
