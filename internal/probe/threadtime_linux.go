package probe

import (
	"syscall"
	"time"
)

// threadTime is how long the processor has worked for the thread that calls it
// (getrusage(2), RUSAGE_THREAD).
func threadTime() time.Duration {
	const ofThread = 1
	var used syscall.Rusage
	if syscall.Getrusage(ofThread, &used) != nil {
		return 0 // it fails for other arguments only
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
