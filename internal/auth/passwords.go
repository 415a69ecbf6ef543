package auth

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/text/unicode/norm"

	"ringfence/internal/fault"
)

// DemoPassword is the published password of the demo accounts. In production nobody signs in with it.
const DemoPassword = "ringfence-demo"

// Password lengths, in characters. ASVS 5.0 (6.2.1, 6.2.9) asks for at least 8, recommends 15, and wants 64 to be
// allowed; there are no rules about kinds of characters (6.2.5). The upper limit only bounds the work.
const (
	minPassword = 12
	maxPassword = 256
)

// hashWait is how long a sign-in waits for its turn to hash before it is told to come back.
const hashWait = 5 * time.Second

// normal makes the same password from every keyboard: é typed as one character or as two (NIST SP 800-63B, 3.1.1.2).
func normal(password string) string { return norm.NFKC.String(password) }

// hashPassword checks the rules for a new password and hashes it. A breach gives a fault beside the field "password". about
// are the person's own words, such as their address, which alone make no password.
func (a *Auth) hashPassword(ctx context.Context, password string, about ...string) (string, error) {
	password = normal(password)
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		return "", fault.Field("password", fmt.Sprintf("Use at least %d characters; a few words in a row are fine.", minPassword))
	case n > maxPassword:
		return "", fault.Field("password", fmt.Sprintf("Use at most %d characters.", maxPassword))
	case a.o.Production && password == DemoPassword:
		return "", fault.Field("password", "This is the published demo password. Choose another one.")
	case common(password):
		return "", fault.Field("password", "Many people use this password, so it is guessed first. Choose another one; a few words in a row are fine.")
	case password != DemoPassword && obvious(password, about):
		return "", fault.Field("password", "This is little more than your address, our name or the like, which are guessed first. Choose another one.")
	}
	done, err := a.hashTurn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	hash, err := argon2id.CreateHash(password, a.o.Hash)
	if err != nil {
		return "", fmt.Errorf("couldn't hash the password: %w", err)
	}
	return hash, nil
}

// checkPassword compares password with hash, at the same cost whether hash is somebody's or stands for nobody.
// outdated says that the hash was made with other parameters than today's.
func (a *Auth) checkPassword(ctx context.Context, password, hash string) (match, outdated bool, err error) {
	done, err := a.hashTurn(ctx)
	if err != nil {
		return false, false, err
	}
	defer done()
	password = normal(password)
	match, params, err := argon2id.CheckHash(password, hash)
	if err != nil {
		return false, false, fmt.Errorf("couldn't check the password: %w", err)
	}
	if utf8.RuneCountInString(password) > maxPassword || a.o.Production && password == DemoPassword {
		match = false // only after the work, so that the time tells nothing
	}
	return match, *params != *a.o.Hash, nil
}

// hashTurn waits for one of the few slots; done gives it back. It fails with ctx, or as Unavailable after hashWait.
func (a *Auth) hashTurn(ctx context.Context) (done func(), err error) {
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case a.hashing <- struct{}{}:
		return func() { <-a.hashing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to check a password: %w", ctx.Err())
	case <-timer.C:
		return nil, &fault.Error{
			Kind: fault.Unavailable, RetryAfter: hashWait,
			Public: "Many people are signing in at the moment. Try again in a few seconds.",
		}
	}
}
