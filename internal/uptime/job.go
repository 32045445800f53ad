package uptime

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Names of the queues. A region's jobs have a queue of their own: MonitorQueue + ":" + region.
const (
	MonitorQueue = "monitor-queue"
	AlertQueue   = "alerts"
)

// Topics of hints between processes. A lost hint delays, and loses nothing.
const (
	TopicMonitors = "monitors" // payload: decimal id of a monitor that was created, changed or deleted
	TopicEvents   = "events"   // there are new rows for live event streams
)

// Job asks a worker for one check. It carries ids only: configuration is read
// from the store, so that no secret passes a queue and no stale copy is run.
type Job struct {
	MonitorID   int64
	Region      string
	ScheduledAt time.Time
	Kind        ResultKind
	Revision    int64     // at least this revision must be run
	Expires     time.Time // not started after this: recorded as missed
}

const jobVersion = 1

// MarshalBinary is the job's form on a queue: a version byte, then varints.
func (j Job) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, 40+len(j.Region))
	b = append(b, jobVersion, byte(j.Kind))
	b = binary.AppendVarint(b, j.MonitorID)
	b = binary.AppendVarint(b, j.ScheduledAt.UnixMicro())
	b = binary.AppendVarint(b, j.Revision)
	b = binary.AppendVarint(b, j.Expires.UnixMicro())
	return append(b, j.Region...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote. Anything else, a newer version
// included, is an error; the message then belongs among the dead letters.
func (j *Job) UnmarshalBinary(b []byte) error {
	if len(b) < 2 || b[0] != jobVersion {
		return fmt.Errorf("job of %d bytes is not of version %d", len(b), jobVersion)
	}
	j.Kind = ResultKind(b[1])
	b = b[2:]
	var v [4]int64
	for i := range v {
		x, n := binary.Varint(b)
		if n <= 0 {
			return fmt.Errorf("job is cut at field %d", i)
		}
		v[i], b = x, b[n:]
	}
	j.MonitorID, j.Revision = v[0], v[2]
	j.ScheduledAt, j.Expires = time.UnixMicro(v[1]).UTC(), time.UnixMicro(v[3]).UTC()
	j.Region = string(b)
	if j.MonitorID <= 0 || j.Region == "" || j.Kind > KindManual {
		return fmt.Errorf("job names no monitor, region or known kind")
	}
	return nil
}
