package main

import (
	"sync/atomic"
	"time"
)

// drain is the time between a server's being told to stop and its taking no more requests: whoever shares requests out
// looks at /readyz only now and then, and what it sends before it has looked is still answered.
type drain struct {
	wait  time.Duration
	ended atomic.Pointer[<-chan time.Time] // nil until it begins
}

// begin starts the time. It is called once.
func (d *drain) begin() {
	after := time.After(d.wait)
	d.ended.Store(&after)
}

// begun reports whether the server is about to stop.
func (d *drain) begun() bool { return d.ended.Load() != nil }

// over returns when the time has passed, and at once where it never began: a part that broke waits for nobody.
func (d *drain) over() {
	if ended := d.ended.Load(); ended != nil {
		<-*ended
	}
}
