package probe

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/sync/semaphore"

	"vedette/internal/uptime"
)

// Bounds of a response.
const (
	maxHead      = 128 << 10 // all heads together, interim ones included
	maxInterim   = 16        // 1xx responses before the real one
	maxDrain     = 64 << 20  // of a body nobody asserts about; beyond it counts as read
	evidenceBody = 4 << 10
	// largeBody is what every check may keep of a body, and largeRoom what all checks of
	// the process may keep beyond it at once: a check that wants more waits for its turn.
	largeBody = 1 << 20
	largeRoom = 32 << 20
)

var errHeadTooLarge = errors.New("response head too large")

// scratch is the memory of one run, reused by the next.
type scratch struct {
	source headLimit
	reader *bufio.Reader
	chunk  []byte
	body   []byte
	gzip   *gzip.Reader
	room   *semaphore.Weighted
	taken  int64 // of room
}

// scratchPool hands scratch out.
type scratchPool struct {
	pool sync.Pool
	room *semaphore.Weighted // bytes
}

func newScratchPool() *scratchPool {
	p := &scratchPool{room: semaphore.NewWeighted(largeRoom)}
	p.pool.New = func() any {
		return &scratch{reader: bufio.NewReaderSize(nil, 4<<10), chunk: make([]byte, 16<<10), room: p.room}
	}
	return p
}

func (p *scratchPool) get() *scratch { return p.pool.Get().(*scratch) }

// put keeps s unless one large body would then stay in memory for ever.
func (p *scratchPool) put(s *scratch) {
	s.source = headLimit{}
	s.reader.Reset(nil)
	if cap(s.body) > 64<<10 {
		s.body = nil
	}
	p.room.Release(s.taken)
	s.taken = 0
	p.pool.Put(s)
}

// headLimit ends a head that never does, and remembers why a read failed, which
// the parser of heads does not tell. left < 0 means no limit.
type headLimit struct {
	r    io.Reader
	left int
	err  error
}

// Read implements io.Reader.
func (l *headLimit) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, errHeadTooLarge
	}
	if l.left > 0 && len(b) > l.left {
		b = b[:l.left]
	}
	n, err := l.r.Read(b)
	if l.left > 0 {
		l.left -= n
	}
	if err != nil {
		l.err = err
	}
	return n, err
}

// wire is a body as it comes, and remembers how it ended: an error of the
// framing must not be taken for one of the decoder above.
type wire struct {
	r     io.Reader
	n     int64
	err   error // io.EOF when it ended well
	empty int   // reads in a row that gave nothing
}

// Read implements io.Reader.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.n += int64(n)
	w.empty++
	if n > 0 {
		w.empty = 0
	}
	if err == nil && w.empty > 100 {
		err = io.ErrNoProgress
	}
	if err != nil {
		w.err = err
	}
	return n, err
}

// bodyResult is what was read of a body.
type bodyResult struct {
	kept  []byte // valid until the scratch is reused
	whole bool   // kept is all there is
	bytes int64  // on the wire
	err   error  // of the framing
	wrong bool   // the content encoding is not what it claims, or is unknown
	alien bool   // it is unknown
	full  bool   // there was no room to keep it
}

// readBody reads the body to its end. It keeps at most keep unpacked bytes and
// stops to unpack after limit; what then comes is read and dropped, up to
// maxDrain. ctx bounds the wait for room.
func (s *scratch) readBody(ctx context.Context, resp *http.Response, keep, limit int64) bodyResult {
	w := &wire{r: resp.Body}
	var res bodyResult
	s.body = s.body[:0]
	src, err := s.decoder(resp.Header.Get("Content-Encoding"), w)
	total := int64(0)
	for err == nil && total <= limit {
		var n int
		n, err = src.Read(s.chunk)
		total += int64(n)
		if room := keep - int64(len(s.body)); room > 0 && !s.keep(ctx, s.chunk[:min(int64(n), room)], keep) {
			return bodyResult{bytes: w.n, full: true}
		}
	}
	res.wrong = err != nil && !errors.Is(err, io.EOF) && (w.err == nil || w.err == io.EOF)
	res.alien = errors.Is(err, errUnknownCoding)
	for w.err == nil && w.n < maxDrain {
		_, _ = w.Read(s.chunk)
	}
	res.kept, res.bytes = s.body, w.n
	res.whole = total <= keep && total <= limit && w.err == io.EOF && !res.wrong
	if w.err != nil && w.err != io.EOF {
		res.err = w.err
	}
	return res
}

// keep adds b to the body, of which limit bytes are kept at most. It doubles what is
// too small: append's own growth by quarters leaves five times a large body behind as
// garbage. Beyond largeBody all of limit is reserved at once, so that no two checks
// wait for what the other has. It is false when there was no room until ctx ended.
func (s *scratch) keep(ctx context.Context, b []byte, limit int64) bool {
	if need := len(s.body) + len(b); need > cap(s.body) {
		size := max(need, min(2*cap(s.body), int(limit)))
		if need > largeBody {
			if s.room.Acquire(ctx, limit) != nil {
				return false
			}
			s.taken, size = limit, int(limit)
		}
		grown := make([]byte, len(s.body), size)
		copy(grown, s.body)
		s.body = grown
	}
	s.body = append(s.body, b...)
	return true
}

var errUnknownCoding = errors.New("unknown content encoding")

// decoder unpacks w. An empty body has no encoding, whatever its head claims.
func (s *scratch) decoder(coding string, w *wire) (io.Reader, error) {
	coding = strings.ToLower(strings.TrimSpace(coding))
	if coding == "" || coding == "identity" {
		return w, nil
	}
	peek := bufio.NewReaderSize(w, 512)
	head, err := peek.Peek(2)
	if len(head) == 0 {
		return nil, err
	}
	switch coding {
	case "gzip", "x-gzip":
		if s.gzip == nil {
			s.gzip = new(gzip.Reader)
		}
		return s.gzip, s.gzip.Reset(peek)
	case "deflate": // RFC 9110 §8.4.1.2 means zlib; many servers send it bare
		if len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(peek)
		}
		return flate.NewReader(peek), nil
	}
	return nil, errUnknownCoding
}

const utf8BOM = "\xef\xbb\xbf"

// xmlEncoding is the declaration with which a document of XML names its encoding.
var xmlEncoding = regexp.MustCompile(`^<\?xml\s[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']`)

// asUTF8 is a body as the text a person reads, in which keywords are looked for: in
// the encoding that a byte order mark, the Content-Type, the document's declaration in
// XML or, in HTML, a meta element names. Bytes that are UTF-8 anyway stay so: that many
// servers add a wrong "charset=ISO-8859-1" to everything must not hide a keyword.
func asUTF8(body []byte, contentType string) []byte {
	body = bytes.TrimPrefix(body, []byte(utf8BOM))
	valid, ascii := utf8.Valid(withoutCutRune(body)), !bytes.ContainsFunc(body, func(r rune) bool { return r >= utf8.RuneSelf })
	if valid && !ascii {
		return body
	}
	e, _, certain := charset.DetermineEncoding(body[:min(len(body), 1024)], contentType)
	if declared := xmlEncoding.FindSubmatch(body[:min(len(body), 1024)]); declared != nil && !certain && !valid {
		// Where the declaration can be read, it is not UTF-16, whatever it says.
		if named, name := charset.Lookup(string(declared[1])); named != nil && !strings.HasPrefix(name, "utf-16") {
			e, certain = named, true
		}
	}
	if !certain && (valid || !isHTML(body, contentType)) {
		return body
	}
	text, err := readTwice(func() io.Reader { return e.NewDecoder().Reader(bytes.NewReader(body)) })
	if err != nil {
		return body
	}
	return text
}

// isHTML reports whether a body is HTML: by its Content-Type or, as in browsers,
// by how it begins where it has none.
func isHTML(body []byte, contentType string) bool {
	if contentType == "" {
		contentType = http.DetectContentType(body)
	}
	return strings.HasPrefix(strings.ToLower(contentType), "text/html")
}

// readTwice is all that a reader has to give, of which the first finds out how much it
// is: what is read into room that doubles until all fits takes up to four times that.
func readTwice(reader func() io.Reader) ([]byte, error) {
	size, err := io.Copy(io.Discard, reader())
	if err != nil {
		return nil, err
	}
	all := make([]byte, size)
	_, err = io.ReadFull(reader(), all)
	return all, err
}

// withoutCutRune leaves out a last character whose end may lie beyond what was kept.
func withoutCutRune(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}

// framingFault is what an error in the body says, when nothing of ours and no
// deadline explains it.
func framingFault(err error) *fault {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return down(uptime.BodyTruncated, "The connection closed before the body was complete.")
	case isReset(err):
		return down(uptime.ConnReset, "The server reset the connection in the middle of the body.")
	}
	return down(uptime.Protocol, "The body is not framed as HTTP demands: %s.", clean(err.Error(), 150))
}

// isHTTP reports whether a response may begin like this.
func isHTTP(begin []byte) bool { return bytes.HasPrefix([]byte("HTTP/"), begin) }
