package probe

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"vedette/internal/uptime"
)

const (
	// maxDirectory bounds IANA's list, which has 100 KB, and maxRDAP what a registry says
	// of a domain, which has a few. An entity may be 3 bytes long and takes 64 once read.
	maxDirectory = 1 << 20
	maxRDAP      = 128 << 10
	maxRDAPHops  = 3
	directoryAge = 24 * time.Hour // IANA's list changes a few times a month
)

// rdapDirectory is IANA's list of the RDAP servers of the top-level domains (RFC
// 9224), kept for a day. It is shared by all checks of a process's domains.
type rdapDirectory struct {
	url string

	mu      sync.Mutex // guards what follows
	servers map[string]string
	read    time.Time
}

// server is the base URL for a domain; "" when the list has none. An old list is
// used when no new one can be had.
func (d *rdapDirectory) server(r *session, name string) (string, *fault) {
	d.mu.Lock()
	servers, fresh := d.servers, time.Since(d.read) < directoryAge
	d.mu.Unlock()
	if !fresh {
		read, f := d.fetch(r)
		if f != nil && servers == nil {
			return "", f
		}
		if f == nil {
			servers = read
			d.mu.Lock()
			d.servers, d.read = read, time.Now()
			d.mu.Unlock()
		}
	}
	for suffix := name; suffix != ""; { // the longest suffix counts
		if base := servers[suffix]; base != "" {
			return base, nil
		}
		_, suffix, _ = strings.Cut(suffix, ".")
	}
	return "", nil
}

func (d *rdapDirectory) fetch(r *session) (map[string]string, *fault) {
	body, f := rdapGet(r, d.url, maxDirectory)
	if f == noSuchObject {
		f = unknown(uptime.RegistryFault, "IANA's list of RDAP servers is not where it was.")
	}
	if f != nil {
		return nil, f
	}
	servers, err := parseDirectory(body)
	if err != nil {
		return nil, unknown(uptime.RegistryFault, "IANA's list of RDAP servers cannot be read: %v.", err)
	}
	return servers, nil
}

func parseDirectory(body []byte) (map[string]string, error) {
	var list struct {
		Services [][][]string `json:"services"` // each of suffixes and of URLs
	}
	if err := json.Unmarshal(body, &list); err != nil || len(list.Services) == 0 {
		return nil, fmt.Errorf("it is not what RFC 9224 says")
	}
	out := map[string]string{}
	for _, s := range list.Services {
		if len(s) != 2 {
			continue
		}
		i := slices.IndexFunc(s[1], func(u string) bool { return strings.HasPrefix(u, "https://") })
		if i < 0 {
			continue
		}
		for _, suffix := range s[0] {
			out[strings.ToLower(suffix)] = s[1][i]
		}
	}
	return out, nil
}

// overRDAP asks the domain's RDAP server (RFC 9082, RFC 9083).
func (c *domainCheck) overRDAP(r *session) (registration, *fault) {
	base := ""
	if c.rdap.url != nil {
		base = c.rdap.url.String()
	} else {
		var f *fault
		if base, f = c.directory.server(r, c.name); f != nil {
			return registration{}, f
		}
	}
	if base == "" {
		return registration{}, unknown(uptime.RegistryFault, "No RDAP server is known for %s.", c.name)
	}
	body, f := rdapGet(r, strings.TrimSuffix(base, "/")+"/domain/"+url.PathEscape(c.name), maxRDAP)
	if f == noSuchObject {
		return registration{}, c.notRegistered()
	}
	if f != nil {
		return registration{}, f
	}
	r.seen.Body = string(body[:min(len(body), evidenceBody)])
	reg, err := parseRDAP(body, c.name)
	if err != nil {
		return registration{}, unknown(uptime.RegistryFault, "The registry's answer cannot be read: %v.", err)
	}
	return reg, nil
}

// noSuchObject is the fault of a 404: the server knows no such thing.
var noSuchObject = down(uptime.NotRegistered, "The registry knows no such object.")

// rdapGet fetches a document of at most limit bytes.
func rdapGet(r *session, address string, limit int64) ([]byte, *fault) {
	at, err := parseURL(address, webSchemes[:1])
	for hop := 0; err == nil && hop <= maxRDAPHops; hop++ {
		req := &http.Request{Method: http.MethodGet, URL: at.url, Host: at.url.Host,
			Header: http.Header{"Accept": {"application/rdap+json, application/json"}, "User-Agent": {"Vedette"}}}
		r.seen.Request = "GET " + redactURL(at.url)
		answer, f := r.fetch(req, at, false, limit, "the answer of "+at.host)
		if f != nil {
			return nil, registryFault(f)
		}
		media, _, _ := mime.ParseMediaType(answer.header.Get("Content-Type"))
		switch {
		case answer.status == http.StatusOK:
			return answer.body, nil
		case answer.status == http.StatusNotFound && media != "text/html": // a page is of some other server
			return nil, noSuchObject
		case answer.status < 300 || answer.status > 399:
			return nil, unknown(uptime.RegistryFault, "The registry's server %s answers with HTTP status %d.", at.host, answer.status)
		}
		var next *url.URL
		if next, err = at.url.Parse(answer.header.Get("Location")); err == nil {
			next.User = nil
			at, err = targetOf(next, webSchemes[:1])
		}
	}
	if err != nil {
		return nil, unknown(uptime.RegistryFault, "The registry leads to an address that cannot be asked: it %v.", err)
	}
	return nil, unknown(uptime.RegistryFault, "The registry leads from one server to the next, more than %d times.", maxRDAPHops)
}

// rdapDomain is the part of a domain object that is read.
type rdapDomain struct {
	Class       string   `json:"objectClassName"`
	Name        string   `json:"ldhName"`
	Status      []string `json:"status"`
	Nameservers []struct {
		Name string `json:"ldhName"`
	} `json:"nameservers"`
	Events []struct {
		Action string `json:"eventAction"`
		Date   string `json:"eventDate"`
	} `json:"events"`
	Entities []struct {
		Roles  []string          `json:"roles"`
		Handle string            `json:"handle"`
		VCard  []json.RawMessage `json:"vcardArray"`
	} `json:"entities"`
}

// parseRDAP reads the domain object of name.
func parseRDAP(body []byte, name string) (registration, error) {
	var d rdapDomain
	if err := json.Unmarshal(body, &d); err != nil || d.Class != "" && d.Class != "domain" {
		return registration{}, fmt.Errorf("it is no domain object of RFC 9083")
	}
	if canonical(d.Name) != canonical(name) {
		return registration{}, fmt.Errorf("it is about %s", clean(fmt.Sprintf("%q", d.Name), 80))
	}
	reg := registration{}
	for _, s := range d.Status {
		reg.status = append(reg.status, eppStatus(s))
	}
	for _, n := range d.Nameservers {
		reg.nameservers = append(reg.nameservers, canonical(n.Name))
	}
	for _, e := range d.Events {
		if e.Action != "expiration" {
			continue
		}
		if at, ok := parseDate(e.Date); ok { // one that cannot be read is as good as none
			reg.expires = at
		}
	}
	for _, e := range d.Entities {
		if slices.Contains(e.Roles, "registrar") && reg.registrar == "" {
			if reg.registrar = vcardName(e.VCard); reg.registrar == "" {
				reg.registrar = e.Handle
			}
		}
	}
	return reg, nil
}

// vcardName is the "fn" property of a jCard (RFC 7095).
func vcardName(card []json.RawMessage) string {
	var properties [][]json.RawMessage
	if len(card) < 2 || json.Unmarshal(card[1], &properties) != nil {
		return ""
	}
	for _, p := range properties {
		var key, value string
		if len(p) >= 4 && json.Unmarshal(p[0], &key) == nil && key == "fn" && json.Unmarshal(p[3], &value) == nil {
			return value
		}
	}
	return ""
}

// eppStatus turns RDAP's "client hold" into EPP's clientHold (RFC 8056).
func eppStatus(s string) string {
	words := strings.Fields(s)
	if len(words) == 1 && strings.EqualFold(s, "active") {
		return "ok"
	}
	for i, w := range words {
		if i > 0 && w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}
