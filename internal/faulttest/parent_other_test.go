//go:build !linux

package faulttest

import "syscall"

// dieWithParent does nothing: only Linux's kernel tells a child. A killed test leaves its database behind here.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
