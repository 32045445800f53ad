package uptime

// Reason is a stable, documented code that says why a verdict is what it is. The
// set is closed: it is part of the API, of webhooks and of metrics. A code names
// the first cause (a name that does not resolve is never told as a timeout). The
// comment beside each is its sentence in docs/reasons.md, which is made from here.
type Reason string

// ReasonOK is the reason of an up result.
const ReasonOK Reason = ""

// Reasons of down and degraded results: what the target did. Degraded is what an
// assertion of that severity or a weak certificate makes.
const (
	DNSNXDomain    Reason = "dns_nxdomain"      // the name does not exist
	DNSServFail    Reason = "dns_servfail"      // the DNS server failed to answer (SERVFAIL)
	DNSRefused     Reason = "dns_refused"       // the DNS server refused the question
	DNSTimeout     Reason = "dns_timeout"       // no DNS server answered in time
	DNSNoData      Reason = "dns_nodata"        // the name exists, and has no address or record of the wanted kind
	DNSLoop        Reason = "dns_loop"          // aliases (CNAME) lead round in a circle or too far
	DNSMismatch    Reason = "dns_mismatch"      // the answer is not the expected one
	DNSMalformed   Reason = "dns_malformed"     // the DNS answer cannot be read
	ConnRefused    Reason = "conn_refused"      // nothing listens on the port
	ConnTimeout    Reason = "conn_timeout"      // no address took the connection in time
	ConnReset      Reason = "conn_reset"        // the connection was reset
	ConnClosed     Reason = "conn_closed"       // the connection was closed before an answer
	ConnUnreach    Reason = "conn_unreachable"  // no route leads to the address
	Banner         Reason = "banner"            // the greeting is not the expected one
	HostKey        Reason = "host_key"          // the SSH host key is not the expected one
	AuthFailed     Reason = "auth_failed"       // the target refused the credentials
	Timeout        Reason = "timeout"           // the whole check took longer than its timeout
	TLSExpired     Reason = "tls_expired"       // a certificate of the chain has expired
	TLSNotYetValid Reason = "tls_not_yet_valid" // a certificate of the chain is not valid yet
	TLSSelfSigned  Reason = "tls_self_signed"   // the certificate is signed by itself
	TLSUntrusted   Reason = "tls_untrusted"     // the chain leads to no authority that is trusted here
	TLSHostname    Reason = "tls_hostname"      // the certificate is for other names
	TLSWeak        Reason = "tls_weak"          // a key or signature of the chain is too weak
	TLSVersion     Reason = "tls_version"       // no version of TLS in common, or only an outdated one
	TLSHandshake   Reason = "tls_handshake"     // the TLS handshake failed
	TLSTimeout     Reason = "tls_timeout"       // the TLS handshake took too long
	TLSClientCert  Reason = "tls_client_cert"   // the server wants a client certificate, or another one
	TLSExpiring    Reason = "tls_expiring"      // the certificate expires sooner than the assertion allows
	TLSDowngrade   Reason = "tls_downgrade"     // a redirect leads from https to http
	NotReady       Reason = "not_ready"         // the target answers, and says that it is not ready
	QueryFailed    Reason = "query_failed"      // the target refused or failed the query
	HTTPStatus     Reason = "http_status"       // the status is not one of the expected
	Protocol       Reason = "protocol"          // the answer breaks the protocol
	HeadersLarge   Reason = "headers_too_large" // the header is larger than is read
	BodyTruncated  Reason = "body_truncated"    // the body ended before its announced length
	BodyTooLarge   Reason = "body_too_large"    // the body is larger than max_body_bytes
	Decode         Reason = "decode"            // the body cannot be unpacked or decoded
	RedirectLimit  Reason = "redirect_limit"    // more redirects than max_redirects
	RedirectBad    Reason = "redirect_invalid"  // a redirect leads to what cannot be followed
	Keyword        Reason = "keyword"           // the expected text is not there
	KeywordBad     Reason = "keyword_forbidden" // text that must not be there is
	JSON           Reason = "json"              // a value of the JSON body is not the expected one
	XML            Reason = "xml"               // a part of the XML or HTML body is not the expected one
	Header         Reason = "header"            // a header is not the expected one
	Slow           Reason = "slow"              // it took longer than the assertion allows
	AssertFailed   Reason = "assertion"         // another assertion does not hold
	Inverted       Reason = "inverted"          // the target works, and the monitor wants it not to
	MissedBeat     Reason = "missed_heartbeat"  // no ping came in time, or a run did not end in time
	ReportedFail   Reason = "reported_failure"  // the job itself says that it failed
	Members        Reason = "members"           // of a group: members are down or degraded
	SetByHand      Reason = "set_by_hand"       // a person set this state

	DomainExpiring Reason = "domain_expiring"       // the domain's registration expires within expiry_days
	DomainExpired  Reason = "domain_expired"        // the domain's registration has expired, or the registry is deleting it
	DomainHold     Reason = "domain_hold"           // the registry or registrar keeps the domain out of DNS (clientHold, serverHold)
	NotRegistered  Reason = "domain_not_registered" // nobody has registered the domain
)

// Reasons of unknown results: what of ours was in the way. They are never a
// verdict about a target.
const (
	Starved       Reason = "starved"         // this worker was too late or too busy
	Missed        Reason = "missed"          // the slot's time passed before a worker took it
	Blind         Reason = "monitor_blind"   // no verdict for 2.5 intervals, and no check that says why
	NotRunning    Reason = "not_running"     // no scheduler ran
	Pending       Reason = "pending"         // new, changed or switched on again, and nothing is known yet
	Paused        Reason = "paused"          // switched off by a person
	OwnNetwork    Reason = "own_network"     // our network or resolver is gone
	OwnResources  Reason = "own_resources"   // descriptors, ports or memory of this machine
	RegistryFault Reason = "registry_failed" // the domain's registry does not answer, refuses, or does not say when the domain expires
	StorageFailed Reason = "storage_failed"  // our database did not answer
	QueueFailed   Reason = "queue_failed"    // our queue did not answer
	InternalError Reason = "internal_error"  // a bug of ours
	Aborted       Reason = "aborted"         // we were told to stop in mid-check
	BadConfig     Reason = "config_error"    // the monitor's definition cannot be run here
	Blocked       Reason = "blocked_address" // the target's address is not allowed by --private-targets
	Undelivered   Reason = "undelivered"     // of an incident of our own: an alert reached nobody, or was given up
	Deaf          Reason = "deaf"            // a ping that did not come may have been sent while we could receive none
	MembersOpen   Reason = "members_unknown" // of a group: it depends on members of which nothing is known
)

// Awaits reports whether a result of reason r is unknown because there is nothing to
// know yet, and not because we are blind: a first ping that is not due, say. That may
// last for as long as it likes and is nobody's fault.
func (r Reason) Awaits() bool { return r == Pending || r == Deaf || r == MembersOpen }

// Told reports whether a result of reason r repeats what a job or a person said, or what
// is known of other monitors, so that nothing of ours can have made it.
func (r Reason) Told() bool { return r == ReportedFail || r == SetByHand || r == Members }
