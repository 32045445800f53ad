package uptime

import (
	"testing"
	"time"
)

func TestAJobSurvivesAQueueAndGarbageDoesNot(t *testing.T) {
	t.Parallel()
	want := Job{MonitorID: 7, Region: "eu", ScheduledAt: Now(), Kind: KindManual, Revision: 3, Expires: Now().Add(time.Minute)}
	b, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Job
	if err := got.UnmarshalBinary(b); err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	for n := range len(b) - len(want.Region) {
		if got.UnmarshalBinary(b[:n]) == nil {
			t.Errorf("a job cut to %d bytes was read", n)
		}
	}
}

func TestSlotsAreAnIntervalApartAroundAnyInstant(t *testing.T) {
	t.Parallel()
	for id := range int64(100) {
		now := time.Unix(1_800_000_000, id)
		after, before := SlotAfter(id, "eu", time.Minute, now), SlotBefore(id, "eu", time.Minute, now)
		if !after.After(now) || before.After(now) || after.Sub(before) != time.Minute {
			t.Fatalf("monitor %d: slots %v and %v around %v", id, before, after, now)
		}
	}
}
