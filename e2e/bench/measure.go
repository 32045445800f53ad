package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bench is one run: the binaries and the target that every step shares.
type bench struct {
	options
	bin    string
	self   string
	plain  string // base URL of the target
	secure string
	max    float64 // GETs a second of the bare loop
	count  int     // profiles written
}

// measureAll runs every step and prints one table row each.
func measureAll(ctx context.Context, o options) error {
	b := &bench{options: o}
	dir, err := os.MkdirTemp("", "vedette-bench-bin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.bin = filepath.Join(dir, "vedette")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.bin, "./cmd/vedette")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	stop, err := b.startTarget(ctx)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("| figure | measured |")
	fmt.Println("|---|---|")
	bare, err := b.bare(ctx, b.plain+"/0", 0)
	if err != nil {
		return err
	}
	b.max = bare.PerSecond
	row("bare loop of fresh GETs, maximum", "%.0f/s, %.0f µs CPU each", bare.PerSecond, bare.MicroCPU)
	for mode := range strings.SplitSeq(o.modes, ",") {
		steps := map[string]func(context.Context, string) error{"steady": b.steady, "throughput": b.throughput, "latency": b.latency, "https": b.https, "million": b.million}
		for name := range strings.SplitSeq(o.steps, ",") {
			if steps[name] == nil {
				return fmt.Errorf("-steps: there is no step %q", name)
			}
			if err := steps[name](ctx, mode); err != nil {
				return fmt.Errorf("%s: %w", mode, err)
			}
		}
	}
	return nil
}

func row(figure, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", figure, fmt.Sprintf(format, args...))
}

func (b *bench) startTarget(ctx context.Context) (func(), error) {
	cmd := exec.CommandContext(ctx, b.self, "target")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	f := strings.Fields(line)
	b.plain, b.secure = "http://"+f[0], "https://"+f[1]
	return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }, nil
}

func (b *bench) bare(ctx context.Context, url string, rate int) (bareResult, error) {
	out, err := exec.CommandContext(ctx, b.self, "bare", "-url", url, "-rate", fmt.Sprint(rate), "-span", "5s").Output()
	if err != nil {
		return bareResult{}, err
	}
	var r bareResult
	return r, json.Unmarshal(out, &r)
}

// seen asks the target what it saw since it was last asked.
func (b *bench) seen() (targetStats, error) {
	resp, err := http.Get(b.plain + "/stats")
	if err != nil {
		return targetStats{}, err
	}
	defer resp.Body.Close()
	var s targetStats
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// span is what one measured window showed.
type span struct {
	counts
	targetStats
	seconds float64
	used    usage // over the window
	memory  int64 // at its end, of Vedette's own processes
	device  int64 // bytes that the device wrote, of everything on this machine
	stored  int64 // bytes by which the results grew
}

func (s span) perCheck(d time.Duration) float64 {
	return float64(d.Microseconds()) / float64(max(s.up, 1))
}

// toDisk tells the bytes written for each check: by the device, and by the kernel's
// account of each process, which takes a page cache folio of up to 2 MiB for written
// each time that any byte of it becomes dirty.
func (s span) toDisk() string {
	n := float64(max(s.up, 1))
	return fmt.Sprintf("%.0f (by the processes' account %.0f)", float64(s.device)/n, float64(s.used.written)/n)
}

// window warms up, measures, and waits until what was due in it is stored.
func (b *bench) window(ctx context.Context, in *installation) (span, error) {
	pause(ctx, b.warm)
	if _, err := b.seen(); err != nil {
		return span{}, err
	}
	pids := append(append([]int{}, in.pids...), in.deps...)
	before, err := usageOf(pids...)
	if err != nil {
		return span{}, err
	}
	disk, err := deviceBytes()
	if err != nil {
		return span{}, err
	}
	size, err := in.size(ctx)
	if err != nil {
		return span{}, err
	}
	from := time.Now()
	b.profile(ctx, in, b.options.window)
	to := time.Now()
	after, err := usageOf(pids...)
	if err != nil {
		return span{}, err
	}
	own, err := usageOf(in.pids...)
	if err != nil {
		return span{}, err
	}
	s := span{seconds: to.Sub(from).Seconds(), memory: own.memory, used: usage{cpu: after.cpu - before.cpu, written: after.written - before.written}}
	if s.targetStats, err = b.seen(); err != nil {
		return s, err
	}
	if s.device, err = deviceBytes(); err != nil {
		return s, err
	}
	s.device -= disk
	if s.stored, err = in.size(ctx); err != nil {
		return s, err
	}
	s.stored -= size
	pause(ctx, 3*time.Second)
	s.counts, err = in.count(from, to)
	return s, err
}

// profile lets the window pass, and keeps a CPU profile of every process, if asked to.
func (b *bench) profile(ctx context.Context, in *installation, window time.Duration) {
	end := time.Now().Add(window)
	b.count++
	var all sync.WaitGroup
	if b.profiles != "" {
		for role, addr := range in.pprof {
			all.Go(func() {
				if err := keepProfile(ctx, addr, filepath.Join(b.profiles, fmt.Sprintf("step%02d-%s.pprof", b.count, role)), window); err != nil {
					fmt.Fprintln(os.Stderr, "profile:", err)
				}
			})
		}
	}
	pause(ctx, time.Until(end))
	all.Wait()
}

func keepProfile(ctx context.Context, addr, path string, window time.Duration) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, int(window.Seconds())), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// steady: 5,000 monitors at 500 and at 1,000 checks a second.
func (b *bench) steady(ctx context.Context, mode string) error {
	for _, rate := range []int{500, 1000} {
		bare, err := b.bare(ctx, fmt.Sprintf("%s/%d", b.plain, time.Second.Microseconds()), rate)
		if err != nil {
			return err
		}
		paced, err := b.seen()
		if err != nil {
			return err
		}
		s, err := b.at(ctx, mode, b.plain, b.monitors, rate)
		if err != nil {
			return err
		}
		cpu := s.perCheck(s.used.cpu)
		row(fmt.Sprintf("%s, %d monitors, %d checks/s", mode, b.monitors, rate),
			"CPU %.0f µs a check, everything counted = %.2f × bare loop (%.0f µs); memory %.0f MB; interval deviation p50 %.1f, p99 %.1f ms (bare loop %.1f, %.1f); bytes to disk a check %s; missed %.2f %%",
			cpu, cpu/bare.MicroCPU, bare.MicroCPU, float64(s.memory)/1e6, s.P50, s.P99, paced.P50, paced.P99, s.toDisk(), missed(s, rate))
	}
	return nil
}

// at measures monitors at a rate on a fresh installation.
func (b *bench) at(ctx context.Context, mode, base string, monitors, rate int) (span, error) {
	interval := time.Duration(float64(monitors) / float64(rate) * float64(time.Second))
	config := `{}`
	if base == b.secure {
		config = `{"tls":{"skip_verify":true}}`
	}
	in, err := install(ctx, b.bin, mode, pages(ctx, monitors, base, interval, 2, config, nil))
	if err != nil {
		return span{}, err
	}
	defer in.close()
	// A start spreads the first check of every monitor over some time.
	pause(ctx, time.Duration(monitors)*time.Second/firstChecks)
	return b.window(ctx, in)
}

// firstChecks is how many first checks a second a scheduler that starts hands out.
const firstChecks = 500

// missed is the share of due checks without a verdict, percent.
func missed(s span, rate int) float64 {
	return max(0, 100*(1-float64(s.up+s.down)/(float64(rate)*s.seconds)))
}

// The share of the bare loop's maximum that DESIGN §13 asks for and aims at: 8,000
// and 12,000 of 12,900 checks a second on the machine it was written on.
var shares = []float64{0.62, 0.93}

// throughput: those shares of what this machine can do at most, then twice as much
// as was stored of the greatest.
func (b *bench) throughput(ctx context.Context, mode string) error {
	var most float64
	for _, share := range shares {
		rate := int(share * b.max)
		s, err := b.at(ctx, mode, b.plain, rate, rate)
		if err != nil {
			return err
		}
		bare, err := b.bare(ctx, b.plain+"/0", rate)
		if err != nil {
			return err
		}
		cpu, stored := s.perCheck(s.used.cpu), float64(s.up)/s.seconds
		most = max(most, stored)
		row(fmt.Sprintf("%s, %d checks/s asked for = %.2f × the bare maximum", mode, rate, share),
			"%.0f/s stored, missed %.2f %%, %.0f/s unknown, CPU %.0f µs a check = %.2f × bare loop at that rate (%.0f µs), deviation p99 %.1f ms, memory %.0f MB, bytes to disk a check %s, bytes stored a check %.0f, %d down",
			stored, missed(s, rate), float64(s.unknown)/s.seconds, cpu, cpu/bare.MicroCPU, bare.MicroCPU, s.P99, float64(s.memory)/1e6, s.toDisk(), float64(s.stored)/float64(max(s.up, 1)), s.down)
	}
	rate := int(2 * most)
	over, err := b.at(ctx, mode, b.plain, rate, rate)
	if err != nil {
		return err
	}
	row(fmt.Sprintf("%s, %d checks/s asked for = 2 × what it did at most", mode, rate), "%.0f/s stored (%.0f %% of its maximum), %.0f/s unknown, %d down, memory %.0f MB",
		float64(over.up)/over.seconds, 100*float64(over.up)/over.seconds/most, float64(over.unknown)/over.seconds, over.down, float64(over.memory)/1e6)
	return nil
}

// https: full handshakes.
func (b *bench) https(ctx context.Context, mode string) error {
	bare, err := b.bare(ctx, b.secure+"/0", 0)
	if err != nil {
		return err
	}
	const rate = 1800
	s, err := b.at(ctx, mode, b.secure, rate, rate)
	if err != nil {
		return err
	}
	row(fmt.Sprintf("%s, HTTPS, %d checks/s asked for", mode, rate), "%.0f/s stored, missed %.2f %% (bare loop: %.0f/s at most)",
		float64(s.up)/s.seconds, missed(s, rate), bare.PerSecond)
	return nil
}
