package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// target is whom a check, or one request of it, goes to.
type target struct {
	url    *url.URL // nil unless the target is a URL
	host   string   // ASCII name or address, without brackets; "" when the type dials nobody
	port   uint16   // 0 when the type has no ports
	secure bool     // of a URL: its scheme is that with TLS
}

// targetForm is how a type's target is written. parse is strict, because what the
// guard judges and what is dialled must be what the user sees.
type targetForm struct {
	about string // for docs: "host:port; without a port, 5432"
	parse func(raw string) (target, error)
}

// hostPort is "host:port"; without a port it is normal, and 0 makes it required.
func hostPort(normal uint16) targetForm {
	about := "`host:port`; an IPv6 address stands in brackets"
	if normal != 0 {
		about = fmt.Sprintf("`host` or `host:port` (without a port, %d); an IPv6 address before a port stands in brackets", normal)
	}
	return targetForm{about, func(raw string) (target, error) { return splitHostPort(raw, normal) }}
}

// hostOnly is a name or an address.
func hostOnly(about string) targetForm {
	return targetForm{about, func(raw string) (target, error) {
		if err := plainTarget(raw); err != nil {
			return target{}, err
		}
		host, err := asciiHost(strings.TrimSuffix(strings.TrimPrefix(raw, "["), "]"))
		return target{host: host}, err
	}}
}

// urls are URLs of the given schemes, each with its normal port and whether it
// means TLS.
func urls(about string, schemes ...scheme) targetForm {
	return targetForm{about, func(raw string) (target, error) { return parseURL(raw, schemes) }}
}

// noTarget is for types that dial nobody: their target stays empty.
func noTarget(about string) targetForm {
	return targetForm{about, func(raw string) (target, error) {
		if raw != "" {
			return target{}, errors.New("must be empty for this type")
		}
		return target{}, nil
	}}
}

// scheme is one that a URL may have.
type scheme struct {
	name   string
	port   uint16
	secure bool
}

// webSchemes are what HTTP checks and redirects may use.
var webSchemes = []scheme{{"https", 443, true}, {"http", 80, false}}

// plainTarget refuses what no target may hold.
func plainTarget(raw string) error {
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return errors.New("holds a space, a control character or a backslash")
	}
	if len(raw) > 4096 {
		return errors.New("is longer than 4096 bytes")
	}
	return nil
}

// splitHostPort reads host:port.
func splitHostPort(raw string, normal uint16) (target, error) {
	if err := plainTarget(raw); err != nil {
		return target{}, err
	}
	if _, after, ok := strings.Cut(raw, "://"); ok {
		return target{}, fmt.Errorf("must be host:port, not a URL; write %s", clean(after, 100))
	}
	host, port := raw, ""
	if a, err := netip.ParseAddr(raw); err == nil {
		host = a.String() // an IPv6 address without brackets has no port
	} else if i := strings.LastIndexByte(raw, ':'); i >= 0 {
		host, port = raw[:i], raw[i+1:]
	}
	if strings.HasPrefix(host, "[") != strings.HasSuffix(host, "]") || strings.Contains(strings.Trim(host, "[]"), ":") && !strings.HasPrefix(host, "[") && port != "" {
		return target{}, errors.New("must be host:port; an IPv6 address stands in brackets")
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ascii, err := asciiHost(host)
	if err != nil {
		return target{}, err
	}
	t := target{host: ascii, port: normal}
	if port == "" {
		if normal == 0 || strings.HasSuffix(raw, ":") {
			return target{}, errors.New("has no port; write host:port")
		}
		return t, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return target{}, errors.New("has a port that is not from 1 to 65535")
	}
	t.port = uint16(n)
	return t, nil
}

// parseURL reads a URL that a user wrote: one of the schemes, a host, no user, no
// odd characters.
func parseURL(raw string, schemes []scheme) (target, error) {
	if err := plainTarget(raw); err != nil {
		return target{}, err
	}
	if !strings.Contains(raw, "://") {
		return target{}, fmt.Errorf("must begin with %s://; did you mean %s://%s?", schemeNames(schemes, ":// or "), schemes[0].name, clean(raw, 100))
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, errors.New("is not a URL")
	}
	if u.User != nil {
		return target{}, errors.New("must not hold a user or password; put them in config.auth")
	}
	return targetOf(u, schemes)
}

func schemeNames(schemes []scheme, between string) string {
	var names []string
	for _, s := range schemes {
		names = append(names, s.name)
	}
	return strings.Join(names, between)
}

// targetOf checks the parts of an absolute URL, and has its query be one that can be
// sent. It does not look at its user.
func targetOf(u *url.URL, schemes []scheme) (target, error) {
	t := target{url: u}
	u.RawQuery = escapedQuery(u.RawQuery)
	for _, s := range schemes {
		if u.Scheme == s.name {
			t.port, t.secure = s.port, s.secure
		}
	}
	if t.port == 0 {
		return target{}, fmt.Errorf("has scheme %q; only %s can be checked", clean(u.Scheme, 20), schemeNames(schemes, " and "))
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return target{}, err
	}
	t.host = host
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return target{}, errors.New("has a port that is not from 1 to 65535")
		}
		t.port = uint16(n)
	}
	return t, nil
}

// escapedQuery is a query with what may not stand in one written as %XX, which the
// library does to paths only; the same as in browsers (WHATWG URL, "query
// percent-encode set"). Many a Location holds a text with spaces, and one would end
// the target of the request.
func escapedQuery(query string) string {
	var b strings.Builder
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// asciiHost is the host as it is resolved. Names with letters beyond ASCII go
// through IDNA. What is no address as it stands and one to other programs is refused
// (2130706433, 0x7f.1, 127.0.0.1., full-width digits): the user would not see which
// address it is, and a C library or a proxy would really go there.
func asciiHost(h string) (string, error) {
	if a, err := netip.ParseAddr(h); err == nil {
		return a.String(), nil
	}
	ascii := strings.ToLower(h)
	if strings.ContainsFunc(h, func(r rune) bool { return r >= 0x80 }) {
		var err error
		if ascii, err = idna.Lookup.ToASCII(h); err != nil {
			return "", fmt.Errorf("has a host that is not a valid name")
		}
		if _, err := netip.ParseAddr(ascii); err == nil {
			return "", fmt.Errorf("writes an address in unusual digits; write %s", ascii)
		}
	}
	if endsInNumber(ascii) {
		return "", errors.New("writes an address in an unusual way; write it as 192.0.2.1 or 2001:db8::1")
	}
	ok := ascii != "" && len(ascii) <= 254 && strings.Trim(ascii, ".") != ""
	for _, r := range ascii {
		ok = ok && (r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z')
	}
	if !ok {
		return "", errors.New("has no valid host")
	}
	return ascii, nil
}

// endsInNumber is the test by which browsers take a host for an IPv4 address
// (WHATWG URL, "ends in a number"). No top-level domain is a number.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if digits, hex := strings.CutPrefix(last, "0x"); hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}
