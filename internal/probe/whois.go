package probe

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"vedette/internal/uptime"
)

const (
	whoisPort = 43
	maxWHOIS  = 256 << 10 // bytes of an answer
)

// overWHOIS asks the domain's WHOIS server (RFC 3912), which writes text as it likes.
func (c *domainCheck) overWHOIS(r *session) (registration, *fault) {
	server := c.whois
	if server.host == "" {
		tld := c.name[strings.LastIndex(c.name, ".")+1:]
		root, _ := splitHostPort(c.whoisRoot, whoisPort)
		text, f := whoisAsk(r, root, tld)
		if f != nil {
			return registration{}, f
		}
		for key, value := range whoisLines(text) {
			if key == "refer" || key == "whois" {
				server, _ = splitHostPort(value, whoisPort)
			}
		}
		if server.host == "" {
			return registration{}, unknown(uptime.RegistryFault, "No WHOIS server is known for %s.", c.name)
		}
	}
	text, f := whoisAsk(r, server, whoisQuestion(server.host, c.name))
	if f != nil {
		return registration{}, f
	}
	reg, err := parseWHOIS(text, c.name)
	if errors.Is(err, errFree) {
		return registration{}, c.notRegistered()
	}
	if err != nil {
		return registration{}, unknown(uptime.RegistryFault, "The WHOIS server %s %v.", server.host, err)
	}
	return reg, nil
}

// whoisQuestion is what a server wants to be asked: some tell only a part of what we look
// for, or in another language, when they are given a bare name.
func whoisQuestion(server, name string) string {
	switch server {
	case "whois.denic.de":
		return "-T dn,ace " + name // with its name servers; and it may be in ASCII for another name
	case "whois.jprs.jp":
		return name + "/e" // in English
	case "whois.verisign-grs.com":
		return "domain " + name // without the name servers that begin in the same way
	}
	return name
}

// whoisAsk puts one question.
func whoisAsk(r *session, server target, question string) (string, *fault) {
	r.seen.Request, r.seen.Protocol = "whois "+question+" from "+server.host, "WHOIS"
	conn, f := r.connectTo(server.host, server.port)
	if f != nil {
		return "", registryFault(f)
	}
	defer conn.Close()
	begin := time.Now()
	if _, err := io.WriteString(conn, question+"\r\n"); err != nil {
		return "", registryFault(r.talkFault(err, "its answer"))
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxWHOIS+1))
	r.phases.FirstByte += time.Since(begin)
	if err != nil {
		return "", registryFault(r.talkFault(err, "its answer"))
	}
	if len(b) > maxWHOIS {
		return "", unknown(uptime.RegistryFault, "The WHOIS server %s sends more than %d bytes.", server.host, maxWHOIS)
	}
	r.seen.Body = string(b[:min(len(b), evidenceBody)])
	return strings.ToValidUTF8(string(b), "\uFFFD"), nil
}

// errFree is that a registry says that a domain is not registered.
var errFree = errors.New("says that the domain is not registered")

// whoisKeys are the spellings of what is read, in small letters.
var whoisKeys = map[string]string{
	"registry expiry date": "expires", "registrar registration expiration date": "expires", "expiration date": "expires",
	"expiry date": "expires", "expires": "expires", "expires on": "expires", "expire": "expires", "expire date": "expires",
	"expire-date": "expires", "expiration": "expires", "expiration time": "expires", "expires at": "expires",
	"domain expiration date": "expires", "domain expires": "expires", "exp date": "expires", "paid-till": "expires",
	"renewal date": "expires", "validity": "expires", "valid until": "expires", "valid-date": "expires",
	"registration expires": "expires", "date d'expiration": "expires", "record expires on": "expires", "expiry": "expires",
	"created": "created", "record created": "created", "created on": "created", "creation date": "created",
	"registered": "created", "registered on": "created", "registered date": "created", "registration date": "created",
	"registrar": "registrar", "registrar name": "registrar", "sponsoring registrar": "registrar", "registrar organization": "registrar",
	"status": "status", "domain status": "status", "state": "status", "eppstatus": "status",
	"name server": "nameserver", "nserver": "nameserver", "nameserver": "nameserver", "name servers": "nameserver", "nameservers": "nameserver",
	"domain nameservers": "nameserver", "domain servers": "nameserver",
	"domain": "domain", "domain name": "domain",
}

// whoisFree are how registries say that they know no such domain.
var whoisFree = []string{
	"no match", "not found", "no data found", "no entries found", "no object found", "nothing found", "no such domain", "not registered",
	"status: free", "status: available", "available for registration", "object does not exist", "domain does not exist",
	"does not exist in database", "no data was found", "no found", "object_not_found", "not been registered",
	"no information available about domain name", "we do not have an entry in our database",
}

// whoisInUse are the states, in small letters, that only a registered domain has. Where a
// registry tells no more than the name, they are all there is.
var whoisInUse = []string{"connect", "ok", "active", "registered", "published", "delegated"}

// whoisRefusals are how they say that they do not want to be asked now.
var whoisRefusals = []string{"exceeded", "too many", "quota", "rate limit", "denied", "blacklist", "blocked", "try again", "not authorized", "unavailable"}

// parseWHOIS reads the text of a WHOIS server. Its error is errFree when the domain
// is not registered; any other one says that the text tells nothing.
func parseWHOIS(text, name string) (registration, error) {
	reg, known, used := registration{}, false, false
	for key, value := range whoisLines(text) {
		switch whoisKeys[key] {
		case "domain":
			if about, _, _ := strings.Cut(value, " "); canonical(about) == canonical(name) {
				known = true
			} else if strings.Contains(about, ".") && isASCII(about) {
				return registration{}, fmt.Errorf("answers about another domain")
			}
		case "expires":
			if at, ok := parseDate(value); ok && reg.expires.IsZero() {
				reg.expires = at // the first is the registry's own
			}
		case "registrar":
			if reg.registrar == "" {
				reg.registrar = value
			}
		case "created":
			used = true
		case "status":
			word := strings.Fields(value)[0]           // a link may follow
			if strings.EqualFold(word, "quarantine") { // .be, .eu: deleted, and can be restored
				word = "redemptionPeriod"
			}
			reg.status = append(reg.status, eppStatus(word))
			used = used || slices.Contains(whoisInUse, strings.ToLower(word))
			if date, ok := strings.CutPrefix(value, "Connected ("); ok { // .co.jp: until when
				reg.expires, _ = parseDate(strings.TrimSuffix(date, ")"))
			}
		case "nameserver":
			reg.nameservers = append(reg.nameservers, canonical(strings.Fields(value)[0])) // addresses may follow
		}
	}
	if !reg.expires.IsZero() || len(reg.nameservers) > 0 || known && (used || reg.registrar != "" || slices.Contains(reg.status, "redemptionPeriod")) {
		return reg, nil
	}
	return registration{}, whoisRefusal(text, name)
}

// whoisRefusal is why a text without a registration holds none. Terms of use follow, in
// which anything may stand: the first line that says one or the other counts.
func whoisRefusal(text, name string) error {
	for line := range strings.Lines(strings.ToLower(text)) {
		line = strings.Join(strings.Fields(line), " ")
		says := func(phrase string) bool { return len(line) <= 160 && strings.Contains(line, phrase) }
		if i := slices.IndexFunc(whoisRefusals, says); i >= 0 {
			return fmt.Errorf("refuses to answer (%q)", whoisRefusals[i])
		}
		if slices.ContainsFunc(whoisFree, says) || says(canonical(name)+" is free") {
			return errFree
		}
	}
	return errors.New("tells nothing of the domain")
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }

// whoisLines yields the keys, in small letters, and values of a text: "key: value",
// "key.....: value", "[key] value" and "a. [key] value". Values may also stand below
// their key, further in, as those of .uk, .eu and .be do.
func whoisLines(text string) func(yield func(key, value string) bool) {
	return func(yield func(string, string) bool) {
		section, margin := "", 0 // a key with its values below it, and how far in it stands
		for line := range strings.Lines(text) {
			in := len(line) - len(strings.TrimLeft(line, " \t"))
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '%' || line[0] == '#' {
				section = ""
				continue
			}
			key, value, ok := whoisPair(line)
			switch {
			case ok && value == "":
				section, margin = key, in
				continue
			case section == "" || in <= margin:
				section = ""
			case whoisKeys[key] != "":
			case key == "name" || key == "dns": // .eu, .mx
				key = section
			case ok && !strings.Contains(key, "."): // of a registrar: "URL: …"
				continue
			default:
				key, value, ok = section, line, true
			}
			if ok && !yield(key, value) {
				return
			}
		}
	}
}

// whoisPair takes one line apart. value is empty when it stands elsewhere.
func whoisPair(line string) (key, value string, ok bool) {
	if len(line) > 4 && line[1:4] == ". [" { // .co.jp
		line = line[3:]
	}
	key, value, ok = strings.Cut(line, ":")
	if rest, there := strings.CutPrefix(line, "Record expires on "); there && !strings.HasPrefix(rest, ":") { // .tw has no colon
		key, value, ok = "expires on", rest, true
	}
	if line[0] == '[' {
		key, value, ok = strings.Cut(line[1:], "]")
	}
	key = strings.Join(strings.Fields(strings.ToLower(strings.TrimRight(strings.TrimSpace(key), ". "))), " ")
	return key, strings.TrimSpace(value), ok
}

// dateLayouts are the spellings of a date in RDAP and WHOIS. Where day and month are
// both numbers the day comes first: the registries that turn them round write in
// another way.
var dateLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05-07", "2006-01-02 15:04:05",
	"2006/01/02 15:04:05", "2006.01.02 15:04:05", "02.01.2006 15:04:05", "2.1.2006 15:04:05", "02-Jan-2006 15:04:05", "02/01/2006 15:04:05",
	"Mon Jan 2 15:04:05 2006", "2006-01-02 15:04",
}

// dayLayouts are those without a time of day.
var dayLayouts = []string{
	"2006-01-02", "2006/01/02", "2006.01.02", "2006. 01. 02", "20060102", "02-Jan-2006", "2006-Jan-02", "2-Jan-2006", "02.01.2006", "2.1.2006",
	"02/01/2006", "02-01-2006", "January 2 2006", "January 2, 2006", "2 January 2006", "Jan 2 2006", "2 Jan 2006",
}

// parseDate reads a date in any of those. One without a zone, or with its name ("CLST"),
// is UTC, since hours do not matter; one without a time of day lasts until its end.
func parseDate(s string) (time.Time, bool) {
	s, _, _ = strings.Cut(s, "(") // "(UTC+8)", "(YYYY-MM-DD)"
	s = strings.TrimSpace(s)
	s = strings.TrimSpace(strings.TrimSuffix(s, "."))
	if i := strings.LastIndexByte(s, ' '); i > 0 && len(s)-i <= 6 && strings.Trim(s[i+1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		s = strings.TrimSpace(s[:i])
	}
	s = strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(s, " UTC ", " "), " GMT ", " ")), " ")
	for _, layout := range dateLayouts {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC(), true
		}
	}
	for _, layout := range dayLayouts {
		if at, err := time.Parse(layout, s); err == nil {
			return at.AddDate(0, 0, 1).Add(-time.Second), true
		}
	}
	return time.Time{}, false
}
