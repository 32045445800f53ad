package store_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// heartbeat makes a heartbeat monitor with the token.
func heartbeat(t *testing.T, e storetest.Env, owner int64, token string) uptime.Monitor {
	t.Helper()
	return e.Monitor(t, owner, func(m *uptime.Monitor) { m.Type, m.Target, m.PingToken = "heartbeat", "", uptime.Secret(token) })
}

func ping(t *testing.T, e storetest.Env, token string, p uptime.Ping) uptime.Pinged {
	t.Helper()
	if p.At.IsZero() {
		p.At = uptime.Now()
	}
	got, err := e.RecordPing(t.Context(), token, p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAPingIsKeptAndSaysWhetherToLook(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m := heartbeat(t, e, owner, "token-of-one")
		heartbeat(t, e, owner, "token-of-another")
		if b, err := e.Heartbeat(t.Context(), m.ID); err != nil || !b.Last.At.IsZero() || len(b.Runs)+len(b.Deaf) > 0 {
			t.Errorf("before any ping: %+v, %v, want nothing", b, err)
		}
		got := ping(t, e, "token-of-one", uptime.Ping{Body: "done"})
		if !got.Changes || !got.Enabled || got.Monitor.MonitorID != m.ID || got.Monitor.Revision != m.Revision || len(got.Monitor.Regions) != 1 {
			t.Errorf("the first ping: %+v, want the monitor and that somebody looks", got)
		}
		e.Record(t, manager.Decide, storetest.Result(m, 0, up))
		if got := ping(t, e, "token-of-one", uptime.Ping{}); got.Changes {
			t.Error("a success of one that is up changes its verdict")
		}
		if got := ping(t, e, "token-of-one", uptime.Ping{Kind: uptime.PingLog, Body: "hm"}); got.Changes {
			t.Error("a log changes a verdict")
		}
		failed := uptime.Ping{Kind: uptime.PingFail, ExitCode: 3, Run: "0a", Took: time.Second, Body: "disk full"}
		if got := ping(t, e, "token-of-one", failed); !got.Changes {
			t.Error("a failure changes nothing")
		}
		b, err := e.Heartbeat(t.Context(), m.ID)
		if err != nil || b.Last.Kind != uptime.PingFail || b.Last.ExitCode != 3 || b.Last.Run != "0a" || b.Last.Body != "disk full" {
			t.Errorf("got %+v, %v, want the failure with its body", b.Last, err)
		}
		if got := ping(t, e, "token-of-one", failed); !got.Changes { // nobody recorded it as down yet
			t.Error("a failure of one that is up still changes nothing")
		}
		list, err := e.ListPings(t.Context(), owner, m.ID, 0, 2)
		if err != nil || len(list) != 2 || list[0].Body != "disk full" || list[0].Took != time.Second {
			t.Fatalf("got %+v, %v, want the newest two", list, err)
		}
		rest, err := e.ListPings(t.Context(), owner, m.ID, list[1].ID, 9)
		if err != nil || len(rest) != 3 || rest[2].Body != "done" {
			t.Errorf("got %+v, %v, want the three before", rest, err)
		}
		if _, err := e.ListPings(t.Context(), owner+1, m.ID, 0, 9); !uptime.Is(err, uptime.NotFound) {
			t.Errorf("somebody else reads the pings: %v", err)
		}
	})
}

func TestATokenIsNobodysUntilItIsGiven(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m := heartbeat(t, e, owner, "first-canary")
		refused := func(token string) {
			t.Helper()
			if _, err := e.RecordPing(t.Context(), token, uptime.Ping{At: uptime.Now()}); !uptime.Is(err, uptime.NotFound) {
				t.Errorf("a ping to %q: %v, want NotFound", token, err)
			}
		}
		refused("")
		refused("no-token")
		m.PingToken = "not-taken"
		m, _, err := e.UpdateMonitor(t.Context(), owner, m)
		if err != nil {
			t.Fatal(err)
		}
		refused("not-taken")
		if got, err := e.PingToken(t.Context(), owner, m.ID); err != nil || got.Reveal() != "first-canary" {
			t.Errorf("after an update the token is %q, %v", got.Reveal(), err)
		}
		for _, other := range []int64{owner + 1} {
			if _, err := e.PingToken(t.Context(), other, m.ID); !uptime.Is(err, uptime.NotFound) {
				t.Errorf("somebody else reads the token: %v", err)
			}
			if err := e.ReplacePingToken(t.Context(), other, m.ID, "theirs"); !uptime.Is(err, uptime.NotFound) {
				t.Errorf("somebody else replaces the token: %v", err)
			}
		}
		ping(t, e, "first-canary", uptime.Ping{})
		if err := e.ReplacePingToken(t.Context(), owner, m.ID, "second-canary"); err != nil {
			t.Fatal(err)
		}
		refused("first-canary")
		ping(t, e, "second-canary", uptime.Ping{})
		if stored := raw(t, e); bytes.Contains(stored, []byte("-canary")) {
			t.Error("a token is stored in clear")
		}
		m.Type, m.PingToken = "http", ""
		if m, _, err = e.UpdateMonitor(t.Context(), owner, m); err != nil {
			t.Fatal(err)
		}
		refused("second-canary")
		if _, err := e.DeleteMonitor(t.Context(), owner, m.ID); err != nil {
			t.Fatal(err)
		}
		refused("second-canary")
		for table, n := range sizes(t, e) {
			if (table == "pings" || table == "heartbeats") && n != 0 {
				t.Errorf("%d rows of %s outlive their monitor", n, table)
			}
		}
	})
}

func TestAPausedHeartbeatKeepsItsPings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m := heartbeat(t, e, owner, "token")
		m.Enabled = false
		if _, _, err := e.UpdateMonitor(t.Context(), owner, m); err != nil {
			t.Fatal(err)
		}
		if got := ping(t, e, "token", uptime.Ping{}); got.Enabled {
			t.Errorf("got %+v, want that it is paused", got)
		}
		if b, err := e.Heartbeat(t.Context(), m.ID); err != nil || b.Last.At.IsZero() {
			t.Errorf("got %+v, %v, want the ping", b, err)
		}
	})
}

func TestPingsAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m, quiet := heartbeat(t, e, owner, "token"), heartbeat(t, e, owner, "quiet")
		ping(t, e, "quiet", uptime.Ping{At: uptime.Now().Add(-31 * day)})
		ping(t, e, "token", uptime.Ping{Body: "first"})
		var wg sync.WaitGroup
		for n := range uptime.MaxPings + 20 {
			wg.Go(func() {
				p := uptime.Ping{At: uptime.Now(), Kind: uptime.PingStart, Run: fmt.Sprintf("run-%d", n)}
				if _, err := e.RecordPing(t.Context(), "token", p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := e.ListPings(t.Context(), owner, m.ID, 0, 1000)
		if err != nil || len(list) != uptime.MaxPings {
			t.Errorf("%d pings are kept, %v, want %d", len(list), err, uptime.MaxPings)
		}
		b, err := e.Heartbeat(t.Context(), m.ID)
		if err != nil || len(b.Runs) != uptime.MaxRuns || b.Last.At.IsZero() {
			t.Errorf("got %d runs and the last success at %s, %v; want %d and not forgotten", len(b.Runs), b.Last.At, err, uptime.MaxRuns)
		}
		if err := e.Upkeep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if list, err := e.ListPings(t.Context(), owner, quiet.ID, 0, 9); err != nil || len(list) != 0 {
			t.Errorf("got %+v, %v, want nothing that is past its time", list, err)
		}
		if b, err := e.Heartbeat(t.Context(), quiet.ID); err != nil || b.Last.At.IsZero() {
			t.Errorf("got %+v, %v, want what the verdict follows from to stay", b, err)
		}
	})
}

func TestARunIsOpenUntilItEnds(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		const start, success, fail = uptime.PingStart, uptime.PingSuccess, uptime.PingFail
		type sent struct {
			kind uptime.PingKind
			run  string
		}
		for name, tt := range map[string]struct {
			sent []sent
			open string
		}{
			"a start":                       {[]sent{{start, "a"}}, "a "},
			"a start twice":                 {[]sent{{start, "a"}, {start, "a"}}, "a "},
			"its end":                       {[]sent{{start, "a"}, {success, "a"}}, ""},
			"the end of another":            {[]sent{{start, "a"}, {start, "b"}, {success, "b"}}, "a "},
			"an end without an id":          {[]sent{{start, "a"}, {start, "b"}, {success, ""}}, ""},
			"a failure":                     {[]sent{{start, "a"}, {start, "b"}, {fail, "b"}}, ""},
			"a log":                         {[]sent{{start, "a"}, {uptime.PingLog, "a"}}, "a "},
			"a start without an id":         {[]sent{{start, ""}, {success, ""}}, ""},
			"an end of a run nobody begun":  {[]sent{{success, "x"}}, ""},
			"a start after the end of both": {[]sent{{start, "a"}, {success, "a"}, {start, "a"}}, "a "},
		} {
			token := "token " + name
			m := heartbeat(t, e, owner, token)
			for _, s := range tt.sent {
				ping(t, e, token, uptime.Ping{Kind: s.kind, Run: s.run})
			}
			b, err := e.Heartbeat(t.Context(), m.ID)
			open := ""
			for _, r := range b.Runs {
				open += r.ID + " "
			}
			if err != nil || open != tt.open {
				t.Errorf("%s: open are %q, %v, want %q", name, open, err, tt.open)
			}
		}
	})
}

func TestASpanInWhichNobodyListenedIsKnown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := heartbeat(t, e, e.User(t, "a@example.org").ID, "token")
		ping(t, e, "token", uptime.Ping{At: uptime.Now().Add(-time.Hour)})
		begin := uptime.Now().Add(-30 * time.Minute)
		for _, n := range []struct {
			after    time.Duration
			returned bool
		}{{0, true}, {10 * time.Second, false}, {20 * time.Second, false}, {time.Minute, false}, {62 * time.Second, true}, {61 * time.Second, true}, {time.Hour / 4, false}} {
			if err := e.NoteListening(t.Context(), begin.Add(n.after), n.returned); err != nil {
				t.Fatal(err)
			}
		}
		b, err := e.Heartbeat(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := [][2]time.Duration{{20 * time.Second, time.Minute}, {time.Minute, 62 * time.Second}, {62 * time.Second, time.Hour / 4}, {time.Hour / 4, time.Hour / 2}}
		if len(b.Deaf) != len(want) {
			t.Fatalf("got the spans %v, want %v after %s", b.Deaf, want, begin)
		}
		for i, s := range b.Deaf {
			if !s.From.Equal(begin.Add(want[i][0])) || s.To.Sub(begin.Add(want[i][1])) > time.Minute || s.To.Before(begin.Add(want[i][1])) {
				t.Errorf("span %d is %v, want from %s to %s", i, s, want[i][0], want[i][1])
			}
		}
		ping(t, e, "token", uptime.Ping{})
		if err := e.NoteListening(t.Context(), uptime.Now(), false); err != nil {
			t.Fatal(err)
		}
		ping(t, e, "token", uptime.Ping{})
		if b, err := e.Heartbeat(t.Context(), m.ID); err != nil || len(b.Deaf) != 0 {
			t.Errorf("got %v, %v, want no span after the last ping", b.Deaf, err)
		}
	})
}

func TestMembersAreTheOwnersOwn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner, other := e.User(t, "a@example.org").ID, e.User(t, "b@example.org").ID
		tag := func(tags ...string) func(*uptime.Monitor) { return func(m *uptime.Monitor) { m.Tags = tags } }
		a, b, c := e.Monitor(t, owner, tag("x")), e.Monitor(t, owner, tag("x", "y")), e.Monitor(t, owner, tag())
		theirs := e.Monitor(t, other, tag("x"))
		group := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Type, m.Tags = "group", []string{"x"} })
		e.Record(t, manager.Decide, storetest.Result(a, 0, up))
		got, err := e.Members(t.Context(), owner, []int64{a.ID, c.ID, theirs.ID, 999}, []string{"x", "y", "z"})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, m := range got {
			text += fmt.Sprint(m.ID, m.Verdict, m.Enabled, " ")
		}
		if want := fmt.Sprint(a.ID, up, true, " ") + fmt.Sprint(c.ID, unknown, true, " ") + fmt.Sprint(b.ID, unknown, true, " "); text != want {
			t.Errorf("got %s, want %s", text, want)
		}
		if got, err := e.Members(t.Context(), owner, []int64{group.ID}, nil); err != nil || len(got) != 1 {
			t.Errorf("a group named by its id: %+v, %v", got, err)
		}
	})
}

func TestAManualStateIsTheLastOne(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Type = "manual" })
		if st, err := e.ManualState(t.Context(), m.ID); err != nil || !st.At.IsZero() {
			t.Errorf("never set: %+v, %v", st, err)
		}
		for _, st := range []uptime.ManualState{{Verdict: down, Message: "broken", At: uptime.Now(), UserID: owner}, {Verdict: up, At: uptime.Now(), UserID: owner}} {
			if err := e.SetManualState(t.Context(), owner, m.ID, st); err != nil {
				t.Fatal(err)
			}
			if got, err := e.ManualState(t.Context(), m.ID); err != nil || got != st {
				t.Errorf("got %+v, %v, want %+v", got, err, st)
			}
		}
		if err := e.SetManualState(t.Context(), owner+1, m.ID, uptime.ManualState{Verdict: up}); !uptime.Is(err, uptime.NotFound) {
			t.Errorf("somebody else sets it: %v", err)
		}
	})
}

// TestWaitingIsNotBlindness: what awaits its first ping may be unknown for a week, and
// nobody is told that Vedette is blind.
func TestWaitingIsNotBlindness(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := heartbeat(t, e, e.User(t, "a@example.org").ID, "token")
		waiting, missed := storetest.Result(m, 0, unknown), storetest.Result(m, 1, unknown)
		waiting.Reason = uptime.Pending
		e.Record(t, manager.Decide, waiting, missed)
		got, why := map[time.Time]bool{}, map[time.Time]uptime.Reason{}
		err := e.ObservedSlots(t.Context(), storetest.Slot(m, 0), storetest.Slot(m, 9), func(k uptime.ResultKey, known bool, reason uptime.Reason) {
			got[k.ScheduledAt], why[k.ScheduledAt] = known, reason
		})
		if err != nil || len(got) != 2 || !got[waiting.ScheduledAt] || got[missed.ScheduledAt] || why[missed.ScheduledAt] != missed.Reason {
			t.Errorf("got %v, %v, %v, want the first known and the second not, with its reason %q", got, why, err, missed.Reason)
		}
	})
}
