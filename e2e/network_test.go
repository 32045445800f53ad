package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// networkSide marks the re-executed test binary that is in a network of its own: ours,
// where Vedette runs, or theirs, where the targets are. A cable lies between them.
const networkSide = "VEDETTE_TEST_NETWORK_SIDE"

// ownNetworkLoss is one way to lose our network.
type ownNetworkLoss struct {
	env        []string // of Vedette
	late       int      // how many targets may have one unconfirmed failure: it takes some to know
	lose, mend func(t *testing.T, theirs func(command string))
}

var ownNetworkLosses = map[string]ownNetworkLoss{
	"our link goes down": {
		lose: func(t *testing.T, _ func(string)) { ip(t, "link set v0 down") },
		mend: func(t *testing.T, _ func(string)) {
			ip(t, "link set v0 up")
			ip(t, "route add default via 10.77.0.2")
		},
	},
	// Routes stay, and nothing answers: that everything falls silent at once can tell.
	"nothing comes back, and no sentinel is named": {
		late: 2,
		lose: func(_ *testing.T, theirs func(string)) { theirs("link set v1 down") },
		mend: func(_ *testing.T, theirs func(string)) { theirs("link set v1 up") },
	},
	// Or the sentinels.
	"nothing comes back": {
		env:  []string{"VEDETTE_SENTINELS=198.18.200.1:80,198.18.201.1:80"},
		lose: func(_ *testing.T, theirs func(string)) { theirs("link set v1 down") },
		mend: func(_ *testing.T, theirs func(string)) { theirs("link set v1 up") },
	},
}

// ip runs one command of iproute2 in this process's network.
func ip(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("ip", strings.Fields(command)...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v %s", command, err, b)
	}
}

// When our own network is gone, no target is called down, however many there are: all
// are unknown, one alert says so of ourselves, and it is resolved when they are seen
// again. An outage that was there before goes on, and is told once.
func TestTheLossOfOurOwnNetworkIsNoOutage(t *testing.T) {
	switch os.Getenv(networkSide) {
	case "ours":
		loseOurNetwork(t, ownNetworkLosses[os.Getenv("VEDETTE_TEST_LOSS")])
		return
	case "theirs":
		beTheTargets(t)
		return
	}
	// Not beside the other tests: a machine that gives us no time makes monitors starved,
	// which is trouble of our own too, but not the one that is looked for here.
	testenv.Install(t, "ip", "iproute2")
	for name := range ownNetworkLosses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := inANetwork(t, "ours", "VEDETTE_TEST_LOSS="+name)
			b, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(b), "--- PASS") {
				t.Errorf("child: %v\n%s", err, b)
			}
		})
	}
}

// inANetwork is this test in a network of its own.
func inANetwork(t *testing.T, side string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestTheLossOfOurOwnNetworkIsNoOutage$", "-test.v")
	cmd.Env = append(append(os.Environ(), networkSide+"="+side), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// beTheTargets answers on every address of 198.18.0.0/16, port 80, and does with its
// link what the lines of standard input say.
func beTheTargets(t *testing.T) {
	server := &http.Server{Addr: ":80", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	go func() { _ = server.ListenAndServe() }()
	defer server.Close()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ip(t, lines.Text())
		fmt.Println("done")
	}
}

// farSide lays the cable and returns how to run a command of ip at the targets' end.
func farSide(t *testing.T) func(command string) {
	far := inANetwork(t, "theirs")
	in, err := far.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := far.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = far.Process.Kill()
		_ = far.Wait()
	})
	answers := bufio.NewScanner(out)
	theirs := func(command string) {
		t.Helper()
		_, _ = fmt.Fprintln(in, command)
		for answers.Scan() {
			if answers.Text() == "done" {
				return
			}
		}
		t.Fatalf("the far side does not do %q", command)
	}
	ip(t, "link set lo up")
	theirs("link set lo up")
	ip(t, fmt.Sprintf("link add v0 type veth peer name v1 netns %d", far.Process.Pid))
	ip(t, "addr add 10.77.0.1/16 dev v0")
	ip(t, "link set v0 up")
	theirs("addr add 10.77.0.2/16 dev v1")
	theirs("link set v1 up")
	theirs("route add local 198.18.0.0/16 dev lo")
	ip(t, "route add default via 10.77.0.2")
	return theirs
}

func loseOurNetwork(t *testing.T, loss ownNetworkLoss) {
	theirs := farSide(t)
	hook := newReceiver(t)
	c := embedded(t, "", loss.env...)
	var channel struct {
		Secret map[string]string `json:"reveal"`
	}
	c.must("POST", "/api/v1/channels", object{"name": "Hook", "type": "webhook", "default": true, "config": object{"url": hook.URL}}, &channel)
	hook.mu.Lock()
	hook.secret = uptime.Secret(channel.Secret["secret"])
	hook.mu.Unlock()
	const targets = 24
	for n := range targets + 1 {
		target := fmt.Sprintf("http://198.18.%d.1/", n+1)
		if n == targets {
			target = "http://198.18.250.1:81/" // refused: it is down, and stays so
		}
		c.must("POST", "/api/v1/monitors", object{"name": target, "type": "http", "target": target, "interval": "1s", "timeout": "900ms",
			"confirm": object{"failures": 1, "interval": "200ms", "successes": 1}}, nil)
	}
	verdicts := func(want string, n int) func() bool {
		return func() bool {
			count := 0
			for _, m := range c.list("/api/v1/monitors") {
				if m["state"].(object)["verdict"] == want {
					count++
				}
			}
			return count == n
		}
	}
	eventually(t, time.Minute, "all targets but one are up", verdicts("up", targets))
	eventually(t, time.Minute, "the outage before is told", func() bool { return hook.count("incident.opened") == 1 })

	loss.lose(t, theirs)
	eventually(t, 3*time.Minute, "all are unknown", verdicts("unknown", targets+1))
	for _, m := range c.list("/api/v1/monitors") {
		if m["state"].(object)["reason"] == string(uptime.Blind) {
			t.Errorf("%s is unknown, and its state does not say that it is us: %v", m["name"], m["state"])
		}
	}
	eventually(t, 3*time.Minute, "the trouble of our own is told", func() bool { return hook.count("incident.opened") == 2 })
	loss.mend(t, theirs)
	eventually(t, 3*time.Minute, "all targets but one are up again", verdicts("up", targets))
	eventually(t, 3*time.Minute, "our trouble is over", func() bool { return hook.count("incident.resolved") == 1 })
	eventually(t, time.Minute, "the outage before goes on", verdicts("down", 1))

	if opened, resolved := hook.count("incident.opened"), hook.count("incident.resolved"); opened != 2 || resolved != 1 {
		t.Errorf("%d openings and %d ends are told, want 2 and 1", opened, resolved)
	}
	kinds := map[string]int{}
	for _, i := range c.list("/api/v1/incidents") {
		kinds[fmt.Sprint(i["kind"], " ", i["reason"], " open ", i["open"])]++
	}
	if len(kinds) != 2 || kinds["self own_network open false"] != 1 || kinds["target conn_refused open true"] != 1 {
		t.Errorf("got the incidents %v, want that of before and one about ourselves that is over", kinds)
	}
	now := time.Now()
	late := 0
	for _, m := range c.list("/api/v1/monitors") {
		if m["state"].(object)["verdict"] != "up" {
			continue
		}
		for _, r := range c.list(fmt.Sprintf("/api/v1/monitors/%v/results?failing=true", m["id"])) {
			if r["verdict"] != "down" {
				continue
			}
			if late++; late > loss.late || r["attempt"] != 0.0 {
				t.Errorf("%s was called down: %v", m["name"], r)
			}
		}
		var u struct{ Down string }
		c.must("GET", fmt.Sprintf("/api/v1/monitors/%v/uptime?from=%s&to=%s", m["id"], now.Add(-time.Hour).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)), nil, &u)
		if u.Down != "0s" {
			t.Errorf("%s has a downtime of %q booked", m["name"], u.Down)
		}
	}
}
