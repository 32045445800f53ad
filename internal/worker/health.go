package worker

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"vedette/internal/uptime"
)

const (
	healthFresh = time.Second // one look serves a wave of failures
	healthGap   = 200 * time.Millisecond
	healthAfter = 2 * time.Second // after trouble of ours, silence is still doubted
	healthDial  = time.Second
	timerLate   = 500 * time.Millisecond
	fdHeadroom  = 32
)

// SelfCheck is the Health of this machine: sentinel targets, file descriptors and
// how late its timers are. It may be used by many goroutines.
type SelfCheck struct {
	sentinels []string
	dial      func(ctx context.Context, network, address string) (net.Conn, error)

	turn   chan struct{} // holds one token: who has it may look, and use what follows
	at     time.Time     // when the last look began
	ended  time.Time     // and ended: what is not there takes its time
	reason uptime.Reason
	local  map[string]string
	lost   bool          // there is no way out of this machine
	bad    time.Time     // when something was wrong last
	wrong  uptime.Reason // and what
}

// NewSelfCheck makes a SelfCheck. sentinels are host:port; the network is blamed when
// two of them fail, or the only one; with none only local signs are read.
// dial nil means a plain dialer.
func NewSelfCheck(sentinels []string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *SelfCheck {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &SelfCheck{sentinels: sentinels, dial: dial, turn: make(chan struct{}, 1)}
}

// Check reports whether this machine can be believed; see Health. That a target is
// silent is this machine's fault when it has a way neither out nor to any of the
// target's addresses: in a network without a way out, a neighbour may still be gone.
func (s *SelfCheck) Check(ctx context.Context, failed uptime.Reason, started time.Time, addresses []string) (bool, uptime.Reason, map[string]string) {
	met := time.Now()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return false, uptime.Aborted, nil
	}
	if s.stale(failed, met) {
		if !s.at.IsZero() {
			wait(ctx, healthGap-time.Since(s.at))
		}
		s.at = time.Now()
		s.reason, s.local = s.look(ctx)
		s.ended = time.Now()
	}
	reason := s.reason
	if reason == uptime.ReasonOK && silent(failed) && s.lost && !slices.ContainsFunc(addresses, routed) {
		reason = uptime.OwnNetwork
	}
	if reason != uptime.ReasonOK {
		s.bad, s.wrong = time.Now(), reason
	} else if silent(failed) && started.Sub(s.bad) < healthAfter {
		reason = s.wrong // so it was while the check ran, though it is fine again
	}
	return reason == uptime.ReasonOK, reason, s.local
}

// stale reports whether a failure that was met then needs another look. One that began
// later will do, however long it took, so that all who wait for a look share the next.
// What was fine a moment before a target fell silent may be why it did; other failures
// need no more than a fresh look.
func (s *SelfCheck) stale(failed uptime.Reason, met time.Time) bool {
	return s.at.Before(met) && (silent(failed) || time.Since(s.ended) > healthFresh)
}

// silent reports whether a failure is what the loss of our own network looks like.
func silent(failed uptime.Reason) bool {
	switch failed {
	case uptime.ConnTimeout, uptime.ConnUnreach, uptime.Timeout, uptime.TLSTimeout, uptime.DNSTimeout, uptime.DNSServFail:
		return true
	}
	return false
}

func (s *SelfCheck) look(ctx context.Context) (uptime.Reason, map[string]string) {
	local := map[string]string{}
	asked := time.Now()
	if !wait(ctx, time.Millisecond) {
		return uptime.Aborted, local
	}
	late := time.Since(asked)
	local["timer_late"] = late.String()
	if late > timerLate {
		return uptime.Starved, local
	}
	if used, limit, ok := descriptors(); ok {
		local["descriptors"] = fmt.Sprintf("%d of %d", used, limit)
		if used+fdHeadroom > limit {
			return uptime.OwnResources, local
		}
	}
	if s.lost = !slices.ContainsFunc(outside, routed); s.lost {
		local["route"] = "none"
	}
	return s.network(ctx, local), local
}

// outside are addresses of the internet, one of each family. Nothing is sent to them.
var outside = []string{"1.1.1.1", "2606:4700:4700::1111"}

// routed reports whether this machine has a route to an address. Connecting a
// datagram socket looks it up and sends nothing.
func routed(address string) bool {
	c, err := net.Dial("udp", net.JoinHostPort(address, "53"))
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// network asks all sentinels at once. Two that fail blame the network though others
// answer: a part of it may be gone, and who knows which part a target is in.
func (s *SelfCheck) network(ctx context.Context, local map[string]string) uptime.Reason {
	if len(s.sentinels) == 0 {
		return uptime.ReasonOK
	}
	ctx, cancel := context.WithTimeout(ctx, healthDial)
	defer cancel()
	errs := make([]error, len(s.sentinels))
	var wg sync.WaitGroup
	for i, address := range s.sentinels {
		wg.Go(func() {
			c, err := s.dial(ctx, "tcp", address)
			if err == nil {
				c.Close()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	failed := 0
	for i, err := range errs {
		local["sentinel "+s.sentinels[i]] = "answers"
		if err != nil {
			failed++
			local["sentinel "+s.sentinels[i]] = err.Error()
		}
	}
	if failed >= min(2, len(s.sentinels)) {
		return uptime.OwnNetwork
	}
	return uptime.ReasonOK
}

// descriptors counts this process's open files; ok is false where that cannot be
// read. Not being able to open the list at all is itself a sign of their end.
func descriptors() (used, limit uint64, ok bool) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0, 0, false
	}
	d, err := os.ReadDir("/proc/self/fd")
	if os.IsNotExist(err) {
		return 0, 0, false
	}
	if err != nil {
		return r.Cur, r.Cur, true
	}
	return uint64(len(d)), r.Cur, true
}
