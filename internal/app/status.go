package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// status is what start-up is still waiting for, by the name of the dependency.
type status struct {
	mu      sync.Mutex
	waiting map[string]string // guarded by mu: name → what is wrong
}

func (s *status) set(name, trouble string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[string]string{}
	}
	s.waiting[name] = trouble
}

func (s *status) done(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, name)
}

// problem is the RFC 9457 document of a process that has not started yet.
func (s *status) problem() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.waiting)) {
		parts = append(parts, fmt.Sprintf("%s: %s", name, s.waiting[name]))
	}
	detail := "Vedette is starting."
	if len(parts) > 0 {
		detail = "Vedette is starting and waits for " + strings.Join(parts, "; ")
	}
	b, err := json.Marshal(map[string]any{"title": "Service Unavailable", "status": http.StatusServiceUnavailable, "detail": detail})
	if err != nil {
		return nil // strings always encode
	}
	return b
}
