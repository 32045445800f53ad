package notify

import (
	"slices"

	"vedette/internal/uptime"
)

// Route is the router: which deliveries an alert is owed, given its candidate
// channels (the monitor's and the defaults that apply; one may appear twice). It is
// pure, and is called inside the store's transaction. Every channel gets exactly
// one delivery, in id order: a disabled one is suppressed, on record and with its
// cause, so that the log says why somebody was not told.
func Route(installation string, a uptime.Alert, channels []uptime.Channel) []uptime.Delivery {
	now := uptime.Now()
	channels = slices.Clone(channels)
	slices.SortFunc(channels, func(x, y uptime.Channel) int { return int(x.ID - y.ID) })
	channels = slices.CompactFunc(channels, func(x, y uptime.Channel) bool { return x.ID == y.ID })
	out := make([]uptime.Delivery, 0, len(channels))
	for _, c := range channels {
		d := uptime.Delivery{
			AlertID: a.ID, IncidentID: a.IncidentID, ChannelID: c.ID, OwnerID: c.OwnerID,
			Key: uptime.DeliveryKey(installation, a, c.ID), Kind: a.Kind,
			ChannelName: c.Name, ChannelType: c.Type,
			Status: uptime.DeliveryPending, NextAt: now, CreatedAt: now,
		}
		if !c.Enabled {
			d.Status, d.Cause, d.DoneAt = uptime.DeliverySuppressed, causeDisabled, now
		}
		out = append(out, d)
	}
	return out
}

const causeDisabled = "the channel is switched off"

// heard reports whether anybody will be told: a delivery that is not suppressed.
func heard(ds []uptime.Delivery) bool {
	return slices.ContainsFunc(ds, func(d uptime.Delivery) bool { return d.Status != uptime.DeliverySuppressed })
}
