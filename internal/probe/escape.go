package probe

import (
	"errors"
	"strconv"
	"strings"
)

// unescape reads text in which \r, \n, \t, \\ and \xNN stand for bytes.
func unescape(s string) ([]byte, error) {
	var out []byte
	for {
		before, after, found := strings.Cut(s, `\`)
		out = append(out, before...)
		if !found {
			return out, nil
		}
		if after == "" {
			return nil, errors.New(`ends in a lone \; write \\`)
		}
		switch after[0] {
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case '\\':
			out = append(out, '\\')
		case 'x':
			b, err := strconv.ParseUint(after[1:min(3, len(after))], 16, 8)
			if err != nil || len(after) < 3 {
				return nil, errors.New(`has \x without two hexadecimal digits`)
			}
			out = append(out, byte(b))
			after = after[2:]
		default:
			return nil, errors.New(`may hold \r, \n, \t, \xNN and \\, and no other \`)
		}
		s = after[1:]
	}
}
