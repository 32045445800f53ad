package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// tdsColumns is how many columns SQL Server's answers have at most
// (https://learn.microsoft.com/sql/sql-server/maximum-capacity-specifications-for-sql-server,
// columns per SELECT statement).
const tdsColumns = 4096

// errTooWide are columns whose declared widths, for which the driver makes room
// before it has read a row, are together above maxRead.
var errTooWide = errors.New("columns wider than a check reads")

// tdsBroken is a reply that is not as the protocol wants it, or says what nobody
// asked for.
type tdsBroken string

// Error implements error.
func (b tdsBroken) Error() string { return "it sent " + string(b) }

// tdsGuard looks into the replies of a SQL Server as the driver will read them, token
// by token, and finds the lengths and counts that are above what a check reads. It
// refuses what the driver would read on from in another place than here: what is
// looked at must be what is used. The zero value is ready.
type tdsGuard struct {
	held     []byte      // the beginning of what has not come whole
	skip     int         // bytes of a value that are still to come
	chunks   bool        // then the length of a chunk comes
	features bool        // an acknowledgement of features is not over
	missing  int         // columns that were announced and have not come
	width    int         // of the columns
	columns  []tdsColumn // of the rows
	row      []tdsColumn // whose values are still to come
}

// tdsColumn is how a value is read.
type tdsColumn struct {
	form tdsForm
	size int // of tdsFixed
}

type tdsForm byte

// What stands in front of a value.
const (
	tdsFixed   tdsForm = iota // nothing
	tdsByte                   // its length
	tdsShort                  // its length, or 0xffff for NULL
	tdsLong                   // a text pointer and its length, or none
	tdsChunked                // its length if known; it comes in chunks that have theirs
	tdsVariant                // its length, its type and what that needs
)

// look goes through what a packet holds.
func (g *tdsGuard) look(b []byte) error {
	if len(g.held) > 0 {
		b = append(g.held, b...)
	}
	c := &tdsCursor{b: b}
	for {
		n := min(g.skip, len(c.b))
		g.skip -= n
		c.b = c.b[n:]
		whole := c.b
		if len(whole) == 0 {
			g.held = nil
			return nil
		}
		over, err := g.unit(c)
		switch {
		case c.short && len(whole) > maxMessage:
			return errTooLong
		case c.short:
			g.held = whole
			return nil
		case err != nil:
			return err
		case over: // the driver reads on from the next packet
			*g = tdsGuard{}
			return nil
		}
	}
}

// unit reads what is next: a token, or a part of one that may be long. Nothing has
// changed when there is too little of it. over means that the reply has ended.
func (g *tdsGuard) unit(c *tdsCursor) (over bool, err error) {
	switch {
	case g.chunks:
		n := c.u32()
		if c.short {
			return false, nil
		}
		g.chunks = n != 0
		return false, g.value(n)
	case len(g.row) > 0:
		err := g.cell(c, g.row[0])
		if !c.short {
			g.row = g.row[1:]
		}
		return false, err
	case g.missing > 0:
		return false, g.column(c)
	case g.features:
		return false, g.feature(c)
	}
	return g.token(c)
}

// value has the next n bytes pass.
func (g *tdsGuard) value(n int) error {
	if n < 0 || n > maxMessage {
		return errTooLong
	}
	g.skip = n
	return nil
}

// token reads the beginning of one, and all of it if it is short.
func (g *tdsGuard) token(c *tdsCursor) (over bool, err error) {
	switch kind := c.u8(); kind {
	case 0x79: // RETURNSTATUS
		c.take(4)
	case 0x81: // COLMETADATA
		n := c.u16()
		switch {
		case c.short:
		case n == 0xffff:
			g.columns = nil
		case n > tdsColumns:
			return false, tdsBroken(fmt.Sprintf("a head of %d columns", n))
		default:
			g.missing, g.columns, g.width = n, nil, 0
		}
	case 0xa4, 0xa5, 0xad: // TABNAME, COLINFO, LOGINACK
		c.take(c.u16())
	case 0xa9: // ORDER
		n := c.u16()
		if c.take(n); n%2 != 0 {
			return false, tdsBroken("half a number of a column")
		}
	case 0xaa, 0xab: // ERROR, INFO
		if in := c.in(); !c.short {
			in.take(6)
			in.shortText()
			in.text()
			in.text()
			in.take(4)
			return false, in.ends()
		}
	case 0xac: // RETURNVALUE
		c.take(2)
		c.text()
		c.take(1)
		if column, _, err := c.column(); c.short || err != nil {
			return false, err
		} else {
			g.row = []tdsColumn{column}
		}
	case 0xae: // FEATUREEXTACK
		g.features = !c.short
	case 0xd1: // ROW
		g.row = g.columns
	case 0xd2: // NBCROW
		nulls := c.take((len(g.columns) + 7) / 8)
		if c.short {
			return false, nil
		}
		g.row = nil
		for i, column := range g.columns {
			if nulls[i/8]&(1<<(i%8)) == 0 {
				g.row = append(g.row, column)
			}
		}
	case 0xe3: // ENVCHANGE
		if in := c.in(); !c.short {
			return false, in.changes()
		}
	case 0xfd, 0xfe, 0xff: // DONE, DONEPROC, DONEINPROC
		const more, serverError = 1, 0x100
		status := c.u16()
		c.take(10)
		return !c.short && (status&more == 0 || kind != 0xff && status&serverError != 0), nil
	default:
		return false, tdsBroken(fmt.Sprintf("a token 0x%02x", kind))
	}
	return false, nil
}

// column reads one of the columns that were announced.
func (g *tdsGuard) column(c *tdsCursor) error {
	column, width, err := c.column()
	c.text()
	switch {
	case c.short:
		return nil
	case err != nil:
		return err
	case g.width+width > maxRead:
		return errTooWide
	}
	g.missing--
	g.width += width
	g.columns = append(g.columns, column)
	return nil
}

// feature reads one that is acknowledged. Encrypted columns were not asked for, and
// with them the driver would read all columns in another way.
func (g *tdsGuard) feature(c *tdsCursor) error {
	const columnEncryption, end = 0x04, 0xff
	switch c.u8() {
	case end:
		g.features = false
		return nil
	case columnEncryption:
		return tdsBroken("encrypted columns")
	}
	if n := c.u32(); !c.short {
		return g.value(n)
	}
	return nil
}

// cell reads what stands in front of a value.
func (g *tdsGuard) cell(c *tdsCursor, column tdsColumn) error {
	const null, unknown = 1<<64 - 1, 1<<64 - 2
	n := column.size
	switch column.form {
	case tdsByte:
		n = c.u8()
	case tdsShort:
		if n = c.u16(); n == 0xffff {
			n = 0
		}
	case tdsLong:
		if pointer := c.u8(); pointer > 0 {
			c.take(pointer + 8)
			if n = c.u32(); n == -1 {
				n = 0
			}
		}
	case tdsChunked:
		switch size := c.u64(); {
		case c.short || size == null:
		case size != unknown && size > maxMessage:
			return errTooLong
		default:
			g.chunks = true
		}
	case tdsVariant:
		if n = c.u32(); n != 0 {
			kind, props := c.u8(), c.u8()
			if !c.short && !tdsVariantFits(kind, props, n) {
				return tdsBroken(fmt.Sprintf("a value of type 0x%02x in %d bytes", kind, n))
			}
			n -= 2
		}
	}
	if c.short {
		return nil
	}
	return g.value(n)
}

// tdsVariantFits reports whether a value of a type that is not its column's, with so
// many bytes for what the type needs, takes n bytes with both in front of it: the
// driver believes the type, not n.
func tdsVariantFits(kind, props, n int) bool {
	n -= 2 + props
	switch kind {
	case 0x32, 0x30: // bit, tinyint
		return props == 0 && n == 1
	case 0x34: // smallint
		return props == 0 && n == 2
	case 0x38, 0x3b: // int, real
		return props == 0 && n == 4
	case 0x7f, 0x3e: // bigint, float
		return props == 0 && n == 8
	case 0x24, 0x3d, 0x3a, 0x7a, 0x3c, 0x28: // uniqueidentifier, dates, money
		return props == 0 && n >= 0
	case 0x29, 0x2a, 0x2b: // times: their scale
		return props == 1 && n >= 0
	case 0xa5, 0xad, 0x6a, 0x6c: // binary: the longest; decimal: precision and scale
		return props == 2 && n >= 0
	case 0xa7, 0xaf, 0xe7, 0xef: // text: collation and the longest
		return props == 7 && n >= 0
	}
	return false
}

// tdsCursor reads from what has come. short is set when that was too little; what was
// read is then zero.
type tdsCursor struct {
	b     []byte
	short bool
}

func (c *tdsCursor) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.short = nil, true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *tdsCursor) u8() int {
	if v := c.take(1); !c.short {
		return int(v[0])
	}
	return 0
}

func (c *tdsCursor) u16() int {
	if v := c.take(2); !c.short {
		return int(binary.LittleEndian.Uint16(v))
	}
	return 0
}

// u32 is negative from 1<<31 on.
func (c *tdsCursor) u32() int {
	if v := c.take(4); !c.short {
		return int(int32(binary.LittleEndian.Uint32(v)))
	}
	return 0
}

func (c *tdsCursor) u64() uint64 {
	if v := c.take(8); !c.short {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

// text passes a text with a length of one byte, in units of UTF-16.
func (c *tdsCursor) text() { c.take(2 * c.u8()) }

// shortText is text with a length of two bytes.
func (c *tdsCursor) shortText() { c.take(2 * c.u16()) }

// in is what the length that comes first encloses.
func (c *tdsCursor) in() *tdsCursor { return &tdsCursor{b: c.take(c.u16())} }

// ends is an error when what a length encloses is not all there is, or too little.
func (c *tdsCursor) ends() error {
	if c.short || len(c.b) > 0 {
		return tdsBroken("a token that is not as long as it says")
	}
	return nil
}

// changes reads all changes of an environment.
func (c *tdsCursor) changes() error {
	for len(c.b) > 0 {
		switch kind := c.u8(); kind {
		case 8, 9, 10: // a transaction: bytes, not text
			c.take(c.u8())
			c.take(c.u8())
		case 7: // collation
			c.take(c.u8())
			c.text()
		case 20: // another server
			c.take(5)
			c.shortText()
			c.take(2)
		case 1, 2, 3, 4, 5, 6, 11, 12, 13, 15, 16, 17, 18, 19:
			c.text()
			c.text()
		default:
			return tdsBroken(fmt.Sprintf("a change %d of its environment", kind))
		}
	}
	return c.ends()
}

// column reads what is said of a column in front of its name. width is the room that
// the driver makes for it. The type without a value, 0x1f, is none that a server sends:
// rows of it would cost it nothing.
func (c *tdsCursor) column() (column tdsColumn, width int, err error) {
	c.take(6) // the user's type, flags
	fixed := func(n int) (tdsColumn, int, error) { return tdsColumn{tdsFixed, n}, n, nil }
	switch kind := c.u8(); kind {
	case 0x30, 0x32:
		return fixed(1)
	case 0x34:
		return fixed(2)
	case 0x38, 0x3a, 0x3b, 0x7a:
		return fixed(4)
	case 0x3c, 0x3d, 0x3e, 0x7f:
		return fixed(8)
	case 0x28: // date
		return tdsColumn{form: tdsByte}, 3, nil
	case 0x29, 0x2a, 0x2b: // times: their scale
		c.take(1)
		return tdsColumn{form: tdsByte}, 10, nil
	case 0x37, 0x3f, 0x6a, 0x6c: // decimal: precision and scale too
		width = c.u8()
		c.take(2)
		return tdsColumn{form: tdsByte}, width, nil
	case 0x24, 0x25, 0x26, 0x27, 0x2d, 0x2f, 0x68, 0x6d, 0x6e, 0x6f:
		return tdsColumn{form: tdsByte}, c.u8(), nil
	case 0xa5, 0xad, 0xa7, 0xaf, 0xe7, 0xef: // binary; text: its collation
		width = c.u16()
		if kind != 0xa5 && kind != 0xad {
			c.take(5)
		}
		if width == 0xffff {
			return tdsColumn{form: tdsChunked}, 0, nil
		}
		return tdsColumn{form: tdsShort}, width, nil
	case 0xf1: // XML
		if c.u8() != 0 {
			c.text()
			c.text()
			c.shortText()
		}
		return tdsColumn{form: tdsChunked}, 0, nil
	case 0xf0: // a type of the user's
		width = c.u16()
		c.text()
		c.text()
		c.text()
		c.shortText()
		return tdsColumn{form: tdsChunked}, width, nil
	case 0x22, 0x23, 0x63: // image; texts: their collation; the names of the table
		c.take(4)
		if kind != 0x22 {
			c.take(5)
		}
		for range c.u8() {
			c.shortText()
		}
		return tdsColumn{form: tdsLong}, 0, nil
	case 0x62:
		c.take(4)
		return tdsColumn{form: tdsVariant}, 0, nil
	default:
		if c.short {
			return tdsColumn{}, 0, nil
		}
		return tdsColumn{}, 0, tdsBroken(fmt.Sprintf("a column of type 0x%02x", kind))
	}
}
