package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
)

// Bearer says who the value of an Authorization header acts as: "Bearer " and an API key, or a JWT of the configured
// project. Whatever is wrong with it, the fault is Unauthenticated and the same; another error says that we could not
// find out. A JWT that does not hold, or names no organisation, costs no look at the database. A JWT acts as its user in
// the organisation of its app_metadata, with the role that our own tables say.
func (a *Auth) Bearer(ctx context.Context, header string) (Identity, error) {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return Identity{}, errBadKey()
	}
	token = strings.TrimLeft(token, " ")
	if strings.HasPrefix(token, keyMark) {
		return a.apiKey(ctx, token)
	}
	who, err := a.byJWT(ctx, token)
	a.metrics.jwt(err, a.o.Now)
	if _, refused := errors.AsType[refusal](err); refused {
		return Identity{}, errBadKey()
	}
	return who, err
}

// byJWT says who a JWT acts as. What does not hold is a [refusal].
func (a *Auth) byJWT(ctx context.Context, token string) (Identity, error) {
	if a.o.Verifier == nil {
		return Identity{}, errNotTaken
	}
	claims, err := a.o.Verifier.Verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	if claims.OrgID == uuid.Nil {
		return Identity{}, errNoOrganisation
	}
	who, err := a.asMember(ctx, "the user of a JWT", `u.issuer = $1 AND u.subject = $2 AND m.org_id = $3`, claims.Issuer, claims.Subject, claims.OrgID)
	if fault.Is(err, fault.Unauthenticated) {
		return Identity{}, errNotAMember
	}
	return who, err
}

// DevUser says who the local user with this e-mail acts as, without any proof: for development on this machine alone.
// Unauthenticated when there is no such user, or they belong to no organisation.
func (a *Auth) DevUser(ctx context.Context, email string) (Identity, error) {
	return a.asMember(ctx, "development's user", `u.issuer = $1 AND u.email = $2`, issuerLocal, normalEmail(email))
}

// asMember gives the member that the condition finds; of several organisations the first by name.
func (a *Auth) asMember(ctx context.Context, why, condition string, args ...any) (Identity, error) {
	var row struct {
		UserID  uuid.UUID `db:"user_id"`
		Email   string    `db:"email"`
		OrgID   uuid.UUID `db:"org_id"`
		OrgName string    `db:"org_name"`
		Role    Role      `db:"role"`
		Local   bool      `db:"local"`

		Suspended bool `db:"suspended"`
	}
	err := a.db.InSystemTx(ctx, why, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &row, `
			SELECT u.id AS user_id, u.email, o.id AS org_id, o.name AS org_name, m.role, u.issuer = 'local' AS local,
			       o.suspended_at IS NOT NULL AS suspended
			FROM users u JOIN memberships m ON m.user_id = u.id JOIN organizations o ON o.id = m.org_id
			WHERE u.disabled_at IS NULL AND `+condition+` ORDER BY o.name LIMIT 1`, args...)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Identity{}, errBadKey()
	case err != nil:
		return Identity{}, fmt.Errorf("couldn't look the user up: %w", err)
	}
	return Identity{
		UserID: row.UserID, Email: row.Email, OrgID: row.OrgID, OrgName: row.OrgName, Role: row.Role, Scopes: row.Role.scopes(), Local: row.Local,
		Suspended: row.Suspended,
	}, nil
}
