package probe

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// sqlFound notes what a query found, by a driver of database/sql, whose pool a single
// check has no use for. What is left of the rows after maxRows stays unread.
func (r *session) sqlFound(rows driver.Rows) error {
	n, row := 0, make([]driver.Value, len(rows.Columns()))
	var value *string
	for ; n < maxRows; n++ {
		if err := rows.Next(row); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if n == 0 && len(row) > 0 {
			value = sqlText(row[0])
		}
	}
	r.found(n, value)
	return nil
}

// sqlText is a value as text, nil for NULL.
func sqlText(v driver.Value) *string {
	var s string
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		s = string(v)
	case float32:
		s = strconv.FormatFloat(float64(v), 'f', -1, 32)
	case float64:
		s = strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		s = v.Format(time.RFC3339Nano)
	default:
		s = fmt.Sprint(v)
	}
	return &s
}
