package uptime

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// AlertRef is an alert as the alerts queue carries it: its id, nothing that could
// grow stale or leak. A lost reference delays an alert until the next sweep.
type AlertRef struct {
	ID int64 // positive
}

const alertRefVersion = 1

// MarshalBinary is the reference's form on a queue: a version byte, then a varint.
func (a AlertRef) MarshalBinary() ([]byte, error) {
	return binary.AppendVarint([]byte{alertRefVersion}, a.ID), nil
}

// UnmarshalBinary reads what MarshalBinary wrote. Anything else, a newer version
// included, is an error; the message then belongs among the dead letters.
func (a *AlertRef) UnmarshalBinary(b []byte) error {
	if len(b) < 2 || b[0] != alertRefVersion {
		return fmt.Errorf("alert reference of %d bytes is not of version %d", len(b), alertRefVersion)
	}
	id, n := binary.Varint(b[1:])
	if n <= 0 || n != len(b)-1 || id <= 0 {
		return fmt.Errorf("alert reference of %d bytes names no alert", len(b))
	}
	a.ID = id
	return nil
}

// DeliveryKey names one alert for one channel to its receiver: it is the webhook's
// id and the left side of the mail's Message-ID, and stays the same over every
// attempt and resend. The installation's random id keeps two installations that
// write to one receiver apart.
//
// An incident opens once and is resolved once, so those two keys are built from
// the incident's id rather than the alert's: the key of the message that a resolve
// answers then follows from its own, see OpeningKey. Every other alert is named by
// its own id.
func DeliveryKey(installation string, a Alert, channelID int64) string {
	switch {
	case a.IncidentID != 0 && a.Kind == AlertOpened:
		return fmt.Sprintf("msg_%s_i%d_opened_c%d", installation, a.IncidentID, channelID)
	case a.IncidentID != 0 && a.Kind == AlertResolved:
		return fmt.Sprintf("msg_%s_i%d_resolved_c%d", installation, a.IncidentID, channelID)
	}
	return fmt.Sprintf("msg_%s_a%d_c%d", installation, a.ID, channelID)
}

// OpeningKey is the key of the delivery that told the same channel of the opening
// of the incident which key resolves; empty if key is of no resolve.
func OpeningKey(key string) string {
	i := strings.LastIndex(key, "_resolved_c")
	if i < 0 {
		return ""
	}
	return key[:i] + "_opened_c" + key[i+len("_resolved_c"):]
}
