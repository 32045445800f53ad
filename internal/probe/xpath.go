package probe

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/antchfx/htmlquery"
	"github.com/antchfx/xmlquery"
	"github.com/antchfx/xpath"
	"golang.org/x/net/html"
	"golang.org/x/net/html/charset"

	"vedette/internal/uptime"
)

// Bounds of a document and of an expression, so that neither can cost more than a
// check may.
const (
	maxMarkup      = 4 << 20 // bytes
	maxMarkupDepth = 512     // that of golang.org/x/net/html
	maxMarkupNodes = 100_000
	maxXPath       = 512       // bytes
	maxXPathSteps  = 1_000_000 // moves from node to node: a tenth of a second or so
)

// xml11 ends with the last digit of the version.
var xml11 = regexp.MustCompile(`^\x{feff}?\s*<\?xml\s+version\s*=\s*["']1\.1`)

var errXPathSteps = errors.New("an expression that takes too long on this document")

// markup is a body as a tree, parsed when the first assertion asks for it.
type markup struct {
	top xpath.NodeNavigator
	err error
}

// parseMarkup reads HTML as a browser does, and XML strictly, without entities of
// its own or from elsewhere. It refuses depth and breadth beyond the bounds before
// it builds anything.
func parseMarkup(b []byte, contentType string) *markup {
	if len(bytes.TrimSpace(b)) == 0 {
		return &markup{err: errors.New("an empty body")}
	}
	if len(b) > maxMarkup {
		return &markup{err: fmt.Errorf("a body of more than %d MiB", maxMarkup>>20)}
	}
	if !isXML(b, contentType) {
		return parseHTML(b)
	}
	if at := xml11.FindIndex(b); at != nil { // the decoder knows 1.0 alone, which differs in odd characters
		b = bytes.Clone(b)
		b[at[1]-1] = '0'
	}
	decode := charset.NewReaderLabel
	if utf8.Valid(b) { // decoded already, whatever its first line says
		decode = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	}
	var entities map[string]string
	if isXHTML(b, contentType) {
		entities = xml.HTMLEntity
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader, d.Entity = decode, entities
	if err := measureXML(d); err != nil {
		return &markup{err: err}
	}
	doc, err := xmlquery.ParseWithOptions(bytes.NewReader(b), xmlquery.ParserOptions{
		Decoder: &xmlquery.DecoderOptions{Strict: true, CharsetReader: decode, Entity: entities},
	})
	if err != nil {
		return &markup{err: fmt.Errorf("XML that cannot be read: %s", clean(err.Error(), 100))}
	}
	settleXML(doc)
	return &markup{top: xmlquery.CreateXPathNavigator(doc)}
}

// settleXML makes of the library's tree that of XPath 1.0 §5: what a CDATA section holds
// is text, in one node with the text around it, and instructions, which the library
// takes for elements without a value, are left out.
func settleXML(parent *xmlquery.Node) {
	isText := func(n *xmlquery.Node) bool {
		return n != nil && (n.Type == xmlquery.TextNode || n.Type == xmlquery.CharDataNode)
	}
	for n := parent.FirstChild; n != nil; {
		next := n.NextSibling
		switch {
		case n.Type == xmlquery.ProcessingInstruction:
			xmlquery.RemoveFromTree(n)
		case isText(n):
			n.Type = xmlquery.TextNode
			if !isText(next) {
				break
			}
			var all strings.Builder
			all.WriteString(n.Data)
			for isText(next) {
				all.WriteString(next.Data)
				after := next.NextSibling
				xmlquery.RemoveFromTree(next)
				next = after
			}
			n.Data = all.String()
		default:
			settleXML(n)
		}
		n = next
	}
}

func parseHTML(b []byte) *markup {
	plain, mark, ok := plainHTML(b)
	if !ok {
		return &markup{err: errors.New("HTML full of control characters")}
	}
	if err := measureHTML(plain); err != nil {
		return &markup{err: err}
	}
	doc, err := html.Parse(bytes.NewReader(plain))
	if err != nil {
		return &markup{err: errors.New("HTML that cannot be read")}
	}
	if mark != "" {
		for n := range doc.Descendants() {
			if n.Type == html.TextNode {
				n.Data = strings.ReplaceAll(n.Data, mark, "<")
			}
		}
	}
	return &markup{top: htmlquery.CreateXPathNavigator(doc)}
}

// plainHTML is a document that reads the same whether it is within SVG or MathML or not.
// There, the parser finds tags in the text of a style or a title, and sections of CDATA,
// and so may read all that follows otherwise than measureHTML does. So each '<' of a
// text becomes mark, to be turned back in the tree, and a section of CDATA that ends
// elsewhere than the comment it is in HTML becomes that comment. mark is empty if
// there is no such text; not ok is a document that leaves nothing to mark with.
func plainHTML(b []byte) (plain []byte, mark string, ok bool) {
	var free byte
	for _, c := range []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0e\x0f\x7f") { // no spaces, and in no real text
		if bytes.IndexByte(b, c) < 0 {
			free = c
			break
		}
	}
	if free == 0 {
		return nil, "", false
	}
	plain = bytes.Clone(b)
	at := 0
	z := html.NewTokenizer(bytes.NewReader(b))
	for kind := z.Next(); kind != html.ErrorToken; kind = z.Next() {
		raw := z.Raw()
		here := plain[at : at+len(raw)]
		at += len(raw)
		switch {
		case kind == html.TextToken:
			for i, c := range here {
				if c == '<' {
					here[i], mark = free, string(rune(free))
				}
			}
		case kind == html.CommentToken && bytes.HasPrefix(raw, []byte("<![CDATA[")) && !bytes.HasSuffix(raw, []byte("]]>")):
			here[2] = '-'
		}
	}
	return plain, mark, true
}

func isXML(b []byte, contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	if strings.TrimSpace(kind) == "text/html" {
		return false
	}
	return strings.Contains(kind, "xml") || bytes.HasPrefix(bytes.TrimSpace(b), []byte("<?xml"))
}

// isXHTML reports whether the named characters of HTML may stand in a document, such as
// &nbsp;: they are declared in the DTD of XHTML, which is not fetched.
func isXHTML(b []byte, contentType string) bool {
	head := bytes.ToLower(b[:min(len(b), 1024)])
	return strings.Contains(strings.ToLower(contentType), "xhtml") || bytes.Contains(head, []byte("<!doctype html"))
}

// measureXML counts the nodes of a document and how deep they lie, by the tokens of
// the decoder that parses it, so that nothing is hidden from it in a comment, a quote
// or another charset. It refuses what stands after the first element, too, which the
// parser lets pass. What else is not well-formed is left to the parser to tell.
func measureXML(d *xml.Decoder) error {
	depth, nodes, text, root := 0, 0, false, false
	for {
		token, err := d.RawToken()
		if err != nil {
			return nil
		}
		after := text // two texts in a row are two nodes, if one is a CDATA section
		text = false
		switch t := token.(type) {
		case xml.StartElement:
			if depth == 0 && root {
				return errors.New("XML that goes on after its end")
			}
			root = true
			depth++
			nodes += 2 + len(t.Attr) // and the text after it
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && root && len(bytes.TrimSpace(t)) > 0 {
				return errors.New("XML that goes on after its end")
			}
			if text = true; after {
				nodes++
			}
		case xml.ProcInst:
			nodes += 2 + bytes.Count(t.Inst, []byte("=")) // it is searched for attributes
		default:
			nodes += 2
		}
		if depth > maxMarkupDepth {
			return fmt.Errorf("XML nested deeper than %d", maxMarkupDepth)
		}
		if nodes > maxMarkupNodes {
			return fmt.Errorf("XML of more than %d nodes", maxMarkupNodes)
		}
	}
}

var (
	// formatting elements that are not closed are made again in every block that
	// follows, by which a short document becomes a large tree (HTML §13.2.4.3).
	formatting = strings.Fields("a b big code em font i nobr s small strike strong tt u")
	// scopes are elements within which the end tag of an outer one counts for nothing.
	scopes = strings.Fields("applet annotation-xml caption desc foreignobject marquee mi mn mo ms mtext object table td template th title")
)

// formattingTag is one that was opened and, for all measureHTML knows, not closed.
type formattingTag struct {
	name, raw string
	scope     int // how many scopes were open
}

// measureHTML bounds the number of nodes that parsing makes. It may count too many,
// where tags are closed in odd places, and never too few. The depth is bounded by
// the parser.
func measureHTML(b []byte) error {
	var open []formattingTag
	var inside []string
	nodes := 0
	z := html.NewTokenizer(bytes.NewReader(b))
	for kind := z.Next(); kind != html.ErrorToken; kind = z.Next() {
		nodes += 1 + len(open)
		if nodes > maxMarkupNodes {
			return fmt.Errorf("HTML of more than %d nodes", maxMarkupNodes)
		}
		if kind != html.StartTagToken && kind != html.EndTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		raw := string(z.Raw())
		tag, _ := z.TagName()
		name := string(tag)
		switch end := kind == html.EndTagToken; {
		case slices.Contains(scopes, name) && !end:
			inside = append(inside, name)
		case slices.Contains(scopes, name):
			inside = withoutLast(inside, func(s string) bool { return s == name })
		case slices.Contains(formatting, name) && end:
			open = withoutLast(open, func(f formattingTag) bool { return f.name == name && f.scope == len(inside) })
		case slices.Contains(formatting, name):
			if copies(open, raw) < 3 { // "Noah's Ark": of equal ones at most three are kept
				open = append(open, formattingTag{name, raw, len(inside)})
			}
		}
	}
	return nil
}

func copies(open []formattingTag, raw string) int {
	n := 0
	for _, f := range open {
		if f.raw == raw {
			n++
		}
	}
	return n
}

func withoutLast[E any](list []E, is func(E) bool) []E {
	for i := len(list) - 1; i >= 0; i-- {
		if is(list[i]) {
			return slices.Delete(list, i, i+1)
		}
	}
	return list
}

// selection is what an expression came to.
type selection struct {
	nodes bool // it selected nodes
	count int  // of them
	text  string
	there bool // at least one node, or any value but false
}

// selectXPath evaluates an expression that compiled before. It is compiled again each
// time, because one that is being evaluated keeps state.
func selectXPath(text string, top xpath.NodeNavigator) (s selection, err error) {
	defer func() {
		switch p := recover(); {
		case p == errXPathSteps:
			err = errXPathSteps
		case p != nil: // so the library says that a function does not take a value
			err = fmt.Errorf("an expression that cannot be evaluated here: %s", clean(fmt.Sprint(p), 100))
		}
	}()
	expr, err := xpath.Compile(text)
	if err != nil {
		return s, err
	}
	left := maxXPathSteps
	switch v := expr.Evaluate(&countedNode{top.Copy(), &left}).(type) {
	case *xpath.NodeIterator:
		s.nodes = true
		for v.MoveNext() {
			if s.count++; s.count == 1 {
				s.text, s.there = v.Current().Value(), true
			}
		}
	case bool:
		s.text, s.there = strconv.FormatBool(v), v
	case float64:
		s.text, s.there = strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		s.text, s.there = fmt.Sprint(v), true
	}
	s.text = strings.TrimSpace(s.text)
	return s, nil
}

// countedNode is a navigator that ends an evaluation after so many steps.
type countedNode struct {
	xpath.NodeNavigator
	left *int
}

func (n *countedNode) spend(steps int) {
	if *n.left -= steps; *n.left < 0 {
		panic(errXPathSteps)
	}
}

// NamespaceURL is asked for by the functions about names.
func (n *countedNode) NamespaceURL() string {
	if x, ok := n.NodeNavigator.(interface{ NamespaceURL() string }); ok {
		return x.NamespaceURL()
	}
	return ""
}

// Copy implements xpath.NodeNavigator.
func (n *countedNode) Copy() xpath.NodeNavigator {
	n.spend(1)
	return &countedNode{n.NodeNavigator.Copy(), n.left}
}

// MoveTo implements xpath.NodeNavigator.
func (n *countedNode) MoveTo(other xpath.NodeNavigator) bool {
	n.spend(1)
	o, ok := other.(*countedNode)
	return ok && n.NodeNavigator.MoveTo(o.NodeNavigator)
}

// MoveToParent implements xpath.NodeNavigator, as the following do.
func (n *countedNode) MoveToParent() bool { n.spend(1); return n.NodeNavigator.MoveToParent() }

// MoveToNextAttribute moves on.
func (n *countedNode) MoveToNextAttribute() bool {
	n.spend(1)
	return n.NodeNavigator.MoveToNextAttribute()
}

// MoveToChild moves down.
func (n *countedNode) MoveToChild() bool { n.spend(1); return n.NodeNavigator.MoveToChild() }

// MoveToFirst moves to the first sibling.
func (n *countedNode) MoveToFirst() bool {
	for n.MoveToPrevious() { // so the siblings passed by are counted
	}
	return true
}

// MoveToNext moves to the next sibling.
func (n *countedNode) MoveToNext() bool { n.spend(1); return n.NodeNavigator.MoveToNext() }

// MoveToPrevious moves to the previous sibling.
func (n *countedNode) MoveToPrevious() bool { n.spend(1); return n.NodeNavigator.MoveToPrevious() }

// Value is the node's text. That of an element is gathered here, node by node, so
// that it is counted.
func (n *countedNode) Value() string {
	var b strings.Builder
	switch n.NodeType() {
	case xpath.RootNode, xpath.ElementNode:
		n.gather(&b)
	default:
		b.WriteString(n.NodeNavigator.Value())
	}
	n.spend(1 + b.Len()/16)
	return b.String()
}

func (n *countedNode) gather(b *strings.Builder) {
	c := n.Copy()
	for ok := c.MoveToChild(); ok; ok = c.MoveToNext() {
		switch c.NodeType() {
		case xpath.TextNode:
			b.WriteString(c.(*countedNode).NodeNavigator.Value())
		case xpath.ElementNode:
			c.(*countedNode).gather(b)
		}
	}
}

// compileXPath looks at what an XPath 1.0 expression selects in an HTML or XML body:
// the text of the first node, or how many there are.
func compileXPath(a *assertion, path string, p *uptime.Problems) {
	a.stage, a.reason = stageBody, uptime.XML
	if err := checkXPath(a.Property); err != nil {
		p.Add(path+".property", "%v", err)
		return
	}
	test := xpathTest(a, path, p)
	if test == nil {
		return
	}
	absent := a.Op == "not_exists"
	a.judge = func(f *facts) found {
		if !f.whole {
			return found{more: true, actual: "a body too large to parse"}
		}
		if f.markup == nil {
			f.markup = parseMarkup(f.body, f.header.Get("Content-Type"))
		}
		if f.markup.err != nil {
			return found{actual: "no usable document: " + f.markup.err.Error()}
		}
		s, err := selectXPath(a.Property, f.markup.top)
		if err != nil {
			return found{actual: err.Error()}
		}
		actual := s.text
		if s.nodes && s.count != 1 {
			actual = fmt.Sprintf("%d nodes, the first %q", s.count, clean(s.text, 100))
		}
		if !s.there && (s.nodes || s.text == "" || a.Op == "exists" || absent) { // else false, which may be what is wanted
			return found{ok: absent, actual: cmp.Or(s.text, "nothing there")}
		}
		return found{ok: test(s), actual: actual}
	}
}

// checkXPath refuses what does not compile, and the functions that compile patterns
// out of a document.
func checkXPath(s string) error {
	if len(s) > maxXPath {
		return fmt.Errorf("is longer than %d bytes", maxXPath)
	}
	if _, err := xpath.Compile(s); err != nil {
		return fmt.Errorf("is not an XPath 1.0 expression: %s", clean(err.Error(), 150))
	}
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n()[],/|=", r) }) {
		if word == "matches" || word == "replace" {
			return fmt.Errorf("uses the function %s; the operator matches looks for a pattern", word)
		}
	}
	return nil
}

// xpathTest is the operator as a function of what was selected.
func xpathTest(a *assertion, path string, p *uptime.Problems) func(selection) bool {
	switch a.Op {
	case "exists":
		return func(selection) bool { return true }
	case "not_exists":
		return func(selection) bool { return false }
	case "length", "min_length", "max_length":
		n, ok := countValue(a.Value)
		if !ok {
			p.Add(path+".value", "must be a whole number, 0 or more")
			return nil
		}
		holds, _ := comparison(map[string]string{"length": "eq", "min_length": "ge", "max_length": "le"}[a.Op])
		return func(s selection) bool {
			if s.nodes {
				return holds(cmp.Compare(s.count, n))
			}
			return holds(cmp.Compare(utf8.RuneCountInString(s.text), n))
		}
	}
	want, isNumber := numberValue(a.Value)
	if holds, ok := comparison(a.Op); ok && isNumber {
		return func(s selection) bool {
			got, err := strconv.ParseFloat(s.text, 64)
			if err != nil || math.IsNaN(got) { // which cmp puts before every number
				return a.Op == "ne"
			}
			return holds(cmp.Compare(got, want))
		}
	}
	if slices.Contains(orderOps, a.Op) {
		p.Add(path+".value", "must be a number")
		return nil
	}
	if !slices.Contains(valueOps, a.Op) {
		badOp(a, path, p, valueOps...)
		return nil
	}
	match, positive, ok := compileMatch(a, path, p)
	if !ok {
		return nil
	}
	return func(s selection) bool { return match([]byte(s.text)) == positive }
}
