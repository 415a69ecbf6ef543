package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent has the kernel send sig to the child when the thread that starts it ends. See launch, which keeps
// that thread.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// isPostmaster reports whether pid is a living PostgreSQL process of this cluster: by name and working directory, so
// that a pid used again by somebody else, another cluster's server included, does not count.
func isPostmaster(pid int, data string) bool {
	if pid <= 0 {
		return false
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return false
	}
	// "pid (comm) state …"; comm may hold anything, so count from the last parenthesis.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open || end+2 >= len(stat) {
		return false
	}
	if string(stat[open+1:end]) != "postgres" {
		return false
	}
	// A zombie whose parent never reaps (pid 1 of a careless container) is dead.
	if s := stat[end+2]; s == 'Z' || s == 'X' {
		return false
	}
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	return err == nil && cwd == data
}
