package service

import (
	"context"
	"encoding/hex"
	"time"

	"vedette/internal/uptime"
)

// reservation is how long a key stays taken by a request whose answer is not
// stored (it runs, failed, or its process died).
const reservation = 10 * time.Second

// Remembered is the answer that an earlier request with this key got, if there was
// one. Otherwise the key is now taken by the caller: of two requests at the same
// time, on whichever replicas, one goes on and the other is a Conflict.
func (s *Service) Remembered(ctx context.Context, a Actor, key string, fingerprint []byte) (status int, body []byte, found bool, err error) {
	if len(key) > 128 || hasControl(key) {
		return 0, nil, false, uptime.InvalidField("header.Idempotency-Key", "use 128 printable characters at most")
	}
	status, body, found, err = s.store.Idempotent(ctx, a.User.ID, key, fingerprint)
	if err != nil || found {
		return status, body, found, err
	}
	taken := "idempotency:" + decimal(a.User.ID) + ":" + hex.EncodeToString(tokenHash(key+string(fingerprint)))
	n, err := s.store.CountAttempt(ctx, taken, uptime.Now(), reservation)
	if err != nil {
		return 0, nil, false, err
	}
	if n > 1 {
		return 0, nil, false, &uptime.Error{Kind: uptime.Conflict, RetryAfter: reservation,
			Message: "a request with this Idempotency-Key was sent a moment ago and is under way, or failed; try again in some seconds"}
	}
	return 0, nil, false, nil
}

// Remember stores the answer of a request that did something. body must hold no
// secret: it is kept as it is. A failure to store is logged: the deed is done.
func (s *Service) Remember(ctx context.Context, a Actor, key string, fingerprint []byte, status int, body []byte) {
	if err := s.store.SaveIdempotent(context.WithoutCancel(ctx), a.User.ID, key, fingerprint, status, body); err != nil {
		s.log.WarnContext(ctx, "idempotent answer not stored", "user_id", a.User.ID, "error", err)
	}
}
