package notify

import (
	"time"

	"vedette/internal/uptime"
)

// The schedule of repeats. The ceiling doubles from firstCeiling to maxCeiling and
// the wait is drawn evenly below it (full jitter), so the first repeat comes after
// about 5 s, and receivers that come back are not met by everybody at once.
const (
	firstCeiling  = 10 * time.Second
	maxCeiling    = 15 * time.Minute
	minWait       = time.Second
	maxRetryAfter = time.Hour      // a receiver cannot ask for more
	horizon       = 24 * time.Hour // after this a temporary failure is final
	// minAttempts are made even when the horizon has passed, so that a night in
	// which no notifier ran does not turn a first refusal into a dead letter: about
	// 40 minutes of trying.
	minAttempts = 12
)

// Plan decides what an attempt's outcome makes of the delivery d: delivered, dead,
// or pending until NextAt. It is pure: now is the end of the attempt and rnd, in
// [0, 1), its only chance. The attempt part of the result is for the caller to fill.
//
// Accepted is delivered and permanent is dead at once. Everything else, an unknown
// outcome included, is tried again until horizon (or the outcome's own, shorter
// one) and minAttempts are both behind it. A resend after that is a single try.
func Plan(d uptime.Delivery, attempt int, sent Sent, now time.Time, rnd float64) uptime.SendResult {
	switch sent.Outcome {
	case uptime.OutcomeAccepted:
		return uptime.SendResult{Status: uptime.DeliveryDelivered}
	case uptime.OutcomePermanent:
		return uptime.SendResult{Status: uptime.DeliveryDead, Cause: cause(sent)}
	}
	limit := horizon
	if sent.Horizon > 0 {
		limit = min(limit, sent.Horizon)
	}
	if now.Sub(d.CreatedAt) >= limit && attempt >= minAttempts {
		return uptime.SendResult{Status: uptime.DeliveryDead, Cause: "gave up: " + cause(sent)}
	}
	return uptime.SendResult{
		Status: uptime.DeliveryPending,
		NextAt: uptime.Instant(now.Add(wait(attempt, sent.RetryAfter, rnd))),
		Cause:  cause(sent),
	}
}

// wait is how long to leave the receiver alone after its attempt-th failure. What
// the receiver asks for is a lower bound, up to maxRetryAfter, and gets a tenth of
// jitter on top.
func wait(attempt int, retryAfter time.Duration, rnd float64) time.Duration {
	ceiling := maxCeiling
	if shift := attempt - 1; shift >= 0 && shift < 8 {
		ceiling = min(ceiling, firstCeiling<<shift)
	}
	own := max(minWait, time.Duration(rnd*float64(ceiling)))
	if retryAfter <= 0 {
		return own
	}
	asked := min(retryAfter, maxRetryAfter)
	return max(own, asked+time.Duration(rnd*float64(asked)/10))
}

// cause is the sentence that a delivery shows of its last failure.
func cause(s Sent) string {
	if s.Excerpt == "" {
		return "no reply"
	}
	return s.Excerpt
}
