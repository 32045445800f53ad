package service

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vedette/internal/uptime"
)

// Bounds of what people type.
const (
	maxName      = 200  // characters
	maxTarget    = 2048 // bytes
	maxTags      = 50
	maxTag       = 64
	maxChannels  = 50
	maxRegions   = 20
	maxComment   = 4000 // characters
	maxConfirmIn = 5 * time.Minute
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// hasControl reports whether s holds a character that could forge a line in a
// mail header, a log or a terminal; bad UTF-8 counts as one.
func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// checkName returns the name without surrounding space.
func checkName(p *uptime.Problems, path, name string) string {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		p.Add(path, "is required")
	case utf8.RuneCountInString(name) > maxName:
		p.Add(path, "use %d characters at most", maxName)
	case hasControl(name):
		p.Add(path, "holds a control character")
	}
	return name
}

// checkMonitor finds everything wrong with a monitor that is not its probe's to
// judge, and puts lists into their stored form.
func checkMonitor(p *uptime.Problems, m *uptime.Monitor) {
	m.Name = checkName(p, "name", m.Name)
	checkTarget(p, m.Target)
	within(p, "interval", m.Interval, uptime.MinInterval, uptime.MaxInterval)
	within(p, "timeout", m.Timeout, uptime.MinTimeout, uptime.MaxTimeout)
	if m.Timeout > m.Interval && m.Interval >= uptime.MinInterval {
		p.Add("timeout", "is longer than the interval, %s", m.Interval)
	}
	if m.Confirm.Failures < 0 || m.Confirm.Failures > uptime.MaxConfirm {
		p.Add("confirm.failures", "choose 0 to %d", uptime.MaxConfirm)
	}
	if m.Confirm.Successes < 1 || m.Confirm.Successes > uptime.MaxConfirm {
		p.Add("confirm.successes", "choose 1 to %d", uptime.MaxConfirm)
	}
	within(p, "confirm.interval", m.Confirm.Interval, 0, maxConfirmIn)
	m.Tags = checkWords(p, "tags", m.Tags, maxTags)
	m.Regions = checkWords(p, "regions", m.Regions, maxRegions)
	if len(m.Regions) == 0 {
		m.Regions = []string{uptime.DefaultRegion}
	}
	m.ChannelIDs = slices.Compact(slices.Sorted(slices.Values(m.ChannelIDs)))
	if len(m.ChannelIDs) > maxChannels {
		p.Add("channels", "name %d at most", maxChannels)
	}
	if len(m.ChannelIDs) > 0 && m.ChannelIDs[0] <= 0 {
		p.Add("channels", "an id is a positive number")
	}
}

// checkTarget leaves the form of a target to its probe. Credentials in it are
// refused because a target is shown, logged and mailed; a config is sealed.
func checkTarget(p *uptime.Problems, target string) {
	switch {
	case len(target) > maxTarget:
		p.Add("target", "use %d bytes at most", maxTarget)
		return
	case hasControl(target):
		p.Add("target", "holds a control character")
		return
	}
	if u, err := url.Parse(target); err == nil && u.User != nil {
		p.Add("target", "holds a user or password; put them into config.auth, where they are kept sealed")
	}
}

func within(p *uptime.Problems, path string, d, least, most time.Duration) {
	if d < least || d > most {
		p.Add(path, "choose %s to %s", least, most)
	}
}

// checkWords checks tags and regions: short words, each once, in order.
func checkWords(p *uptime.Problems, path string, words []string, most int) []string {
	out := make([]string, 0, len(words))
	for i, w := range words {
		w = strings.TrimSpace(w)
		if w == "" || utf8.RuneCountInString(w) > maxTag || hasControl(w) {
			p.Add(path+"["+strconv.Itoa(i)+"]", "write 1 to %d characters, none of them a control character", maxTag)
			continue
		}
		out = append(out, w)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > most {
		p.Add(path, "name %d at most", most)
	}
	return out
}

// merge adds the fields of an Invalid error to p; any other error comes back.
func merge(p *uptime.Problems, err error) error {
	if err == nil {
		return nil
	}
	e, ok := asInvalid(err)
	if !ok {
		return err
	}
	if len(e.Fields) == 0 {
		p.Add("config", "%s", e.Message)
		return nil
	}
	for _, f := range e.Fields {
		if !slices.ContainsFunc(*p, func(q uptime.Field) bool { return q.Path == f.Path }) {
			*p = append(*p, f)
		}
	}
	return nil
}
