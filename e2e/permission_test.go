package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// credential is one header by which somebody is known; the zero one is nobody's.
type credential struct{ name, value string }

func bearer(key string) credential { return credential{"Authorization", "Bearer " + key} }

// person is an account and its three ways in.
type person struct{ session, writer, reader credential }

func (c *cluster) person(name, role string) person {
	c.t.Helper()
	email := name + "@example.org"
	command(c.t, c.env, adminPassword+"\n", "user", "create", "--email", email, "--password-stdin", "--role", role)
	resp, err := c.http.Post(c.base()+"/api/v1/sessions", "application/json",
		strings.NewReader(fmt.Sprintf(`{"email":%q,"password":%q}`, email, adminPassword)))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if len(resp.Cookies()) != 1 {
		c.t.Fatalf("%s logs in: got %s", name, resp.Status)
	}
	key := func(scope string) credential {
		return bearer(command(c.t, c.env, "", "api-key", "create", "--user", email, "--scope", scope))
	}
	return person{credential{"Cookie", resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value}, key("write"), key("read")}
}

// operation is one line of the API's own description.
type operation struct {
	method, path, permission string
	hasBody                  bool
}

func (o operation) String() string { return o.method + " " + o.path }

// operations reads the description that the installation serves, in an order in
// which its owner can do everything once: what deletes comes last.
func (c *cluster) operations() []operation {
	c.t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			Permission string          `json:"x-permission"`
			Body       json.RawMessage `json:"requestBody"`
		}
	}
	c.must("GET", "/openapi.json", nil, &document)
	var ops []operation
	for path, methods := range document.Paths {
		for method, o := range methods {
			ops = append(ops, operation{strings.ToUpper(method), path, o.Permission, o.Body != nil})
		}
	}
	last := map[string]int{"DELETE": 1}
	slices.SortFunc(ops, func(a, b operation) int {
		return cmp.Or(last[a.method]-last[b.method], strings.Compare(a.path, b.path), strings.Compare(a.method, b.method))
	})
	return ops
}

// walk asks every route of one installation about the belongings of one editor.
type walk struct {
	*cluster
	owner, stranger, viewer person
	ids                     map[string]int64  // by collection: what the owner has
	bodies                  map[string]object // by operation: what its owner may send
	operations              []operation
}

// ask sends o, about the owner's things, with a right body and precondition.
func (w *walk) ask(who credential, o operation) (status int, body string) {
	w.t.Helper()
	path := o.path
	if collection := strings.Split(strings.TrimPrefix(path, "/api/v1/"), "/")[0]; strings.Contains(path, "{") {
		id, ok := w.ids[collection]
		if !ok {
			w.t.Fatalf("%s: nobody has anything in %q: give the walk's owner something", o, collection)
		}
		path = strings.Replace(path, "{id}", fmt.Sprint(id), 1)
	}
	if strings.Contains(path, "{") || o.hasBody && strings.Contains(o.path, "{") && w.bodies[o.String()] == nil {
		w.t.Fatalf("%s: the walk does not know how to ask this", o)
	}
	return w.send(who, o.method, path, w.bodies[o.String()])
}

func (w *walk) send(who credential, method, path string, content object) (status int, body string) {
	w.t.Helper()
	var r io.Reader
	if content != nil {
		b, err := json.Marshal(content)
		if err != nil {
			w.t.Fatal(err)
		}
		r = strings.NewReader(string(b))
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base()+path, r)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-Match", `"1"`)
	if who.name != "" {
		req.Header.Set(who.name, who.value)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// expect asks o and fails the test unless the answer is one of want.
func (w *walk) expect(who string, with credential, o operation, want ...int) (body string) {
	w.t.Helper()
	status, body := w.ask(with, o)
	if !slices.Contains(want, status) {
		w.t.Errorf("%s by %s: got %d, want %d: %s", o, who, status, want, body)
	}
	return body
}

// make gives the owner one of everything: a monitor that fails once and is not
// checked again, so that nothing changes by itself, and so an incident and its delivery.
func (w *walk) make() {
	w.t.Helper()
	tg, hook := newTarget(w.t), newTarget(w.t)
	tg.status.Store(http.StatusServiceUnavailable)
	create := func(collection string, body object) {
		w.t.Helper()
		var made struct{ ID int64 }
		status, text := w.send(w.owner.session, "POST", "/api/v1/"+collection, body)
		if err := json.Unmarshal([]byte(text), &made); status != http.StatusCreated || err != nil {
			w.t.Fatalf("make one of %s: %d %v %s", collection, status, err, text)
		}
		w.ids[collection] = made.ID
	}
	channel := object{"name": "Hook", "type": "webhook", "config": object{"url": hook.URL + "/canary"}}
	create("channels", channel)
	monitor := object{"name": "Shop", "type": "http", "target": tg.URL, "interval": "24h", "confirm": object{"failures": 0},
		"config": object{"headers": object{"Authorization": "canary"}}, "channels": []int64{w.ids["channels"]}}
	create("monitors", monitor)
	create("api-keys", object{"name": "Spare"})
	w.bodies = map[string]object{
		"PUT /api/v1/channels/{id}": channel, "PUT /api/v1/monitors/{id}": monitor,
		"POST /api/v1/incidents/{id}/comments": {"text": "I look into it."}, "PUT /api/v1/monitors/{id}/status": {"verdict": "up"},
	}
	eventually(w.t, 60*time.Second, "the owner's incident is told", func() bool {
		var page struct {
			Items []struct {
				ID     int64
				Status string
				Of     int64 `json:"incident_id"`
			}
		}
		_, text := w.send(w.owner.reader, "GET", "/api/v1/deliveries", nil)
		if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Items) != 1 || page.Items[0].Status != "delivered" {
			return false
		}
		w.ids["deliveries"], w.ids["incidents"] = page.Items[0].ID, page.Items[0].Of
		return true
	})
}

var lastUsed = regexp.MustCompile(`"last_used_at":[^,]*`)

// everything is all that the owner can read, but for what follows the clock.
func (w *walk) everything() string {
	w.t.Helper()
	var all strings.Builder
	for _, o := range w.operations {
		if o.method == "GET" && !live(o) && !strings.HasSuffix(o.path, "/uptime") {
			all.WriteString(o.String() + "\n" + w.expect("its owner", w.owner.session, o, http.StatusOK))
		}
	}
	return lastUsed.ReplaceAllString(all.String(), "")
}

// live reports whether o's answer has no end.
func live(o operation) bool { return strings.HasSuffix(o.path, "/events") }

// TestEveryRouteGivesTheOwnersThingsToNobodyElse walks the API's own description,
// so that no route is forgotten: whoever is not the owner gets 401, 403 or 404 and
// has changed nothing; the owner then succeeds with the same requests.
func TestEveryRouteGivesTheOwnersThingsToNobodyElse(t *testing.T) {
	for mode, begin := range map[string]func(testing.TB, string) *cluster{
		"embedded": func(t testing.TB, smtp string) *cluster { return embedded(t, smtp) },
		"scaled":   func(t testing.TB, smtp string) *cluster { return scaledBy(t, smtp, 1) },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := begin(t, testenv.SMTP(t).URL())
			w := &walk{cluster: c, owner: c.person("owner", "editor"), stranger: c.person("stranger", "editor"),
				viewer: c.person("viewer", "viewer"), ids: map[string]int64{}, operations: c.operations()}
			w.make()
			before := w.everything()
			for _, o := range w.operations {
				w.refused(o)
			}
			w.foreignReferencesRefused()
			if after := w.everything(); after != before {
				t.Errorf("what was refused has changed something: before\n%s\nafter\n%s", before, after)
			}
			walked := 0
			for _, o := range w.operations {
				if strings.Contains(o.path, "{") {
					walked++
					well := []int{http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent}
					if strings.HasSuffix(o.path, "/status") || strings.HasSuffix(o.path, "/ping-token") {
						well = []int{http.StatusConflict} // it is of another type
					}
					w.expect("its owner", w.owner.session, o, well...)
				}
			}
			if walked < 19 {
				t.Errorf("walked %d routes of one thing only", walked)
			}
		})
	}
}

// refused asks o as everybody who must not.
func (w *walk) refused(o operation) {
	w.t.Helper()
	if o.permission == "public" {
		return
	}
	for who, with := range map[string]credential{"nobody": {}, "an unknown key": bearer("vdt_unknown"), "an unknown session": {"Cookie", "vedette_session=unknown"}} {
		w.expect(who, with, o, http.StatusUnauthorized)
	}
	if o.method != "GET" {
		w.expect("the owner's read key", w.owner.reader, o, http.StatusForbidden)
		w.expect("a viewer's key", w.viewer.writer, o, http.StatusForbidden)
	}
	one := strings.Contains(o.path, "{")
	switch {
	case one:
		body := w.expect("a stranger", w.stranger.session, o, http.StatusNotFound)
		if strings.Contains(body, "Shop") || strings.Contains(body, "Hook") {
			w.t.Errorf("%s tells a stranger what it is about: %s", o, body)
		}
	case o.method == "GET" && !live(o):
		w.showsNothingOfTheOwner(o)
	}
	switch o.permission {
	case "write":
		w.expect("a viewer", w.viewer.session, o, http.StatusForbidden)
	case "private":
		w.expect("a viewer", w.viewer.session, o, http.StatusForbidden)
	case "admin":
		w.expect("an editor", w.owner.session, o, http.StatusForbidden)
	case "credentials": // a viewer's own are his to change; the owner's are not there
		if one {
			w.expect("a viewer", w.viewer.session, o, http.StatusNotFound)
		}
	case "read":
		if live(o) {
			return
		}
		body := w.expect("a viewer", w.viewer.reader, o, http.StatusOK)
		for _, secret := range []string{"canary", `"config"`, `evidence":`} {
			if strings.Contains(body, secret) {
				w.t.Errorf("%s shows a viewer %s: %s", o, secret, body)
			}
		}
	case "self":
	default:
		w.t.Errorf("%s: the walk does not know the permission %q", o, o.permission)
	}
}

// showsNothingOfTheOwner asks for a list as a stranger.
func (w *walk) showsNothingOfTheOwner(o operation) {
	w.t.Helper()
	var page struct{ Items []struct{ ID int64 } }
	body := w.expect("a stranger", w.stranger.session, o, http.StatusOK)
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		w.t.Errorf("%s: %v in %s", o, err, body)
	}
	for _, item := range page.Items {
		if item.ID == w.ids[strings.TrimPrefix(o.path, "/api/v1/")] {
			w.t.Errorf("%s shows a stranger what is the owner's: %s", o, body)
		}
	}
}

// foreignReferencesRefused has the stranger name the owner's things where a body
// or a query may name one.
func (w *walk) foreignReferencesRefused() {
	w.t.Helper()
	mine := object{"name": "Mine", "type": "http", "target": "http://127.0.0.1:1/", "interval": "24h", "enabled": false}
	status, text := w.send(w.stranger.session, "POST", "/api/v1/monitors", mine)
	var own struct{ ID int64 }
	if err := json.Unmarshal([]byte(text), &own); status != http.StatusCreated || err != nil {
		w.t.Fatalf("the stranger's own monitor: %d %v %s", status, err, text)
	}
	mine["channels"] = []int64{w.ids["channels"]}
	for method, path := range map[string]string{"POST": "/api/v1/monitors", "PUT": fmt.Sprintf("/api/v1/monitors/%d", own.ID)} {
		status, text := w.send(w.stranger.session, method, path, mine)
		if status != http.StatusUnprocessableEntity || !strings.Contains(text, `"location":"channels"`) {
			w.t.Errorf("%s %s with another's channel: got %d, want 422 for channels: %s", method, path, status, text)
		}
	}
	group := object{"name": "Mine", "type": "group", "config": object{"members": []int64{w.ids["monitors"]}}}
	if status, text := w.send(w.stranger.session, "POST", "/api/v1/monitors", group); status != http.StatusUnprocessableEntity || !strings.Contains(text, `"location":"config.members[0]"`) {
		w.t.Errorf("a group of another's monitor: got %d, want 422 for its member: %s", status, text)
	}
	if _, text := w.send(w.stranger.session, "GET", "/api/v1/monitors", nil); strings.Count(text, `"name"`) != 1 || !strings.Contains(text, `"channels":[]`) {
		w.t.Errorf("the stranger's monitors took another's channel: %s", text)
	}
	for path, want := range map[string]int{"incidents?monitor_id=": http.StatusNotFound, "deliveries?channel_id=": http.StatusOK, "deliveries?incident_id=": http.StatusOK} {
		collection := map[string]string{"monitor_id=": "monitors", "channel_id=": "channels", "incident_id=": "incidents"}[path[strings.Index(path, "?")+1:]]
		status, text := w.send(w.stranger.session, "GET", fmt.Sprint("/api/v1/", path, w.ids[collection]), nil)
		if status != want || status == http.StatusOK && !strings.Contains(text, `"items":[]`) {
			w.t.Errorf("GET %s of the owner by a stranger: got %d, want %d and nothing: %s", path, status, want, text)
		}
	}
}
