package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// parse runs args through the real parser, as main does.
func parse(t *testing.T, args ...string) (*Serve, error) {
	t.Helper()
	var cli struct {
		Config kong.ConfigFlag `help:"file"`
		Serve  Serve           `cmd:""`
	}
	p, err := kong.New(&cli, kong.Configuration(FileLoader), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(args); err != nil {
		return nil, err
	}
	return &cli.Serve, cli.Serve.Validate()
}

func TestNonsenseIsRefusedWithTheMend(t *testing.T) {
	cases := []struct {
		name string
		args []string
		mend string
	}{
		{"SQLite with a remote queue", []string{"serve", "--queue", "redis://h:1/0"}, "--database postgres://"},
		{"an in-process queue without all roles", []string{"serve", "--roles", "api"}, "--queue redis://"},
		{"an unknown role", []string{"serve", "--roles", "api,cook"}, "none of all, api"},
		{"an unknown database", []string{"serve", "--database", "mysql://h/x"}, "--database sqlite"},
		{"a PostgreSQL URL without a database", []string{"serve", "--database", "postgres://h"}, "postgres://user:password@host"},
		{"an unknown queue", []string{"serve", "--database", "postgres://h/x", "--queue", "amqp://h"}, "--queue redis://"},
		{"no worker slots", []string{"serve", "--concurrency", "0"}, "1 to 100000"},
		{"a retention shorter than the daily figures need", []string{"serve", "--keep-results", "1h"}, "at least 48h"},
		{"hourly figures that are gone before the day is made", []string{"serve", "--keep-hourly=-1h"}, "at least 48h"},
		{"an address without a port", []string{"serve", "--listen", "localhost"}, "127.0.0.1:8080"},
		{"a sentinel without a port", []string{"serve", "--sentinels", "192.0.2.1"}, "192.0.2.1:443"},
		{"a region without a name", []string{"serve", "--region", ""}, "--region"},
		{"a region of 65 letters", []string{"serve", "--region", strings.Repeat("ä", 65)}, "--region"},
		{"a region of two lines", []string{"serve", "--region", "a\nb"}, "--region"},
		{"an administrator without a password", []string{"serve", "--admin-email", "a@b.c"}, "set both"},
		{"a proxy that is no network", []string{"serve", "--trusted-proxies", "10.0.0.1"}, "10.0.0.0/8"},
		{"a public URL without scheme", []string{"serve", "--public-url", "vedette.example"}, "https://vedette.example.org"},
		{"a demo on real servers", []string{"serve", "--demo", "--database", "postgres://h/x", "--queue", "redis://h/0"}, "--demo"},
		{"a profiler for everybody", []string{"serve", "--pprof", "0.0.0.0:6060"}, "127.0.0.1:6060"},
		{"an unknown flag", []string{"serve", "--lisen", ":1"}, "--listen"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(t, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.mend) {
				t.Errorf("%v: got error %v, want one that says %q", c.args, err, c.mend)
			}
		})
	}
}

func TestFlagsGoBeforeEnvironmentBeforeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vedette.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:1\nregion: file\nroles: [all]\nconcurrency: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VEDETTE_LISTEN", "127.0.0.1:2")
	t.Setenv("VEDETTE_REGION", "env")
	s, err := parse(t, "--config", file, "serve", "--listen", "127.0.0.1:3")
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "127.0.0.1:3" || s.Region != "env" || s.Concurrency != 7 {
		t.Errorf("got listen %s, region %s, concurrency %d; want 127.0.0.1:3, env, 7", s.Listen, s.Region, s.Concurrency)
	}
	if !s.Has(RoleScheduler) || !s.Embedded() {
		t.Errorf("got roles %v, embedded %v; want every role, embedded", s.Roles, s.Embedded())
	}
}

func TestAnUnknownKeyOfTheFileNamesTheNearest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vedette.yaml")
	if err := os.WriteFile(file, []byte("lisen: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := parse(t, "--config", file, "serve")
	if err == nil || !strings.Contains(err.Error(), `did you mean "listen"?`) {
		t.Errorf("got %v, want a suggestion of listen", err)
	}
}
