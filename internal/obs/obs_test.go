package obs

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"vedette/internal/uptime"
)

func TestLogsAreJSONWhenNobodyWatches(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"auto", "json", ""} {
		var out bytes.Buffer
		NewLogger(&out, "info", format).Info("monitor changed", slog.Int64("monitor_id", 7), slog.Duration("pause", 1500*time.Millisecond))
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("format %q: %q is no JSON: %v", format, out.String(), err)
		}
		if line["msg"] != "monitor changed" || line["monitor_id"] != 7.0 || line["pause"] != "1.5s" {
			t.Errorf("format %q: got %v", format, line)
		}
		if at, ok := line["time"].(string); !ok || !strings.HasSuffix(at, "Z") {
			t.Errorf("format %q: time %v is not UTC", format, line["time"])
		}
	}
}

func TestTextForAFileHasNoColours(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	NewLogger(&out, "info", "text").Warn("flush failed", slog.Int("results", 3))
	if got := out.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, "flush failed") || !strings.Contains(got, "results=3") {
		t.Errorf("got %q", got)
	}
}

func TestLevelIsTheLeastThatIsLogged(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]string{"debug": "debug info warn error", "info": "info warn error", "warn": "warn error",
		"error": "error", "nonsense": "info warn error", "": "info warn error"} {
		var out bytes.Buffer
		log := NewLogger(&out, level, "json")
		log.Debug("debug")
		log.Info("info")
		log.Warn("warn")
		log.Error("error")
		var got []string
		for line := range strings.Lines(out.String()) {
			var rec struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatal(err)
			}
			got = append(got, rec.Msg)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("level %q: got %v, want %s", level, got, want)
		}
	}
}

func TestSecretsDoNotReachLogs(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		NewLogger(&out, "debug", format).Info("x", slog.Any("password", uptime.Secret("canary-4711")), slog.Any("config", struct{ P uptime.Secret }{"canary-4711"}))
		if strings.Contains(out.String(), "canary-4711") {
			t.Errorf("%s shows a secret: %s", format, out.String())
		}
	}
}

func TestRegistryTellsRuntimeProcessAndBuild(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Handler(NewRegistry()).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"go_goroutines ", "process_cpu_seconds_total ", "vedette_build_info{"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	NewRegistry() // a second process in the same test must not collide
}

func TestVersionNamesTheBuild(t *testing.T) {
	t.Parallel()
	vcs := func(revision, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	for _, c := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"a release is its version", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: vcs("abcdef", "false")}, "v1.2.3"},
		{"a clone is its commit", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("0123456789abcdef", "false")}, "0123456789ab"},
		{"changed files are told", debug.BuildInfo{Settings: vcs("0123456789abcdef", "true")}, "0123456789ab-dirty"},
		{"a build without version control", debug.BuildInfo{}, "devel"},
	} {
		if got := version(&c.info); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if Version() == "" {
		t.Error("this build has no name")
	}
}
