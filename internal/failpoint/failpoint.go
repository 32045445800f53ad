// Package failpoint lets tests break the product at the boundaries of its steps:
// kill the process there, make the step fail, or hold it. Stages call Hit at each
// boundary; the crash matrix starts the binary with VEDETTE_FAILPOINTS set and
// checks what is left.
//
// Invariants: a nil Set, which is what a process without that variable has, costs
// one comparison per Hit and does nothing; a point fires at exactly one of its
// hits, so a restarted step goes on. A specification that cannot be read is an
// error at start, never a silent nothing. It belongs to no box: every box has points.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// variable of the environment that carries the specification.
const variable = "VEDETTE_FAILPOINTS"

// ErrInjected is in the chain of every error that a point makes.
var ErrInjected = errors.New("failpoint")

type action string

const (
	kill  action = "kill"  // SIGKILL to this process: nothing is flushed, no defer runs
	fail  action = "error" // Hit returns an error
	block action = "hold"  // Hit does not return until Release
)

// Set is the points of one process. Its methods may be called on nil and by many
// goroutines at once.
type Set struct {
	points map[string]*point // not written after Parse
}

type point struct {
	action  action
	at      int64
	hits    atomic.Int64
	held    chan struct{} // closed when the hold has begun
	release chan struct{} // closed by Release
	once    atomic.Bool   // release is closed
}

// Environment is the specification this process was started with; empty for every
// process outside tests.
func Environment() string { return os.Getenv(variable) }

// Parse reads "name=action@N|name=action@N…": at the N-th hit (from 1; 1 without
// @N) of the named point do kill, error or hold. The empty text is a nil Set.
func Parse(text string) (*Set, error) {
	if text == "" {
		return nil, nil
	}
	s := &Set{points: map[string]*point{}}
	for part := range strings.SplitSeq(text, "|") {
		name, what, ok := strings.Cut(strings.TrimSpace(part), "=")
		verb, count, counted := strings.Cut(what, "@")
		p := &point{action: action(verb), at: 1, held: make(chan struct{}), release: make(chan struct{})}
		if counted {
			n, err := strconv.ParseInt(count, 10, 64)
			ok, p.at = ok && err == nil && n > 0, n
		}
		known := p.action == kill || p.action == fail || p.action == block
		if !ok || name == "" || !known || s.points[name] != nil {
			return nil, fmt.Errorf("%s: %q is not name=kill@N, name=error@N or name=hold@N, each name once", variable, part)
		}
		s.points[name] = p
	}
	return s, nil
}

// Hit says that the step boundary name was reached. It returns an error if the
// point says so, and does not return from a kill.
func (s *Set) Hit(name string) error {
	if s == nil {
		return nil
	}
	p := s.points[name]
	if p == nil || p.hits.Add(1) != p.at {
		return nil
	}
	switch p.action {
	case fail:
		return fmt.Errorf("%w %s", ErrInjected, name)
	case block:
		close(p.held)
		<-p.release
	case kill:
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			os.Exit(137) // the status a shell gives a killed process
		}
		select {} // the signal is on its way
	}
	return nil
}

// Hook is Hit for a stage whose points take no error: stage and name joined by a
// dot name the point. It is nil for a nil Set.
func (s *Set) Hook(stage string) func(name string) {
	if s == nil {
		return nil
	}
	return func(name string) {
		_ = s.Hit(stage + "." + name) // the stage has no use for an error there
	}
}

// Held is closed once the named point holds; nil if there is no such point.
func (s *Set) Held(name string) <-chan struct{} {
	if s == nil || s.points[name] == nil {
		return nil
	}
	return s.points[name].held
}

// Release ends the named point's hold, at once if it has not begun.
func (s *Set) Release(name string) {
	if s == nil || s.points[name] == nil {
		return
	}
	if p := s.points[name]; p.once.CompareAndSwap(false, true) {
		close(p.release)
	}
}
