// Package operations is how the house looks at itself: probes of its parts, what it has with its providers, whether its
// promises were kept when they were last checked, and what it says in public about all that.
//
// It runs as the system's role: none of this belongs to a tenant.
package operations

import (
	"context"
	"log/slog"
	"time"

	"ringfence/db"
)

// Options are what the house looks with. A nil function is of something that this installation does not offer.
type Options struct {
	DB  *db.DB
	Log *slog.Logger
	Now func() time.Time

	// SignIn tries whether people could sign in, Calls whether the voice service answers.
	SignIn func(context.Context) error
	Calls  func(context.Context) error
	// Stripe and Twilio give what we have there, which also says whether they answer.
	Stripe func(context.Context) (Money, error)
	Twilio func(context.Context) (Money, error)
	// Jobs carries out what operators decide about jobs.
	Jobs JobDesk
	// Books and Numbers look at everything of a kind, and change nothing.
	Books   func(context.Context) (Findings, error)
	Numbers func(context.Context) (Findings, error)
	// StripeLow and TwilioLow are the balances below which operators are told, in millionths of the currency's unit; 0 tells
	// of none.
	StripeLow, TwilioLow int64
}

// Money is an amount with a provider.
type Money struct {
	// Micros are millionths of the currency's unit, such as of a dollar.
	Micros int64
	// Currency is three small letters.
	Currency string
}

// Service looks at the house. It is safe for concurrent use.
type Service struct {
	o     Options
	cache statusCache
	// began is when this process did.
	began time.Time
}

// New makes it.
func New(o Options) *Service { return &Service{o: o, began: o.Now()} }
