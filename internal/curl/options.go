package curl

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// option is what becomes of one option. Without do and refused it only says how curl
// reports, and is left out.
type option struct {
	value   bool
	do      func(c *command, value string) error
	refused string // why it cannot be honoured
}

// shorts are the letters of options.
var shorts = map[string]string{
	"-X": "--request", "-H": "--header", "-d": "--data", "-u": "--user", "-k": "--insecure", "-L": "--location", "-I": "--head",
	"-G": "--get", "-b": "--cookie", "-A": "--user-agent", "-e": "--referer", "-E": "--cert", "-m": "--max-time", "-r": "--range",
	"-4": "--ipv4", "-6": "--ipv6", "-x": "--proxy", "-F": "--form", "-T": "--upload-file", "-0": "--http1.0", "-n": "--netrc",
	"-K": "--config", "-:": "--next", "-z": "--time-cond", "-p": "--proxytunnel", "-U": "--proxy-user", "-a": "--append",
	"-y": "--speed-time", "-Y": "--speed-limit", "-C": "--continue-at", "-1": "--tlsv1", "-2": "--sslv2", "-3": "--sslv3",
	"-s": "--silent", "-S": "--show-error", "-o": "--output", "-O": "--remote-name", "-v": "--verbose", "-i": "--include",
	"-w": "--write-out", "-#": "--progress-bar", "-f": "--fail", "-N": "--no-buffer", "-D": "--dump-header", "-c": "--cookie-jar",
	"-g": "--globoff", "-q": "--disable", "-J": "--remote-header-name", "-R": "--remote-time", "-j": "--junk-session-cookies",
}

// options are all that are known, by their long names.
var options = map[string]option{
	"--url":     {value: true, do: (*command).setURL},
	"--request": {value: true, do: func(c *command, v string) error { c.Method = v; return nil }},
	"--header":  {value: true, do: (*command).header},
	"--head":    {do: func(c *command, _ string) error { c.head = true; return nil }},
	"--get":     {do: func(c *command, _ string) error { c.get = true; return nil }},

	"--data":           {value: true, do: (*command).addData},
	"--data-ascii":     {value: true, do: (*command).addData},
	"--data-raw":       {value: true, do: func(c *command, v string) error { return c.form(v) }},
	"--data-binary":    {value: true, do: (*command).addBinary},
	"--data-urlencode": {value: true, do: (*command).addEncoded},
	"--json":           {value: true, do: (*command).addJSON},

	"--user":          {value: true, do: (*command).user},
	"--basic":         {},
	"--oauth2-bearer": {value: true, do: func(c *command, v string) error { c.Auth = &auth{Kind: "bearer", Token: v}; return nil }},
	"--cookie":        {value: true, do: (*command).cookie},
	"--user-agent":    {value: true, do: func(c *command, v string) error { return c.setHeader("User-Agent", v) }},
	"--referer":       {value: true, do: (*command).referer},
	"--range":         {value: true, do: func(c *command, v string) error { return c.setHeader("Range", "bytes="+v) }},

	"--insecure": {do: func(c *command, _ string) error { c.tls().SkipVerify = true; return nil }},
	"--cacert":   {value: true, do: func(c *command, v string) (err error) { c.tls().CAPEM, err = c.file(v); return err }},
	"--cert":     {value: true, do: (*command).cert},
	"--key":      {value: true, do: func(c *command, v string) (err error) { c.tls().ClientKeyPEM, err = c.file(v); return err }},
	"--tlsv1.2":  {}, // the oldest that a monitor calls up

	"--location":              {do: func(c *command, _ string) error { c.FollowRedirects = true; return nil }},
	"--max-redirs":            {value: true, do: (*command).maxRedirects},
	"--max-time":              {value: true, do: func(c *command, v string) (err error) { c.maxTime, err = seconds(v); return err }},
	"--connect-timeout":       {value: true, do: func(c *command, v string) (err error) { c.connect, err = seconds(v); return err }},
	"--ipv4":                  {do: func(c *command, _ string) error { c.IPVersion = "4"; return nil }},
	"--ipv6":                  {do: func(c *command, _ string) error { c.IPVersion = "6"; return nil }},
	"--dns-servers":           {value: true, do: (*command).dnsServer},
	"--proxy":                 {value: true, do: (*command).proxy},
	"--proxy-user":            {value: true, do: (*command).proxyUser},
	"--proxytunnel":           {}, // a check always does
	"--socks5-hostname":       {value: true, do: func(c *command, v string) error { return c.proxy("socks5h://" + v) }},
	"--digest":                {do: func(c *command, _ string) error { c.digest = true; return nil }},
	"--http1.1":               {},
	"--http2":                 {do: func(c *command, _ string) error { c.Version = "2"; return nil }},
	"--http2-prior-knowledge": {do: func(c *command, _ string) error { c.Version = "h2c"; return nil }},
	"--compressed":            {}, // a monitor always asks for it

	"--globoff": {do: func(c *command, _ string) error { c.literal = true; return nil }},

	"--form":             {value: true, refused: "a monitor's body is text; write it with --data-raw and its Content-Type"},
	"--form-string":      {value: true, refused: "a monitor's body is text; write it with --data-raw and its Content-Type"},
	"--upload-file":      {value: true, refused: "use --data-binary @FILE with -X PUT"},
	"--preproxy":         {value: true, refused: "a check goes through one proxy"},
	"--socks5":           {value: true, refused: "a proxy of a check looks the name up itself; use --socks5-hostname"},
	"--resolve":          {value: true, refused: "a check looks the name up afresh each time; name a DNS server with --dns-servers, or the address in the URL"},
	"--connect-to":       {value: true, refused: "a check dials the target that it names"},
	"--http1.0":          {refused: "checks speak HTTP/1.1 and HTTP/2"},
	"--http3":            {refused: "checks speak HTTP/1.1 and HTTP/2"},
	"--http3-only":       {refused: "checks speak HTTP/1.1 and HTTP/2"},
	"--ntlm":             {refused: "basic, digest and bearer authentication are spoken"},
	"--negotiate":        {refused: "basic, digest and bearer authentication are spoken"},
	"--anyauth":          {refused: "say which with -u, --digest or --oauth2-bearer"},
	"--aws-sigv4":        {value: true, refused: "a signature is made anew for each request"},
	"--netrc":            {refused: "write the credentials with -u"},
	"--netrc-file":       {value: true, refused: "write the credentials with -u"},
	"--location-trusted": {refused: "credentials never go to another host; use -L"},
	"--pass":             {value: true, refused: "the key must not be encrypted; it is kept sealed"},
	"--capath":           {value: true, refused: "name one file with --cacert"},
	"--tlsv1":            {refused: "versions before TLS 1.2 are down, tls_version"},
	"--tlsv1.0":          {refused: "versions before TLS 1.2 are down, tls_version"},
	"--tlsv1.1":          {refused: "versions before TLS 1.2 are down, tls_version"},
	"--config":           {value: true, refused: "write its options on the line"},
	"--next":             {refused: "a monitor makes one request"},

	"--silent": {}, "--show-error": {}, "--output": {value: true}, "--remote-name": {}, "--verbose": {}, "--include": {},
	"--show-headers": {}, "--write-out": {value: true}, "--progress-bar": {}, "--no-progress-meter": {}, "--fail": {},
	"--fail-with-body": {}, "--no-buffer": {}, "--dump-header": {value: true}, "--cookie-jar": {value: true},
	"--disable": {}, "--remote-header-name": {}, "--remote-time": {}, "--output-dir": {value: true}, "--create-dirs": {},
	"--trace": {value: true}, "--trace-ascii": {value: true}, "--trace-time": {}, "--stderr": {value: true}, "--styled-output": {},
	"--no-styled-output": {}, "--no-keepalive": {}, "--keepalive-time": {value: true}, "--tcp-nodelay": {}, "--path-as-is": {},
	"--noproxy": {value: true}, "--junk-session-cookies": {},
}

func (c *command) header(v string) error {
	if strings.HasPrefix(v, "@") {
		return errors.New("reads headers from a file: write each on the line")
	}
	name, value, ok := strings.Cut(v, ":")
	value = strings.TrimSpace(value)
	if empty, found := strings.CutSuffix(name, ";"); found && !ok && empty != "" { // curl's form of a header without a value
		return c.setHeader(empty, "")
	}
	switch name = strings.TrimSpace(name); {
	case !ok || name == "":
		return errors.New(`must be written "Name: value"`)
	case value == "":
		return fmt.Errorf("would take the header %s away, which cannot be honoured", name)
	}
	switch strings.ToLower(name) {
	case "host": // browsers write these two down; they must be what a check sends
		c.host = value
		return nil
	case "content-length":
		c.length = value
		return nil
	case "connection", "keep-alive", "te":
		return connectionHeader(name, value)
	case "accept-encoding":
		return c.codings(name, value)
	}
	return c.setHeader(name, value)
}

// connectionHeader leaves out what only says how a browser keeps its connections.
func connectionHeader(name, value string) error {
	switch strings.ToLower(value) {
	case "keep-alive", "close", "trailers":
		return nil
	}
	if strings.EqualFold(name, "Keep-Alive") {
		return nil
	}
	return fmt.Errorf("sets the header %s, which a check sets itself", name)
}

// codings keeps those that a check can unpack: a browser asks for more, and a server
// that gave one of them would be down, decode.
func (c *command) codings(name, value string) error {
	var kept []string
	for item := range strings.SplitSeq(value, ",") {
		coding, _, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "deflate", "identity":
			kept = append(kept, strings.TrimSpace(item))
		}
	}
	if len(kept) == 0 {
		return fmt.Errorf("asks with %s for no coding that a check unpacks: name gzip, deflate or identity", name)
	}
	return c.setHeader(name, strings.Join(kept, ", "))
}

// form adds data of a form.
func (c *command) form(v string) error {
	c.data = append(c.data, v)
	c.fallback["Content-Type"] = "application/x-www-form-urlencoded"
	return nil
}

// addData adds data, or that of a file without its line ends, as curl does.
func (c *command) addData(v string) error {
	name, ok := strings.CutPrefix(v, "@")
	if !ok {
		return c.form(v)
	}
	text, err := c.file(name)
	if err != nil {
		return err
	}
	return c.form(strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(text))
}

func (c *command) addBinary(v string) error {
	name, ok := strings.CutPrefix(v, "@")
	if !ok {
		return c.form(v)
	}
	text, err := c.file(name)
	if err != nil {
		return err
	}
	return c.form(text)
}

// addEncoded adds "content", "=content", "name=content", "@file" or "name@file".
func (c *command) addEncoded(v string) error {
	name, content := "", v
	i := strings.IndexByte(v, '=')
	if i < 0 {
		i = strings.IndexByte(v, '@')
	}
	if i >= 0 {
		name, content = v[:i], v[i+1:]
		if v[i] == '@' {
			text, err := c.file(content)
			if err != nil {
				return err
			}
			content = text
		}
	}
	content = strings.ReplaceAll(url.QueryEscape(content), "+", "%20")
	if name != "" {
		content = name + "=" + content
	}
	return c.form(content)
}

func (c *command) addJSON(v string) error {
	if err := c.addBinary(v); err != nil {
		return err
	}
	c.json = true
	c.fallback["Content-Type"], c.fallback["Accept"] = "application/json", "application/json"
	return nil
}

func (c *command) user(v string) error {
	name, password, ok := strings.Cut(v, ":")
	if !ok {
		return errors.New(`must be written "name:password"; there is nobody to ask for the password`)
	}
	c.Auth = &auth{Kind: "basic", Username: name, Password: password}
	return nil
}

func (c *command) cookie(v string) error {
	if !strings.Contains(v, "=") {
		return errors.New(`names a file of cookies, which a check does not keep: write "name=value"`)
	}
	c.cookies = append(c.cookies, v)
	return nil
}

func (c *command) referer(v string) error {
	if strings.HasSuffix(v, ";auto") {
		return errors.New("cannot follow redirects with ;auto: write the address")
	}
	return c.setHeader("Referer", v)
}

// cert is a certificate in PEM form; a password after a colon is not for files.
func (c *command) cert(v string) (err error) {
	if c.tls().ClientCertPEM, err = c.file(v); err != nil {
		return err
	}
	if c.TLS.ClientKeyPEM == "" && strings.Contains(c.TLS.ClientCertPEM, "PRIVATE KEY") {
		c.TLS.ClientKeyPEM = c.TLS.ClientCertPEM // one file may hold both
	}
	return nil
}

func (c *command) maxRedirects(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return errors.New("must be a number of redirects, 0 or more")
	}
	c.MaxRedirects = &n
	return nil
}

func (c *command) dnsServer(v string) error {
	if strings.Contains(v, ",") {
		return errors.New("names more than one server; a monitor asks one")
	}
	c.Resolver = v
	return nil
}

// proxy is "[scheme://][user:password@]host[:port]"; the scheme is http and the port
// 1080 if nothing is said.
func (c *command) proxy(v string) error {
	if !strings.Contains(v, "://") {
		v = "http://" + v
	}
	u, err := url.Parse(v)
	if err != nil || u.Hostname() == "" {
		return errors.New("is not the address of a proxy")
	}
	switch u.Scheme {
	case "http", "https":
	case "socks5h":
		u.Scheme = "socks5"
	default:
		return fmt.Errorf("has the scheme %s, which cannot be honoured: http, https and socks5h can, whose proxies look the name up", u.Scheme)
	}
	if u.Port() == "" {
		u.Host += ":1080"
	}
	if u.User != nil {
		c.ProxyUsername = u.User.Username()
		c.ProxyPassword, _ = u.User.Password()
	}
	c.Proxy = u.Scheme + "://" + u.Host
	return nil
}

func (c *command) proxyUser(v string) error {
	name, password, ok := strings.Cut(v, ":")
	if !ok {
		return errors.New(`must be written "name:password"; there is nobody to ask for the password`)
	}
	c.ProxyUsername, c.ProxyPassword = name, password
	return nil
}
