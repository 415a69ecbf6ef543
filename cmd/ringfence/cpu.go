package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuOwn is the processor time that this process has used.
func cpuOwn() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuBusy is the processor time that the whole machine has used, or zero where /proc does not tell. What else runs on
// the machine counts too, so measurements want it quiet.
func cpuBusy() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	var ticks int64
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if i == 0 || i == 4 || i == 5 || i > 8 || err != nil { // the label, idle, waiting for a disk, guests
			continue
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
}
