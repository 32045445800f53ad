package service

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// CreateChannel stores a channel that the actor will own. reveal is what was made
// for it and is shown only now (a webhook's signing secret).
func (s *Service) CreateChannel(ctx context.Context, a Actor, c uptime.Channel) (_ uptime.Channel, reveal map[string]string, err error) {
	if err := a.Authorise(Write); err != nil {
		return c, nil, err
	}
	c.ID, c.Revision, c.OwnerID, c.Problem = 0, 0, a.User.ID, ""
	if reveal, err = s.checkChannel(&c, nil); err != nil {
		return c, nil, err
	}
	if c, err = s.store.CreateChannel(ctx, c); err != nil {
		return c, nil, err
	}
	s.told(ctx, nil)
	return s.channelView(c), reveal, nil
}

// UpdateChannel replaces what a user may change if c.Revision is still the stored
// one. A secret that the new config leaves out stays.
func (s *Service) UpdateChannel(ctx context.Context, a Actor, c uptime.Channel) (uptime.Channel, error) {
	owner, err := a.may(Write)
	if err != nil {
		return c, err
	}
	old, err := s.store.Channel(ctx, owner, c.ID)
	if err != nil {
		return c, err
	}
	c.OwnerID = old.OwnerID
	if c.Type != old.Type {
		return c, uptime.InvalidField("type", "cannot change; make another channel")
	}
	c.Config = keepSecret(c.Config, old.Config)
	if _, err := s.checkChannel(&c, old.Config); err != nil {
		return c, err
	}
	if c, err = s.store.UpdateChannel(ctx, owner, c); err != nil {
		return c, err
	}
	s.told(ctx, nil)
	return s.channelView(c), nil
}

// keepSecret asks for the stored signing secret when an update says nothing of it:
// making a new one in silence would break the receiver.
func keepSecret(config, stored json.RawMessage) json.RawMessage {
	var have, old map[string]any
	if json.Unmarshal(config, &have) != nil || json.Unmarshal(stored, &old) != nil || have == nil {
		return config
	}
	if _, given := have["secret"]; given || old["secret"] == nil {
		return config
	}
	have["secret"] = uptime.Redacted
	out, err := json.Marshal(have)
	if err != nil {
		return config
	}
	return out
}

func (s *Service) checkChannel(c *uptime.Channel, stored json.RawMessage) (reveal map[string]string, err error) {
	var p uptime.Problems
	c.Name = checkName(&p, "name", c.Name)
	provider, ok := s.channels[c.Type]
	if !ok {
		p.Add("type", "is none of %s", strings.Join(slices.Sorted(maps.Keys(s.channels)), ", "))
		return nil, p.Err()
	}
	before := len(p)
	config := restoreSecrets(&p, c.Config, stored)
	if len(p) > before {
		return nil, p.Err()
	}
	config, reveal, err = provider.Check(config)
	if err := merge(&p, err); err != nil {
		return nil, err
	}
	c.Config = config
	return reveal, p.Err()
}

// channelView is c without secrets. What cannot be read is not shown at all.
func (s *Service) channelView(c uptime.Channel) uptime.Channel {
	provider, ok := s.channels[c.Type]
	if !ok {
		c.Config = json.RawMessage(`{}`)
		return c
	}
	config, err := provider.Redact(c.Config)
	if err != nil {
		config = []byte(`{}`)
	}
	c.Config = config
	return c
}

// Channel is one channel.
func (s *Service) Channel(ctx context.Context, a Actor, id int64) (uptime.Channel, error) {
	owner, err := a.may(Private)
	if err != nil {
		return uptime.Channel{}, err
	}
	c, err := s.store.Channel(ctx, owner, id)
	return s.channelView(c), err
}

// Channels lists channels by ascending id.
func (s *Service) Channels(ctx context.Context, a Actor, after int64, limit int) ([]uptime.Channel, error) {
	owner, err := a.may(Private)
	if err != nil {
		return nil, err
	}
	list, err := s.store.ListChannels(ctx, owner, after, limit)
	for i := range list {
		list[i] = s.channelView(list[i])
	}
	return list, err
}

// DeleteChannel removes a channel; what it still owed is suppressed.
func (s *Service) DeleteChannel(ctx context.Context, a Actor, id int64) error {
	owner, err := a.may(Write)
	if err != nil {
		return err
	}
	return s.store.DeleteChannel(ctx, owner, id)
}

// TestChannel sends a test through a channel. The delivery's own record says what
// came of it; the receiver's reply is never part of the answer.
func (s *Service) TestChannel(ctx context.Context, a Actor, id int64) (deliveryID int64, err error) {
	owner, err := a.may(Write)
	if err != nil {
		return 0, err
	}
	if _, err := s.store.Channel(ctx, owner, id); err != nil {
		return 0, err
	}
	if err := s.throttle(ctx, "test:"+decimal(a.User.ID), s.limits.TestSends, 10*time.Minute); err != nil {
		return 0, err
	}
	deliveryID, alertID, err := s.store.TestChannel(ctx, owner, id)
	if err != nil {
		return 0, err
	}
	s.told(ctx, []int64{alertID})
	return deliveryID, nil
}
