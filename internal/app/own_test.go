package app

import (
	"net/netip"
	"slices"
	"testing"

	"vedette/internal/config"
)

func TestOurOwnServersAreFoundInTheirURLs(t *testing.T) {
	t.Parallel()
	cfg := config.Serve{Queue: "redis://:secret@[::1]/0"}
	cfg.Database = "postgres://u:p@127.0.0.1,127.0.0.2:6432/vedette"
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5432"), netip.MustParseAddrPort("127.0.0.2:6432"), netip.MustParseAddrPort("[::1]:6379")}
	if got := ownServers(t.Context(), cfg); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	cfg.Database, cfg.Queue = "sqlite", "memory"
	if got := ownServers(t.Context(), cfg); len(got) != 0 {
		t.Errorf("embedded: got %v, want none", got)
	}
}
