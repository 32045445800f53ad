package uptime

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error. Adapters (store, queue, guard)
// translate their drivers' errors into a Kind at once; edges map a Kind to an
// HTTP status or an exit code in one table. The zero Kind is Internal.
type Kind uint8

const (
	Internal     Kind = iota // our fault; the text is for the log, never for a user
	Invalid                  // the request is wrong: Error.Fields says where
	NotFound                 // no such thing, or not yours: the two are told apart nowhere
	Conflict                 // it exists already, or was changed meanwhile
	Forbidden                // you are known, and may not
	Unauthorized             // we do not know you
	RateLimited              // too often; Error.RetryAfter says when to come back
	Unavailable              // a dependency does not answer; try again
)

// String is the kind's name as logs and metrics show it.
func (k Kind) String() string {
	names := [...]string{"internal", "invalid", "not_found", "conflict", "forbidden", "unauthorized", "rate_limited", "unavailable"}
	if int(k) < len(names) {
		return names[k]
	}
	return "internal"
}

// Field is one thing wrong with a request: where (a JSON path such as
// "confirm.failures"), and what would mend it.
type Field struct {
	Path    string
	Message string
}

// Error is an error with a kind. Message is written for the user who will read
// it; Err, which may be nil, is the cause and stays in the log.
type Error struct {
	Kind    Kind
	Message string
	Fields  []Field
	Err     error
	// RetryAfter is when to come back, for RateLimited and Unavailable; 0: not known.
	RetryAfter time.Duration
}

// Error joins the message, the fields and the cause, for logs.
func (e *Error) Error() string {
	s := e.Message
	for _, f := range e.Fields {
		s += fmt.Sprintf("; %s: %s", f.Path, f.Message)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the first Error in err's chain, Internal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind k. A nil error is of no kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// Errorf makes an error of kind k whose message is for the user. A %w operand
// becomes the cause as with fmt.Errorf.
func Errorf(k Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), Err: errors.Unwrap(err)}
}

// InvalidField is the error of one wrong field.
func InvalidField(path, format string, args ...any) error {
	return &Error{Kind: Invalid, Message: "invalid request", Fields: []Field{{path, fmt.Sprintf(format, args...)}}}
}

// Problems collects the wrong fields of one request, so that its sender learns
// of all of them at once. The zero value is ready.
type Problems []Field

// Add notes that the field at path is wrong and how to mend it.
func (p *Problems) Add(path, format string, args ...any) {
	*p = append(*p, Field{path, fmt.Sprintf(format, args...)})
}

// Err is nil when nothing was added, else an Invalid error that holds every field.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return &Error{Kind: Invalid, Message: "invalid request", Fields: p}
}
