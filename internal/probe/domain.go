package probe

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"vedette/internal/uptime"
)

// minDomainInterval is how often a registry may be asked: they block who asks more,
// and what they say changes by days.
const minDomainInterval = time.Hour

// domainConfig is the config of a domain monitor.
type domainConfig struct {
	ExpiryDays  int    `json:"expiry_days" min:"0" max:"365" doc:"days before the registration expires from which on the check is degraded, domain_expiring; 0 asks only whether the domain is registered, for registries that tell no date"`
	RDAPURL     string `json:"rdap_url" doc:"the RDAP server that is asked, such as https://rdap.example/; empty is the one that IANA lists for the domain"`
	WHOISServer string `json:"whois_server" doc:"the WHOIS server, host or host:port (without a port, 43), that is asked when RDAP tells nothing, and alone when rdap_url is empty; when both are empty it is the one IANA refers to"`
	netConfig
}

// newDomain is the "domain" check type.
func newDomain() Type {
	return newDomainOf(&rdapDirectory{url: "https://data.iana.org/rdap/dns.json"}, "whois.iana.org")
}

// newDomainOf is newDomain with other directories than IANA's.
func newDomainOf(directory *rdapDirectory, whoisRoot string) Type {
	return kind[domainConfig]{
		name: "domain",
		about: "Asks the registry, by RDAP and else by WHOIS, how a domain is registered. Up is a registration that neither expires within expiry_days nor is kept out of DNS. " +
			"A registry that fails, refuses or tells no date is no fault of the domain: the result is unknown, registry_failed. " +
			"Registries block who asks often, so the interval must be 1h or more; 12h is sensible.",
		target:  targetForm{"a registrable domain, such as `shop.example` or `shop.co.uk`; not a host below it", parseDomain},
		config:  domainConfig{ExpiryDays: 30, netConfig: defaultNet()},
		sources: domainSources(),
		examples: []uptime.CheckExample{{
			Title: "A domain is renewed in time and stays at its registrar", Target: "shop.example", Config: `{"expiry_days":45}`,
			Assertions: `[{"source":"registrar","op":"contains","value":"Example Registrar"},{"source":"status","op":"contains","value":"clientTransferProhibited","severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *domainConfig) Check { return compileDomain(b, cfg, directory, whoisRoot) },
	}
}

func domainSources() map[string]source {
	return merged(addressSource(), map[string]source{
		"domain_days": numberSource("domain_days", "whole days until the registration expires", " days", uptime.DomainExpiring),
		"registrar":   textSource("registrar", "the name of the registrar", uptime.AssertFailed),
		"status":      listSource("status", "the states of the domain in the words of EPP, such as `ok`, `clientTransferProhibited`, `autoRenewPeriod`", uptime.AssertFailed),
		"nameservers": listSource("nameservers", "the domain's name servers, in small letters", uptime.DNSMismatch),
	})
}

// parseDomain takes what can be registered: one name below a public suffix.
func parseDomain(raw string) (target, error) {
	t, err := hostOnly("").parse(strings.TrimSuffix(raw, "."))
	if err != nil {
		return target{}, err
	}
	if _, err := netip.ParseAddr(t.host); err == nil || !strings.Contains(t.host, ".") {
		return target{}, errors.New("must be a domain, such as shop.example")
	}
	_, official := publicsuffix.PublicSuffix(t.host)
	if whole, err := publicsuffix.EffectiveTLDPlusOne(t.host); official && (err != nil || whole != t.host) {
		if err != nil {
			return target{}, fmt.Errorf("is no domain but a suffix that domains end in")
		}
		return target{}, fmt.Errorf("must be a registrable domain; did you mean %s?", whole)
	}
	return t, nil
}

// domainCheck is a domain monitor made ready.
type domainCheck struct {
	name       string
	expiryDays int
	directory  *rdapDirectory
	rdap       target // zero: whom directory names
	whoisRoot  string // whom to ask for the WHOIS server
	whois      target // zero: whom whoisRoot refers to
	rdapOnly   bool
	whoisOnly  bool
}

func compileDomain(b *builder, cfg *domainConfig, directory *rdapDirectory, whoisRoot string) Check {
	b.network(cfg.netConfig)
	b.tls(tlsConfig{}) // when the registry's own certificate expires is not our business
	b.base.tls.protocols = fetchProtocols
	c := &domainCheck{name: b.target.host, expiryDays: cfg.ExpiryDays, directory: directory, whoisRoot: whoisRoot}
	c.rdapOnly = cfg.RDAPURL != "" && cfg.WHOISServer == ""
	c.whoisOnly = cfg.RDAPURL == "" && cfg.WHOISServer != ""
	var err error
	if cfg.RDAPURL != "" {
		if c.rdap, err = parseURL(cfg.RDAPURL, webSchemes[:1]); err != nil {
			b.problems.Add("config.rdap_url", "%v", err)
		}
	}
	if cfg.WHOISServer != "" {
		if c.whois, err = splitHostPort(cfg.WHOISServer, whoisPort); err != nil {
			b.problems.Add("config.whois_server", "%v", err)
		}
	}
	if i := b.monitor.Interval; i != 0 && i < minDomainInterval {
		b.problems.Add("interval", "must be at least %s for a domain, since registries block who asks often; 12h is sensible", minDomainInterval)
	}
	return b.check(c.probe)
}

// registration is what a registry says of a domain.
type registration struct {
	expires     time.Time // zero: it does not say
	registrar   string
	status      []string // in the words of EPP
	nameservers []string
}

// probe is one attempt.
func (c *domainCheck) probe(r *session) *fault {
	reg, f := c.ask(r)
	if f != nil {
		return f
	}
	r.complete = true // a deadline that passes now would speak of the registry
	r.setText("registrar", reg.registrar)
	r.setList("status", reg.status)
	r.setList("nameservers", reg.nameservers)
	left := math.Floor(reg.expires.Sub(r.start).Hours() / 24)
	if !reg.expires.IsZero() {
		r.setNumber("domain_days", left)
	}
	on := reg.expires.UTC().Format(time.DateOnly)
	for _, s := range []struct {
		status string
		reason uptime.Reason
		means  string
	}{
		{"clientHold", uptime.DomainHold, "its registrar keeps it out of DNS (clientHold)"},
		{"serverHold", uptime.DomainHold, "its registry keeps it out of DNS (serverHold)"},
		{"redemptionPeriod", uptime.DomainExpired, "it was deleted and can only be restored (redemptionPeriod)"},
		{"pendingDelete", uptime.DomainExpired, "it is being deleted (pendingDelete)"},
	} {
		if slices.Contains(reg.status, s.status) {
			return down(s.reason, "The domain %s does not work: %s.", c.name, s.means)
		}
	}
	switch {
	case reg.expires.IsZero() && c.expiryDays > 0:
		return unknown(uptime.RegistryFault, "The registry does not say when %s expires; set expiry_days to 0 to ask only whether it is registered.", c.name)
	case reg.expires.IsZero():
	case reg.expires.Before(r.start):
		return down(uptime.DomainExpired, "The registration of %s expired on %s.", c.name, on)
	case left < float64(c.expiryDays):
		r.facts.degraded = &fault{uptime.VerdictDegraded, uptime.DomainExpiring,
			fmt.Sprintf("The registration of %s expires on %s (%.0f days left).", c.name, on, left)}
	}
	return nil
}

// ask asks by RDAP and, when that tells no date, by WHOIS.
func (c *domainCheck) ask(r *session) (registration, *fault) {
	if c.whoisOnly {
		return c.overWHOIS(r)
	}
	reg, f := c.overRDAP(r)
	told := f == nil && (!reg.expires.IsZero() || c.expiryDays == 0)
	if told || c.rdapOnly || f != nil && f.reason != uptime.RegistryFault {
		return reg, f
	}
	second, g := c.overWHOIS(r)
	switch {
	case f == nil: // RDAP's word is the better one; only its date is missing
		reg.expires = second.expires
		return reg, nil
	case g != nil && g.reason == uptime.RegistryFault:
		return reg, f
	}
	return second, g
}

// notRegistered is the fault of a domain that the registry does not know.
func (c *domainCheck) notRegistered() *fault {
	return down(uptime.NotRegistered, "The domain %s is not registered.", c.name)
}

// registryFault is what a failed conversation with a registry says of the domain:
// nothing.
func registryFault(f *fault) *fault {
	if f.verdict == uptime.VerdictUnknown {
		return f
	}
	return unknown(uptime.RegistryFault, "The registry could not be asked: %s", f.message)
}
