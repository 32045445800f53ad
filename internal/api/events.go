package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"vedette/internal/middleware"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

// Rhythm of a live stream.
const (
	pollEvery    = 5 * time.Second  // a lost hint, or a revoked key, is noticed by then
	beatEvery    = 15 * time.Second // a comment, so that proxies keep the connection
	writeWithin  = 10 * time.Second // a client that takes longer is dropped; it resumes by Last-Event-ID
	eventsAtOnce = 200
	maxStreams   = 2000 // of one process
)

// Hub wakes the live streams of this process. Call Wake from a watch of
// uptime.TopicEvents; a wake-up that is lost delays by pollEvery.
type Hub struct {
	mu      sync.Mutex // guards streams
	streams map[chan struct{}]bool
}

// NewHub makes a hub without streams.
func NewHub() *Hub { return &Hub{streams: map[chan struct{}]bool{}} }

// Wake makes every stream look for new events. It never blocks.
func (h *Hub) Wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.streams {
		select {
		case c <- struct{}{}:
		default: // it is awake
		}
	}
}

func (h *Hub) join() (<-chan struct{}, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= maxStreams {
		return nil, nil, &uptime.Error{Kind: uptime.RateLimited, Message: "too many live streams are open here", RetryAfter: time.Minute}
	}
	c := make(chan struct{}, 1)
	h.streams[c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.streams, c)
	}, nil
}

type eventsIn struct {
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"Resume after this event; any replica can"`
	After       string `query:"after" maxLength:"20" doc:"The same, for clients that cannot set headers"`
}

// events streams what happens to the actor's things. Without a past it begins now.
func (s *server) events(ctx context.Context, in *eventsIn) (*huma.StreamResponse, error) {
	a := middleware.Actor(ctx)
	if in.LastEventID == "" {
		in.LastEventID = in.After
	}
	after, err := strconv.ParseInt(in.LastEventID, 10, 64)
	if in.LastEventID == "" {
		after, err = s.svc.LastEvent(ctx, a)
	} else if err != nil || after < 0 {
		err = uptime.InvalidField("header.Last-Event-ID", "is not the id of an event")
	}
	if err != nil {
		return nil, err
	}
	wake, leave, err := s.hub.join()
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer leave()
		r, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no")
		st := &stream{svc: s.svc, r: r, w: w, control: http.NewResponseController(w), actor: a, after: after}
		st.run(wake)
	}}, nil
}

// stream is one client of /events; one goroutine, its request's, owns it.
type stream struct {
	svc     *service.Service
	r       *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	actor   service.Actor
	after   int64
}

// run sends until the client goes, is too slow, or may not any more.
func (st *stream) run(wake <-chan struct{}) {
	poll, beat := time.NewTicker(pollEvery), time.NewTicker(beatEvery)
	defer poll.Stop()
	defer beat.Stop()
	if !st.write(": live\n\n") {
		return
	}
	for {
		if !st.drain() {
			return
		}
		select {
		case <-st.r.Context().Done():
			return
		case <-wake:
		case <-beat.C:
			if !st.write(": beat\n\n") {
				return
			}
		case <-poll.C:
			if !st.stillAllowed() {
				return
			}
		}
	}
}

// drain sends everything there is.
func (st *stream) drain() bool {
	for {
		events, upTo, err := st.svc.Events(st.r.Context(), st.actor, st.after, eventsAtOnce)
		if err != nil {
			return uptime.Is(err, uptime.Unavailable) // it comes back, and so do we at the next poll
		}
		for _, e := range events {
			data, err := json.Marshal(e)
			if err != nil || !st.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, data)) {
				return false
			}
		}
		if upTo == st.after {
			return true
		}
		st.after = upTo
	}
}

// stillAllowed looks the credentials up again: a stream ends with them.
func (st *stream) stillAllowed() bool {
	a, err := middleware.Reauthenticate(st.r, st.svc)
	if err != nil {
		return uptime.Is(err, uptime.Unavailable)
	}
	st.actor = a
	return a.Authorise(service.Read) == nil
}

func (st *stream) write(s string) bool {
	if err := st.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return false
	}
	if _, err := st.w.Write([]byte(s)); err != nil {
		return false
	}
	return st.control.Flush() == nil
}
