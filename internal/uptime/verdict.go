package uptime

import "fmt"

// Verdict is what we say of a target. Its zero value is VerdictUnknown: a result
// that nobody filled in never reads as up or down (the third law).
type Verdict uint8

// The numbers are stored; never change them.
const (
	VerdictUnknown  Verdict = 0 // we could not observe; the reason says what of ours was in the way
	VerdictUp       Verdict = 1
	VerdictDegraded Verdict = 2 // it works, but an assertion of severity "degraded" fails
	VerdictDown     Verdict = 3
)

var verdictNames = [...]string{"unknown", "up", "degraded", "down"}

// String is the verdict as the API spells it.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Good reports whether the target works: up or degraded.
func (v Verdict) Good() bool { return v == VerdictUp || v == VerdictDegraded }

// MarshalText spells the verdict for JSON.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, n := range verdictNames {
		if n == string(b) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q is none of unknown, up, degraded, down", b)
}
