package uptime

import "time"

// Passive reports whether monitors of a type dial nobody: what they say follows from
// what was told to us (heartbeat, manual) or is known already (group). Nothing is
// gained by asking twice, so their confirm.failures is 0.
func Passive(typ string) bool { return typ == "heartbeat" || typ == "group" || typ == "manual" }

// Bounds of what is kept of pings.
const (
	MaxPings    = 100      // of one monitor
	MaxPingBody = 10 << 10 // bytes; the rest is read and dropped
	MaxRuns     = 16       // open runs of one monitor; beyond it the oldest is forgotten
)

// PingKind is what a ping says of its job. The numbers are stored.
type PingKind uint8

const (
	PingSuccess PingKind = 0
	PingFail    PingKind = 1 // it failed, or ended with an exit code other than 0
	PingStart   PingKind = 2 // a run began
	PingLog     PingKind = 3 // only to be kept
)

// String is the kind as the API spells it.
func (k PingKind) String() string {
	names := [...]string{"success", "fail", "start", "log"}
	if int(k) < len(names) {
		return names[k]
	}
	return "log"
}

// Ends reports whether a ping of this kind ends a run.
func (k PingKind) Ends() bool { return k == PingSuccess || k == PingFail }

// Ping is one message of a job.
type Ping struct {
	ID       int64
	At       time.Time // when we received it
	Kind     PingKind
	ExitCode int           // 0 to 255; 0 also when none was told
	Run      string        // id of the run, a UUID; empty when none was told
	Took     time.Duration // as the sender says; 0 when it does not
	Body     string        // its beginning, valid UTF-8
}

// Run is a run that began and did not end.
type Run struct {
	ID string    `json:"id,omitempty"`
	At time.Time `json:"at"`
}

// Heartbeat is what is known of a heartbeat monitor.
type Heartbeat struct {
	// Last is the last ping that ended a run; At is zero if there was none. It has its
	// Body only if it tells of a failure, and if that is still kept.
	Last Ping
	Runs []Run  // open ones, oldest first
	Deaf []Span // when no ping could be received, since Last or the oldest of Runs; oldest first
}

// Span is a stretch of time.
type Span struct{ From, To time.Time }

// Pinged is what became of a ping.
type Pinged struct {
	Monitor ScheduleEntry // whom it was for
	Enabled bool
	// Changes says that the monitor's verdict may not be what it was: somebody should
	// look at once.
	Changes bool
}

// Member is a monitor of a group as the group sees it.
type Member struct {
	ID      int64
	Name    string
	Enabled bool
	Verdict Verdict
}

// ManualState is what a person said of a manual monitor; At is zero if nobody did yet.
type ManualState struct {
	Verdict Verdict
	Message string
	At      time.Time
	UserID  int64
}
