// Package uptime is the vocabulary of Vedette: the nouns every stage of the
// pipeline speaks (Monitor, CheckResult, State, Incident, Alert, Channel,
// Delivery), the closed sets of verdicts and reasons, and the kinds of error.
//
// It holds plain data and pure rules only, imports nothing of ours and nothing
// outside the standard library, and knows neither SQL, Redis nor HTTP. Every
// instant is UTC with microsecond precision (the store keeps BIGINT Unix
// microseconds), every span a time.Duration.
package uptime

import "time"

// DefaultRegion is the region of a monitor that names none, and of a worker
// started without --region.
const DefaultRegion = "default"

// Now is the current instant as the store keeps it: UTC, whole microseconds,
// without a monotonic reading, so that a value equals itself after a round trip.
// For measuring spans use time.Now and time.Since instead.
func Now() time.Time { return Instant(time.Now()) }

// Instant rounds t down to whole microseconds and moves it to UTC, as Now does.
func Instant(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
