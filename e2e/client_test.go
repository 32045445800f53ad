package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// client speaks to the API with a key, as a user's script does.
type client struct {
	t    testing.TB
	base func() string // of an API process; changes when it is restarted on another port
	key  string
	http http.Client
}

// do sends one request and decodes the answer. It reports the status, 0 when
// nobody answered.
func (c *client) do(method, path string, body, into any) int {
	c.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base()+path, r)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPut {
		req.Header.Set("If-Match", `"1"`) // no test changes anything twice
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	c.http.Timeout = 10 * time.Second
	resp, err := c.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0
	}
	if into != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(b, into); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	if resp.StatusCode >= 400 {
		c.t.Logf("%s %s: %d %s", method, path, resp.StatusCode, b)
	}
	return resp.StatusCode
}

// must is do, for requests that have to succeed.
func (c *client) must(method, path string, body, into any) {
	c.t.Helper()
	if status := c.do(method, path, body, into); status < 200 || status > 299 {
		c.t.Fatalf("%s %s: got status %d", method, path, status)
	}
}

// object is any JSON object.
type object = map[string]any

// list reads every page of a collection.
func (c *client) list(path string) []object {
	c.t.Helper()
	var items []object
	for next := ""; ; {
		var page struct {
			Items []object `json:"items"`
			Next  string   `json:"next"`
		}
		sep := "?"
		if bytes.ContainsRune([]byte(path), '?') {
			sep = "&"
		}
		url := path
		if next != "" {
			url = fmt.Sprintf("%s%scursor=%s", path, sep, next)
		}
		c.must("GET", url, nil, &page)
		items = append(items, page.Items...)
		if page.Next == "" {
			return items
		}
		next = page.Next
	}
}

// eventually polls until ok says so, and fails the test after limit with what.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("after %s still not so: %s", limit, what)
		case <-tick.C:
		}
	}
}
