package probe

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"regexp/syntax"
	"runtime"
	"time"
)

// RE2 is linear in the text, and in the size of the pattern too: (a{1,900})b takes a
// minute over a MiB of "a" (measured). So a match that may be dear is timed.
const (
	cheapMatch = 4 << 20     // instructions of a pattern times bytes of a text
	matchTime  = time.Second // of one dear match; an ordinary pattern takes that over some 16 MiB
)

// errCostly and errBusy are what an evaluation panics with that takes too long: because
// of what it is, or because the processor had little time for it.
var (
	errCostly = errors.New("takes too long on this answer")
	errBusy   = errors.New("took too long on a busy machine")
)

// compilePattern makes the test for a regular expression.
func compilePattern(text string) (func([]byte) bool, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return func(b []byte) bool {
		if len(b) <= cheapMatch/len(prog.Inst) {
			return re.Match(b)
		}
		runtime.LockOSThread() // whose time is counted
		defer runtime.UnlockOSThread()
		begin := threadTime()
		r := &timedRunes{r: bytes.NewReader(b), end: time.Now().Add(matchTime)}
		hit := re.MatchReader(r)
		switch {
		case hit || !r.over:
		case threadTime()-begin < matchTime/2:
			panic(errBusy)
		default:
			panic(errCostly)
		}
		return hit
	}, nil
}

// timedRunes ends a text when its time is over.
type timedRunes struct {
	r    *bytes.Reader
	n    int
	end  time.Time
	over bool
}

// ReadRune implements io.RuneReader.
func (t *timedRunes) ReadRune() (rune, int, error) {
	if t.n++; t.n%256 == 0 && time.Now().After(t.end) {
		t.over = true
	}
	if t.over {
		return 0, 0, io.EOF
	}
	return t.r.ReadRune()
}
