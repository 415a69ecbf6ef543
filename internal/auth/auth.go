// Package auth says who is calling: users and their organisations, passwords, sign-in with its limits, and the sessions
// behind the browser's cookie. What a role may do is decided here; what a refusal looks like is the transport's.
//
// It runs as the system's role ([db.DB.InSystemTx]): who is calling has to be known before there is an organisation to
// limit a transaction to.
package auth

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"

	"ringfence/db"
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
	// Operator says that the platform role is operator. It gives no right inside an organisation.
	Operator  bool
	SessionID SessionID
}

// CanPay reports whether this identity may spend or add the organisation's money.
func (i Identity) CanPay() bool { return i.Role == RoleOwner || i.Role == RoleMember }

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
}

// Auth keeps users and sessions. It is safe for concurrent use.
type Auth struct {
	db      *db.DB
	o       Options
	hashing chan struct{} // a slot for each password hash under way
	// nobody is the hash that a sign-in without a matching account is checked against, so that it costs the same.
	nobody string
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
	nobody, err := argon2id.CreateHash(rand.Text(), o.Hash)
	if err != nil {
		return nil, fmt.Errorf("couldn't hash passwords: %w", err)
	}
	return &Auth{db: d, o: o, hashing: make(chan struct{}, o.HashesAtOnce), nobody: nobody}, nil
}
