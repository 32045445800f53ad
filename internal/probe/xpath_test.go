package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"vedette/internal/uptime"
)

const (
	xpathPage = `<!doctype html><title>Shop</title><div class="price"> 42.50 </div><ul><li>a<li>b<li id=x data-n=7>c</ul><img src=a.png>`
	xpathFeed = `<?xml version="1.0"?><rss version="2.0" xmlns:m="urn:m"><channel><title>News</title><item><m:n>1</m:n></item><item><m:n>2</m:n></item></channel></rss>`
)

func TestXPathAssertions(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	typed := func(contentType, body string) func(net.Conn, string) {
		return says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", contentType, len(body), body))
	}
	web, feed := typed("text/html; charset=utf-8", xpathPage), typed("application/rss+xml", xpathFeed)
	x := func(expr, op string, v any) []uptime.Assertion {
		return []uptime.Assertion{assert("xpath", expr, op, v)}
	}
	runCases(t, map[string]httpCase{
		"an element is there":              {handle: web, assertions: x("//img", "exists", nil), verdict: up},
		"an element that must not be is":   {handle: web, assertions: x("//img", "not_exists", nil), verdict: down, reason: uptime.XML},
		"no element where none may be":     {handle: web, assertions: x("//form", "not_exists", nil), verdict: up},
		"an element is missing":            {handle: web, assertions: x("//form", "exists", nil), verdict: down, reason: uptime.XML},
		"text without spaces around it":    {handle: web, assertions: x("//div[@class='price']", "eq", "42.50"), verdict: up},
		"text as a number":                 {handle: web, assertions: x("//div[@class='price']", "lt", 50), verdict: up},
		"a number too large":               {handle: web, assertions: x("//div[@class='price']", "lt", 42.5), verdict: down, reason: uptime.XML},
		"text that is no number":           {handle: web, assertions: x("//title", "gt", 1), verdict: down, reason: uptime.XML},
		"tags as browsers close them":      {handle: web, assertions: x("/html/body/ul/li", "length", 3), verdict: up},
		"an attribute":                     {handle: web, assertions: x("//li[@id='x']/@data-n", "eq", 7), verdict: up},
		"a function of the document":       {handle: web, assertions: x("count(//li)", "ge", 3), verdict: up},
		"a condition that holds":           {handle: web, assertions: x("count(//li) = 3 and //title = 'Shop'", "exists", nil), verdict: up},
		"a condition that does not":        {handle: web, assertions: x("count(//li) = 4", "exists", nil), verdict: down, reason: uptime.XML},
		"a pattern":                        {handle: web, assertions: x("//title/text()", "matches", "^Sh"), verdict: up},
		"text it must not contain":         {handle: web, assertions: x("//title", "not_contains", "Err"), verdict: up},
		"text it must not be":              {handle: web, assertions: x("//title", "ne", "Shop"), verdict: down, reason: uptime.XML},
		"the length of a text":             {handle: web, assertions: x("string(//title)", "max_length", 4), verdict: up},
		"an XML value":                     {handle: feed, assertions: x("/rss/channel/title", "eq", "News"), verdict: up},
		"XML with a prefix":                {handle: feed, assertions: x("//m:n[.='2']", "exists", nil), verdict: up},
		"XML items":                        {handle: feed, assertions: x("//item", "min_length", 3), verdict: down, reason: uptime.XML},
		"XML in another charset":           {handle: typed("text/xml", `<?xml version="1.0" encoding="ISO-8859-1"?><a>`+"\xfc</a>"), assertions: x("/a", "eq", "ü"), verdict: up},
		"XML of a charset in the head":     {handle: typed("text/xml; charset=iso-8859-1", `<?xml version="1.0" encoding="utf-16"?><a>`+"\xfc</a>"), assertions: x("/a", "eq", "ü"), verdict: up},
		"XML that is cut off":              {handle: typed("text/xml", xpathFeed[:80]), assertions: x("/rss", "exists", nil), verdict: down, reason: uptime.XML},
		"an entity from elsewhere":         {handle: typed("text/xml", `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`), assertions: x("/a", "exists", nil), verdict: down, reason: uptime.XML},
		"entities that grow":               {handle: typed("text/xml", `<!DOCTYPE a [<!ENTITY x "&y;&y;"><!ENTITY y "lol">]><a>&x;</a>`), assertions: x("/a", "exists", nil), verdict: down, reason: uptime.XML},
		"nothing at all":                   {handle: typed("text/html", ""), assertions: x("/html", "exists", nil), verdict: down, reason: uptime.XML},
		"JSON is a page without elements":  {handle: typed("application/json", `{"a":1}`), assertions: x("//div", "exists", nil), verdict: down, reason: uptime.XML},
		"a body larger than is read":       {handle: typed("text/html", strings.Repeat("<p>x", 1000)), config: `{"max_body_bytes":100}`, assertions: x("//p", "exists", nil), verdict: down, reason: uptime.BodyTooLarge},
		"CDATA is text":                    {handle: typed("text/xml", `<a>x<![CDATA[<y>]]>z</a>`), assertions: x("/a/text()", "eq", "x<y>z"), verdict: up},
		"CDATA alone is text":              {handle: typed("application/rss+xml", `<rss><title><![CDATA[News]]></title></rss>`), assertions: x("//title", "eq", "News"), verdict: up},
		"an instruction is no element":     {handle: typed("text/xml", `<?xml version="1.0"?><?xml-stylesheet href="a.css"?><a><?b c?><d/></a>`), assertions: x("count(//*)", "eq", 2), verdict: up},
		"named characters of XHTML":        {handle: typed("application/xhtml+xml", `<html xmlns="http://www.w3.org/1999/xhtml"><p>&eacute;</p></html>`), assertions: x("//p", "eq", "é"), verdict: up},
		"named characters of a doctype":    {handle: typed("text/xml", `<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd"><html><p>&eacute;</p></html>`), assertions: x("//p", "eq", "é"), verdict: up},
		"named characters of no XML":       {handle: typed("text/xml", `<a>&eacute;</a>`), assertions: x("/a", "exists", nil), verdict: down, reason: uptime.XML},
		"XML 1.1":                          {handle: typed("text/xml", `<?xml version="1.1" encoding="UTF-8"?><a>x</a>`), assertions: x("/a", "eq", "x"), verdict: up},
		"XML with a second document":       {handle: typed("text/xml", `<a/><b/>`), assertions: x("/a", "exists", nil), verdict: down, reason: uptime.XML},
		"XML with text after it":           {handle: typed("text/xml", "<a/>\nFatal error"), assertions: x("/a", "exists", nil), verdict: down, reason: uptime.XML},
		"XML with a comment after it":      {handle: typed("text/xml", "\ufeff<a/>\n<!--x-->\n"), assertions: x("/a", "exists", nil), verdict: up},
		"a number that is none is not low": {handle: web, assertions: x("number(//form)", "lt", 5), verdict: down, reason: uptime.XML},
		"a text NaN is not low":            {handle: typed("text/html", "<p>NaN</p>"), assertions: x("//p", "lt", 5), verdict: down, reason: uptime.XML},
		"a condition that is to be false":  {handle: web, assertions: x("count(//li) = 4", "eq", "false"), verdict: up},
		"a condition that is not false":    {handle: web, assertions: x("count(//li) = 3", "eq", "false"), verdict: down, reason: uptime.XML},
		"a function on the wrong kind":     {handle: web, assertions: x("substring('abc', //title)", "exists", nil), verdict: down, reason: uptime.XML},
		"a page nested absurdly":           {handle: typed("text/html", strings.Repeat("<div>", 100_000)), assertions: x("//div", "exists", nil), verdict: down, reason: uptime.XML},
		"XML nested absurdly":              {handle: typed("text/xml", strings.Repeat("<a>", 100_000)), assertions: x("//a", "exists", nil), verdict: down, reason: uptime.XML},
	})
}

func TestXPathIsCheckedWhenItIsSaved(t *testing.T) {
	t.Parallel()
	for expr, says := range map[string]string{
		"//a[":                            "XPath",
		"":                                "XPath",
		"$x":                              "XPath",
		"nonsense(//a)":                   "XPath",
		"//a[matches(., //b)]":            "matches",
		"replace (//a, 'b', 'c')":         "replace",
		strings.Repeat("a", maxXPath+1):   "longer",
		strings.Repeat("(", 300) + "1":    "XPath",
		strings.Repeat("not(", 100) + "1": "XPath",
	} {
		m := uptime.Monitor{Type: "http", Target: "http://example.com", Assertions: []uptime.Assertion{assert("xpath", expr, "exists", nil)}}
		if _, err := New(testEnv()).Compile(m); !uptime.Is(err, uptime.Invalid) || !strings.Contains(compactProblems(err), says) {
			t.Errorf("%.40q: %v, want it refused with %q", expr, compactProblems(err), says)
		}
	}
	for _, a := range []uptime.Assertion{assert("xpath", "//a", "lt", "x"), assert("xpath", "//a", "has", "x"), assert("xpath", "//a", "length", -1), assert("xpath", "//a", "eq", nil)} {
		m := uptime.Monitor{Type: "http", Target: "http://example.com", Assertions: []uptime.Assertion{a}}
		if _, err := New(testEnv()).Compile(m); !uptime.Is(err, uptime.Invalid) {
			t.Errorf("%s %s: %v, want it refused", a.Op, a.Value, err)
		}
	}
}

func compactProblems(err error) string {
	b, _ := json.Marshal(err)
	return string(b)
}

// hostileMarkup are documents that would cost much.
func hostileMarkup(size int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var unclosed, hidden strings.Builder
	for i := range 400 {
		fmt.Fprintf(&unclosed, "<b a=%d>", i)
		fmt.Fprintf(&hidden, "<b a=%d><table><td><template></table></b></template></table>", i)
	}
	return map[string]string{
		"one long text":             "<p>" + fill("x"),
		"many elements":             "<div>" + fill("<p>x</p>"),
		"as many as are allowed":    "<div>" + strings.Repeat("<p>x</p>", min(size/8, maxMarkupNodes/3-10)),
		"a deep tree of empty ones": strings.Repeat("<div>", 400) + strings.Repeat("<i></i>", min(size/7, 50_000)),
		"a deep tree with a text":   strings.Repeat("<div>", 400) + fill("x"),
		"formatting left open":      "<div>" + unclosed.String() + "</div>" + fill("<p></p>"),
		"formatting hidden as open": "<div>" + hidden.String() + "</div>" + fill("<p></p>"),
		"attributes":                fill(`<a b="1" c="2" d="3">`),
		"only tags that are open":   fill("<"),
		"one tag without end":       `<a b="` + fill("x"),
		"XML with many elements":    `<?xml version="1.0"?><a>` + fill("<b>x</b>") + "</a>",
		"XML as much as is allowed": `<?xml version="1.0"?><a>` + strings.Repeat("<b>x</b>", min(size/8, maxMarkupNodes/2-10)) + "</a>",
		"XML with a long text":      `<?xml version="1.0"?><a>` + fill("x") + "</a>",
		"XML with a long comment":   `<?xml version="1.0"?><a><!--` + fill("x") + "--></a>",
		"XML with many attributes":  `<?xml version="1.0"?><a` + fill(` b="1"`) + "/>",
		"XML tags in an attribute":  `<?xml version="1.0"?><a b="` + fill("/>") + `"/>`,
	}
}

// Whatever the document and the expression, an evaluation ends soon. Of the time, the
// most is for a machine that is busy; a quadratic one would take hours.
func TestXPathIsBounded(t *testing.T) {
	t.Parallel()
	expressions := []string{
		"//*[count(//*) > 0]", "//*[contains(., 'needle')]", "//*[preceding::*[following::*]]", "//*//*//*//*[last()]",
		"count(//*[.//*[.//*[.//*]]])", "//p[. = //p]", "(//* | //* | //*)[2]", "concat(string(/), string(/), string(/), string(/), string(/), string(/))",
		"//p[position() = last()]/preceding-sibling::p[1]", "string-length(normalize-space(translate(/, 'x', 'y')))",
	}
	for _, size := range []int{1 << 20, maxMarkup - 1000} {
		for name, doc := range hostileMarkup(size) {
			start := time.Now()
			m := parseMarkup([]byte(doc), "")
			parsed := time.Since(start)
			if parsed > 10*time.Second {
				t.Errorf("%s of %d MiB: parsed in %s", name, size>>20, parsed)
			}
			if m.err != nil {
				continue
			}
			for _, e := range expressions {
				start := time.Now()
				_, err := selectXPath(e, m.top)
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("%s of %d MiB, %s: took %s (%v)", name, size>>20, e, took, err)
				}
			}
		}
	}
}

// measureHTML must never count fewer nodes than parsing makes.
func TestHTMLIsNeverLargerThanMeasured(t *testing.T) {
	t.Parallel()
	for name, doc := range hostileMarkup(64 << 10) {
		tree, err := html.Parse(bytes.NewReader([]byte(doc)))
		if err != nil {
			continue
		}
		nodes := 0
		for range tree.Descendants() {
			nodes++
		}
		if err := measureHTML([]byte(doc)); err == nil && nodes > 2*maxMarkupNodes {
			t.Errorf("%s: %d nodes of a document that was let through", name, nodes)
		}
	}
}

// What hides tags from a count by bytes, or from the tokenizer alone, hides none here.
func TestMarkupHidesNoNodes(t *testing.T) {
	t.Parallel()
	const many = 4 * maxMarkupNodes
	xmlDoc := func(s string) string { return `<?xml version="1.0"?><a>` + s + "</a>" }
	for name, doc := range map[string]string{
		"XML after a quote in a comment":  xmlDoc("<!--<x '-->" + strings.Repeat("<a/>", many)),
		"XML after a quote in CDATA":      xmlDoc("<![CDATA[<x ']]>" + strings.Repeat("<a/>", many)),
		"XML nested after a comment":      xmlDoc("<!--<x '-->" + strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000)),
		"XML of comments":                 xmlDoc(strings.Repeat("<!---->", many)),
		"XML of instructions":             xmlDoc(strings.Repeat("<?a?>", many)),
		"XML of CDATA":                    xmlDoc(strings.Repeat("<![CDATA[x]]>", 2*maxMarkupNodes)),
		"HTML after a quote in SVG":       "<svg><style><a x='</style>'>" + strings.Repeat("<g/>", many),
		"HTML after a quote after CDATA":  "<svg><![CDATA[ > <p x=' ]]>" + strings.Repeat("<g/>", many),
		"HTML in a style of SVG":          "<svg><style>" + strings.Repeat("<g/>", many),
		"HTML in a title of MathML":       "<math><title>" + strings.Repeat("<g/>", many),
		"HTML after plain text in SVG":    "<svg><plaintext>" + strings.Repeat("<g/>", many),
		"HTML of odd bytes":               "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0e\x0f\x7f<svg><style>" + strings.Repeat("<g/>", many),
		"HTML of formatting in a SVG one": "<svg><style></svg>" + strings.Repeat("<p><b><i><u>", many/8),
	} {
		m := parseMarkup([]byte(doc), "")
		if m.err != nil {
			continue
		}
		s, err := selectXPath("count(//*)", m.top)
		if n, _ := strconv.Atoi(s.text); err != nil || n > 100 || strings.HasPrefix(name, "XML") {
			t.Errorf("%s: let through with %s elements (%v)", name, s.text, err)
		}
	}
}

func TestTextOfHTMLKeepsItsTags(t *testing.T) {
	t.Parallel()
	doc := parseMarkup([]byte(`<script>if (a<b) c("<!-- <p>")</script><title>a < b &lt; c</title><svg><title>d &lt; e</title><style>f{}</style></svg><p>1 < 2`), "text/html")
	for expr, want := range map[string]string{
		"//script": `if (a<b) c("<!-- <p>")`, "//head/title": "a < b < c", "//svg/title": "d < e", "//style": "f{}", "//p": "1 < 2", "count(//p)": "1",
	} {
		if s, err := selectXPath(expr, doc.top); err != nil || s.text != want {
			t.Errorf("%s: %q, %v; want %q", expr, s.text, err, want)
		}
	}
}
