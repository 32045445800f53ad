package guard

import (
	"fmt"
	"net/netip"
	"strings"
)

// Policy says which private addresses may be dialled. The zero Policy denies all
// of them.
type Policy struct {
	allowPrivate bool
	listed       []netip.Prefix
}

// Allow permits private targets; cloud metadata and our own servers stay denied.
func Allow() Policy { return Policy{allowPrivate: true} }

// Deny permits public addresses only.
func Deny() Policy { return Policy{} }

// Parse reads the value of --private-targets: "allow", "deny", or a list of
// addresses and CIDR prefixes, separated by commas, that are allowed although
// they are private. A metadata address is allowed only when it is listed by
// itself, not by a prefix that happens to hold it.
func Parse(s string) (Policy, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "allow":
		return Allow(), nil
	case "deny":
		return Deny(), nil
	case "":
		return Policy{}, fmt.Errorf("private targets: write allow, deny, or a list such as 10.0.0.0/8,192.168.1.7")
	}
	var p Policy
	for item := range strings.SplitSeq(s, ",") {
		prefix, err := parsePrefix(strings.TrimSpace(item))
		if err != nil {
			return Policy{}, err
		}
		p.listed = append(p.listed, prefix)
	}
	return p, nil
}

// String is p as Parse reads it.
func (p Policy) String() string {
	if p.allowPrivate {
		return "allow"
	}
	if len(p.listed) == 0 {
		return "deny"
	}
	items := make([]string, len(p.listed))
	for i, l := range p.listed {
		items[i] = l.String()
	}
	return strings.Join(items, ",")
}

func parsePrefix(item string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(item); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(item)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("private targets: %q is neither an address nor a CIDR prefix such as 10.0.0.0/8", item)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("private targets: %q has bits beyond its prefix; did you mean %s?", item, p.Masked())
	}
	return p, nil
}

// lists reports whether a is in one of the listed prefixes.
func (p Policy) lists(a netip.Addr) bool {
	for _, l := range p.listed {
		if l.Contains(a) {
			return true
		}
	}
	return false
}

// listsExactly reports whether a is listed by itself.
func (p Policy) listsExactly(a netip.Addr) bool {
	for _, l := range p.listed {
		if l.IsSingleIP() && l.Addr() == a {
			return true
		}
	}
	return false
}
