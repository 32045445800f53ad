package middleware

import (
	"context"
	"sync"
	"time"
)

// MemoryLimiter counts in this process: for the embedded mode, and as the least
// that several replicas have. The zero value is ready.
type MemoryLimiter struct {
	mu     sync.Mutex // guards what follows
	window map[string]*window
	swept  time.Time
}

type window struct {
	start time.Time
	per   time.Duration
	n     int
}

// maxWindows bounds the memory that strangers can take; beyond it old windows go
// first and new keys pass uncounted.
const maxWindows = 100_000

// Allow counts one under key; it never fails.
func (l *MemoryLimiter) Allow(_ context.Context, key string, n int, per time.Duration) (bool, error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	w := l.window[key]
	if w == nil || now.Sub(w.start) >= w.per {
		if len(l.window) >= maxWindows {
			return true, nil
		}
		w = &window{start: now, per: per}
		l.window[key] = w
	}
	w.n++
	return w.n <= n, nil
}

func (l *MemoryLimiter) sweep(now time.Time) {
	if l.window == nil {
		l.window = map[string]*window{}
	}
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for k, w := range l.window {
		if now.Sub(w.start) >= w.per {
			delete(l.window, k)
		}
	}
}
