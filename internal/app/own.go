package app

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vedette/internal/config"
)

// ownServers are the addresses of our database and queue, which no monitor or channel
// may dial under any policy: whoever may make a monitor could otherwise speak to them
// from inside. A name that cannot be resolved now is left out; the policy still holds.
func ownServers(ctx context.Context, cfg config.Serve) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var own []netip.AddrPort
	for _, server := range []struct{ url, port string }{{cfg.DatabaseURL(), "5432"}, {cfg.Queue, "6379"}} {
		u, err := url.Parse(server.url)
		if err != nil {
			continue
		}
		for hostPort := range strings.SplitSeq(u.Host, ",") { // PostgreSQL's URLs may name several
			host, port, err := net.SplitHostPort(hostPort)
			if err != nil {
				host, port = strings.Trim(hostPort, "[]"), server.port
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || host == "" {
				continue
			}
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			if err != nil {
				continue
			}
			for _, a := range addrs {
				own = append(own, netip.AddrPortFrom(a.Unmap(), uint16(n)))
			}
		}
	}
	return own
}
