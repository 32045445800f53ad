package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vedette/internal/uptime"
)

const (
	maxURL     = 2048 // bytes
	maxHeaders = 32
	maxHeader  = 4096 // bytes of one header's value
)

// webhookConfig is a webhook channel's config. All but the name of the host is
// confidential: tokens live in paths, queries and headers.
type webhookConfig struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Secret  string            `json:"secret,omitempty"`
}

// decodeWebhook reads a stored config.
func decodeWebhook(raw []byte) (webhookConfig, error) {
	var c webhookConfig
	if err := decodeStrict(raw, &c); err != nil {
		return c, err
	}
	if _, err := secretKey(c.Secret); err != nil {
		return c, err
	}
	return c, checkURL(c.URL)
}

// secrets are the texts that must not appear in a log.
func (c webhookConfig) secrets() []string {
	s := []string{c.Secret, strings.TrimPrefix(c.Secret, secretPrefix), c.URL}
	if u, err := url.Parse(c.URL); err == nil {
		if len(u.Path) >= 8 { // "/hook" is no secret, and masking it would garble replies
			s = append(s, u.RequestURI(), u.Path)
		}
		if u.RawQuery != "" {
			s = append(s, u.RawQuery)
			for _, vs := range u.Query() {
				s = append(s, vs...)
			}
		}
	}
	for _, v := range c.Headers {
		s = append(s, v)
		if _, credential, ok := strings.Cut(v, " "); ok { // "Bearer …"
			s = append(s, credential)
		}
	}
	return s
}

// Check validates a config, and makes the signing secret when there is none, to be
// revealed once under "secret".
func (*Webhook) Check(config []byte) ([]byte, map[string]string, error) {
	var c webhookConfig
	if err := decodeStrict(config, &c); err != nil {
		return nil, nil, uptime.InvalidField("config", "%s", err)
	}
	var p uptime.Problems
	if err := checkURL(c.URL); err != nil {
		p.Add("config.url", "%s", err)
	}
	checkHeaders(&p, c.Headers)
	var reveal map[string]string
	if c.Secret == "" {
		c.Secret = newSecret()
		reveal = map[string]string{"secret": c.Secret}
	} else if _, err := secretKey(c.Secret); err != nil {
		p.Add("config.secret", "%s; leave it out to have one made", err)
	}
	if err := p.Err(); err != nil {
		return nil, nil, err
	}
	stored, err := json.Marshal(c)
	return stored, reveal, err
}

// Redact hides the secret, every header's value, and of the URL all but its host:
// many receivers know their callers by its path.
func (*Webhook) Redact(config []byte) ([]byte, error) {
	var c webhookConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, errors.New("webhook config cannot be read")
	}
	if c.Secret != "" {
		c.Secret = uptime.Redacted
	}
	if u, err := url.Parse(c.URL); err == nil && strings.Trim(u.RequestURI(), "/") != "" {
		c.URL = u.Scheme + "://" + u.Host + "/" + uptime.Redacted
	}
	for k := range c.Headers {
		c.Headers[k] = uptime.Redacted
	}
	return json.Marshal(c)
}

// checkURL says what is wrong with a receiver's URL, without repeating it.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("is required")
	case len(s) > maxURL:
		return fmt.Errorf("is longer than %d bytes", maxURL)
	case err != nil:
		return errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must begin with https:// or http://")
	case u.Hostname() == "":
		return errors.New("names no host")
	case u.User != nil:
		return errors.New("must not hold a user or password; send them in headers")
	case u.Fragment != "":
		return errors.New("must not have a fragment")
	case strings.HasSuffix(s, "/"+uptime.Redacted):
		return errors.New("is redacted; give the whole URL")
	}
	return nil
}

// checkHeaders refuses headers that are ours, the connection's, or malformed.
func checkHeaders(p *uptime.Problems, headers map[string]string) {
	if len(headers) > maxHeaders {
		p.Add("config.headers", "has more than %d entries", maxHeaders)
	}
	for k, v := range headers {
		path := "config.headers." + cut(oneLine(k), 64)
		switch name := textproto.CanonicalMIMEHeaderKey(k); {
		case !httpguts.ValidHeaderFieldName(k):
			p.Add(path, "is not a header name")
		case strings.HasPrefix(name, "Webhook-") || strings.HasPrefix(name, "X-Aws-Ec2-") || reserved[name]:
			p.Add(path, "is set by Vedette or belongs to the connection")
		case strings.EqualFold(k, "Metadata-Flavor") || strings.EqualFold(k, "Metadata"):
			p.Add(path, "is for cloud metadata services only")
		case !httpguts.ValidHeaderFieldValue(v) || len(v) > maxHeader:
			p.Add(path, "holds a control character, or more than %d bytes", maxHeader)
		case v == uptime.Redacted:
			p.Add(path, "is redacted; give the value itself")
		}
	}
}

// reserved are the headers that a config cannot set.
var reserved = map[string]bool{
	"Host": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true, "Connection": true,
	"Keep-Alive": true, "Upgrade": true, "Te": true, "Trailer": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Idempotency-Key": true, "User-Agent": true, "Expect": true,
	http.CanonicalHeaderKey("Accept-Encoding"): true,
}

// decodeStrict reads one JSON object and refuses what v does not know. Its errors
// name fields, never values.
func decodeStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return errors.New(strings.TrimSpace(e.Field + " must be of JSON type " + jsonKind(e.Type)))
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is not a JSON object")
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if d.More() {
		return errors.New("holds more than one JSON value")
	}
	return nil
}

// jsonKind names what JSON is wanted for a t: our types are no reader's business.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Map, reflect.Struct:
		return "object"
	case reflect.Slice:
		return "array"
	}
	return "number"
}
