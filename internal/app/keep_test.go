package app

import (
	"database/sql"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"vedette/internal/config"
	"vedette/internal/uptime"
)

// TestTheKeepOptionsReachTheStore goes from the command line to what upkeep leaves,
// with rows on both sides of each option.
func TestTheKeepOptionsReachTheStore(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var cli struct {
		Serve config.Serve `cmd:""`
	}
	parser, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--keep-results", "72h", "--keep-hourly", "96h"}); err != nil {
		t.Fatal(err)
	}
	a, err := New(cli.Serve, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer a.ln.Close()
	p, err := a.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	now := uptime.Now()
	if err := p.store.SetProgress(t.Context(), "rollup", now.Truncate(time.Hour)); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(data, "vedette.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, hours := range []int{71, 73, 95, 97} {
		for _, q := range []string{`INSERT INTO check_evidence VALUES ($1, $2, 0, 0, '', '')`, `INSERT INTO rollups VALUES ($2, 3600, $1, 1, 0, 0, 0, 1, '{}')`} {
			if _, err := db.ExecContext(t.Context(), q, now.Add(-time.Duration(hours)*time.Hour).UnixMicro(), hours); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.store.Upkeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string][]int{"check_evidence": {71}, "rollups": {71, 73, 95}} {
		rows, err := db.QueryContext(t.Context(), `SELECT monitor_id FROM `+table+` ORDER BY monitor_id`)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for rows.Next() {
			var hours int
			if err := rows.Scan(&hours); err != nil {
				t.Fatal(err)
			}
			got = append(got, hours)
		}
		if err := rows.Err(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: rows of %d hours ago are left, %v, want %d", table, got, err, want)
		}
	}
}
