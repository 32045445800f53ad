package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bareResult is what the bare loop managed.
type bareResult struct {
	Done      int64
	Failed    int64
	PerSecond float64
	MicroCPU  float64 // CPU of this process per GET, µs
}

// bareLoop is the yardstick: net/http, a fresh connection per GET, the body read
// to its end, nothing stored and nothing judged; at a rate, or as fast as it goes
// (rate 0).
func bareLoop(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("bare", flag.ContinueOnError)
	url := f.String("url", "", "what to get")
	rate := f.Int("rate", 0, "GETs per second, 0 for as many as possible")
	span := f.Duration("span", 5*time.Second, "for how long")
	if err := f.Parse(args); err != nil {
		return err
	}
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	var done, failed atomic.Int64
	get := func(n int) {
		resp, err := client.Get(fmt.Sprintf("%s/%d", *url, n))
		if err != nil {
			failed.Add(1)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		done.Add(1)
	}
	ctx, cancel := context.WithTimeout(ctx, *span)
	defer cancel()
	begin, cpu := time.Now(), ownCPU()
	var wg sync.WaitGroup
	if *rate == 0 {
		for range 64 {
			wg.Go(func() {
				for ctx.Err() == nil {
					get(0)
				}
			})
		}
	} else {
		// Each of so many pages once a second.
		pace(ctx, *rate, func(n int) { wg.Go(func() { get(n % *rate) }) })
	}
	wg.Wait()
	n := done.Load()
	res := bareResult{Done: n, Failed: failed.Load(), PerSecond: float64(n) / time.Since(begin).Seconds()}
	if n > 0 {
		res.MicroCPU = float64((ownCPU() - cpu).Microseconds()) / float64(n)
	}
	b, err := json.Marshal(res)
	fmt.Fprintln(out, string(b))
	return err
}

// pace calls fn with 0, 1, … rate times a second, a millisecond's worth at a time.
func pace(ctx context.Context, rate int, fn func(n int)) {
	begin, sent := time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		for due := int(time.Since(begin).Seconds() * float64(rate)); sent < due; sent++ {
			fn(sent)
		}
	}
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
