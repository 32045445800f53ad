package uptime

// Reason is a stable, documented code that says why a verdict is what it is. The
// set is closed: it is part of the API, of webhooks and of metrics. A code names
// the first cause (a name that does not resolve is never told as a timeout).
type Reason string

// ReasonOK is the reason of an up result.
const ReasonOK Reason = ""

// Reasons of down and degraded results: what the target did.
const (
	DNSNXDomain    Reason = "dns_nxdomain"
	DNSServFail    Reason = "dns_servfail"
	DNSRefused     Reason = "dns_refused"
	DNSTimeout     Reason = "dns_timeout"
	DNSNoData      Reason = "dns_nodata"
	DNSLoop        Reason = "dns_loop"
	DNSMismatch    Reason = "dns_mismatch"
	DNSMalformed   Reason = "dns_malformed"
	ConnRefused    Reason = "conn_refused"
	ConnTimeout    Reason = "conn_timeout"
	ConnReset      Reason = "conn_reset"
	ConnClosed     Reason = "conn_closed"
	ConnUnreach    Reason = "conn_unreachable"
	Banner         Reason = "banner"
	Timeout        Reason = "timeout"
	TLSExpired     Reason = "tls_expired"
	TLSNotYetValid Reason = "tls_not_yet_valid"
	TLSSelfSigned  Reason = "tls_self_signed"
	TLSUntrusted   Reason = "tls_untrusted"
	TLSHostname    Reason = "tls_hostname"
	TLSWeak        Reason = "tls_weak"
	TLSVersion     Reason = "tls_version"
	TLSHandshake   Reason = "tls_handshake"
	TLSTimeout     Reason = "tls_timeout"
	TLSClientCert  Reason = "tls_client_cert"
	TLSExpiring    Reason = "tls_expiring"
	TLSDowngrade   Reason = "tls_downgrade"
	HTTPStatus     Reason = "http_status"
	Protocol       Reason = "protocol"
	HeadersLarge   Reason = "headers_too_large"
	BodyTruncated  Reason = "body_truncated"
	BodyTooLarge   Reason = "body_too_large"
	Decode         Reason = "decode"
	RedirectLimit  Reason = "redirect_limit"
	RedirectBad    Reason = "redirect_invalid"
	Keyword        Reason = "keyword"
	KeywordBad     Reason = "keyword_forbidden"
	JSON           Reason = "json"
	Header         Reason = "header"
	Slow           Reason = "slow"
	AssertFailed   Reason = "assertion"
	Inverted       Reason = "inverted" // the target works, and the monitor wants it not to
)

// Reasons of unknown results: what of ours was in the way. They are never a
// verdict about a target.
const (
	Starved       Reason = "starved"         // this worker was too late or too busy
	Missed        Reason = "missed"          // the slot's time passed before a worker took it
	Blind         Reason = "monitor_blind"   // no verdict for 2.5 intervals
	NotRunning    Reason = "not_running"     // no scheduler ran
	Pending       Reason = "pending"         // new or switched on again, and not checked yet
	Paused        Reason = "paused"          // switched off by a person
	OwnNetwork    Reason = "own_network"     // our network or resolver is gone
	OwnResources  Reason = "own_resources"   // descriptors, ports or memory of this machine
	StorageFailed Reason = "storage_failed"  // our database did not answer
	QueueFailed   Reason = "queue_failed"    // our queue did not answer
	InternalError Reason = "internal_error"  // a bug of ours
	Aborted       Reason = "aborted"         // we were told to stop in mid-check
	BadConfig     Reason = "config_error"    // the monitor's definition cannot be run here
	Blocked       Reason = "blocked_address" // the target's address is not allowed by --private-targets
	Undelivered   Reason = "undelivered"     // of an incident of our own: an alert reached nobody, or was given up
)
