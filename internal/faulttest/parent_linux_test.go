package faulttest

import "syscall"

// dieWithParent has the kernel send the signal to the child when the thread that starts it ends.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }
