package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
)

// OrganizationByName finds an organisation within tx, a system transaction; uuid.Nil when there is none of that name.
func OrganizationByName(ctx context.Context, tx *db.Tx, name string) (uuid.UUID, error) {
	return lookUp(ctx, tx, `SELECT id FROM organizations WHERE name = $1`, name)
}

// UserByEmail finds a user of the local provider within tx, a system transaction; uuid.Nil when there is none.
func UserByEmail(ctx context.Context, tx *db.Tx, email string) (uuid.UUID, error) {
	return lookUp(ctx, tx, `SELECT id FROM users WHERE issuer = 'local' AND email = $1`, email)
}

func lookUp(ctx context.Context, tx *db.Tx, query, arg string) (id uuid.UUID, err error) {
	err = tx.GetContext(ctx, &id, query, arg)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return uuid.Nil, nil
	case err != nil:
		return uuid.Nil, fmt.Errorf("couldn't look %q up: %w", arg, err)
	}
	return id, nil
}

// Working tries whether people could sign in: the look-up of a session that nobody has and, where an outside provider checks
// the passwords, whether that one answers.
func (a *Auth) Working(ctx context.Context) error {
	token, _ := newToken()
	if _, err := a.Resolve(ctx, token); !fault.Is(err, fault.Unauthenticated) {
		return fmt.Errorf("the look-up of a session failed: %w", err)
	}
	if a.o.Supabase != nil {
		return a.o.Supabase.Reachable(ctx)
	}
	return nil
}
