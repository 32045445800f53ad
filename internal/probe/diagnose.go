package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"vedette/internal/uptime"
)

// A failure that is being confirmed is the moment to find out what else works: it
// tells whose fault it is, and in a minute it may be gone. What is found is told
// beside the verdict and never changes it.
//
// It takes at most the check's timeout again, or diagnoseFor if that is less, and is
// over diagnoseEnd after the deadline: a second before the time by which every check
// has ended.
const (
	diagnoseFor = 2 * time.Second
	diagnoseEnd = time.Second
)

// diagnosis is what was found out.
type diagnosis struct {
	summary string   // a sentence or two for the message; may be empty
	lines   []string // all of it
}

// trial is one address and what came of it.
type trial struct {
	to    netip.AddrPort
	fault *fault // nil: it answers
}

// findings are gathered at the same time.
type findings struct {
	trials      []trial      // of the addresses that count
	other       []trial      // of the family that the monitor does not ask for
	second      []netip.Addr // what the second resolver says
	secondFault *fault
}

// diagnose looks at every other address of the target, the other family and the second
// resolver. f is why the check failed.
func (r *session) diagnose(f *fault) diagnosis {
	end := min(time.Until(r.deadline)+diagnoseEnd, r.timeout, diagnoseFor)
	if end <= 0 || r.trace.host == "" {
		return diagnosis{}
	}
	ctx, cancel := context.WithTimeout(r.parent, end)
	defer cancel()
	var found findings
	var wg sync.WaitGroup
	wg.Go(func() { found.trials = r.tryOthers(ctx, f) })
	if _, err := netip.ParseAddr(r.trace.host); err != nil {
		if r.dial.second.server != "" {
			wg.Go(func() {
				found.second, found.secondFault = r.dial.second.lookup(r.parent, ctx, r.dial.network, r.trace.host)
			})
		}
		if family, ok := map[string]string{"ip4": "ip6", "ip6": "ip4"}[r.dial.network]; ok {
			wg.Go(func() {
				addrs, _ := r.dial.resolver.lookup(ctx, ctx, family, r.trace.host)
				found.other = r.try(ctx, addrs)
			})
		}
	}
	wg.Wait()
	if r.parent.Err() != nil {
		return diagnosis{}
	}
	return found.tell(f, r)
}

// tryOthers is what came of every address: from the check, or found out now for those
// it had not come to.
func (r *session) tryOthers(ctx context.Context, f *fault) []trial {
	var out []trial
	for _, a := range r.trace.attempts {
		out = append(out, trial{a.to, cmp.Or(a.fault, f)}) // one that connected failed later, as the check says
	}
	if len(out) == 0 && r.trace.dialled.IsValid() {
		out = append(out, trial{r.trace.dialled, f})
	}
	rest := slices.DeleteFunc(slices.Clone(r.trace.addresses), func(a netip.Addr) bool {
		return slices.ContainsFunc(out, func(t trial) bool { return t.to.Addr() == a })
	})
	return append(out, r.try(ctx, rest)...)
}

// try connects to addresses, all at once, and speaks TLS where the check does so from
// the first byte. What is wrong on our side says nothing and is left out.
func (r *session) try(ctx context.Context, addrs []netip.Addr) []trial {
	if r.trace.port == 0 {
		return nil // no TCP
	}
	trials := make([]trial, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		trials[i].to = addrPort(a, r.trace.port)
		wg.Go(func() { trials[i].fault = r.tryOne(ctx, trials[i].to) })
	}
	wg.Wait()
	return slices.DeleteFunc(trials, func(t trial) bool { return t.fault != nil && t.fault.verdict == uptime.VerdictUnknown })
}

func (r *session) tryOne(ctx context.Context, to netip.AddrPort) *fault {
	conn, err := r.dial.sockets.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return connectFault(r.parent, to, err)
	}
	defer conn.Close()
	own := r.trace.host == r.target.host
	if r.tls == nil || !r.tlsFirst && !(own && r.target.secure && to.Port() == r.target.port) {
		return nil
	}
	end, _ := ctx.Deadline()
	if conn.SetDeadline(end) != nil {
		return unknown(uptime.InternalError, "A deadline could not be set.")
	}
	var trace tlsTrace
	var secured *tls.Conn
	if secured, err = r.tls.handshake(conn, r.trace.host, own, &trace); err != nil {
		return trace.handshakeFault(err)
	}
	_ = secured.Close()
	return nil
}

// tell puts what was found into sentences. The summary is for failures that it
// explains: that another address takes a connection says little about a bad answer.
func (d *findings) tell(f *fault, r *session) diagnosis {
	var out diagnosis
	if all := slices.Concat(d.trials, d.other); len(all) > 1 || len(d.other) > 0 {
		for _, t := range all {
			out.lines = append(out.lines, fmt.Sprintf("%s %s.", shown(t.to), does(t.fault, 1)))
		}
	}
	unreached := !r.trace.connected()
	explains := unreached || strings.HasPrefix(string(f.reason), "tls_")
	sentences := []string{d.compareAddresses()}
	if text := d.compareResolvers(f, r); text != "" {
		out.lines = append(out.lines, text)
		sentences = append(sentences, text)
	}
	if explains {
		out.summary = strings.TrimSpace(strings.Join(sentences, " "))
	}
	return out
}

// compareAddresses is how many of them fail; empty when there is one and nothing to
// compare it with.
func (d *findings) compareAddresses() string {
	var bad, good []trial
	for _, t := range slices.Concat(d.trials, d.other) {
		if t.fault == nil {
			good = append(good, t)
		} else {
			bad = append(bad, t)
		}
	}
	all := len(bad) + len(good)
	switch {
	case len(bad) == 0 || all < 2:
		return ""
	case len(good) == 0 && all == 2:
		return "Both addresses " + doAll(bad) + "."
	case len(good) == 0:
		return fmt.Sprintf("All %d addresses %s.", all, doAll(bad))
	case family(bad) != "" && family(good) != "" && family(bad) != family(good):
		return fmt.Sprintf("Only %s fails; %s answers.", family(bad), family(good))
	}
	verb := doAll(bad)
	if len(bad) == 1 {
		verb = does(bad[0].fault, 1)
	}
	rest := fmt.Sprintf("the other %d answer", len(good))
	if len(good) == 1 {
		rest = "the other answers"
	}
	return fmt.Sprintf("%d of %d addresses %s; %s.", len(bad), all, verb, rest)
}

// family is IPv4 or IPv6 when all of the addresses are of one.
func family(trials []trial) string {
	names := map[bool]string{true: "IPv4", false: "IPv6"}
	for _, t := range trials {
		if t.to.Addr().Is4() != trials[0].to.Addr().Is4() {
			return ""
		}
	}
	return names[trials[0].to.Addr().Is4()]
}

// doAll is what all of them do, or only that they fail when it differs.
func doAll(trials []trial) string {
	verb := does(trials[0].fault, len(trials))
	for _, t := range trials {
		if does(t.fault, len(trials)) != verb {
			return "fail"
		}
	}
	return verb
}

// does is what an address did, for one or several of them.
func does(f *fault, n int) string {
	verbs := [2]string{"fails", "fail"}
	switch {
	case f == nil:
		verbs = [2]string{"answers", "answer"}
	case f.reason == uptime.ConnRefused:
		verbs = [2]string{"refuses the connection", "refuse the connection"}
	case f.reason == uptime.ConnTimeout:
		verbs = [2]string{"does not answer", "do not answer"}
	case f.reason == uptime.ConnUnreach:
		verbs = [2]string{"cannot be reached", "cannot be reached"}
	case strings.HasPrefix(string(f.reason), "tls_"):
		verbs = [2]string{"fails in TLS (" + string(f.reason) + ")", "fail in TLS (" + string(f.reason) + ")"}
	}
	if n == 1 {
		return verbs[0]
	}
	return verbs[1]
}

// compareResolvers is what the second resolver says, beside the first; empty when
// there is none, or when they agree on the addresses.
func (d *findings) compareResolvers(f *fault, r *session) string {
	switch {
	case len(d.second) == 0 && d.secondFault == nil,
		d.secondFault != nil && d.secondFault.verdict == uptime.VerdictUnknown:
		return ""
	}
	var firstFault *fault
	if len(r.trace.addresses) == 0 {
		firstFault = f
	}
	first, second := answers(firstFault, r.trace.addresses), answers(d.secondFault, d.second)
	switch {
	case first == second && firstFault != nil:
		return "Both resolvers answer " + first + "."
	case first == second:
		return ""
	}
	return fmt.Sprintf("The resolver answers %s, the second one %s.", first, second)
}

// answers is what a resolver answered, as DNS calls it.
func answers(f *fault, addrs []netip.Addr) string {
	if f == nil {
		list := slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
		return "NOERROR (" + clean(strings.Trim(fmt.Sprint(list), "[]"), 200) + ")"
	}
	names := map[uptime.Reason]string{
		uptime.DNSNXDomain: "NXDOMAIN", uptime.DNSServFail: "SERVFAIL", uptime.DNSRefused: "REFUSED", uptime.DNSTimeout: "nothing",
		uptime.DNSNoData: "NOERROR without an address", uptime.DNSLoop: "a loop of aliases", uptime.DNSMalformed: "what cannot be read",
	}
	return cmp.Or(names[f.reason], string(f.reason))
}
