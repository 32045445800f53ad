//go:build !linux

package probe

import "time"

var processStart = time.Now()

// threadTime is the time of the wall clock, so that a busy machine finds patterns dear
// that are not; Vedette is tested on Linux.
func threadTime() time.Duration { return time.Since(processStart) }
