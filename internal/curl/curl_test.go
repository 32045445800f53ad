package curl

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"vedette/internal/uptime"
)

// files are what the lines of these tests may name.
func files(name string) ([]byte, error) {
	text, ok := map[string]string{
		"body.txt": "one\r\ntwo\n", "ca.pem": "CA", "both.pem": "CERT PRIVATE KEY", "key.pem": "KEY", "binary": "\xff\xfe",
	}[name]
	if !ok {
		return nil, os.ErrNotExist
	}
	return []byte(text), nil
}

func TestALineBecomesTheMonitorThatMakesItsRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, line string
		target     string
		config     string
	}{
		{"a plain URL follows no redirect", `curl https://a.example/x`, "https://a.example/x", `{"follow_redirects":false}`},
		{"the word curl may be left out", `-L https://a.example/x`, "https://a.example/x", `{"follow_redirects":true}`},
		{"without a scheme it is http", `curl a.example:8080`, "http://a.example:8080", `{"follow_redirects":false}`},
		{"letters stand together, output options fall away", `curl -sSLkI -o /dev/null -w '%{http_code}' --fail "https://a.example/"`, "https://a.example/",
			`{"method":"HEAD","follow_redirects":true,"tls":{"skip_verify":true}}`},
		{"a value may be glued to its letter", `curl -XPUT -H'X-A: b' -dq https://a.example`, "https://a.example",
			`{"method":"PUT","headers":{"Content-Type":"application/x-www-form-urlencoded","X-A":"b"},"body":"q","follow_redirects":false}`},
		{"data makes a POST", `curl -d a=1 -d 'b=2 3' a.example`, "http://a.example",
			`{"method":"POST","headers":{"Content-Type":"application/x-www-form-urlencoded"},"body":"a=1&b=2 3","follow_redirects":false}`},
		{"data of a file loses its line ends, binary data does not", `curl -d @body.txt --data-binary @body.txt --data-raw @body.txt a.example`, "http://a.example",
			`{"method":"POST","headers":{"Content-Type":"application/x-www-form-urlencoded"},"body":"onetwo&one\r\ntwo\n&@body.txt","follow_redirects":false}`},
		{"encoded data", `curl -G --data-urlencode 'q=a b&c' --data-urlencode '=x/y' a.example/?z=1`, "http://a.example/?z=1&q=a%20b%26c&x%2Fy", `{"follow_redirects":false}`},
		{"JSON", `curl --json '{"a":' --json '1}' a.example`, "http://a.example",
			`{"method":"POST","headers":{"Accept":"application/json","Content-Type":"application/json"},"body":"{\"a\":1}","follow_redirects":false}`},
		{"a content type of its own stays", `curl -H 'content-type: text/xml' -d '<a/>' a.example`, "http://a.example",
			`{"method":"POST","headers":{"content-type":"text/xml"},"body":"<a/>","follow_redirects":false}`},
		{"credentials", `curl -u 'me:p:w' a.example`, "http://a.example", `{"follow_redirects":false,"auth":{"kind":"basic","username":"me","password":"p:w"}}`},
		{"credentials of the URL are kept out of the target", `curl http://me:pw@a.example/#top`, "http://a.example/", `{"follow_redirects":false,"auth":{"kind":"basic","username":"me","password":"pw"}}`},
		{"a bearer token", `curl --oauth2-bearer tok a.example`, "http://a.example", `{"follow_redirects":false,"auth":{"kind":"bearer","token":"tok"}}`},
		{"cookie, agent, referer", `curl -b 'a=b; c=d' -A Me/1 -e http://b.example/ a.example`, "http://a.example",
			`{"headers":{"Cookie":"a=b; c=d","Referer":"http://b.example/","User-Agent":"Me/1"},"follow_redirects":false}`},
		{"certificates", `curl --cacert ca.pem --cert both.pem --key key.pem https://a.example`, "https://a.example",
			`{"follow_redirects":false,"tls":{"ca_pem":"CA","client_cert_pem":"CERT PRIVATE KEY","client_key_pem":"KEY"}}`},
		{"one file with certificate and key", `curl -E both.pem https://a.example`, "https://a.example",
			`{"follow_redirects":false,"tls":{"client_cert_pem":"CERT PRIVATE KEY","client_key_pem":"CERT PRIVATE KEY"}}`},
		{"address family, resolver, redirects", `curl -4 --dns-servers 192.0.2.53 -L --max-redirs 3 a.example`, "http://a.example",
			`{"follow_redirects":true,"max_redirects":3,"ip_version":"4","resolver":"192.0.2.53"}`},
		{"a proxy", `curl -x me:pw@proxy.example https://a.example`, "https://a.example", `{"follow_redirects":false,"proxy":"http://proxy.example:1080","proxy_username":"me","proxy_password":"pw"}`},
		{"a proxy that looks names up", `curl --proxy socks5h://192.0.2.1:9050 -U me:pw https://a.example`, "https://a.example", `{"follow_redirects":false,"proxy":"socks5://192.0.2.1:9050","proxy_username":"me","proxy_password":"pw"}`},
		{"HTTP/2 over TLS", `curl --http2 https://a.example`, "https://a.example", `{"follow_redirects":false,"http_version":"2"}`},
		{"HTTP/2 without TLS", `curl --http2-prior-knowledge http://a.example`, "http://a.example", `{"follow_redirects":false,"http_version":"h2c"}`},
		{"digest", `curl --digest -u me:pw a.example`, "http://a.example", `{"follow_redirects":false,"auth":{"kind":"digest","username":"me","password":"pw"}}`},
		{"as a browser copies it", "curl 'https://a.example/api' \\\n  -H 'accept: */*' \\\r\n  -H $'x-odd: it\\'s \\u00fc' \\\n  --data-raw $'a\\nb' \\\n  --compressed ;", "", ""},
		{"as a browser copies it, to the end", "curl 'https://a.example/api' \\\n  -H 'accept: */*' \\\r\n  -H $'x-odd: it\\'s \\u00fc\\x21' \\\n  --data-raw $'a\\nb\\101' \\\n  --compressed", "https://a.example/api",
			`{"method":"POST","headers":{"Content-Type":"application/x-www-form-urlencoded","accept":"*/*","x-odd":"it's ü!"},"body":"a\nbA","follow_redirects":false}`},
		{"as Firefox copies it", `curl 'https://a.example/' --compressed -X POST -H 'Accept-Encoding: gzip, deflate, br, zstd' -H 'Connection: keep-alive' -H 'TE: trailers' -H 'Host: a.example' --data-raw 'a=1'`,
			"https://a.example/", `{"method":"POST","headers":{"Accept-Encoding":"gzip, deflate","Content-Type":"application/x-www-form-urlencoded"},"body":"a=1","follow_redirects":false}`},
		{"as Safari copies it", `curl 'https://a.example/' -X 'PUT' -H 'Content-Type: text/plain' -H 'Content-Length: 3' --data-binary 'a=1'`,
			"https://a.example/", `{"method":"PUT","headers":{"Content-Type":"text/plain"},"body":"a=1","follow_redirects":false}`},
		{"a header without a value", `curl 'https://a.example/' -H 'x-a;' -H 'x-b: ;'`, "https://a.example/", `{"headers":{"x-a":"","x-b":";"},"follow_redirects":false}`},
		{"brackets of a URL as browsers write them", `curl 'https://a.example/?q=\[1\]&b=\{x\}'`, "https://a.example/?q=[1]&b={x}", `{"follow_redirects":false}`},
		{"brackets with nothing in them", `curl 'https://a.example/?a[]=1'`, "https://a.example/?a[]=1", `{"follow_redirects":false}`},
		{"brackets that stand for themselves", `curl 'https://a.example/?q=[1]' -g`, "https://a.example/?q=[1]", `{"follow_redirects":false}`},
		{"an address in brackets", `curl 'http://[2001:db8::1]:8080/x'`, "http://[2001:db8::1]:8080/x", `{"follow_redirects":false}`},
		{"an address in brackets after a login", `curl 'http://me:pw@[2001:db8::1]/[x' -g`, "http://[2001:db8::1]/[x", `{"follow_redirects":false,"auth":{"kind":"basic","username":"me","password":"pw"}}`},
		{"several cookies", `curl -b a=1 -b 'b=2' a.example`, "http://a.example", `{"headers":{"Cookie":"a=1; b=2"},"follow_redirects":false}`},
		{"an at sign before the equals sign names no file", `curl -G --data-urlencode 'me@b=c d' a.example`, "http://a.example?me@b=c%20d", `{"follow_redirects":false}`},
		{"double quotes keep backslashes but before $ \" \\", `curl -H "X-A: \"\\\$HOME\n" a.example`, "http://a.example", `{"headers":{"X-A":"\"\\$HOME\\n"},"follow_redirects":false}`},
	} {
		m, err := Parse(c.line, files)
		if c.target == "" {
			if err == nil {
				t.Errorf("%s: no error", c.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if m.Target != c.target {
			t.Errorf("%s: target %s, want %s", c.name, m.Target, c.target)
		}
		var got, want any
		if json.Unmarshal(m.Config, &got) != nil || json.Unmarshal([]byte(c.config), &want) != nil {
			t.Fatalf("%s: config %s or %s is no JSON", c.name, m.Config, c.config)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if _, err := m.Checked(); err != nil {
			t.Errorf("%s: the API would refuse it: %v", c.name, err)
		}
	}
}

func TestTimesBecomeTheMonitors(t *testing.T) {
	t.Parallel()
	m, err := Parse(`curl -m 90.5 --connect-timeout 2 a.example`, files)
	if err != nil {
		t.Fatal(err)
	}
	if m.Timeout != "1m30.5s" || m.Interval != "1m30.5s" || len(m.Assertions) != 1 || m.Assertions[0].Source != "connect" || string(m.Assertions[0].Value) != `"2s"` {
		t.Errorf("got %+v, want timeout and interval of 90.5 s and a connect assertion of 2 s", m)
	}
}

func TestWhatCannotBeHonouredIsNamed(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		`curl`:                                     "no URL",
		`curl a.example b.example`:                 "more than one URL",
		`curl -x socks4://p:1 a.example`:           "-x (--proxy) has the scheme socks4",
		`curl --socks5 p:1 a.example`:              "--socks5 cannot be honoured",
		`curl --digest a.example`:                  "--digest needs",
		`curl --resolve a.example:443:127.0.0.1 x`: "--resolve cannot be honoured",
		`curl -F a=@b a.example`:                   "-F (--form) cannot be honoured",
		`curl --http2 a.example`:                   "--http2 cannot be honoured without TLS",
		`curl --frobnicate a.example`:              "--frobnicate cannot be honoured",
		`curl -sQ x a.example`:                     "-Q cannot be honoured",
		`curl -u me a.example`:                     "-u (--user) must be written",
		`curl -b jar.txt a.example`:                "-b (--cookie) names a file",
		`curl -d @missing a.example`:               "-d (--data) names a file that cannot be read",
		`curl -d @- a.example`:                     "-d (--data) reads standard input",
		`curl --data-binary @binary a.example`:     "not text",
		`curl -H ';' a.example`:                    "must be written",
		`curl -H 'Host: b' a.example`:              "the header Host is b",
		`curl -H 'Connection: upgrade' a.example`:  "sets the header Connection",
		`curl -H 'Accept-Encoding: br' a.example`:  "no coding",
		`curl -H 'Content-Length: 2' -d a a.b`:     "Content-Length is 2",
		`curl -b a=1 -H 'cookie: b=2' a.example`:   "a second time",
		`curl a.example/[1-3]`:                     "makes several",
		`curl 'http://me@[::1]/[1-2]'`:             "makes several",
		`curl 'http://{a,b}.example/'`:             "makes several",
		`curl ^"https://a.example^"`:               "Windows",
		"curl \"https://a.example\" ^\n  -k":       "Windows",
		`curl -H 'Accept:' a.example`:              "take the header Accept away",
		`curl -H 'A: b' -H 'a: c' a.example`:       "a second time",
		`curl -m`:                                  "-m (--max-time) has no value",
		`curl -m soon a.example`:                   "number of seconds",
		`curl -I -d x a.example`:                   "cannot go together",
		`curl "$URL"`:                              "a shell would replace",
		`curl ${URL}`:                              "a shell would replace",
		"curl `cat url`":                           "a shell would act",
		`curl a.example/?a=1&b=2`:                  "a shell would act",
		`curl a.example | jq .`:                    "a shell would act",
		`curl 'a.example`:                          "not closed",
		`curl "a.example`:                          "not closed",
		`curl $'a.example`:                         "not closed",
		"curl a.example\ncurl b.example":           "more than one command",
		`curl a.example\`:                          "backslash",
		"curl \x00":                                "UTF-8",
		`curl -g http://[::1`:                      "cannot be read",
	} {
		_, err := Parse(line, files)
		if !uptime.Is(err, uptime.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want Invalid with %q", line, err, says)
		}
	}
}

// Whatever the line, it is a monitor or an Invalid error; and a line that the words of
// another are quoted into is split into them again.
func FuzzParse(f *testing.F) {
	for _, line := range []string{`curl https://a.example`, `curl -sSLX POST -d 'a' "b"`, "curl $'\\x41\\u00fc\\1' \\\n -k a", `curl -G --data-urlencode 'a=b c' x`, `$'\`, `"\`, `\`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if _, err := Parse(line, files); err != nil && !uptime.Is(err, uptime.Invalid) {
			t.Errorf("error %v is not Invalid", err)
		}
		list, err := words(line)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range list {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		again, err := words(strings.Join(quoted, " "))
		if all := strings.Join(list, ""); !utf8.ValidString(all) || strings.Contains(all, "\r") {
			return // bytes of $'\xff' are no text of a line; a line's CR LF is a LF
		}
		if err != nil || !cmp.Equal(list, again) {
			t.Errorf("%q quoted again is %q, %v", list, again, err)
		}
	})
}
