package store_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// raw is everything that the database keeps: the bytes of SQLite's files, the log of
// writes among them; every row of every table of PostgreSQL as text.
func raw(t *testing.T, e storetest.Env) []byte {
	t.Helper()
	var out []byte
	if path, ok := strings.CutPrefix(e.Database, "sqlite:"); ok {
		files, err := filepath.Glob(path + "*")
		if err != nil || len(files) < 2 {
			t.Fatalf("got the files %v, %v, want the database and its log", files, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b...)
		}
		return out
	}
	for table := range sizes(t, e) {
		out = append(out, strings.Join(read[string](t, e, `SELECT t::text FROM `+table+` t`), "\n")...)
	}
	return out
}

// TestNoSecretIsStoredInClear gives monitors and channels secrets, changes them, and
// has an outage told of, so that whatever copies a config has copied it.
func TestNoSecretIsStoredInClear(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		var secrets []string
		secret := func(name string) string {
			secrets = append(secrets, "clear-"+name)
			return secrets[len(secrets)-1]
		}
		monitor := func(version string) json.RawMessage {
			return json.RawMessage(`{"headers":{"X-Token":"` + secret("header-"+version) + `"},"auth":{"kind":"basic","username":"u","password":"` + secret("password-"+version) +
				`","token":"` + secret("bearer-"+version) + `"},"tls":{"client_key_pem":"-----BEGIN PRIVATE KEY-----\n` + secret("key-"+version) + `\n-----END PRIVATE KEY-----\n"}}`)
		}
		channel := func(version string) json.RawMessage {
			return json.RawMessage(`{"url":"https://hook.example/` + secret("path-"+version) + `","secret":"` + secret("signing-"+version) + `","server":"smtp://u:` + secret("smtp-"+version) + `@mail.example"}`)
		}
		m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Config, m.Confirm.Failures = monitor("first"), 0 })
		c, err := e.CreateChannel(t.Context(), uptime.Channel{OwnerID: owner, Name: "Ops", Type: "webhook", Config: channel("first"), Default: true, Enabled: true})
		if err != nil {
			t.Fatal(err)
		}
		first := raw(t, e) // before anything is overwritten
		m.Config, c.Config = monitor("second"), channel("second")
		if m, _, err = e.UpdateMonitor(t.Context(), owner, m); err != nil {
			t.Fatal(err)
		}
		if c, err = e.UpdateChannel(t.Context(), owner, c); err != nil {
			t.Fatal(err)
		}
		e.Record(t, manager.Decide, storetest.Result(m, 0, down))
		claims := routeAlerts(t, e, uptime.ClaimTerms{Lease: day, Limit: 9, PerChannel: 9}, alerts(t, e)...)
		if len(claims) != 1 || !slices.Equal(claims[0].Channel.Config, c.Config) {
			t.Fatalf("got %+v, want one delivery to the channel as it was saved", claims)
		}
		for _, stored := range [][]byte{first, raw(t, e)} {
			if !bytes.Contains(stored, []byte(m.Target)) {
				t.Fatal("the monitor's target is not found where it must be")
			}
			for _, s := range secrets {
				if bytes.Contains(stored, []byte(s)) {
					t.Errorf("%q is stored in clear", s)
				}
			}
		}
	})
}
