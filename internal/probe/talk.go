package probe

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// Bounds of a conversation in lines. RFC 5321 §4.5.3.1.5 allows a reply 512 bytes
// a line and RFC 2449 §4 allows POP3 the same; FTP and IMAP name no bound: the welcome of
// the one may be pages long, and the other tells all keywords of a mailbox in one line.
const (
	maxLine     = 4 << 10 // bytes
	maxLongLine = 64 << 10
	maxLines    = 1000 // of a whole conversation
)

// conversation is a protocol of lines, spoken on one connection.
type conversation struct {
	r     *session
	conn  net.Conn
	in    *bufio.Reader
	begin time.Time
	lines int
	free  bool // between the first and the last line of a reply any text may stand (FTP)
	long  bool // a line may have maxLongLine bytes, of which the first maxLine are of use (IMAP)
}

// converse begins a conversation on a new connection to the monitor's target,
// with TLS from the start if security is "tls".
func (r *session) converse(security string) (*conversation, *fault) {
	conn, f := r.connect()
	if f != nil {
		return nil, f
	}
	c := newConversation(r, conn)
	if security == "tls" {
		return c, c.secure()
	}
	return c, nil
}

func newConversation(r *session, conn net.Conn) *conversation {
	return &conversation{r: r, conn: conn, in: bufio.NewReaderSize(conn, maxLine), begin: time.Now()}
}

// secure goes on in TLS. Clear text behind the server's consent would be read as
// if it had come under TLS (CVE-2011-0411), so it ends the conversation.
func (c *conversation) secure() *fault {
	if n := c.in.Buffered(); n > 0 {
		return down(uptime.Protocol, "The server sent %d bytes in clear text behind its consent to TLS.", n)
	}
	before := time.Now()
	conn, f := c.r.secure(c.conn, c.r.target.host, true)
	if f != nil {
		return f
	}
	c.begin = c.begin.Add(time.Since(before)) // the handshake is a phase of its own
	c.conn = conn
	c.in.Reset(conn)
	return nil
}

// send writes one line. What prevents it is told by the answer that does not come,
// or by the one that came instead: a server may say goodbye and close.
func (c *conversation) send(line string) { _, _ = io.WriteString(c.conn, line+"\r\n") }

// line is the next line of the server, without its end. what names the step, as
// session.talkFault wants it.
func (c *conversation) line(what string) (string, *fault) {
	if c.lines++; c.lines > maxLines {
		return "", down(uptime.Protocol, "The server sent more than %d lines where %s was due.", maxLines, what)
	}
	b, err := c.in.ReadSlice('\n')
	c.heard(b)
	text, size := string(b), len(b)
	for c.long && errors.Is(err, bufio.ErrBufferFull) && size < maxLongLine {
		b, err = c.in.ReadSlice('\n')
		c.heard(b)
		size += len(b)
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", down(uptime.Protocol, "The server sent a line of more than %d bytes where %s was due.", size, what)
	case err != nil:
		return "", c.r.talkFault(err, what)
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// heard keeps times and evidence of what the server said.
func (c *conversation) heard(b []byte) {
	if len(b) == 0 {
		return
	}
	r := c.r
	if r.phases.FirstByte == 0 {
		r.phases.FirstByte = time.Since(c.begin)
	}
	r.phases.Transfer = time.Since(c.begin) - r.phases.FirstByte
	r.seen.BodyBytes += int64(len(b))
	r.seen.Body += string(b[:min(len(b), evidenceBody-min(len(r.seen.Body), evidenceBody))])
}

// codedReply is an answer of SMTP or FTP.
type codedReply struct {
	code  int
	lines []string // without their code
}

// String is the reply as it is shown.
func (p codedReply) String() string {
	return strings.TrimSpace(strconv.Itoa(p.code) + " " + clean(strings.Join(p.lines, " "), 200))
}

// ask sends a command and returns the reply to it.
func (c *conversation) ask(line, what string) (codedReply, *fault) {
	c.send(line)
	return c.reply(what)
}

// reply reads one reply, which goes on until a line has a space behind its code.
func (c *conversation) reply(what string) (codedReply, *fault) {
	line, f := c.line(what)
	if f != nil {
		return codedReply{}, f
	}
	code, text, last, ok := replyLine(line)
	if !ok {
		return codedReply{}, down(uptime.Protocol, "The server sent %q where %s was due.", clean(line, 100), what)
	}
	p := codedReply{code, []string{text}}
	for !last {
		if line, f = c.line(what); f != nil {
			return codedReply{}, f
		}
		var again int
		again, text, last, ok = replyLine(line)
		if !ok || again != code {
			if !c.free {
				return codedReply{}, down(uptime.Protocol, "The server sent %q in the middle of %s.", clean(line, 100), what)
			}
			text, last = line, false
		}
		p.lines = append(p.lines, text)
	}
	return p, nil
}

// replyLine takes a line apart into its code, its text and whether it is the last
// of its reply (RFC 5321 §4.2, RFC 959 §4.2).
func replyLine(line string) (code int, text string, last, ok bool) {
	if len(line) < 3 || line[0] < '1' || line[0] > '5' {
		return 0, "", false, false
	}
	n, err := strconv.ParseUint(line[:3], 10, 16)
	if err != nil || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return int(n), line[min(4, len(line)):], len(line) == 3 || line[3] == ' ', true
}
