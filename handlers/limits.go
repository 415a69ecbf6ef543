package handlers

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ringfence/internal/fault"
)

// apiLimits bounds how fast the API may be asked: by each address, which also bounds guessing at credentials, and by
// each credential, wherever it is used from. A sender may save up one second's worth. The counts are this process's own.
type apiLimits struct {
	perSecond int // of one credential; an address, behind which several may be, has twice that
	now       func() time.Time

	mu      sync.Mutex
	senders map[string]*rate.Limiter
	swept   time.Time
}

// forgetAfter is how often senders are gone through; those whose allowance is whole again need not be remembered.
const forgetAfter = 10 * time.Second

func newAPILimits(perSecond int, now func() time.Time) *apiLimits {
	return &apiLimits{perSecond: perSecond, now: now, senders: map[string]*rate.Limiter{}, swept: now()}
}

// address takes one request from the allowance of the client's address; of IPv6, of its /64, which one client has whole.
func (l *apiLimits) address(v *visit) error {
	where := v.address
	if ip, err := netip.ParseAddr(where); err == nil && ip.Unmap().Is6() {
		if p, err := ip.Prefix(64); err == nil {
			where = p.String()
		}
	}
	return l.take(v, "address "+where, 2*l.perSecond)
}

// credential takes one request from the allowance of who was found to be asking.
func (l *apiLimits) credential(v *visit) error {
	return l.take(v, string(v.who.Actor()), l.perSecond)
}

func (l *apiLimits) take(v *visit, sender string, perSecond int) error {
	now := l.now()
	l.mu.Lock()
	if now.Sub(l.swept) > forgetAfter {
		for who, lim := range l.senders {
			if lim.TokensAt(now) >= float64(lim.Burst()) {
				delete(l.senders, who)
			}
		}
		l.swept = now
	}
	lim := l.senders[sender]
	if lim == nil {
		lim = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		l.senders[sender] = lim
	}
	l.mu.Unlock()

	allowed := lim.AllowN(now, 1)
	left := max(0, int(math.Floor(lim.TokensAt(now))))
	// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
	h := v.out.Header()
	h.Set("RateLimit-Policy", `"second";q=`+strconv.Itoa(perSecond)+`;w=1`)
	h.Set("RateLimit", `"second";r=`+strconv.Itoa(left)+`;t=1`)
	if allowed {
		return nil
	}
	return &fault.Error{Kind: fault.TooMany, Public: "Too many requests. Slow down and try again in a second.", RetryAfter: time.Second}
}

// limitAPI wraps admission to the API's routes in the two allowances.
func (a *app) limitAPI(r *http.Request, v *visit) error {
	if v.route.Access != RequireAuth && v.route.Access != RequireAuthOrDev {
		return a.admit(r, v)
	}
	if err := a.api.address(v); err != nil {
		return err
	}
	if err := a.admit(r, v); err != nil {
		return err
	}
	return a.api.credential(v)
}
