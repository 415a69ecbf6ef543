// Package auth says who is calling: users and their organisations, passwords, sign-in with its limits, and the sessions
// behind the browser's cookie. What a role may do is decided here; what a refusal looks like is the transport's.
//
// It runs as the system's role ([db.DB.InSystemTx]): who is calling has to be known before there is an organisation to
// limit a transaction to.
package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
)

// Role is what a member may do in one organisation.
type Role string

// The roles, from the most to the least.
const (
	RoleOwner  Role = "owner"
	RoleMember Role = "member"
	RoleViewer Role = "viewer"
)

// PlatformRole is what somebody may do across organisations. Most people have none.
type PlatformRole string

// The platform roles.
const (
	PlatformNone     PlatformRole = ""
	PlatformOperator PlatformRole = "operator"
)

// Identity is who a request acts as, read from the database for this very request.
type Identity struct {
	UserID uuid.UUID
	Email  string
	// OrgID is the organisation the session works in; uuid.Nil for an operator without one, and Role is empty then.
	OrgID   uuid.UUID
	OrgName string
	Role    Role
	// Operator says that the platform role is operator. It gives no right inside an organisation, and programs never
	// have it.
	Operator  bool
	SessionID SessionID // zero for programs
	// KeyID is the API key that a program showed; uuid.Nil otherwise. There is no user then, and no Role.
	KeyID uuid.UUID
	// Scopes are what may be done through the API: what a key was given, or what a person's role allows.
	Scopes Scopes
	// Pending says that the password was right and the second factor is still to come: nothing may be done yet.
	Pending bool
	// SecondFactor says that a second factor was given in this session.
	SecondFactor bool
	// Local says that the user's password is kept here, and not by an outside provider.
	Local bool
	// Suspended says that the organisation is: its people may look and change nothing, its programs may do neither.
	Suspended bool
	// Viewing says that an operator looks at the organisation as a viewer of it, until ViewUntil (UTC): nothing may be
	// changed, whatever it is. See [Auth.StartView].
	Viewing   bool
	ViewUntil time.Time
}

// CanPay reports whether this identity may spend or add the organisation's money.
func (i Identity) CanPay() bool {
	return (i.Role == RoleOwner || i.Role == RoleMember) && !i.Viewing && !i.Suspended
}

// Actor is the identity in the audit log.
func (i Identity) Actor() audit.Actor {
	if i.KeyID != uuid.Nil {
		return audit.Key(i.KeyID)
	}
	return actor(i.UserID, i.Operator)
}

// Options tune [New]. The zero value is right for production except for Production itself.
type Options struct {
	// Production refuses the password that the demo accounts are published with.
	Production bool
	// Idle ends a session that was not used for so long; default 12 hours. Absolute ends it in any case; default 7 days.
	Idle, Absolute time.Duration
	// Window is the time over which failed sign-ins are counted; default 15 minutes.
	Window time.Duration
	// AccountFailures and AddressFailures are how many failures an account and an address may have in a Window before
	// sign-in answers TooMany; defaults 10 and 100.
	AccountFailures, AddressFailures int
	// Hash are the parameters of new password hashes. Default: argon2id with 19 MiB, 2 passes, 1 lane, OWASP's first
	// recommendation that fits a small machine
	// (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id).
	Hash *argon2id.Params
	// HashesAtOnce bounds the memory that sign-ins use together: this many times Hash.Memory. Default 2.
	HashesAtOnce int
	// FactorFailures is how many wrong codes of the second factor a user may give in a Window; default 5.
	FactorFailures int
	// SignUps is how many sign-ups an address may try in a Window, whatever comes of them; default 20.
	SignUps int
	// Invitations is how many letters with invitations an organisation may ask for in a Window; default 30.
	Invitations int
	// AccountResets and AddressResets are how often a new password may be asked for in a Window, for one account and from one
	// address, whatever comes of it; defaults 5 and 20.
	AccountResets, AddressResets int
	// SealKeys close what is secret and has to be read again (second factors, a provider's grants, the links in letters that
	// are not sent yet); each has at least 32 bytes. The first seals, all open. Without any, none of these can be used.
	SealKeys [][]byte
	// Verifier checks the JWTs of programs and of Supabase; nil refuses every JWT.
	Verifier *Verifier
	// Supabase checks the passwords instead of our own table. It needs Verifier and SealKeys.
	Supabase *Supabase
	// LiveKeys makes API keys that are named live instead of test.
	LiveKeys bool
	// OpenWallet gives a new organisation its wallet; it is safe to repeat. [Auth.SignUp] and [Auth.Sweep] need it.
	OpenWallet func(ctx context.Context, org uuid.UUID) error
	// Now is the clock by which a good API key is remembered for half a second; nil remembers none. All other times come
	// from the database layer's clock.
	Now func() time.Time
	// Log hears of an outside provider's failures; nil is silent.
	Log *slog.Logger
}

// Auth keeps users and sessions. It is safe for concurrent use.
type Auth struct {
	db      *db.DB
	o       Options
	hashing chan struct{} // a slot for each password hash under way
	// nobody is the hash that a sign-in without a matching account is checked against, so that it costs the same.
	nobody  string
	sealer  sealer
	seen    *keyCache
	metrics *metrics
}

// New returns the keeper of users and sessions in d. Times come from the database layer's clock.
func New(d *db.DB, o Options) (*Auth, error) {
	if o.Idle == 0 {
		o.Idle = 12 * time.Hour
	}
	if o.Absolute == 0 {
		o.Absolute = 7 * 24 * time.Hour
	}
	if o.Window == 0 {
		o.Window = 15 * time.Minute
	}
	if o.AccountFailures == 0 {
		o.AccountFailures = 10
	}
	if o.AddressFailures == 0 {
		o.AddressFailures = 100
	}
	if o.Hash == nil {
		o.Hash = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	}
	if o.HashesAtOnce == 0 {
		o.HashesAtOnce = 2
	}
	if o.FactorFailures == 0 {
		o.FactorFailures = 5
	}
	if o.SignUps == 0 {
		o.SignUps = 20
	}
	if o.Invitations == 0 {
		o.Invitations = 30
	}
	if o.AccountResets == 0 {
		o.AccountResets = 5
	}
	if o.AddressResets == 0 {
		o.AddressResets = 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Supabase != nil && (o.Verifier == nil || len(o.SealKeys) == 0) {
		return nil, errors.New("signing in through Supabase needs a verifier of its tokens and a key to seal them with")
	}
	sealer, err := newSealer(o.SealKeys)
	if err != nil {
		return nil, err
	}
	nobody, err := argon2id.CreateHash(rand.Text(), o.Hash)
	if err != nil {
		return nil, fmt.Errorf("couldn't hash passwords: %w", err)
	}
	return &Auth{db: d, o: o, hashing: make(chan struct{}, o.HashesAtOnce), nobody: nobody, sealer: sealer, seen: newKeyCache(), metrics: newMetrics()}, nil
}
