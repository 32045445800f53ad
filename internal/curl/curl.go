// Package curl reads a curl command line, as people have it in their shell history and
// browsers copy it, and says which monitor makes the same request. It runs nothing and
// reads no file but those the caller lets it.
//
// What changes the request is taken over, or is an error that names the option: a
// monitor that silently differs from the line would be believed. What only says how
// curl reports is left out.
package curl

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"vedette/internal/service"
	"vedette/internal/uptime"
)

// config is the part of the http type's config that a line may set.
type config struct {
	Method          string            `json:"method,omitempty"`
	Headers         map[string]string `json:"headers,omitempty"`
	Body            string            `json:"body,omitempty"`
	FollowRedirects bool              `json:"follow_redirects"` // curl's default is not ours
	MaxRedirects    *int              `json:"max_redirects,omitempty"`
	Auth            *auth             `json:"auth,omitempty"`
	TLS             *tls              `json:"tls,omitempty"`
	IPVersion       string            `json:"ip_version,omitempty"`
	Resolver        string            `json:"resolver,omitempty"`
	Version         string            `json:"http_version,omitempty"`
	Proxy           string            `json:"proxy,omitempty"`
	ProxyUsername   string            `json:"proxy_username,omitempty"`
	ProxyPassword   string            `json:"proxy_password,omitempty"`
}

// auth and tls hold secrets as plain text, since this is how they are sent to the API.
type auth struct {
	Kind     string `json:"kind"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`
}

type tls struct {
	CAPEM         string `json:"ca_pem,omitempty"`
	ClientCertPEM string `json:"client_cert_pem,omitempty"`
	ClientKeyPEM  string `json:"client_key_pem,omitempty"`
	SkipVerify    bool   `json:"skip_verify,omitempty"`
}

// command is a line that is being read.
type command struct {
	config
	read     func(name string) ([]byte, error)
	url      string
	names    map[string]bool // of headers, in lower case
	literal  bool            // -g: brackets of the URL stand for themselves
	host     string          // of a Host header, empty without
	length   string          // of a Content-Length header, empty without
	cookies  []string        // of -b
	data     []string
	json     bool // --json: its pieces are joined as they are
	get      bool // -G: the data goes into the query
	head     bool
	digest   bool
	maxTime  time.Duration
	connect  time.Duration
	fallback map[string]string // headers that the data brings, unless the line names them
}

// Parse is the monitor of a command line, with or without the word curl before it. read
// reads the files it names (certificates, bodies). Errors are of kind uptime.Invalid.
func Parse(line string, read func(name string) ([]byte, error)) (service.MonitorBody, error) {
	list, err := words(line)
	if err != nil {
		return service.MonitorBody{}, wrong("the command line %v", err)
	}
	if len(list) > 0 && list[0] == "curl" {
		list = list[1:]
	}
	c := &command{read: read, names: map[string]bool{}, fallback: map[string]string{}}
	c.Headers = map[string]string{}
	if err := c.readAll(list); err != nil {
		return service.MonitorBody{}, err
	}
	return c.monitor()
}

func wrong(format string, args ...any) error {
	return uptime.Errorf(uptime.Invalid, "curl: "+format, args...)
}

// readAll reads every word.
func (c *command) readAll(list []string) error {
	for len(list) > 0 {
		word := list[0]
		list = list[1:]
		switch {
		case word == "--":
			for _, u := range list {
				if err := c.setURL(u); err != nil {
					return err
				}
			}
			return nil
		case strings.HasPrefix(word, "--"):
			rest, err := c.long(word, list)
			if err != nil {
				return err
			}
			list = rest
		case len(word) > 1 && word[0] == '-':
			rest, err := c.short(word, list)
			if err != nil {
				return err
			}
			list = rest
		default:
			if err := c.setURL(word); err != nil {
				return err
			}
		}
	}
	return nil
}

// long reads an option and its value, and returns the words after.
func (c *command) long(word string, rest []string) ([]string, error) {
	o, ok := options[word]
	if !ok {
		return nil, wrong("%s cannot be honoured: it is not an option that a monitor has a place for", word)
	}
	return c.apply(word, o, "", rest)
}

// short reads letters in one word: -sSL, -XPOST.
func (c *command) short(word string, rest []string) ([]string, error) {
	for i, letter := range word[1:] {
		name := "-" + string(letter)
		o, ok := options[shorts[name]]
		if !ok {
			return nil, wrong("%s cannot be honoured: it is not an option that a monitor has a place for", name)
		}
		glued := word[1+i+utf8.RuneLen(letter):]
		if !o.value {
			glued = ""
		}
		left, err := c.apply(name+" ("+shorts[name]+")", o, glued, rest)
		if err != nil || o.value {
			return left, err
		}
	}
	return rest, nil
}

// apply carries out one option. Its value is glued, if that is not empty, or the next
// word.
func (c *command) apply(name string, o option, glued string, rest []string) ([]string, error) {
	value := glued
	if o.value && glued == "" {
		if len(rest) == 0 {
			return nil, wrong("%s has no value after it", name)
		}
		value, rest = rest[0], rest[1:]
	}
	if o.refused != "" {
		return nil, wrong("%s cannot be honoured: %s", name, o.refused)
	}
	if o.do == nil {
		return rest, nil // of how curl reports
	}
	if err := o.do(c, value); err != nil {
		return nil, wrong("%s %v", name, err)
	}
	return rest, nil
}

func (c *command) setURL(raw string) error {
	if c.url != "" {
		return wrong("the line has more than one URL; a monitor has one")
	}
	if c.url = raw; raw == "" {
		return wrong("the URL is empty")
	}
	return nil
}

// monitor is the monitor of what was read.
func (c *command) monitor() (service.MonitorBody, error) {
	var none service.MonitorBody
	if c.url == "" {
		return none, wrong("the line has no URL")
	}
	if err := c.unglob(); err != nil {
		return none, err
	}
	if !strings.Contains(c.url, "://") {
		c.url = "http://" + c.url // as curl does
	}
	u, err := url.Parse(c.url)
	if err != nil {
		return none, wrong("the URL cannot be read")
	}
	if u.User != nil && c.Auth == nil {
		password, _ := u.User.Password()
		c.Auth = &auth{Kind: "basic", Username: u.User.Username(), Password: password}
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if err := c.settle(u); err != nil {
		return none, err
	}
	if err := c.placeData(u); err != nil {
		return none, err
	}
	if c.length != "" && c.length != strconv.Itoa(len(c.Body)) {
		return none, wrong("the header Content-Length is %s and the data has %d bytes", c.length, len(c.Body))
	}
	if len(c.Headers) == 0 {
		c.Headers = nil
	}
	raw, err := json.Marshal(c.config)
	if err != nil {
		return none, err
	}
	m := service.MonitorBody{Name: u.Host + strings.TrimSuffix(u.Path, "/"), Type: "http", Target: u.String(), Config: raw}
	if m.Name = strings.ToValidUTF8(m.Name, "?"); len(m.Name) > 100 {
		m.Name = u.Host
	}
	if c.maxTime > 0 {
		m.Timeout = c.maxTime.String()
		if c.maxTime > uptime.DefaultInterval {
			m.Interval = c.maxTime.String()
		}
	}
	if c.connect > 0 {
		value, _ := json.Marshal(c.connect.String()) // a string
		m.Assertions = append(m.Assertions, uptime.Assertion{Source: "connect", Op: "le", Value: value})
	}
	return m, nil
}

// unglob takes the URL for what curl makes of it: without -g, brackets stand for many
// URLs, and a backslash before one, as browsers write it, takes that meaning away.
func (c *command) unglob() error {
	if c.literal {
		return nil
	}
	var out strings.Builder
	scheme, rest, ok := strings.Cut(c.url, "://")
	if !ok {
		scheme, rest = "", c.url
	}
	authority, _, _ := strings.Cut(rest, "/")
	begin, host := strings.LastIndexByte(authority, '@')+1, 0
	if end := strings.IndexByte(authority, ']'); end > begin && rest[begin] == '[' {
		if a, _, _ := strings.Cut(rest[begin+1:end], "%"); strings.Contains(a, ":") {
			host = end + 1 // an address of IPv6
		}
	}
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest) && strings.IndexByte("[]{}", rest[i+1]) >= 0:
			i++
			out.WriteByte(rest[i])
		case strings.HasPrefix(rest[i:], "[]"): // as in a[]=1, for curl too
			i++
			out.WriteString("[]")
		case (i < begin || i >= host) && strings.IndexByte("[]{}", c) >= 0:
			return wrong("the URL has %q, by which curl makes several of it: write a backslash before it, or -g if it stands for itself", c)
		default:
			out.WriteByte(c)
		}
	}
	if c.url = out.String(); ok {
		c.url = scheme + "://" + c.url
	}
	return nil
}

// settle is what an option means beside the others.
func (c *command) settle(u *url.URL) error {
	if c.host != "" && !strings.EqualFold(c.host, u.Host) {
		return wrong("the header Host is %s, and a check sends that of its target, %s", c.host, u.Host)
	}
	if len(c.cookies) > 0 {
		if err := c.setHeader("Cookie", strings.Join(c.cookies, "; ")); err != nil {
			return wrong("-b (--cookie) %v", err)
		}
	}
	if c.digest {
		if c.Auth == nil || c.Auth.Kind != "basic" {
			return wrong("--digest needs the name and password of -u (--user)")
		}
		c.Auth.Kind = "digest"
	}
	switch {
	case c.Version == "h2c" && u.Scheme == "https":
		c.Version = "2"
	case c.Version == "2" && u.Scheme != "https":
		return wrong("--http2 cannot be honoured without TLS: use --http2-prior-knowledge")
	}
	return nil
}

// placeData puts the data where curl does, and chooses the method that follows from it.
func (c *command) placeData(u *url.URL) error {
	separator := "&"
	if c.json {
		separator = ""
	}
	data := strings.Join(c.data, separator)
	switch {
	case !utf8.ValidString(data):
		return wrong("the data is not text in UTF-8, and a monitor's body is text")
	case c.head && len(c.data) > 0 && !c.get:
		return wrong("-I (--head) and data cannot go together")
	case c.get && len(c.data) > 0:
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+data, "&")
	case len(c.data) > 0:
		c.Body = data
		c.Method = cmp.Or(c.Method, "POST")
		for name, value := range c.fallback {
			if !c.names[strings.ToLower(name)] {
				c.Headers[name] = value
			}
		}
	}
	if c.head {
		c.Method = cmp.Or(c.Method, "HEAD")
	}
	return nil
}

// setHeader adds a header that curl would send.
func (c *command) setHeader(name, value string) error {
	if c.names[strings.ToLower(name)] {
		return fmt.Errorf("names the header %s a second time; a monitor sends each once", name)
	}
	c.names[strings.ToLower(name)] = true
	c.Headers[name] = value
	return nil
}

// file is a file that the line names.
func (c *command) file(name string) (string, error) {
	if name == "-" {
		return "", fmt.Errorf("reads standard input, which is not there for it: write the value itself, or name a file")
	}
	b, err := c.read(name)
	if err != nil {
		return "", fmt.Errorf("names a file that cannot be read: %w", err)
	}
	if len(b) > maxLine {
		return "", fmt.Errorf("names a file of more than %d bytes", maxLine)
	}
	return string(b), nil
}

func (c *command) tls() *tls {
	if c.TLS == nil {
		c.TLS = &tls{}
	}
	return c.TLS
}

// seconds is a time as curl takes it: seconds, with a fraction.
func seconds(v string) (time.Duration, error) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1e6 {
		return 0, fmt.Errorf("must be a number of seconds, not %q", v)
	}
	return time.Duration(f * float64(time.Second)).Round(time.Millisecond), nil
}
