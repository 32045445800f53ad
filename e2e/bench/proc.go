package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a group of processes has used since each began.
type usage struct {
	cpu     time.Duration
	written int64 // bytes handed to the disk
	memory  int64 // bytes resident now; pages that several share are divided among them
}

// tick of /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on (man 5 proc).
const tick = 10 * time.Millisecond

// usageOf sums the processes and all their descendants.
func usageOf(pids ...int) (usage, error) {
	children, err := processTree()
	if err != nil {
		return usage{}, err
	}
	var u usage
	for queue := pids; len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		queue = append(queue, children[pid]...)
		u.add(pid)
	}
	return u, nil
}

// add counts one process; one that has ended counts nothing.
func (u *usage) add(pid int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, i := range []int{11, 12} { // utime, stime, counted after the name
		n, _ := strconv.ParseInt(f[i], 10, 64)
		u.cpu += time.Duration(n) * tick
	}
	rollup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(rollup)) {
		if f := strings.Fields(line); f[0] == "Pss:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			u.memory += n << 10
		}
	}
	io, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	for line := range strings.Lines(string(io)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			u.written += n
		}
	}
}

// deviceBytes is what all disks have written, once everything dirty is there. On a
// quiet machine the difference of two readings is the work of what runs here.
func deviceBytes() (int64, error) {
	syscall.Sync()
	b, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0, err
	}
	var n int64
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		if _, err := os.Stat("/sys/block/" + f[2]); err != nil {
			continue // a partition: its disk counts already
		}
		sectors, _ := strconv.ParseInt(f[9], 10, 64)
		n += sectors * 512 // whatever the disk's own sector (Documentation/admin-guide/iostats.rst)
	}
	return n, nil
}

// processTree maps each process to its children.
func processTree() (map[int][]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	tree := map[int][]int{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(f[1])
		tree[parent] = append(tree[parent], pid)
	}
	return tree, nil
}
