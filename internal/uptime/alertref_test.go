package uptime_test

import (
	"math"
	"testing"

	"vedette/internal/uptime"
)

func TestAlertRefSurvivesTheQueue(t *testing.T) {
	t.Parallel()
	for _, id := range []int64{1, 127, 128, 1 << 40, math.MaxInt64} {
		b, err := uptime.AlertRef{ID: id}.MarshalBinary()
		if err != nil {
			t.Fatalf("marshal %d: %v", id, err)
		}
		var got uptime.AlertRef
		if err := got.UnmarshalBinary(b); err != nil || got.ID != id {
			t.Errorf("round trip of %d: got %d, %v", id, got.ID, err)
		}
	}
}

func TestAlertRefRefusesWhatItDidNotWrite(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"version only":    {1},
		"newer version":   {2, 2},
		"id zero":         {1, 0},
		"negative id":     {1, 1},
		"cut varint":      {1, 0x80},
		"trailing bytes":  {1, 2, 2},
		"overlong varint": {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		var ref uptime.AlertRef
		if err := ref.UnmarshalBinary(b); err == nil {
			t.Errorf("%s: %v was taken as alert %d", name, b, ref.ID)
		}
	}
}

func TestDeliveryKeyNamesAlertAndChannel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		alert   uptime.Alert
		key     string
		opening string
	}{
		{"an opening", uptime.Alert{ID: 4, Kind: uptime.AlertOpened, IncidentID: 7}, "msg_inst_i7_opened_c3", ""},
		{"a resolve answers its opening", uptime.Alert{ID: 5, Kind: uptime.AlertResolved, IncidentID: 7}, "msg_inst_i7_resolved_c3", "msg_inst_i7_opened_c3"},
		{"a test is named by its own id", uptime.Alert{ID: 6, Kind: uptime.AlertTest}, "msg_inst_a6_c3", ""},
	} {
		key := uptime.DeliveryKey("inst", c.alert, 3)
		if key != c.key || uptime.OpeningKey(key) != c.opening {
			t.Errorf("%s: got %q opening %q, want %q opening %q", c.name, key, uptime.OpeningKey(key), c.key, c.opening)
		}
	}
}
