package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"vedette/internal/uptime"
)

// maxDepth of JSON that we read: a monitor needs six.
const maxDepth = 32

// unmarshalStrict reads JSON and refuses what two parsers could read in two ways
// (a key given twice), what is nested beyond reason, and what follows the value.
func unmarshalStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := walk(d, "", 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return json.Unmarshal(data, v)
}

func walk(d *json.Decoder, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return errors.New("is not valid JSON")
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		at := path
		if open == '{' {
			k, err := d.Token()
			if err != nil {
				return errors.New("is not valid JSON")
			}
			key, _ := k.(string)
			if at = strings.TrimPrefix(path+"."+key, "."); seen[key] {
				return fmt.Errorf("key %q is given twice", at)
			}
			seen[key] = true
		}
		if err := walk(d, at, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("is not valid JSON")
	}
	return nil
}

// checkQuery refuses what no database takes: bytes that are not UTF-8, or a NUL.
// Texts of a body are the service's to check.
func checkQuery(ctx huma.Context) error {
	at := ctx.URL()
	query, err := url.ParseQuery(at.RawQuery)
	if err != nil {
		return uptime.InvalidField("query", "is not well formed")
	}
	for name, values := range query {
		if !storable(name) || !storable(strings.Join(values, "")) {
			return uptime.InvalidField("query."+strings.ToValidUTF8(name, "?"), "is not UTF-8, or holds a NUL")
		}
	}
	return nil
}

func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// Page is the part of a list's query that all lists have. Like the other parts of
// requests it is exported because the validator reads exported embeddings only.
type Page struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Items of one page"`
	After string `query:"cursor" maxLength:"200" doc:"The next of the page before"`
}

// id is the cursor of lists that are ordered by id; 0 without one.
func (p Page) id() (int64, error) {
	if p.After == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(p.After, 10, 64)
	if err != nil || n <= 0 {
		return 0, uptime.InvalidField("query.cursor", "is not the next of a page")
	}
	return n, nil
}

// list is one page: next is empty on the last.
type list[T any] struct {
	Body struct {
		Items []T    `json:"items" nullable:"false"`
		Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
	}
}

// pageOf cuts rows, of which one more than limit was asked for, into a page.
func pageOf[R, T any](rows []R, limit int, next func(R) string, show func(R) T) *list[T] {
	out := &list[T]{}
	if len(rows) > limit {
		rows = rows[:limit]
		out.Body.Next = next(rows[limit-1])
	}
	out.Body.Items = make([]T, len(rows))
	for i, r := range rows {
		out.Body.Items[i] = show(r)
	}
	return out
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// ByID is the path of one thing.
type ByID struct {
	ID int64 `path:"id" minimum:"1"`
}

// IfMatchHeader is the precondition of an update.
type IfMatchHeader struct {
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The ETag of the copy that the update was made from"`
}

// revision is what If-Match names.
func (h IfMatchHeader) revision(ctx context.Context) (int64, error) {
	if h.IfMatch == "" {
		return 0, &huma.ErrorModel{Status: http.StatusPreconditionRequired, Title: http.StatusText(http.StatusPreconditionRequired), Instance: instance(ctx),
			Detail: "send the ETag of the copy you changed in If-Match", Errors: []*huma.ErrorDetail{{Location: "header.If-Match", Message: "is required"}}}
	}
	n, err := strconv.ParseInt(strings.Trim(h.IfMatch, `"`), 10, 64)
	if err != nil || n < 0 {
		return 0, preconditionFailed(ctx, uptime.Errorf(uptime.Conflict, "no such revision"))
	}
	return n, nil
}

func etag(revision int64) string { return `"` + decimal(revision) + `"` }

// instant is t for JSON: null when it has not come.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// resultCursor names a result in a URL.
func resultCursor(k uptime.ResultKey) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %s", k.ScheduledAt.UnixMicro(), k.Attempt, k.Region))
}

func parseResultCursor(monitor int64, s string) (uptime.ResultKey, error) {
	if s == "" {
		return uptime.ResultKey{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	f := strings.SplitN(string(b), " ", 3)
	if err != nil || len(f) != 3 {
		return uptime.ResultKey{}, uptime.InvalidField("query.cursor", "is not the next of a page")
	}
	at, err1 := strconv.ParseInt(f[0], 10, 64)
	attempt, err2 := strconv.Atoi(f[1])
	if err1 != nil || err2 != nil || !storable(f[2]) {
		return uptime.ResultKey{}, uptime.InvalidField("query.cursor", "is not the next of a page")
	}
	return uptime.ResultKey{MonitorID: monitor, Region: f[2], ScheduledAt: time.UnixMicro(at).UTC(), Attempt: attempt}, nil
}
