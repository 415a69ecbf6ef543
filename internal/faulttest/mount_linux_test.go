package faulttest

import (
	"fmt"
	"syscall"
)

// mountSmall puts an empty file system of the given size in bytes on the directory.
func mountSmall(dir string, size int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size))
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
