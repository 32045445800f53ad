package uptime

import (
	"hash/fnv"
	"time"
)

// Slots. The schedule of a monitor in a region is the set of instants
//
//	phase + k·interval, phase = hash(monitor, region) mod interval
//
// counted from the Unix epoch. It needs no memory: every scheduler computes the
// same slots before and after a restart, and monitors of one interval are spread
// evenly instead of starting in a herd.

// Phase is the offset of a monitor's slots within its interval: at least 0, less
// than interval, in whole microseconds. interval must be positive.
func Phase(monitorID int64, region string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	var b [8]byte
	for i := range b {
		b[i] = byte(monitorID >> (8 * i))
	}
	h.Write(b[:])
	h.Write([]byte(region))
	// FNV's low bits are weak for short keys; fold and mix (the finaliser of MurmurHash3).
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return time.Duration(x%uint64(interval.Microseconds())) * time.Microsecond
}

// SlotAfter is the first slot strictly after t.
func SlotAfter(monitorID int64, region string, interval time.Duration, t time.Time) time.Time {
	iv := interval.Microseconds()
	phase := Phase(monitorID, region, interval).Microseconds()
	d := t.UnixMicro() - phase
	k := d / iv
	if d%iv < 0 {
		k--
	}
	return time.UnixMicro(phase + (k+1)*iv).UTC()
}

// SlotBefore is the last slot at or before t.
func SlotBefore(monitorID int64, region string, interval time.Duration, t time.Time) time.Time {
	return SlotAfter(monitorID, region, interval, t).Add(-interval)
}
