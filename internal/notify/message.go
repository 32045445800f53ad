package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"vedette/internal/uptime"
)

const (
	maxSubjectName = 80  // bytes of a monitor's name in a subject
	maxBodyShown   = 600 // bytes of the target's response in a message
	maxDiagnosis   = 8   // lines about what else was found out
	maxDifference  = 8   // lines about what changed
)

// fact is one labelled line of a message.
type fact struct{ Label, Value string }

// message is an alert put into words, for a person who was woken by it: what, why,
// since when, and what was seen. It depends on the alert alone, so that every
// attempt says the same.
type message struct {
	Subject string
	State   string // "down", "up", "notice": the colour of the HTML part
	Title   string
	Why     string
	Facts   []fact
	Seen    []fact
	Body    string // first bytes of the response, empty if there is none
	Footer  string
}

// write puts a into words.
func write(a uptime.Alert) message {
	if a.Kind == uptime.AlertTest {
		return message{
			Subject: "[TEST] Vedette can reach this channel",
			State:   "notice", Title: "This is a test",
			Why:    "Somebody asked Vedette to send a test to this channel. Nothing is wrong, and alerts will arrive here like this one.",
			Facts:  []fact{{"Sent", instant(a.CreatedAt)}},
			Footer: footer(a),
		}
	}
	in, resolved := a.Body.Incident, a.Kind == uptime.AlertResolved
	m := message{State: "down", Why: oneLine(in.Message), Facts: facts(a, resolved), Footer: footer(a)}
	if !resolved && a.Body.Evidence != nil {
		m.Seen = seen(a.Body.Evidence)
		for _, d := range a.Body.Difference[:min(len(a.Body.Difference), maxDifference)] {
			m.Seen = append(m.Seen, fact{"Changed", cut(oneLine(d), 300)})
		}
		m.Body = cut(printable(a.Body.Evidence.Body), maxBodyShown)
	}
	name := cut(oneLine(a.Body.Monitor.Name), maxSubjectName)
	if name == "" {
		name = "a monitor"
	}
	lasted := spoken(time.Duration(in.Seconds) * time.Second)
	switch {
	case in.Kind == uptime.IncidentSelf && resolved:
		m.Subject, m.State, m.Title = "[VEDETTE] Working again after "+lasted, "up", "Vedette works again, after "+lasted
	case in.Kind == uptime.IncidentSelf:
		m.Subject, m.Title = cut("[VEDETTE] "+m.Why, 160), "Vedette itself has a problem"
	case resolved:
		m.Subject, m.State = fmt.Sprintf("[UP] %s, was down for %s", name, lasted), "up"
		m.Title = fmt.Sprintf("%s is up again, after %s", name, lasted)
		if m.Why != "" {
			m.Why = "It was down because: " + m.Why
		}
	default:
		m.Subject, m.Title = cut(fmt.Sprintf("[DOWN] %s: %s", name, m.Why), 200), name+" is down"
	}
	return m
}

// facts are the incident in lines: when, where, and its code.
func facts(a uptime.Alert, resolved bool) []fact {
	in, mon := a.Body.Incident, a.Body.Monitor
	var fs []fact
	add := func(label, value string) {
		if value = oneLine(value); value != "" {
			fs = append(fs, fact{label, value})
		}
	}
	add("Target", mon.Target)
	if resolved {
		add("Down from", instant(in.FirstBadAt))
		if in.ResolvedAt != nil {
			add("Until", instant(*in.ResolvedAt))
		}
		add("Lasted", spoken(time.Duration(in.Seconds)*time.Second))
	} else {
		add("Down since", instant(in.FirstBadAt))
		add("Confirmed", instant(in.ConfirmedAt))
		if in.LastGoodAt != nil {
			add("Last good", instant(*in.LastGoodAt))
		}
	}
	add("Reason", string(in.Reason))
	add("Tags", strings.Join(mon.Tags, ", "))
	return fs
}

// seen are the highlights of the evidence, most telling first.
func seen(e *uptime.Evidence) []fact {
	var fs []fact
	add := func(label, value string) {
		if value = cut(oneLine(value), 300); value != "" {
			fs = append(fs, fact{label, value})
		}
	}
	add("Request", e.Request)
	if e.Status != 0 {
		add("Answer", fmt.Sprintf("%s %d", e.Protocol, e.Status))
	}
	for _, r := range e.Assertions {
		if !r.OK {
			add("Expected", r.Message)
		}
	}
	add("Address", e.Dialled)
	for _, at := range e.Attempts {
		if at.Error != "" {
			add("Tried", at.Address+": "+at.Error)
		}
	}
	for _, d := range e.Diagnosis[:min(len(e.Diagnosis), maxDiagnosis)] {
		add("Found out", d)
	}
	if len(e.Redirects) > 0 {
		add("Redirects", strings.Join(e.Redirects, " → "))
	}
	if len(e.Certificates) > 0 {
		c := e.Certificates[0]
		add("Certificate", fmt.Sprintf("%s, by %s, valid until %s", c.Subject, c.Issuer, instant(c.NotAfter)))
	}
	add("Time", phases(e.Phases))
	return fs
}

// phases are the times of a check in the order in which they pass.
func phases(p map[string]string) string {
	var parts []string
	order := []string{"dns", "connect", "tls", "first_byte", "transfer"}
	for _, k := range order {
		if v := p[k]; v != "" {
			parts = append(parts, strings.ReplaceAll(k, "_", " ")+" "+v)
		}
	}
	var rest []string
	for k, v := range p {
		if !slices.Contains(order, k) {
			rest = append(rest, strings.ReplaceAll(k, "_", " ")+" "+v)
		}
	}
	slices.Sort(rest)
	return strings.Join(append(parts, rest...), ", ")
}

// footer says where to look the incident up.
func footer(a uptime.Alert) string {
	if a.IncidentID == 0 {
		return "Sent by Vedette."
	}
	return fmt.Sprintf("Sent by Vedette. Incident %d.", a.IncidentID)
}

// instant is t as people read it, to the second; empty for the zero time.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("Mon 2 Jan 2006, 15:04:05 UTC")
}

// spoken is a duration in its two largest units, "2 h 5 min".
func spoken(d time.Duration) string {
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	var parts []string
	for _, u := range units {
		if n := d / u.size; n > 0 {
			parts, d = append(parts, fmt.Sprintf("%d %s", n, u.name)), d%u.size
		} else if len(parts) > 0 {
			break // "1 d 5 s" says less than "1 d"
		}
		if len(parts) == 2 {
			break
		}
	}
	if len(parts) == 0 {
		return "less than a second"
	}
	return strings.Join(parts, " ")
}

// printable keeps line breaks and turns every other control character into a space.
func printable(s string) string {
	lines := strings.Split(strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\uFFFD"), "\n")
	for i, l := range lines {
		lines[i] = oneLine(l)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
