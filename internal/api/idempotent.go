package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"

	"vedette/internal/middleware"
	"vedette/internal/service"
)

// Once is the part of a create's request that makes a repeat harmless.
type Once struct {
	Key     string `header:"Idempotency-Key" maxLength:"128" doc:"A repeat with the same key and body within 24 hours gives the first answer and does nothing. Secrets that are shown once are not shown again."`
	RawBody []byte
}

// doOnce runs do unless the same request was answered before; then it gives that
// answer. strip takes out of an answer what must not be kept.
func doOnce[T any](ctx context.Context, svc *service.Service, route string, o Once, do func() (T, error), strip func(T) T) (T, error) {
	if o.Key == "" {
		return do()
	}
	a := middleware.Actor(ctx)
	sum := sha256.Sum256(append([]byte(route+"\n"), o.RawBody...))
	var out T
	_, body, found, err := svc.Remembered(ctx, a, o.Key, sum[:])
	if err != nil {
		return out, err
	}
	if found {
		if err := json.Unmarshal(body, &out); err != nil {
			return out, fmt.Errorf("stored answer of %s: %w", route, err)
		}
		return out, nil
	}
	out, err = do()
	if err != nil {
		return out, err
	}
	body, err = json.Marshal(strip(out))
	if err != nil {
		return out, fmt.Errorf("answer of %s: %w", route, err)
	}
	svc.Remember(ctx, a, o.Key, sum[:], http.StatusCreated, body)
	return out, nil
}

func whole[T any](v T) T { return v }
