package probe

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"

	"vedette/internal/uptime"
)

// starttlsConfig is the option of types that know no protocol beside TLS.
type starttlsConfig struct {
	StarttlsProtocol string `json:"starttls_protocol" enum:"smtp,imap,pop3,ftp,ldap,postgres,xmpp" doc:"the protocol in which the server is asked to go on in TLS"`
}

// starttls asks the server, in the words of a protocol, to go on in TLS, and does.
func (c *conversation) starttls(protocol string) *fault {
	if f := c.dialogue(protocol); f != nil {
		return f
	}
	return c.secure()
}

// dialogue is all that is said before the handshake.
func (c *conversation) dialogue(protocol string) *fault {
	switch protocol {
	case "smtp":
		if _, f := c.smtpGreeting(); f != nil {
			return f
		}
		if _, f := c.smtpHello(""); f != nil {
			return f
		}
		return c.smtpUpgrade()
	case "imap":
		if _, f := c.imapGreeting(); f != nil {
			return f
		}
		return c.imapUpgrade()
	case "pop3":
		if _, f := c.popGreeting(); f != nil {
			return f
		}
		return c.popUpgrade()
	case "ftp":
		if _, f := c.ftpGreeting(); f != nil {
			return f
		}
		return c.ftpUpgrade()
	case "ldap":
		return c.ldapUpgrade()
	case "postgres":
		return c.postgresUpgrade()
	}
	return c.xmppUpgrade()
}

// noTLS is the fault of a server that does not go on in TLS.
func noTLS(answer string) *fault {
	return down(uptime.TLSHandshake, "The server does not offer TLS: it answered %q.", clean(answer, 150))
}

// notNow begins an answer by which a server says that it could and does not: the
// transient replies of RFC 5321 §4.2.1 and RFC 959 §4.2, 554 in the place of a greeting
// (RFC 5321 §3.1), and how IMAP (RFC 9051 §7.1) and POP3 (RFC 1939 §3) say no.
var notNow = regexp.MustCompile(`^(4\d\d|554|BYE|NO|-ERR)\b`)

// refused is the fault of a server that turns everybody away, or answers what it must
// not.
func refused(what, answer string) *fault {
	reason := uptime.Protocol
	if notNow.MatchString(answer) {
		reason = uptime.NotReady
	}
	return down(reason, "The server refuses service: %s is %q.", what, clean(answer, 200))
}

const greeting = "its greeting"

// smtpGreeting waits for the 220 of RFC 5321 §3.1.
func (c *conversation) smtpGreeting() (string, *fault) {
	p, f := c.reply(greeting)
	if f == nil && p.code != 220 {
		f = refused(greeting, p.String())
	}
	return strings.Join(p.lines, "\n"), f
}

// smtpHello says EHLO, or HELO to a server that knows no extensions, and returns
// the extensions. name is who we say we are; "" is our address (RFC 5321 §4.1.3).
func (c *conversation) smtpHello(name string) ([]string, *fault) {
	if name == "" {
		name = addressLiteral(c.conn.LocalAddr())
	}
	p, f := c.ask("EHLO "+name, "the answer to EHLO")
	if f == nil && (p.code == 500 || p.code == 502) {
		p, f = c.ask("HELO "+name, "the answer to HELO")
	}
	if f == nil && p.code != 250 {
		f = refused("the answer to EHLO", p.String())
	}
	if f != nil {
		return nil, f
	}
	return p.lines[1:], nil
}

func addressLiteral(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	if strings.Contains(host, ":") {
		host, _, _ = strings.Cut("IPv6:"+host, "%")
	}
	return "[" + host + "]"
}

// smtpUpgrade is RFC 3207.
func (c *conversation) smtpUpgrade() *fault { return c.codedUpgrade("STARTTLS", 220) }

// codedUpgrade asks for TLS, to which consent is the answer. 421 is not about TLS: a
// server may say goodbye in reply to anything (RFC 5321 §3.8, RFC 959 §4.2.2).
func (c *conversation) codedUpgrade(command string, consent int) *fault {
	what := "the answer to " + command
	p, f := c.ask(command, what)
	switch {
	case f != nil:
		return f
	case p.code == consent:
		return nil
	case p.code == 421:
		return refused(what, p.String())
	}
	return noTLS(p.String())
}

// imapGreeting waits for OK or PREAUTH (RFC 9051 §7.1).
func (c *conversation) imapGreeting() (string, *fault) {
	c.long = true
	line, f := c.line(greeting)
	if f != nil {
		return "", f
	}
	star, rest, _ := strings.Cut(line, " ")
	status, text, _ := strings.Cut(rest, " ")
	switch {
	case star != "*":
	case strings.EqualFold(status, "OK"), strings.EqualFold(status, "PREAUTH"):
		return text, nil
	case strings.EqualFold(status, "BYE"):
		return "", refused(greeting, rest)
	}
	return "", down(uptime.Protocol, "The server sent %q where an IMAP greeting was due.", clean(line, 100))
}

// imapTag is before every command; one at a time is under way, so one will do.
const imapTag = "v1"

// imapAsk sends a command and reads up to the tagged answer. status is OK, NO or
// BAD; untagged are the lines before it, without their star.
func (c *conversation) imapAsk(command, what string) (status, text string, untagged []string, f *fault) {
	c.send(imapTag + " " + command)
	return c.imapAnswer(what)
}

func (c *conversation) imapAnswer(what string) (status, text string, untagged []string, f *fault) {
	for {
		line, f := c.line(what)
		if f != nil {
			return "", "", nil, f
		}
		first, rest, _ := strings.Cut(line, " ")
		word, after, _ := strings.Cut(rest, " ")
		switch status = strings.ToUpper(word); {
		case first == "*" && status == "BYE":
			return "", "", nil, refused(what, rest)
		case first == "*":
			untagged = append(untagged, rest)
		case first == "+": // it waits for more; whoever asked knows what to say
			return "+", rest, untagged, nil
		case first == imapTag && (status == "OK" || status == "NO" || status == "BAD"):
			return status, after, untagged, nil
		default:
			return "", "", nil, down(uptime.Protocol, "The server sent %q where %s was due.", clean(line, 100), what)
		}
	}
}

// imapUpgrade is RFC 9051 §6.2.1.
func (c *conversation) imapUpgrade() *fault {
	status, text, _, f := c.imapAsk("STARTTLS", "the answer to STARTTLS")
	if f == nil && status != "OK" {
		f = noTLS(status + " " + text)
	}
	return f
}

// popGreeting waits for +OK (RFC 1939 §4).
func (c *conversation) popGreeting() (string, *fault) {
	ok, text, f := c.popAnswer(greeting)
	if f == nil && !ok {
		f = refused(greeting, "-ERR "+text)
	}
	return text, f
}

func (c *conversation) popAsk(command, what string) (ok bool, text string, f *fault) {
	c.send(command)
	return c.popAnswer(what)
}

// popAnswer reads the first line of an answer.
func (c *conversation) popAnswer(what string) (ok bool, text string, f *fault) {
	line, f := c.line(what)
	if f != nil {
		return false, "", f
	}
	status, text, _ := strings.Cut(line, " ")
	switch status {
	case "+OK":
		return true, text, nil
	case "-ERR":
		return false, text, nil
	}
	return false, "", down(uptime.Protocol, "The server sent %q where %s was due.", clean(line, 100), what)
}

// popUpgrade is RFC 2595 §4.
func (c *conversation) popUpgrade() *fault {
	ok, text, f := c.popAsk("STLS", "the answer to STLS")
	if f == nil && !ok {
		f = noTLS(text)
	}
	return f
}

// ftpGreeting waits for 220 (RFC 959 §5.4); 120 says that it comes later.
func (c *conversation) ftpGreeting() (string, *fault) {
	c.free = true
	p, f := c.reply(greeting)
	if f == nil && p.code == 120 {
		p, f = c.reply(greeting)
	}
	if f == nil && p.code != 220 {
		f = refused(greeting, p.String())
	}
	return strings.Join(p.lines, "\n"), f
}

// ftpUpgrade is RFC 4217 §4.
func (c *conversation) ftpUpgrade() *fault { return c.codedUpgrade("AUTH TLS", 234) }

// ldapStartTLS is the extended request of RFC 4511 §4.14 with message id 1, in BER.
const ldapStartTLS = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

const ldapAnswer = "the answer to StartTLS"

func (c *conversation) ldapUpgrade() *fault {
	_, _ = io.WriteString(c.conn, ldapStartTLS)
	message, err := readBER(c.in)
	if err != nil {
		return c.r.talkFault(err, ldapAnswer)
	}
	c.heard(message)
	code, text, ok := ldapResult(message)
	switch {
	case !ok:
		return down(uptime.Protocol, "The server's answer to StartTLS is not LDAP.")
	case code != 0:
		return noTLS("LDAP result " + text)
	}
	return nil
}

var errNotBER = errors.New("not a BER message")

// readBER reads the content of one SEQUENCE of at most maxLine bytes.
func readBER(in *bufio.Reader) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	if head[0] != 0x30 {
		return nil, errNotBER
	}
	if more := int(head[1]); more > 0x80 && more <= 0x84 {
		head = head[:2+more-0x80]
		if _, err := io.ReadFull(in, head[2:]); err != nil {
			return nil, err
		}
	}
	n, _, ok := berLength(head[1:])
	if !ok || n > maxLine {
		return nil, errNotBER
	}
	b := make([]byte, n)
	_, err := io.ReadFull(in, b)
	return b, err
}

// berLength takes a length off b. Active Directory writes all of them in long form.
func berLength(b []byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	if b[0] < 0x80 {
		return int(b[0]), b[1:], true
	}
	digits := int(b[0] - 0x80)
	if digits == 0 || digits > 4 || len(b) < 1+digits {
		return 0, nil, false
	}
	for _, d := range b[1 : 1+digits] {
		n = n<<8 | int(d)
	}
	return n, b[1+digits:], true
}

// ber takes one element off b.
func ber(b []byte) (tag byte, value, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, nil, false
	}
	n, content, ok := berLength(b[1:])
	if !ok || n > len(content) {
		return 0, nil, nil, false
	}
	return b[0], content[:n], content[n:], true
}

// ldapResult is the result of an extended response: message id, then [APPLICATION
// 24] of result code, matched name and diagnostic message.
func ldapResult(message []byte) (code byte, text string, ok bool) {
	tag, _, rest, ok1 := ber(message)
	op, response, _, ok2 := ber(rest)
	enum, result, rest, ok3 := ber(response)
	_, _, rest, ok4 := ber(rest)
	_, diagnostic, _, ok5 := ber(rest)
	if !(ok1 && ok2 && ok3 && ok4 && ok5) || tag != 0x02 || op != 0x78 || enum != 0x0a || len(result) != 1 {
		return 0, "", false
	}
	return result[0], string(diagnostic), true
}

// postgresSSLRequest is its length and the code 80877103 (PostgreSQL, "Message
// Formats").
const postgresSSLRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

func (c *conversation) postgresUpgrade() *fault {
	_, _ = io.WriteString(c.conn, postgresSSLRequest)
	b, err := c.in.ReadByte()
	if err != nil {
		return c.r.talkFault(err, "the answer to SSLRequest")
	}
	c.heard([]byte{b})
	switch b {
	case 'S':
		return nil
	case 'N', 'E': // no, or an error of a server that knows no TLS
		return noTLS(string(b))
	}
	return down(uptime.Protocol, "The server's answer to SSLRequest is not PostgreSQL's.")
}

const (
	xmppStreams = "http://etherx.jabber.org/streams"
	xmppTLS     = "urn:ietf:params:xml:ns:xmpp-tls"
)

// xmppUpgrade is RFC 6120 §5.4.
func (c *conversation) xmppUpgrade() *fault {
	host := c.r.target.host
	if c.r.tls != nil && c.r.tls.serverName != "" {
		host = c.r.tls.serverName
	}
	_, _ = io.WriteString(c.conn, `<?xml version='1.0'?><stream:stream to='`+host+`' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='`+xmppStreams+`'>`)
	from := &boundedBytes{c: c, left: maxText}
	answer := xml.NewDecoder(from)
	offered := false
	for {
		token, err := answer.Token()
		if err != nil {
			return c.r.talkFault(cmp.Or(from.err, err), "its stream features")
		}
		switch e := token.(type) {
		case xml.StartElement:
			switch e.Name {
			case xml.Name{Space: xmppTLS, Local: "starttls"}:
				offered = true
			case xml.Name{Space: xmppStreams, Local: "error"}:
				return refused("its answer", "a stream error")
			}
		case xml.EndElement:
			if e.Name == (xml.Name{Space: xmppStreams, Local: "features"}) {
				return c.xmppProceed(from, answer, offered)
			}
		}
	}
}

func (c *conversation) xmppProceed(from *boundedBytes, answer *xml.Decoder, offered bool) *fault {
	if !offered {
		return noTLS("stream features without starttls")
	}
	_, _ = io.WriteString(c.conn, `<starttls xmlns='`+xmppTLS+`'/>`)
	for {
		token, err := answer.Token()
		if err != nil {
			return c.r.talkFault(cmp.Or(from.err, err), "the answer to starttls")
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name != (xml.Name{Space: xmppTLS, Local: "proceed"}) {
				return noTLS(e.Name.Local)
			}
		case xml.EndElement:
			return nil
		}
	}
}

// boundedBytes is the conversation for a decoder. It lends single bytes, so that the
// decoder reads nothing ahead.
type boundedBytes struct {
	c    *conversation
	left int
	err  error // of the connection, which a decoder turns into one of syntax
}

// ReadByte implements io.ByteReader.
func (b *boundedBytes) ReadByte() (byte, error) {
	if b.left--; b.left < 0 {
		b.err = errTooMuch
		return 0, b.err
	}
	var one byte
	if one, b.err = b.c.in.ReadByte(); b.err == nil {
		b.c.heard([]byte{one})
	}
	return one, b.err
}

// Read implements io.Reader, which a decoder does not call on an io.ByteReader.
func (b *boundedBytes) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	one, err := b.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = one
	return 1, nil
}
