package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What the product promises: docs/lab.md.
const (
	leastAccuracy = 0.99
	leastReasons  = 0.97
	mostLate      = 2 * time.Second
	mostMemory    = 256 << 20 // of the process that checks
)

// report is what a mode showed.
type report struct {
	mode  string
	rows  []scenario
	all   []judgement
	again int64 // checks whose answer was that this machine was too slow
	peaks map[string]int64
	took  time.Duration
}

// figures are the counts behind the ratios.
type figures struct {
	judged, right, reasons, reasonsRight int
	downs, downsSeen, downsSaid          int // that should be, were told of those, were told at all
	falseDowns                           int
	late, read                           time.Duration
	latest                               string
}

// count adds one judgement. right says that the verdict is one of those wanted, and
// exact that the reason is too.
func (f *figures) count(j judgement) (right, exact bool) {
	f.judged++
	mayBeDown, mustBeDown, reasoned := false, true, true
	for _, a := range answers(j.want) {
		right = right || a.verdict == j.got.verdict
		exact = exact || a == j.got
		mayBeDown = mayBeDown || a.verdict == "down"
		mustBeDown = mustBeDown && a.verdict == "down"
		reasoned = reasoned && a.reason != ""
	}
	if right {
		f.right++
	}
	if reasoned {
		f.reasons++
		if exact {
			f.reasonsRight++
		}
	}
	said := j.got.verdict == "down"
	if mustBeDown {
		f.downs++
		if said {
			f.downsSeen++
		}
	}
	if said {
		f.downsSaid++
		if !mayBeDown {
			f.falseDowns++
		}
	}
	if j.timed && (f.latest == "" || j.late > f.late) {
		f.late, f.latest = j.late, j.title
	}
	if j.timed {
		f.read = max(f.read, j.read)
	}
	return right, exact
}

// print writes the report and reports whether all promises are kept.
func (r *report) print(everything bool) bool {
	var f figures
	var wrong []string
	slices.SortFunc(r.all, func(a, b judgement) int { return strings.Compare(a.title, b.title) })
	for _, j := range r.all {
		_, exact := f.count(j)
		if !exact {
			wrong = append(wrong, fmt.Sprintf("%s\n      want %s, got %s (%s)", j.title, j.want, j.got, j.message))
		} else if everything {
			fmt.Printf("  %-80s %s\n", j.title, j.got)
		}
	}
	works := 0
	for _, s := range r.rows {
		if healthy(s.want) {
			works++
		}
	}
	fmt.Printf("\n%s: %d scenarios, %d of them healthy, %d verdicts, in %s\n", r.mode, len(r.rows), works, f.judged, r.took.Round(time.Second))
	kept := true
	figure := func(name, value, promise string, ok bool) {
		mark := ""
		if !ok {
			kept, mark = false, "   MISSED"
		}
		fmt.Printf("  %-28s %-26s %s%s\n", name, value, promise, mark)
	}
	figure("accuracy", percent(f.right, f.judged), "at least 99 %", f.right >= share(leastAccuracy, f.judged))
	figure("precision of down", percent(f.downsSaid-f.falseDowns, f.downsSaid), "", true)
	figure("recall of down", percent(f.downsSeen, f.downs), "", true)
	figure("false downs", fmt.Sprint(f.falseDowns), "none", f.falseDowns == 0)
	figure("right reasons", percent(f.reasonsRight, f.reasons), "at least 97 %", f.reasonsRight >= share(leastReasons, f.reasons))
	figure("latest answer", fmt.Sprintf("timeout %+.2f s", f.late.Seconds()), "timeout + 2 s at most: "+f.latest, f.late <= mostLate)
	figure("latest that a client read", fmt.Sprintf("timeout %+.2f s", f.read.Seconds()), "stored and asked for, on this machine with its load", true)
	figure("asked again", fmt.Sprint(r.again), "checks that could not be made in time here", true)
	sum := int64(0)
	for _, role := range slices.Sorted(maps.Keys(r.peaks)) {
		sum += r.peaks[role]
		checks := role == "all" || role == "worker"
		promise := ""
		if checks {
			promise = "256 MiB at most"
		}
		figure("peak memory, "+role, mebibytes(r.peaks[role]), promise, !checks || r.peaks[role] <= mostMemory)
	}
	if len(r.peaks) > 1 {
		figure("peak memory, all together", mebibytes(sum), "", true)
	}
	for _, w := range wrong {
		fmt.Println("  wrong:", w)
	}
	return kept
}

// share is the least whole number that is part of n.
func share(part float64, n int) int { return int(part*float64(n) + 0.999999) }

func percent(n, of int) string {
	if of == 0 {
		return "- (0)"
	}
	return fmt.Sprintf("%.1f %% (%d of %d)", 100*float64(n)/float64(of), n, of)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
