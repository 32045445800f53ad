package probe

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/guard"
	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// domainLab has an RDAP server over HTTP/2 and TLS, which trusts itself in env, and
// WHOIS servers. No registry's own server is packaged, so these are fakes that speak
// RFC 9083 and RFC 3912; the texts are cut from what registries send.
type domainLab struct {
	env  Env
	cert tls.Certificate
}

func newDomainLab(t *testing.T) domainLab {
	t.Helper()
	cert, roots, err := testenv.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	env := testEnv()
	env.Roots = roots
	return domainLab{env, cert}
}

func (l domainLab) rdap(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handle, TLSConfig: &tls.Config{Certificates: []tls.Certificate{l.cert}}}
	t.Cleanup(func() { s.Close() })
	go func() { _ = s.ServeTLS(listener, "", "") }()
	return "https://" + listener.Addr().String() + "/rdap/"
}

// domainWHOIS answers each question with a text, and closes. It counts the questions.
func domainWHOIS(t *testing.T, answer func(question string, c net.Conn)) (address string, asked *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked = &atomic.Int32{}
	testenv.Serve(l, func(c net.Conn) {
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil {
			asked.Add(1)
			answer(strings.TrimSpace(line), c)
		}
	})
	return l.Addr().String(), asked
}

func domainSays(text string) func(string, net.Conn) {
	return func(_ string, c net.Conn) { _, _ = io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")) }
}

func domainRun(t *testing.T, set *Set, config map[string]any, timeout time.Duration, assertions ...uptime.Assertion) Outcome {
	t.Helper()
	raw, _ := json.Marshal(config)
	c, err := set.Compile(uptime.Monitor{Type: "domain", Target: "shop.example", Timeout: timeout, Interval: time.Hour, Config: raw, Assertions: assertions})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	start := time.Now()
	out := c.Run(t.Context(), Attempt{})
	if took := time.Since(start); took > timeout+2*time.Second {
		t.Errorf("took %s with timeout %s, want at most 2 s more", took, timeout)
	}
	return out
}

// domainObject is an RDAP answer. expires is in days from now; 0 tells no date.
func domainObject(name string, expires int, status ...string) string {
	events := `{"eventAction":"registration","eventDate":"1999-01-01T00:00:00Z"}`
	if expires != 0 {
		events += fmt.Sprintf(`,{"eventAction":"expiration","eventDate":%q}`, time.Now().Add(time.Duration(expires)*24*time.Hour+time.Hour).Format(time.RFC3339))
	}
	states, _ := json.Marshal(status)
	return fmt.Sprintf(`{"objectClassName":"domain","ldhName":%q,"status":%s,"events":[%s],
 "nameservers":[{"objectClassName":"nameserver","ldhName":"NS1.SHOP.EXAMPLE"},{"ldhName":"ns2.shop.example."}],
 "entities":[{"roles":["registrant"],"vcardArray":["vcard",[["fn",{},"text","REDACTED"]]]},
  {"roles":["registrar"],"handle":"292","vcardArray":["vcard",[["version",{},"text","4.0"],["fn",{},"text","Example Registrar Ltd"]]]}]}`, name, states, events)
}

func domainRDAP(status int, media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestDomainOverRDAP(t *testing.T) {
	t.Parallel()
	lab := newDomainLab(t)
	object := func(expires int, status ...string) http.HandlerFunc {
		return domainRDAP(200, "application/rdap+json", domainObject("SHOP.EXAMPLE", expires, status...))
	}
	const up, bad, none = uptime.VerdictUp, uptime.VerdictDown, uptime.VerdictUnknown
	for name, tt := range map[string]struct {
		handle     http.HandlerFunc
		days       any
		assertions []uptime.Assertion
		timeout    time.Duration
		verdict    uptime.Verdict
		reason     uptime.Reason
	}{
		"a year to go is up":            {handle: object(365, "active"), verdict: up},
		"what is asserted of it is up":  {handle: object(365, "client transfer prohibited", "active"), verdict: up, assertions: []uptime.Assertion{assert("registrar", "", "eq", "Example Registrar Ltd"), assert("status", "", "eq", []string{"clientTransferProhibited", "ok"}), assert("nameservers", "", "eq", []string{"ns1.shop.example", "ns2.shop.example"}), assert("domain_days", "", "eq", 365)}},
		"31 days to go is up":           {handle: object(31), verdict: up},
		"29 days to go is degraded":     {handle: object(29), verdict: uptime.VerdictDegraded, reason: uptime.DomainExpiring},
		"29 days are enough for 20":     {handle: object(29), days: 20, verdict: up},
		"no date is up when not wanted": {handle: object(0, "active"), days: 0, verdict: up},
		"a redirect to the registrar's": {handle: func(w http.ResponseWriter, r *http.Request) { domainHop(w, r, 2, object(365)) }, verdict: up},
		"expired is down":               {handle: object(-2), verdict: bad, reason: uptime.DomainExpired},
		"not registered is down":        {handle: domainRDAP(404, "application/rdap+json", `{"errorCode":404}`), verdict: bad, reason: uptime.NotRegistered},
		"not registered, in a bare 404": {handle: domainRDAP(404, "", ""), verdict: bad, reason: uptime.NotRegistered},
		"clientHold is down":            {handle: object(365, "client hold"), verdict: bad, reason: uptime.DomainHold},
		"serverHold is down":            {handle: object(365, "server hold"), verdict: bad, reason: uptime.DomainHold},
		"redemption is down":            {handle: object(365, "redemption period"), verdict: bad, reason: uptime.DomainExpired},
		"another registrar is down":     {handle: object(365), assertions: []uptime.Assertion{assert("registrar", "", "contains", "Other")}, verdict: bad, reason: uptime.AssertFailed},
		"fewer days than asserted":      {handle: object(60), assertions: []uptime.Assertion{assert("domain_days", "", "ge", 90)}, verdict: bad, reason: uptime.DomainExpiring},
		"no date":                       {handle: object(0), verdict: none, reason: uptime.RegistryFault},
		"a date that is none":           {handle: domainRDAP(200, "", `{"ldhName":"shop.example","events":[{"eventAction":"expiration","eventDate":"soon"}]}`), verdict: none, reason: uptime.RegistryFault},
		"another domain":                {handle: domainRDAP(200, "", domainObject("other.example", 365)), verdict: none, reason: uptime.RegistryFault},
		"a page where nothing is":       {handle: domainRDAP(404, "text/html; charset=utf-8", "<html>"), verdict: none, reason: uptime.RegistryFault},
		"a page":                        {handle: domainRDAP(200, "text/html", "<html>"), verdict: none, reason: uptime.RegistryFault},
		"too many questions":            {handle: domainRDAP(429, "", ""), verdict: none, reason: uptime.RegistryFault},
		"a registry that fails":         {handle: domainRDAP(503, "", ""), verdict: none, reason: uptime.RegistryFault},
		"an answer without end":         {handle: domainRDAP(200, "", strings.Repeat(" ", 2<<20)), verdict: none, reason: uptime.RegistryFault},
		"redirects in a circle":         {handle: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, verdict: none, reason: uptime.RegistryFault},
		"a redirect to http": {handle: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, verdict: none, reason: uptime.RegistryFault},
		"a redirect to a file": {handle: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, verdict: none, reason: uptime.RegistryFault},
		"a registry that does not answer": {handle: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, timeout: short, verdict: none, reason: uptime.RegistryFault},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := map[string]any{"rdap_url": lab.rdap(t, tt.handle)}
			if tt.days != nil {
				config["expiry_days"] = tt.days
			}
			if tt.timeout == 0 {
				tt.timeout = 5 * time.Second
			}
			check(t, domainRun(t, New(lab.env), config, tt.timeout, tt.assertions...), tt.verdict, tt.reason)
		})
	}
}

// domainHop redirects n times before it answers.
func domainHop(w http.ResponseWriter, r *http.Request, n int, then http.HandlerFunc) {
	done := strings.Count(r.URL.RawQuery, "x")
	if done == n {
		then(w, r)
		return
	}
	w.Header().Set("Location", r.URL.Path+"?"+strings.Repeat("x", done+1))
	w.WriteHeader(http.StatusFound)
}

func TestDomainOverWHOIS(t *testing.T) {
	t.Parallel()
	day := func(days int, layout string) string {
		return time.Now().UTC().Add(time.Duration(days) * 24 * time.Hour).Format(layout)
	}
	const up, bad, none = uptime.VerdictUp, uptime.VerdictDown, uptime.VerdictUnknown
	for name, tt := range map[string]struct {
		answer     func(string, net.Conn)
		config     map[string]any
		assertions []uptime.Assertion
		timeout    time.Duration
		verdict    uptime.Verdict
		reason     uptime.Reason
	}{
		"as .com writes is up": {answer: domainSays("   Domain Name: SHOP.EXAMPLE\n   Registry Expiry Date: " + day(300, "2006-01-02T15:04:05Z") + "\n   Registrar: Example Registrar Ltd\n   Domain Status: clientTransferProhibited https://icann.org/epp#clientTransferProhibited\n   Name Server: NS1.SHOP.EXAMPLE\n>>> Last update of whois database <<<\nNOTICE: your access may be blocked. No match for you.\n"),
			assertions: []uptime.Assertion{assert("registrar", "", "eq", "Example Registrar Ltd"), assert("status", "", "eq", "clientTransferProhibited"), assert("nameservers", "", "eq", "ns1.shop.example")}, verdict: up},
		"as .jp writes is up": {answer: domainSays("[ JPRS database provides information. ]\n[Domain Name]                SHOP.EXAMPLE\n[Expires on]                    " + day(300, "2006/01/02") + "\n"), verdict: up},
		"as .uk writes is up": {answer: domainSays("    Domain name:\n        shop.example\n\n    Relevant dates:\n        Registered on: 01-Jan-1999\n        Expiry date:  " + day(300, "02-Jan-2006") + "\n"), verdict: up},
		"as .fi writes is up": {answer: domainSays("domain.............: shop.example\nstatus.............: Registered\nexpires............:  " + day(300, "2.1.2006 15:04:05") + "\n"), verdict: up},
		"as .tw writes is up": {answer: domainSays("Domain Name: shop.example\n   Record expires on " + day(300, "2006-01-02 15:04:05") + " (UTC+8)\n"), verdict: up},
		"as .co.jp writes is up": {answer: domainSays("Domain Information:\na. [Domain Name]                SHOP.EXAMPLE\np. [Name Server]                ns1.shop.example\ns. [Signing Key]\n[State]                         Connected (" + day(300, "2006/01/02") + ")\n[Registered Date]               2000/02/14\n"),
			assertions: []uptime.Assertion{assert("nameservers", "", "eq", "ns1.shop.example")}, verdict: up},
		"as .cl writes is up": {answer: domainSays("Domain name: shop.example\nExpiration date: " + day(300, "2006-01-02 15:04:05") + " CLST\nName server: ns1.shop.example\n"), verdict: up},
		"as .tm writes is up": {answer: domainSays("Domain : shop.example\nStatus : Permanent/Reserved\nExpiry : " + day(300, "2006-01-02") + "\n"), verdict: up},
		"as .kg writes is up": {answer: domainSays("Domain SHOP.EXAMPLE (ACTIVE)\nRecord expires on: " + day(300, time.ANSIC) + "\n"), verdict: up},
		"values below their keys, .uk": {answer: domainSays("    Domain name:\n        shop.example\n\n    Registrar:\n        Example Registrar Ltd [Tag = EX]\n        URL: https://registrar.example\n\n    Relevant dates:\n        Registered on: 01-Jan-1999\n        Expiry date:  " + day(300, "02-Jan-2006") + "\n\n    Name servers:\n        ns1.shop.example   192.0.2.1  2001:db8::1\n        ns2.shop.example\n\n    WHOIS lookup made at 12:00:00\n"),
			assertions: []uptime.Assertion{assert("registrar", "", "contains", "Example Registrar Ltd"), assert("nameservers", "", "eq", []string{"ns1.shop.example", "ns2.shop.example"})}, verdict: up},
		"values below their keys, .eu": {answer: domainSays("% WHOIS shop.example\nDomain: shop.example\nScript: LATIN\n\nRegistrant:\n        NOT DISCLOSED!\n\nRegistrar:\n        Name: Example Registrar Ltd\n        Website: https://registrar.example\n\nName servers:\n        ns1.shop.example (2001:db8::1)\n\nPlease visit www.eurid.eu for more info.\n"),
			config: map[string]any{"expiry_days": 0}, assertions: []uptime.Assertion{assert("registrar", "", "eq", "Example Registrar Ltd"), assert("nameservers", "", "eq", "ns1.shop.example")}, verdict: up},
		"values below their keys, .mx": {answer: domainSays("Domain Name:       shop.example\n\nExpiration Date:   " + day(300, "2006-01-02") + "\nRegistrar:         Example Registrar Ltd\nURL:               http://registrar.example\n\nName Servers:\n   DNS:            ns1.shop.example 192.0.2.1\n   DNS:            ns2.shop.example\n\nDNSSEC DS Records:\n"),
			assertions: []uptime.Assertion{assert("nameservers", "", "eq", []string{"ns1.shop.example", "ns2.shop.example"})}, verdict: up},
		"only its state, as .de writes":    {answer: domainSays("Domain: shop.example\nStatus: connect\n"), config: map[string]any{"expiry_days": 0}, verdict: up},
		"only its birthday, as .hu writes": {answer: domainSays("domain:         shop.example\nrecord created: 2000-03-03\nFor further data see:\nhttps://www.domain.hu/\n"), config: map[string]any{"expiry_days": 0}, verdict: up},
		"taken, as .be writes":             {answer: domainSays("Domain:\tshop.example\nStatus:\tNOT AVAILABLE\nRegistered:\tMon Dec 7 1998\n"), config: map[string]any{"expiry_days": 0}, verdict: up},
		"in quarantine, as .be writes":     {answer: domainSays("Domain:\tshop.example\nStatus:\tQUARANTINE\nRegistered:\tMon Dec 7 1998\n"), config: map[string]any{"expiry_days": 0}, verdict: bad, reason: uptime.DomainExpired},
		"a state that says nothing":        {answer: domainSays("Domain: shop.example\nStatus: invalid\n"), config: map[string]any{"expiry_days": 0}, verdict: none, reason: uptime.RegistryFault},
		"free, as .it writes":              {answer: domainSays("Domain:             shop.example\nStatus:             AVAILABLE\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .be writes":              {answer: domainSays("Domain:\tshop.example\nStatus:\tAVAILABLE\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .pl writes":              {answer: domainSays("No information available about domain name shop.example in the Registry NASK database.\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .tw writes":              {answer: domainSays("No Found\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .mx writes":              {answer: domainSays("No_Se_Encontro_El_Objeto/Object_Not_Found\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .nl writes":              {answer: domainSays("shop.example is free\n"), verdict: bad, reason: uptime.NotRegistered},
		"today is not yet over":            {answer: domainSays("domain: shop.example\nexpire: " + day(0, "02.01.2006") + "\n"), config: map[string]any{"expiry_days": 0}, verdict: up},
		"as .de writes, no date":           {answer: domainSays("Domain: shop.example\nNserver: ns1.shop.example 192.0.2.1\nStatus: connect\n"), config: map[string]any{"expiry_days": 0}, verdict: up},
		"soon is degraded":                 {answer: domainSays("domain: shop.example\npaid-till: " + day(9, "2006-01-02T15:04:05Z") + "\n"), verdict: uptime.VerdictDegraded, reason: uptime.DomainExpiring},
		"expired is down":                  {answer: domainSays("domain: shop.example\npaid-till: " + day(-2, "2006.01.02") + "\n"), verdict: bad, reason: uptime.DomainExpired},
		"clientHold is down":               {answer: domainSays("Domain Name: shop.example\nExpiry Date: " + day(300, "2006-01-02") + "\nDomain Status: clientHold https://icann.org/epp#clientHold\n"), verdict: bad, reason: uptime.DomainHold},
		"free, as .com writes":             {answer: domainSays("No match for domain \"SHOP.EXAMPLE\".\n>>> Last update <<<\nTERMS OF USE: You are not authorized to access our database at a high rate.\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .de writes":              {answer: domainSays("Domain: shop.example\nStatus: free\n"), verdict: bad, reason: uptime.NotRegistered},
		"free, as .fr writes":              {answer: domainSays("%%\n%% NOT FOUND\n"), verdict: bad, reason: uptime.NotRegistered},
		"no date":                          {answer: domainSays("Domain: shop.example\nNserver: ns1.shop.example\n"), verdict: none, reason: uptime.RegistryFault},
		"too many questions":               {answer: domainSays("% Query rate limit exceeded. Entries not found are counted.\n"), verdict: none, reason: uptime.RegistryFault},
		"another domain":                   {answer: domainSays("Domain Name: other.example\nExpiry Date: 2001-01-01\n"), verdict: none, reason: uptime.RegistryFault},
		"nothing to the point":             {answer: domainSays("Welcome. This service is free of charge.\n"), verdict: none, reason: uptime.RegistryFault},
		"an empty answer":                  {answer: domainSays(""), verdict: none, reason: uptime.RegistryFault},
		"another protocol":                 {answer: domainSays("SSH-2.0-OpenSSH_9.2\n"), verdict: none, reason: uptime.RegistryFault},
		"silence":                          {answer: func(_ string, c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, timeout: short, verdict: none, reason: uptime.RegistryFault},
		"an answer without end":            {answer: domainSays(strings.Repeat("a: b\n", 100<<10)), verdict: none, reason: uptime.RegistryFault},
		"nobody at the server":             {config: map[string]any{"whois_server": "127.0.0.1:1"}, verdict: none, reason: uptime.RegistryFault},
		"slow but in time is up": {answer: func(q string, c net.Conn) {
			io.WriteString(c, "domain: shop.example\n")
			domainLater(c, short)
			io.WriteString(c, "expires: "+day(300, "20060102")+"\n")
		}, verdict: up},
		"a server with no name": {config: map[string]any{"whois_server": "whois.invalid"}, timeout: 2 * time.Second, verdict: none, reason: uptime.RegistryFault},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := map[string]any{}
			if tt.answer != nil {
				config["whois_server"], _ = domainWHOIS(t, tt.answer)
			}
			for k, v := range tt.config {
				config[k] = v
			}
			if tt.timeout == 0 {
				tt.timeout = 5 * time.Second
			}
			env := testEnv()
			env.Resolver = dnsSays(3).start(t)
			check(t, domainRun(t, New(env), config, tt.timeout, tt.assertions...), tt.verdict, tt.reason)
		})
	}
}

// Some registries want to be asked in words of their own.
func TestDomainQuestionsAreInTheWordsOfTheRegistry(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"whois.jprs.jp": "shop.example/e", "whois.denic.de": "-T dn,ace shop.example",
		"whois.verisign-grs.com": "domain shop.example", "whois.nic.example": "shop.example",
	} {
		asked := make(chan string, 1)
		address, _ := domainWHOIS(t, func(question string, c net.Conn) {
			asked <- question
			domainSays("Domain Name: shop.example\nExpires: "+time.Now().AddDate(1, 0, 0).Format(time.DateOnly)+"\n")(question, c)
		})
		_, port, _ := net.SplitHostPort(address)
		env := testEnv()
		env.Resolver = dnsZone(map[string]string{server + ".": server + ". 60 IN A 127.0.0.1"}).start(t)
		check(t, domainRun(t, New(env), map[string]any{"whois_server": server + ":" + port, "ip_version": "4"}, 5*time.Second), uptime.VerdictUp, "")
		if got := <-asked; got != want {
			t.Errorf("%s was asked %q, want %q", server, got, want)
		}
	}
}

// domainLater waits as a slow server does: nobody sends anything meanwhile.
func domainLater(c net.Conn, d time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, _ = c.Read(make([]byte, 1))
}

// Without servers of the monitor's own, IANA's lists lead to them.
func TestDomainServersAreFound(t *testing.T) {
	t.Parallel()
	lab := newDomainLab(t)
	var lists atomic.Int32
	good := lab.rdap(t, domainRDAP(200, "", domainObject("shop.example", 365)))
	broken := lab.rdap(t, domainRDAP(503, "", ""))
	dateless := lab.rdap(t, domainRDAP(200, "", domainObject("shop.example", 0, "active")))
	list := func(text string) string {
		return lab.rdap(t, func(w http.ResponseWriter, _ *http.Request) {
			lists.Add(1)
			if text == "" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = io.WriteString(w, text)
		})
	}
	lists4 := func(suffix, server string) string {
		return list(fmt.Sprintf(`{"services":[[["com"],["https://192.0.2.1/"]],[[%q],["http://127.0.0.1:1/",%q]]]}`, suffix, server))
	}
	registered := "domain: shop.example\nexpires: " + time.Now().AddDate(1, 0, 0).Format(time.DateOnly) + "\n"
	whois, _ := domainWHOIS(t, domainSays(registered))
	root, asked := domainWHOIS(t, func(q string, c net.Conn) {
		if q == "example" {
			_, _ = io.WriteString(c, "% IANA WHOIS server\r\nrefer:        "+whois+"\r\n")
		}
	})
	nobody, _ := domainWHOIS(t, domainSays("% nothing here\n"))
	for name, tt := range map[string]struct {
		directory, root string
		byWHOIS         bool
		verdict         uptime.Verdict
		reason          uptime.Reason
	}{
		"the list's RDAP server":                {lists4("example", good), root, false, uptime.VerdictUp, ""},
		"a domain the list lacks, by WHOIS":     {lists4("org", good), root, true, uptime.VerdictUp, ""},
		"an RDAP server that fails, by WHOIS":   {lists4("example", broken), root, true, uptime.VerdictUp, ""},
		"an RDAP server without dates, by both": {lists4("example", dateless), root, true, uptime.VerdictUp, ""},
		"no list, by WHOIS":                     {list(""), root, true, uptime.VerdictUp, ""},
		"a list that is none, by WHOIS":         {list("[]"), root, true, uptime.VerdictUp, ""},
		"neither":                               {list(""), nobody, false, uptime.VerdictUnknown, uptime.RegistryFault},
		"an RDAP server that fails, and none":   {lists4("example", broken), nobody, false, uptime.VerdictUnknown, uptime.RegistryFault},
	} {
		t.Run(name, func(t *testing.T) { // one by one: they count questions
			set := newSet(lab.env, newDomainOf(&rdapDirectory{url: tt.directory}, tt.root))
			before := asked.Load()
			check(t, domainRun(t, set, nil, 5*time.Second), tt.verdict, tt.reason)
			if got := asked.Load() > before; got != tt.byWHOIS {
				t.Errorf("WHOIS was asked: %v, want %v", got, tt.byWHOIS)
			}
		})
	}
	t.Run("the list is read once a day", func(t *testing.T) {
		set := newSet(lab.env, newDomainOf(&rdapDirectory{url: lists4("example", good)}, root))
		before := lists.Load()
		for range 3 {
			check(t, domainRun(t, set, nil, 5*time.Second), uptime.VerdictUp, "")
		}
		if n := lists.Load() - before; n != 1 {
			t.Errorf("it was read %d times", n)
		}
	})
}

// What a registry says becomes many times as much in memory. Not parallel: it measures
// that.
func TestDomainAnswersTakeLittleMemory(t *testing.T) {
	lab := newDomainLab(t)
	for _, list := range []string{"entities", "events", "nameservers"} {
		address := lab.rdap(t, domainRDAP(200, "application/rdap+json", `{"ldhName":"shop.example","`+list+`":[{}`+strings.Repeat(",{}", maxRDAP/3-20)+`]}`))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out := domainRun(t, New(lab.env), map[string]any{"rdap_url": address}, 5*time.Second)
		runtime.ReadMemStats(&after)
		check(t, out, uptime.VerdictUnknown, uptime.RegistryFault)
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 32 { // ours and the server's, garbage among it
			t.Errorf("an answer full of %s took %d MB", list, mb)
		}
	}
}

func TestDomainServersAreUnderTheGuard(t *testing.T) {
	t.Parallel()
	lab := newDomainLab(t)
	lab.env.Guard = guard.New(guard.Options{Policy: guard.Deny()})
	whois, asked := domainWHOIS(t, domainSays("x"))
	for _, config := range []map[string]any{{"whois_server": whois}, {"rdap_url": "https://" + whois + "/"}} {
		check(t, domainRun(t, New(lab.env), config, time.Second), uptime.VerdictUnknown, uptime.Blocked)
	}
	if asked.Load() != 0 {
		t.Error("the server was asked all the same")
	}
}

func TestDomainMonitorsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		target, config string
		interval       time.Duration
		path, says     string
	}{
		"a host below a domain":  {"www.shop.co.uk", "{}", time.Hour, "target", "shop.co.uk"},
		"a suffix":               {"co.uk", "{}", time.Hour, "target", "suffix"},
		"an address":             {"192.0.2.1", "{}", time.Hour, "target", "shop.example"},
		"a single word":          {"localhost", "{}", time.Hour, "target", "shop.example"},
		"asking every minute":    {"shop.example", "{}", time.Minute, "interval", "12h"},
		"RDAP without TLS":       {"shop.example", `{"rdap_url":"http://rdap.example/"}`, time.Hour, "config.rdap_url", "https"},
		"a server that is a URL": {"shop.example", `{"whois_server":"whois://x"}`, time.Hour, "config.whois_server", "host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(testEnv()).Compile(uptime.Monitor{Type: "domain", Target: tt.target, Interval: tt.interval, Config: json.RawMessage(tt.config)})
			e, ok := errors.AsType[*uptime.Error](err)
			if !ok || len(e.Fields) != 1 || e.Fields[0].Path != tt.path || !strings.Contains(e.Fields[0].Message, tt.says) {
				t.Errorf("Compile = %v, want a problem of %s with %q", err, tt.path, tt.says)
			}
		})
	}
}

func TestDomainChecksLeaveNothingBehind(t *testing.T) {
	lab := newDomainLab(t)
	address := lab.rdap(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	failing := func(n int) {
		for range n {
			domainRun(t, New(lab.env), map[string]any{"rdap_url": address}, uptime.MinTimeout)
		}
	}
	failing(3)
	before := runtime.NumGoroutine()
	failing(20)
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestDatesOfRegistries(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2027-02-03T04:05:06Z": "2027-02-03 04:05:06", "2027-02-03T04:05:06.789Z": "2027-02-03 04:05:06", "2027-02-03T04:05:06+0200": "2027-02-03 02:05:06",
		"2027-02-03 04:05:06": "2027-02-03 04:05:06", "2027-02-03 04:05:06 UTC": "2027-02-03 04:05:06", "2027-02-03 04:05:06+03": "2027-02-03 01:05:06",
		"2027.02.03 04:05:06": "2027-02-03 04:05:06", "3.2.2027 04:05:06": "2027-02-03 04:05:06", "03-Feb-2027 04:05:06 UTC": "2027-02-03 04:05:06",
		"Wed Feb  3 04:05:06 GMT 2027": "2027-02-03 04:05:06", "2027-02-03 04:05:06 (UTC+8)": "2027-02-03 04:05:06",
		"2027-02-03": "2027-02-03 23:59:59", "2027/02/03": "2027-02-03 23:59:59", "2027. 02. 03.": "2027-02-03 23:59:59", "20270203": "2027-02-03 23:59:59",
		"03-Feb-2027": "2027-02-03 23:59:59", "2027-Feb-03.": "2027-02-03 23:59:59", "03.02.2027": "2027-02-03 23:59:59", "03/02/2027": "2027-02-03 23:59:59",
		"February 3 2027": "2027-02-03 23:59:59", "soon": "", "": "", "2027-13-01": "", "0": "",
	} {
		got := ""
		if at, ok := parseDate(text); ok {
			got = at.UTC().Format(time.DateTime)
		}
		if got != want {
			t.Errorf("parseDate(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTheDomainExampleWorks(t *testing.T) {
	t.Parallel()
	whois, _ := domainWHOIS(t, domainSays("Domain Name: shop.example\nExpiry Date: "+time.Now().AddDate(1, 0, 0).Format(time.DateOnly)+
		"\nRegistrar: Example Registrar Ltd\nDomain Status: clientTransferProhibited\n"))
	runExample(t, "domain", 0, "shop.example", func(config map[string]any) { config["whois_server"] = whois })
}

// FuzzWHOIS reads whatever a WHOIS server may send.
func FuzzWHOIS(f *testing.F) {
	for _, s := range []string{
		"   Domain Name: SHOP.EXAMPLE\r\n   Registry Expiry Date: 2027-02-03T04:05:06Z\r\n   Registrar: Example\r\n   Domain Status: clientHold https://icann.org/\r\n   Name Server: NS1.SHOP.EXAMPLE\r\n",
		"[Domain Name]   SHOP.EXAMPLE\n[Expires on]   2027/02/03\n", "Domain: shop.example\nStatus: free\n", "%% NOT FOUND\n", "% Query rate limit exceeded\n",
		"expires............:  3.2.2027 10:15:55\n", "   Record expires on 2027-02-03 04:05:06 (UTC+8)\n", "refer: whois.example\n", ":\n[]\n[\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		reg, err := parseWHOIS(text, "shop.example")
		if err != nil && (!reg.expires.IsZero() || reg.registrar != "" || reg.status != nil) {
			t.Errorf("an error (%v) and a registration %+v", err, reg)
		}
	})
}

// FuzzRDAP reads whatever an RDAP server may send, as a domain and as the list of
// servers.
func FuzzRDAP(f *testing.F) {
	f.Add([]byte(domainObject("shop.example", 0, "client hold", "active")))
	f.Add([]byte(`{"objectClassName":"domain","ldhName":"shop.example","events":[{"eventAction":"expiration","eventDate":"2027-02-03T04:05:06Z"}],"entities":[{"roles":["registrar"],"vcardArray":["vcard",[["fn"],[],["fn",{},"text",["a"]]]]}]}`))
	f.Add([]byte(`{"services":[[["com","net"],["http://a/","https://b/"]],[["x"]],[]]}`))
	f.Add([]byte(`{"errorCode":404}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if reg, err := parseRDAP(b, "shop.example"); err != nil && (!reg.expires.IsZero() || reg.status != nil) {
			t.Errorf("an error (%v) and a registration %+v", err, reg)
		}
		servers, _ := parseDirectory(b)
		for suffix, server := range servers {
			if !strings.HasPrefix(server, "https://") {
				t.Errorf("the server of %q is %q", suffix, server)
			}
		}
	})
}
