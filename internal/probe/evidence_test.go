package probe

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"vedette/internal/guard"
	"vedette/internal/uptime"
)

// The evidence of an up result is there when it is asked for, and only then; it holds no
// credential, not even the beginning of one that its bound cuts in two.
func TestEvidenceOfAnUpResultIsThereOnRequest(t *testing.T) {
	t.Parallel()
	const token = "canary-token-of-some-length"
	before := make(chan int, 1)
	address := serve(t, func(c net.Conn, _ string) {
		says(page(strings.Repeat("x", <-before)+token+strings.Repeat("y", 5000)))(c, "")
	})
	env := Env{Guard: guard.New(guard.Options{Policy: guard.Allow()})}
	c, err := New(env).Compile(uptime.Monitor{Type: "http", Target: "http://" + address, Timeout: 5 * time.Second,
		Config: json.RawMessage(`{"auth":{"kind":"bearer","token":"` + token + `"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	before <- 0
	if out := c.Run(t.Context(), Attempt{}); out.Verdict != uptime.VerdictUp || out.Evidence != nil {
		t.Errorf("not asked for: got %s with %+v, want up without evidence", out.Verdict, out.Evidence)
	}
	for _, n := range []int{0, 4090, 4096 - len(token), 4096 - len(token) + 1, 4092, 4096} {
		before <- n
		out := c.Run(t.Context(), Attempt{Evidence: true})
		if out.Verdict != uptime.VerdictUp || out.Evidence == nil || out.Evidence.Status != 200 || out.Evidence.BodyBytes != int64(n+len(token)+5000) {
			t.Fatalf("after %d bytes: got %s with %+v, want up with its evidence", n, out.Verdict, out.Evidence)
		}
		raw, _ := json.Marshal(out.Evidence)
		if bytes.Contains(raw, []byte("cana")) || len(out.Evidence.Body) > evidenceBody {
			t.Errorf("after %d bytes: evidence of %d bytes ends with %q, want no credential", n, len(out.Evidence.Body), out.Evidence.Body[max(0, len(out.Evidence.Body)-30):])
		}
	}
}
