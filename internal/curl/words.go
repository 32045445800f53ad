package curl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLine bounds a command line: a body of 1 MiB, quoted, and the rest.
const maxLine = 2 << 20

// words splits a command line as a POSIX shell does, with $'…' of bash, in which
// browsers write what holds odd characters. What a shell would replace or act on (a
// variable, a pipe) is an error: without the shell it would be sent as it stands.
func words(line string) ([]string, error) {
	if len(line) > maxLine {
		return nil, fmt.Errorf("is longer than %d bytes", maxLine)
	}
	if strings.ContainsRune(line, 0) || !utf8.ValidString(line) {
		return nil, errors.New("is not text in UTF-8")
	}
	s := &splitter{rest: strings.TrimSpace(strings.ReplaceAll(line, "\r\n", "\n"))}
	for s.rest != "" {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	s.end()
	return s.words, nil
}

// splitter is one split under way.
type splitter struct {
	rest  string // not read yet
	word  strings.Builder
	open  bool // a word was begun; it may be empty, as in ''
	words []string
}

// end ends the word, if one was begun.
func (s *splitter) end() {
	if s.open {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.open = false
}

// take is the next n bytes, which are read by it.
func (s *splitter) take(n int) string {
	out := s.rest[:n]
	s.rest = s.rest[n:]
	return out
}

// add puts text into the word.
func (s *splitter) add(text string) {
	s.word.WriteString(text)
	s.open = true
}

// next reads one character or one quoted part.
func (s *splitter) next() error {
	switch c := s.rest[0]; c {
	case ' ', '\t':
		s.take(1)
		s.end()
	case '\n':
		return errors.New("holds more than one command: end a line that goes on with a backslash")
	case '\'':
		return s.single()
	case '"':
		s.take(1)
		return s.double()
	case '\\':
		return s.escape("")
	case '$':
		if strings.HasPrefix(s.rest, "$'") {
			s.take(2)
			return s.ansi()
		}
		return s.dollar()
	case '^':
		if len(s.rest) > 1 && strings.IndexByte("\"\n^\\", s.rest[1]) >= 0 {
			return errors.New("is written for the command prompt of Windows: copy it as cURL (bash)")
		}
		s.add(s.take(1))
	case '`', '|', ';', '&', '<', '>', '(', ')':
		return fmt.Errorf("has %q outside of quotes, on which a shell would act: put it into quotes, or leave that part out", c)
	default:
		s.add(s.take(1))
	}
	return nil
}

func (s *splitter) single() error {
	n := strings.IndexByte(s.rest[1:], '\'')
	if n < 0 {
		return errors.New("has a ' that is not closed")
	}
	s.add(s.take(n + 2)[1 : n+1])
	return nil
}

// double reads up to the closing quote.
func (s *splitter) double() error {
	s.open = true
	for s.rest != "" {
		switch s.rest[0] {
		case '"':
			s.take(1)
			return nil
		case '\\':
			if err := s.escape("$`\"\\"); err != nil {
				return err
			}
		case '$':
			if err := s.dollar(); err != nil {
				return err
			}
		case '`':
			return errors.New("has a ` by which a shell would run a command")
		default:
			s.add(s.take(1))
		}
	}
	return errors.New(`has a " that is not closed`)
}

// escape reads a backslash and what it is for. Before a character that is not one of
// special, unless that is empty, it stands for itself.
func (s *splitter) escape(special string) error {
	if len(s.rest) == 1 {
		return errors.New("ends with a backslash")
	}
	_, size := utf8.DecodeRuneInString(s.rest[1:])
	pair := s.take(1 + size)
	switch {
	case pair[1] == '\n': // the line goes on
	case special == "" || strings.Contains(special, pair[1:]):
		s.add(pair[1:])
	default:
		s.add(pair)
	}
	return nil
}

// dollar reads a $ that is no variable.
func (s *splitter) dollar() error {
	if len(s.rest) > 1 {
		c := s.rest[1]
		if c == '{' || c == '(' || c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			return errors.New("has a $ that a shell would replace: write the value itself, or put it into ' quotes")
		}
	}
	s.add(s.take(1))
	return nil
}

// ansiEscapes of $'…' that stand for one character.
var ansiEscapes = map[byte]string{
	'n': "\n", 't': "\t", 'r': "\r", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", 'e': "\x1b", 'E': "\x1b",
	'\\': "\\", '\'': "'", '"': `"`, '?': "?",
}

// ansi reads up to the closing quote of $'…'.
func (s *splitter) ansi() error {
	s.open = true
	for s.rest != "" {
		switch {
		case s.rest[0] == '\'':
			s.take(1)
			return nil
		case s.rest[0] != '\\' || len(s.rest) == 1:
			s.add(s.take(1))
		case ansiEscapes[s.rest[1]] != "":
			s.add(ansiEscapes[s.take(2)[1]])
		default:
			if err := s.ansiNumber(); err != nil {
				return err
			}
		}
	}
	return errors.New("has a $' that is not closed")
}

// ansiNumber reads \x41, \u0041, \U00000041 or \101; another backslash is itself.
func (s *splitter) ansiNumber() error {
	most, base, from := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s.rest[1]], 16, 2
	if most == 0 {
		most, base, from = 3, 8, 1
	}
	n := from
	for n < len(s.rest) && n < from+most && isDigit(s.rest[n], base) {
		n++
	}
	if n == from {
		s.add(s.take(1))
		return nil
	}
	v, err := strconv.ParseUint(s.take(n)[from:], base, 32)
	if err != nil || v == 0 || v > utf8.MaxRune {
		return errors.New("has an escape in $'…' that is no character")
	}
	if most == 4 || most == 8 {
		s.add(string(rune(v)))
		return nil
	}
	s.add(string([]byte{byte(v)}))
	return nil
}

func isDigit(c byte, base int) bool {
	_, err := strconv.ParseUint(string(rune(c)), base, 8)
	return err == nil
}
