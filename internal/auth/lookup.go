package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
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
