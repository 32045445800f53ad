package probe

import (
	"errors"
	"fmt"
	"time"

	"vedette/internal/uptime"
)

type heartbeatConfig struct {
	Period   span   `json:"period" doc:"The longest time from one ping to the next, at least 1s; this or cron" max:"8784h"`
	Cron     string `json:"cron" doc:"When pings are due, in the five fields of crontab; this or period" max:"100"`
	Timezone string `json:"timezone" doc:"The IANA name of the zone that cron is meant in" max:"64"`
	Grace    span   `json:"grace" doc:"How much later than due a ping may come" min:"0s" max:"744h"`
	MaxRun   span   `json:"max_run" doc:"How long a run may take from its start ping to its end; 0s means as long as grace" min:"0s" max:"744h"`
}

func newHeartbeat() Type {
	return kind[heartbeatConfig]{
		name: "heartbeat",
		about: "Up means that a job's pings come when they are due. The monitor has a URL of its own, which the job fetches when it is done; see docs/heartbeats.md. " +
			"A ping that is missing, a run that does not end and a failure that the job reports are down.",
		target: noTarget("none; leave it out"),
		config: heartbeatConfig{Timezone: "UTC", Grace: span(time.Minute)},
		examples: []uptime.CheckExample{
			{Title: "A backup, every day at some time", Config: `{"period":"24h","grace":"1h"}`},
			{Title: "A cron job, which may take half an hour", Config: `{"cron":"30 1 * * *","timezone":"Europe/Berlin","grace":"10m","max_run":"30m"}`},
		},
		passive: true,
		compile: compileHeartbeat,
	}
}

// heartbeat is a compiled config.
type heartbeat struct {
	due    func(after time.Time) time.Time // zero: never
	grace  time.Duration
	maxRun time.Duration
	since  time.Time // what was before the monitor's last change, or pause, says nothing of now
}

func compileHeartbeat(b *builder, cfg *heartbeatConfig) Check {
	h := &heartbeat{grace: time.Duration(cfg.Grace), maxRun: time.Duration(cfg.MaxRun), since: b.monitor.UpdatedAt}
	if h.maxRun == 0 {
		h.maxRun = h.grace
	}
	if (cfg.Period != 0) == (cfg.Cron != "") {
		b.problems.Add("config.period", "give this or config.cron, and not both")
	}
	switch {
	case cfg.Cron != "":
		c, err := parseCron(cfg.Cron, cfg.Timezone)
		if err != nil {
			path, mend := "config.cron", `must be five fields such as "30 1 * * *"`
			if errors.Is(err, errNever) {
				mend = err.Error()
			} else if c.zone == nil {
				path, mend = "config.timezone", "must be the IANA name of a zone, such as Europe/Berlin"
			}
			b.problems.Add(path, "%s", mend)
		}
		h.due = c.dueAfter
	case cfg.Period != 0:
		if time.Duration(cfg.Period) < time.Second {
			b.problems.Add("config.period", "must be at least 1s")
		}
		h.due = func(after time.Time) time.Time { return after.Add(time.Duration(cfg.Period)) }
	}
	return b.passive(func(r *session, facts Facts) *fault {
		beat, err := facts.Heartbeat(r.ctx, r.monitorID)
		if err != nil {
			return r.factsFault(err)
		}
		f := h.judge(beat, time.Now())
		if f != nil && f.reason == uptime.ReportedFail {
			r.seen.Request = "ping of " + told(beat.Last.At)
			r.seen.Body, r.seen.BodyBytes = beat.Last.Body, int64(len(beat.Last.Body))
		}
		return f
	})
}

// early is how much before its time a ping may come and still be that one: the clock
// of who sends it is not ours.
const early = 5 * time.Second

func (c cron) dueAfter(t time.Time) time.Time { return c.next(t.Add(early)) }

// judge says what the pings mean now. What the job itself says comes first, then runs
// that do not end, then pings that do not come.
func (h *heartbeat) judge(b uptime.Heartbeat, now time.Time) *fault {
	if b.Last.Kind == uptime.PingFail {
		return reported(b.Last)
	}
	for _, run := range b.Runs {
		if f := h.judgeRun(run, b, now); f != nil {
			return f
		}
	}
	never := b.Last.At.IsZero()
	base := b.Last.At
	if never {
		base = h.since
	}
	due := h.due(base)
	if due.IsZero() {
		return nil // its schedule is over
	}
	limit := h.whileRunning(due.Add(h.grace), b.Runs)
	excused := h.whileRunning(h.excuse(due.Add(h.grace), base, b.Deaf), b.Runs)
	switch {
	case !now.After(limit) && never:
		return unknown(uptime.Pending, "No ping came yet; the first is due by %s.", told(limit))
	case !now.After(limit):
		return nil
	case !now.After(excused) && !now.After(h.excuse(limit, base, nil)):
		return unknown(uptime.Pending, "The monitor was changed or switched on since its last ping; the next is due by %s.", told(excused))
	case !now.After(excused):
		return unknown(uptime.Deaf, "A ping may have been sent while none could be received; the next is due by %s.", told(excused))
	case never:
		return down(uptime.MissedBeat, "No ping ever came; the first was due at %s.", told(due))
	}
	return down(uptime.MissedBeat, "The last ping came at %s, and the next was due at %s.", told(base), told(due))
}

// judgeRun says what an open run means now. A job that ended well after the run
// should have ended is well again.
func (h *heartbeat) judgeRun(run uptime.Run, b uptime.Heartbeat, now time.Time) *fault {
	limit := run.At.Add(h.maxRun)
	if !now.After(limit) || b.Last.At.After(limit) {
		return nil
	}
	if excused := h.excuse(limit, run.At, b.Deaf); !now.After(excused) {
		return unknown(uptime.Deaf, "The end of the run that began at %s may have been told while no ping could be received.", told(run.At))
	}
	name := ""
	if run.ID != "" {
		name = " " + run.ID
	}
	return down(uptime.MissedBeat, "The run%s that began at %s did not end within %s.", name, told(run.At), h.maxRun)
}

// whileRunning moves a limit for a run that began before it, and may still end.
func (h *heartbeat) whileRunning(limit time.Time, runs []uptime.Run) time.Time {
	by := limit
	for _, run := range runs {
		if end := run.At.Add(h.maxRun); !run.At.After(limit) && end.After(by) {
			by = end
		}
	}
	return by
}

// excuse moves a limit for pings that may have been sent since base and could not be
// received, or were of a monitor as it was before: each time the waiting begins anew.
func (h *heartbeat) excuse(limit, base time.Time, deaf []uptime.Span) time.Time {
	spans := deaf
	if h.since.After(base) {
		spans = append([]uptime.Span{{To: h.since}}, deaf...)
	}
	for _, s := range spans {
		if !s.To.After(base) || s.From.After(limit) {
			continue
		}
		if due := h.due(s.To); !due.IsZero() && due.Add(h.grace).After(limit) {
			limit = due.Add(h.grace)
		}
	}
	return limit
}

// reported is the fault that a job told of itself.
func reported(p uptime.Ping) *fault {
	what := "a failure"
	if p.ExitCode != 0 {
		what = fmt.Sprintf("exit code %d", p.ExitCode)
	}
	run := ""
	if p.Run != "" {
		run = " of run " + p.Run
	}
	return down(uptime.ReportedFail, "The job reported %s%s at %s.", what, run, told(p.At))
}

func told(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
