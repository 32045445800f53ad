package probe

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vedette/internal/uptime"
)

// passiveFacts are facts that a test makes up; err is what the database says instead.
type passiveFacts struct {
	beat    uptime.Heartbeat
	members []uptime.Member
	manual  uptime.ManualState
	err     error
	waits   bool // until the caller gives up
}

func (f *passiveFacts) answer(ctx context.Context) error {
	if f.waits {
		<-ctx.Done()
	}
	return f.err
}

func (f *passiveFacts) Heartbeat(ctx context.Context, _ int64) (uptime.Heartbeat, error) {
	return f.beat, f.answer(ctx)
}

func (f *passiveFacts) Members(ctx context.Context, _ int64, _ []int64, _ []string) ([]uptime.Member, error) {
	return f.members, f.answer(ctx)
}

func (f *passiveFacts) ManualState(ctx context.Context, _ int64) (uptime.ManualState, error) {
	return f.manual, f.answer(ctx)
}

// passiveRun makes one check by facts.
func passiveRun(t *testing.T, facts Facts, typ, config string) Outcome {
	t.Helper()
	env := testEnv()
	env.Facts = facts
	m := uptime.Monitor{ID: 7, OwnerID: 1, Type: typ, Timeout: time.Second, Config: json.RawMessage(config), UpdatedAt: time.Now()}
	c, err := New(env).Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	return c.Run(t.Context(), Attempt{})
}

// passiveExample is runExample for a type that dials nobody.
func passiveExample(t *testing.T, facts Facts, typ string) {
	t.Helper()
	for _, e := range New(testEnv()).types[typ].Describe().Examples {
		if out := passiveRun(t, facts, typ, e.Config); out.Verdict != uptime.VerdictUp {
			t.Errorf("example %q: %s %s: %s", e.Title, out.Verdict, out.Reason, out.Message)
		}
		examplesRun.Store(typ+"/"+e.Title, true)
	}
}

// TestWhatIsOursIsNeverDownForAPassiveType has every such type meet every way in
// which its facts cannot be read.
func TestWhatIsOursIsNeverDownForAPassiveType(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	configs := map[string]string{"heartbeat": `{"period":"1s"}`, "group": `{"members":[1]}`, "manual": ``}
	for name, tt := range map[string]struct {
		facts Facts
		ctx   context.Context
		want  uptime.Reason
	}{
		"without a database":                      {nil, t.Context(), uptime.BadConfig},
		"the database fails":                      {&passiveFacts{err: errors.New("SQLITE_BUSY canary")}, t.Context(), uptime.StorageFailed},
		"the database does not answer":            {&passiveFacts{err: context.DeadlineExceeded, waits: true}, t.Context(), uptime.StorageFailed},
		"the row is gone":                         {&passiveFacts{err: uptime.Errorf(uptime.NotFound, "not found")}, t.Context(), uptime.BadConfig},
		"we are told to stop":                     {&passiveFacts{err: context.Canceled}, stopped, uptime.Aborted},
		"the facts come just when the time is up": {&passiveFacts{waits: true}, t.Context(), uptime.Pending},
	} {
		for typ, config := range configs {
			t.Run(name+"/"+typ, func(t *testing.T) {
				t.Parallel()
				env := testEnv()
				env.Facts = tt.facts
				c, err := New(env).Compile(uptime.Monitor{Type: typ, Timeout: uptime.MinTimeout, Config: json.RawMessage(config), UpdatedAt: time.Now()})
				if err != nil {
					t.Fatal(err)
				}
				out := c.Run(tt.ctx, Attempt{})
				want := tt.want
				if typ == "group" && want == uptime.Pending {
					want = uptime.BadConfig // without members
				}
				if out.Verdict != uptime.VerdictUnknown || out.Reason != want || out.Message == "" || strings.Contains(out.Message, "canary") {
					t.Errorf("got %s %s %q, want unknown %s with a sentence of ours", out.Verdict, out.Reason, out.Message, want)
				}
			})
		}
	}
}

func TestPassiveTypesNameWrongFields(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		typ, config string
		change      func(*uptime.Monitor)
		path        string
	}{
		"a heartbeat that is due never":        {"heartbeat", `{}`, nil, "config.period"},
		"a heartbeat that is due in two ways":  {"heartbeat", `{"period":"1h","cron":"* * * * *"}`, nil, "config.period"},
		"a period too short":                   {"heartbeat", `{"period":"1ms"}`, nil, "config.period"},
		"a negative period":                    {"heartbeat", `{"period":"-1h"}`, nil, "config.period"},
		"a cron of three fields":               {"heartbeat", `{"cron":"1 2 3"}`, nil, "config.cron"},
		"a cron with years, which may be over": {"heartbeat", `{"cron":"0 0 1 1 * 2020"}`, nil, "config.cron"},
		"a cron of words":                      {"heartbeat", `{"cron":"at half past one"}`, nil, "config.cron"},
		"a cron that never comes":              {"heartbeat", `{"cron":"0 0 31 2 *"}`, nil, "config.cron"},
		"a zone that is none":                  {"heartbeat", `{"cron":"30 1 * * *","timezone":"Middle/Earth"}`, nil, "config.timezone"},
		"the zone of the machine":              {"heartbeat", `{"cron":"30 1 * * *","timezone":"Local"}`, nil, "config.timezone"},
		"a zone that is a path":                {"heartbeat", `{"cron":"30 1 * * *","timezone":"../../etc/passwd"}`, nil, "config.timezone"},
		"a heartbeat with a target":            {"heartbeat", `{"period":"1h"}`, func(m *uptime.Monitor) { m.Target = "https://example.org" }, "target"},
		"a heartbeat with confirmations":       {"heartbeat", `{"period":"1h"}`, func(m *uptime.Monitor) { m.Confirm.Failures = 2 }, "confirm.failures"},
		"a group with confirmations":           {"group", `{"members":[1]}`, func(m *uptime.Monitor) { m.Confirm.Failures = 1 }, "confirm.failures"},
		"a manual monitor with an assertion":   {"manual", ``, func(m *uptime.Monitor) { m.Assertions = []uptime.Assertion{assert("duration", "", "lt", "1s")} }, "assertions[0].source"},
		"an option of a manual monitor":        {"manual", `{"verdict":"up"}`, nil, "config.verdict"},
		"a group of nobody":                    {"group", `{}`, nil, "config.members"},
		"a member twice":                       {"group", `{"members":[3,4,3]}`, nil, "config.members[2]"},
		"a member that is no id":               {"group", `{"members":[0]}`, nil, "config.members[0]"},
		"an empty tag":                         {"group", `{"tags":[" "]}`, nil, "config.tags[0]"},
		"a rule that is none":                  {"group", `{"members":[1],"rule":"most"}`, nil, "config.rule"},
		"at_least without a number":            {"group", `{"members":[1],"rule":"at_least"}`, nil, "config.at_least"},
		"a number without at_least":            {"group", `{"members":[1],"at_least":1}`, nil, "config.at_least"},
		"more at least than there are members": {"group", `{"members":[1],"rule":"at_least","at_least":2}`, nil, "config.at_least"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := uptime.Monitor{Type: tt.typ, Config: json.RawMessage(tt.config)}
			if tt.change != nil {
				tt.change(&m)
			}
			_, err := New(testEnv()).Compile(m)
			e, ok := errors.AsType[*uptime.Error](err)
			if !ok || e.Kind != uptime.Invalid || len(e.Fields) != 1 || e.Fields[0].Path != tt.path {
				t.Errorf("Compile = %v, want one problem at %s", err, tt.path)
			}
		})
	}
}

func TestWhatThePassiveTypesAre(t *testing.T) {
	t.Parallel()
	for _, typ := range New(testEnv()).Describe() {
		if dials := typ.Target != "none; leave it out"; dials == uptime.Passive(typ.Name) {
			t.Errorf("type %s takes a target: %t, and is passive: %t", typ.Name, dials, uptime.Passive(typ.Name))
		}
	}
}

func TestAManualMonitorSaysWhatAPersonSaid(t *testing.T) {
	t.Parallel()
	at := time.Now()
	passiveExample(t, &passiveFacts{manual: uptime.ManualState{Verdict: uptime.VerdictUp, At: at}}, "manual")
	for name, tt := range map[string]struct {
		state   uptime.ManualState
		want    uptime.Verdict
		reason  uptime.Reason
		message string
	}{
		"never set":                {uptime.ManualState{}, uptime.VerdictUnknown, uptime.Pending, "Nobody has set this monitor's state yet."},
		"up":                       {uptime.ManualState{Verdict: uptime.VerdictUp, Message: "fine", At: at}, uptime.VerdictUp, uptime.ReasonOK, ""},
		"degraded, with a message": {uptime.ManualState{Verdict: uptime.VerdictDegraded, Message: "one lift is out", At: at}, uptime.VerdictDegraded, uptime.SetByHand, "one lift is out"},
		"down, without one":        {uptime.ManualState{Verdict: uptime.VerdictDown, At: at}, uptime.VerdictDown, uptime.SetByHand, "A person set this state."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := passiveRun(t, &passiveFacts{manual: tt.state}, "manual", "")
			if out.Verdict != tt.want || out.Reason != tt.reason || out.Message != tt.message {
				t.Errorf("got %s %s %q, want %s %s %q", out.Verdict, out.Reason, out.Message, tt.want, tt.reason, tt.message)
			}
		})
	}
}

func TestAGroupIsWhatItsMembersAre(t *testing.T) {
	t.Parallel()
	const up, weak, down, unknown = uptime.VerdictUp, uptime.VerdictDegraded, uptime.VerdictDown, uptime.VerdictUnknown
	of := func(verdicts ...uptime.Verdict) (out []uptime.Member) {
		for i, v := range verdicts {
			out = append(out, uptime.Member{ID: int64(i + 1), Name: string(rune('A' + i)), Enabled: true, Verdict: v})
		}
		return out
	}
	paused := func(ms []uptime.Member, i int) []uptime.Member { ms[i].Enabled = false; return ms }
	passiveExample(t, &passiveFacts{members: of(up, up)}, "group")
	const anyOf, all, two = `{"members":[1,2,3]}`, `{"members":[1,2,3],"rule":"all"}`, `{"members":[1,2,3],"rule":"at_least","at_least":2}`
	for name, tt := range map[string]struct {
		config  string
		members []uptime.Member
		want    uptime.Verdict
		reason  uptime.Reason
		says    string
	}{
		"any: all are up":                        {anyOf, of(up, up, up), up, "", ""},
		"any: one is down":                       {anyOf, of(up, down, up), down, uptime.Members, "1 of 3 members are down: B."},
		"any: one is down and one is unknown":    {anyOf, of(unknown, down, up), down, uptime.Members, "down: B."},
		"any: one is unknown":                    {anyOf, of(up, unknown, up), unknown, uptime.MembersOpen, "nothing is known: B."},
		"any: one is degraded":                   {anyOf, of(up, weak, up), weak, uptime.Members, "1 of 3 members are degraded: B."},
		"any: the one that is down is paused":    {anyOf, paused(of(up, down, up), 1), up, "", ""},
		"all: all are down":                      {all, of(down, down, down), down, uptime.Members, "3 of 3 members are down: A, B, C."},
		"all: one still works":                   {all, of(down, down, up), weak, uptime.Members, "2 of 3 members are down: A, B."},
		"all: the one that works is paused":      {all, paused(of(down, down, up), 2), down, uptime.Members, "2 of 2 members"},
		"all: the last one is unknown":           {all, of(down, down, unknown), unknown, uptime.MembersOpen, "C"},
		"all: an unknown one decides nothing":    {all, of(up, up, unknown), up, "", ""},
		"two: one is down":                       {two, of(down, up, up), weak, uptime.Members, "A"},
		"two: two are down":                      {two, of(down, up, down), down, uptime.Members, "A, C."},
		"two: one is down and one unknown":       {two, of(down, up, unknown), unknown, uptime.MembersOpen, "C"},
		"two: an unknown one decides nothing":    {two, of(up, up, unknown), up, "", ""},
		"two: only one member is left, and down": {two, of(down), down, uptime.Members, "1 of 1"},
		"all members are paused":                 {anyOf, paused(of(up), 0), unknown, uptime.MembersOpen, "paused"},
		"all members were deleted":               {anyOf, nil, unknown, uptime.BadConfig, "None of this group's members exists"},
		"names that would be long are cut":       {anyOf, []uptime.Member{{Name: strings.Repeat("x", 200) + "\x1b", Enabled: true, Verdict: down}}, down, uptime.Members, "x…."},
		"of many that are down a few are named":  {anyOf, of(down, down, down, down, down, down, down, down, down, down, down, down), down, uptime.Members, "J and 2 more."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := passiveRun(t, &passiveFacts{members: tt.members}, "group", tt.config)
			if out.Verdict != tt.want || out.Reason != tt.reason || !strings.Contains(out.Message, tt.says) {
				t.Errorf("got %s %s %q, want %s %s with %q", out.Verdict, out.Reason, out.Message, tt.want, tt.reason, tt.says)
			}
		})
	}
}

// TestAHeartbeatSaysWhatItsPingsMean judges at one instant what came before. Times
// are seconds before then; the monitor was made 1000 s before.
func TestAHeartbeatSaysWhatItsPingsMean(t *testing.T) {
	t.Parallel()
	const period = `{"period":"60s","grace":"30s"}` // missing after 90 s
	type beat = uptime.Heartbeat
	for name, tt := range map[string]struct {
		config string
		facts  func(at func(float64) time.Time) beat
		since  float64 // when the monitor was last changed; 0: 1000
		want   uptime.Verdict
		reason uptime.Reason
		says   string
	}{
		"a ping just now":             {config: period, facts: last(0), want: uptime.VerdictUp},
		"a ping that is not due":      {config: period, facts: last(59), want: uptime.VerdictUp},
		"late within grace":           {config: period, facts: last(89.5), want: uptime.VerdictUp},
		"later than grace":            {config: period, facts: last(90.5), want: uptime.VerdictDown, reason: uptime.MissedBeat, says: "the next was due at"},
		"long gone":                   {config: period, facts: last(900), want: uptime.VerdictDown, reason: uptime.MissedBeat},
		"never, and not due yet":      {config: period, facts: never, since: 89, want: uptime.VerdictUnknown, reason: uptime.Pending, says: "the first is due"},
		"never, and due":              {config: period, facts: never, since: 91, want: uptime.VerdictDown, reason: uptime.MissedBeat, says: "No ping ever came"},
		"changed since it was missed": {config: period, facts: last(900), since: 80, want: uptime.VerdictUnknown, reason: uptime.Pending, says: "changed or switched on"},
		"missed since it was changed": {config: period, facts: last(900), since: 91, want: uptime.VerdictDown, reason: uptime.MissedBeat},
		"changed while all is well":   {config: period, facts: last(30), since: 10, want: uptime.VerdictUp},
		"a failure": {config: period, facts: func(at func(float64) time.Time) beat {
			return beat{Last: uptime.Ping{At: at(1), Kind: uptime.PingFail, Body: "disk full"}}
		}, want: uptime.VerdictDown, reason: uptime.ReportedFail, says: "reported a failure"},
		"an exit code": {config: period, facts: func(at func(float64) time.Time) beat {
			return beat{Last: uptime.Ping{At: at(1), Kind: uptime.PingFail, ExitCode: 3, Run: "0a"}}
		}, want: uptime.VerdictDown, reason: uptime.ReportedFail, says: "exit code 3 of run 0a"},
		"a failure long ago": {config: period, facts: func(at func(float64) time.Time) beat {
			return beat{Last: uptime.Ping{At: at(999), Kind: uptime.PingFail}}
		}, want: uptime.VerdictDown, reason: uptime.ReportedFail},
		"a run under way":                      {config: period, facts: runs(70, 29), want: uptime.VerdictUp},
		"a run that keeps a ping late":         {config: period, facts: runs(100, 20), want: uptime.VerdictUp},
		"a run that began too late":            {config: period, facts: runs(130, 20), want: uptime.VerdictDown, reason: uptime.MissedBeat, says: "The last ping"},
		"a run that does not end":              {config: period, facts: runs(40, 31), want: uptime.VerdictDown, reason: uptime.MissedBeat, says: "The run 0a that began at"},
		"a run with time enough":               {config: `{"period":"60s","grace":"1s","max_run":"1h"}`, facts: runs(900, 840), want: uptime.VerdictUp},
		"a run beyond its time":                {config: `{"period":"1h","grace":"1m","max_run":"10s"}`, facts: runs(30, 11), want: uptime.VerdictDown, reason: uptime.MissedBeat, says: "within 10s"},
		"a success since a lost run":           {config: period, facts: runs(1, 50), want: uptime.VerdictUp},
		"we were deaf when it was due":         {config: period, facts: deaf(120, 70, 40), want: uptime.VerdictUnknown, reason: uptime.Deaf},
		"we were deaf just before it was late": {config: period, facts: deaf(120, 31, 29), want: uptime.VerdictUnknown, reason: uptime.Deaf},
		"we were deaf after it was late":       {config: period, facts: deaf(120, 29, 20), want: uptime.VerdictDown, reason: uptime.MissedBeat},
		"we were deaf, and waited since":       {config: period, facts: deaf(240, 180, 91), want: uptime.VerdictDown, reason: uptime.MissedBeat},
		"we are deaf":                          {config: period, facts: deaf(120, 40, 0), want: uptime.VerdictUnknown, reason: uptime.Deaf},
		"we were deaf and it is not due":       {config: period, facts: deaf(80, 70, 40), want: uptime.VerdictUp},
		"we were deaf twice in a row": {config: period, facts: func(at func(float64) time.Time) beat {
			return beat{Last: uptime.Ping{At: at(200)}, Deaf: []uptime.Span{{From: at(150), To: at(130)}, {From: at(60), To: at(50)}}}
		}, want: uptime.VerdictUnknown, reason: uptime.Deaf},
		"we were deaf before the last ping": {config: period, facts: deaf(91, 400, 300), want: uptime.VerdictDown, reason: uptime.MissedBeat},
		"we were deaf when a run should have ended": {config: period, facts: func(at func(float64) time.Time) beat {
			return beat{Last: uptime.Ping{At: at(80)}, Runs: []uptime.Run{{At: at(60)}}, Deaf: []uptime.Span{{From: at(40), To: at(35)}}}
		}, want: uptime.VerdictUnknown, reason: uptime.Deaf, says: "The end of the run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				at := func(ago float64) time.Time { return now.Add(-time.Duration(ago * float64(time.Second))) }
				env := testEnv()
				env.Facts = &passiveFacts{beat: tt.facts(at)}
				since := tt.since
				if since == 0 {
					since = 1000
				}
				c, err := New(env).Compile(uptime.Monitor{Type: "heartbeat", Config: json.RawMessage(tt.config), UpdatedAt: at(since)})
				if err != nil {
					t.Fatal(err)
				}
				out := c.Run(t.Context(), Attempt{})
				if out.Verdict != tt.want || out.Reason != tt.reason || !strings.Contains(out.Message, tt.says) {
					t.Errorf("got %s %s %q, want %s %s with %q", out.Verdict, out.Reason, out.Message, tt.want, tt.reason, tt.says)
				}
				if tt.reason == uptime.ReportedFail && out.Evidence.Body != env.Facts.(*passiveFacts).beat.Last.Body {
					t.Errorf("the evidence shows %q, want the ping's body", out.Evidence.Body)
				}
			})
		})
	}
	passiveExample(t, &passiveFacts{beat: uptime.Heartbeat{Last: uptime.Ping{At: time.Now()}}}, "heartbeat")
}

func never(func(float64) time.Time) uptime.Heartbeat { return uptime.Heartbeat{} }

// last is one success, so long ago.
func last(ago float64) func(func(float64) time.Time) uptime.Heartbeat {
	return func(at func(float64) time.Time) uptime.Heartbeat {
		return uptime.Heartbeat{Last: uptime.Ping{At: at(ago)}}
	}
}

// runs is last with a run that began and did not end.
func runs(ago, began float64) func(func(float64) time.Time) uptime.Heartbeat {
	return func(at func(float64) time.Time) uptime.Heartbeat {
		return uptime.Heartbeat{Last: uptime.Ping{At: at(ago)}, Runs: []uptime.Run{{ID: "0a", At: at(began)}}}
	}
}

// deaf is last with a span in which we received nothing.
func deaf(ago, from, to float64) func(func(float64) time.Time) uptime.Heartbeat {
	return func(at func(float64) time.Time) uptime.Heartbeat {
		return uptime.Heartbeat{Last: uptime.Ping{At: at(ago)}, Deaf: []uptime.Span{{From: at(from), To: at(to)}}}
	}
}
