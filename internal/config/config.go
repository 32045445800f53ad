// Package config is the table of everything that can be set: one struct whose
// fields are the flags, the environment variables (VEDETTE_…) and the keys of the
// configuration file, in that order of precedence, with defaults and help.
//
// docs/options.md is generated from it. It decides nothing but whether a
// combination makes sense; Validate refuses nonsense with the mend.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Roles a process can play.
const (
	RoleAPI       = "api"
	RoleScheduler = "scheduler"
	RoleWorker    = "worker"
	RoleNotifier  = "notifier"
)

// allRoles are the roles in the order they are started.
var allRoles = []string{RoleAPI, RoleNotifier, RoleWorker, RoleScheduler}

// Storage says where the truth is kept. Every command that touches it takes these.
type Storage struct {
	Data     string `help:"Folder for the database, the key and the logs of the embedded mode; made with mode 0700." default:"./data" env:"VEDETTE_DATA" placeholder:"DIR"`
	Database string `help:"Where the truth is kept: sqlite (a file in --data), sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME." default:"sqlite" env:"VEDETTE_DATABASE" placeholder:"URL"`
	KeyFile  string `name:"key-file" help:"File with the 32-byte key (base64) that seals secrets; made on first use. Every process of one installation needs the same. Default: DATA/key." env:"VEDETTE_KEY_FILE" placeholder:"FILE"`
	Key      string `help:"The key itself (base64, 32 bytes), instead of a file." env:"VEDETTE_KEY" placeholder:"KEY"`
}

// Logging says how much is said, and in which form.
type Logging struct {
	LogLevel  string `help:"Least level that is logged: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" env:"VEDETTE_LOG_LEVEL"`
	LogFormat string `help:"text, json, or auto: text on a terminal, else json." enum:"auto,text,json" default:"auto" env:"VEDETTE_LOG_FORMAT"`
}

// Serve are the options of the running product.
type Serve struct {
	Storage `embed:""`
	Logging `embed:""`

	Listen         string        `help:"Address and port of the API and pages. Port 0 takes a free one." default:"127.0.0.1:8080" env:"VEDETTE_LISTEN" placeholder:"ADDR"`
	PublicURL      string        `help:"How people reach this installation; when it is https, cookies are sent over TLS only." env:"VEDETTE_PUBLIC_URL" placeholder:"URL"`
	Queue          string        `help:"memory, or redis://HOST:PORT/DB when roles run in several processes." default:"memory" env:"VEDETTE_QUEUE" placeholder:"URL"`
	Roles          []string      `help:"Roles of this process: all, or some of api, scheduler, worker, notifier." default:"all" env:"VEDETTE_ROLES"`
	Region         string        `help:"Region that this process's workers check from, and that its scheduler serves by default." default:"default" env:"VEDETTE_REGION"`
	PrivateTargets string        `help:"allow, deny, or networks that may be dialled though they are private. Cloud metadata addresses are always denied unless listed. Default: allow." default:"allow" env:"VEDETTE_PRIVATE_TARGETS" placeholder:"POLICY"`
	SMTP           string        `name:"smtp" help:"Mail server for channels that name none: smtp://USER:PASSWORD@HOST:587?from=ADDRESS or smtps://…:465." env:"VEDETTE_SMTP" placeholder:"URL"`
	Sentinels      []string      `help:"Addresses (host:port) that tell whether our own network works; two that fail decide. None: local signs, and that targets of three networks and more fall silent at once." env:"VEDETTE_SENTINELS" placeholder:"HOST:PORT"`
	TrustedProxies []string      `help:"Networks of load balancers whose X-Forwarded-For is believed." env:"VEDETTE_TRUSTED_PROXIES" placeholder:"CIDR"`
	Concurrency    int           `help:"Checks that one worker runs at once." default:"2000" env:"VEDETTE_CONCURRENCY"`
	KeepResults    time.Duration `help:"How long single results are kept." default:"720h" env:"VEDETTE_KEEP_RESULTS"`
	KeepHourly     time.Duration `help:"How long hourly figures are kept. Daily ones and incidents are kept for ever." default:"9528h" env:"VEDETTE_KEEP_HOURLY"`
	AdminEmail     string        `help:"Makes the first administrator at start, when there is no user yet." env:"VEDETTE_ADMIN_EMAIL"`
	AdminPassword  string        `help:"Password of that administrator; 12 characters at least. Better given in the environment." env:"VEDETTE_ADMIN_PASSWORD" placeholder:"PASSWORD"`
	Pprof          string        `help:"Loopback address on which Go's profiler (net/http/pprof) answers, for finding where time goes. Off by default." env:"VEDETTE_PPROF" placeholder:"ADDR"`
	Demo           bool          `help:"Add a flaky local target, a few monitors and a local mail sink, so that an outage, an incident and an alert are seen within a minute." env:"VEDETTE_DEMO"`
}

// Embedded reports whether everything runs in this process.
func (s *Serve) Embedded() bool { return s.Queue == "memory" }

// Has reports whether this process plays role.
func (s *Serve) Has(role string) bool { return slices.Contains(s.Roles, role) }

// DatabaseURL is "sqlite:FILE" or "postgres://…".
func (s *Storage) DatabaseURL() string {
	if s.Database == "sqlite" {
		return "sqlite:" + filepath.Join(s.Data, "vedette.db")
	}
	return s.Database
}

// SQLite reports whether the database is a file of this machine.
func (s *Storage) SQLite() bool { return strings.HasPrefix(s.DatabaseURL(), "sqlite:") }

// KeyPath is the file of the sealing key, whether or not it exists yet.
func (s *Storage) KeyPath() string {
	if s.KeyFile != "" {
		return s.KeyFile
	}
	return filepath.Join(s.Data, "key")
}

// Prepare makes the data folder when something is to be kept in it.
func (s *Storage) Prepare() error {
	if !s.SQLite() && (s.Key != "" || s.KeyFile != "") {
		return nil
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("--data %s: %w: choose a folder that this user may write", s.Data, err)
	}
	return nil
}

// Validate refuses a database that we do not speak.
func (s *Storage) Validate() error {
	d := s.DatabaseURL()
	if strings.HasPrefix(d, "sqlite:") && len(d) > len("sqlite:") {
		return nil
	}
	u, err := url.Parse(d)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Path == "" {
		return usage("--database is neither sqlite nor a postgres:// URL: write --database sqlite, or --database postgres://user:password@host:5432/vedette")
	}
	return nil
}

// Validate fills defaults that depend on others and refuses combinations that
// cannot work, each with a sentence that says what to do.
func (s *Serve) Validate() error {
	if err := s.Storage.Validate(); err != nil {
		return err
	}
	if slices.Contains(s.Roles, "all") {
		s.Roles = allRoles
	}
	for _, r := range s.Roles {
		if !slices.Contains(allRoles, r) {
			return usage("--roles: %q is none of all, api, scheduler, worker, notifier", r)
		}
	}
	if err := s.validateQueue(); err != nil {
		return err
	}
	if err := s.validateAddresses(); err != nil {
		return err
	}
	for _, p := range s.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			return usage("--trusted-proxies: %q is not a network: write it like 10.0.0.0/8", p)
		}
	}
	if s.Concurrency < 1 || s.Concurrency > 100_000 {
		return usage("--concurrency %d: choose 1 to 100000", s.Concurrency)
	}
	if s.KeepResults < 48*time.Hour {
		return usage("--keep-results %s: keep at least 48h, the hourly figures are made from them", s.KeepResults)
	}
	if s.KeepHourly < 48*time.Hour {
		return usage("--keep-hourly %s: keep at least 48h, the daily figures are made from the hourly ones", s.KeepHourly)
	}
	if (s.AdminEmail == "") != (s.AdminPassword == "") {
		return usage("VEDETTE_ADMIN_EMAIL and VEDETTE_ADMIN_PASSWORD go together: set both or neither")
	}
	if s.Pprof != "" {
		if addr, err := netip.ParseAddrPort(s.Pprof); err != nil || !addr.Addr().IsLoopback() {
			return usage("--pprof %q: the profiler shows what is in memory, so it answers on this machine only: write it like 127.0.0.1:6060", s.Pprof)
		}
	}
	if s.Demo && !s.Embedded() {
		return usage("--demo runs by itself: leave out --queue and --database")
	}
	return s.validatePublicURL()
}

// validateAddresses refuses what could not be listened on, dialled or named.
func (s *Serve) validateAddresses() error {
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return usage("--listen %q: write an address and a port, like 127.0.0.1:8080, or :8080 for every address", s.Listen)
	}
	for _, a := range s.Sentinels {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return usage("--sentinels: %q is not host:port: write it like 192.0.2.1:443", a)
		}
	}
	if !isRegionName(s.Region) {
		return usage("--region %q: use 1 to 64 letters, digits, dots, dashes and underscores, like eu-north", s.Region)
	}
	return nil
}

// isRegionName reports whether a region may be called name, which is part of a queue's
// name. As a regular expression it would take 2.4 MB of every process's memory, for
// the classes of Unicode 64 times.
func isRegionName(name string) bool {
	allowed := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) || strings.ContainsRune("._-", r) }
	n := utf8.RuneCountInString(name)
	return n > 0 && n <= 64 && !strings.ContainsFunc(name, func(r rune) bool { return !allowed(r) })
}

func (s *Serve) validateQueue() error {
	if s.Queue == "memory" {
		if len(s.Roles) != len(allRoles) {
			return usage("--queue memory lives inside one process, so it needs all roles: leave out --roles, or add --queue redis://… and --database postgres://…")
		}
		return nil
	}
	u, err := url.Parse(s.Queue)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix") {
		return usage("--queue is neither memory nor a redis:// URL: write --queue redis://host:6379/0")
	}
	if s.SQLite() {
		return usage("--queue redis:// is for several processes, and SQLite is a file of one: add --database postgres://user:password@host/vedette, or leave out --queue")
	}
	return nil
}

func (s *Serve) validatePublicURL() error {
	if s.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(s.PublicURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return usage("--public-url %q: write it like https://vedette.example.org", s.PublicURL)
	}
	return nil
}

func usage(format string, args ...any) error { return UsageError(fmt.Sprintf(format, args...)) }
