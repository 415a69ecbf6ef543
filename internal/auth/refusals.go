package auth

import (
	"sync/atomic"
	"time"
)

// JWTRefusals are the JWTs that did not hold, as far as this process has seen them.
type JWTRefusals struct {
	// On says that JWTs are taken at all. Where they are not, every one is refused.
	On    bool
	Count int64
	// Last is when the newest was refused (UTC), where the clock is known; the zero time when none was.
	Last time.Time
}

// jwtRefusals counts them.
type jwtRefusals struct {
	count atomic.Int64
	last  atomic.Int64 // Unix microseconds
}

// JWTRefusals says how many JWTs were refused since this process began.
func (a *Auth) JWTRefusals() JWTRefusals {
	r := JWTRefusals{On: a.o.Verifier != nil, Count: a.jwts.count.Load()}
	if at := a.jwts.last.Load(); at != 0 {
		r.Last = time.UnixMicro(at).UTC()
	}
	return r
}

func (a *Auth) refuseJWT() {
	a.jwts.count.Add(1)
	if a.o.Now != nil {
		a.jwts.last.Store(a.o.Now().UnixMicro())
	}
}
