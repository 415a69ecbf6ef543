//go:build unix && !linux

package embedded

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dieWithParent does nothing where the kernel has no parent-death signal: there a server outlives a killed owner, and
// the next Start takes it over.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// isPostmaster reports whether pid is a living PostgreSQL process of this cluster, by its command line.
func isPostmaster(pid int, data string) bool {
	if pid <= 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "stat=,command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	stat, command, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return !strings.HasPrefix(stat, "Z") && strings.Contains(command, "postgres") && strings.Contains(command, data)
}
