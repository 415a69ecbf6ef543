package auth

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
)

// issuerLocal is the identity provider of the users that this program itself keeps the passwords of.
const issuerLocal = "local"

// User is a person who can sign in.
type User struct {
	ID           uuid.UUID
	Email        string
	PlatformRole PlatformRole
}

// CreateOrganization adds an organisation within tx, a system transaction. The name has 1 to 120 characters and is
// unique: fault Invalid or Conflict, field "name". After a Conflict tx can only be rolled back.
func (a *Auth) CreateOrganization(ctx context.Context, tx *db.Tx, name string) (uuid.UUID, error) {
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n == 0 || n > 120 || !storable(name) {
		return uuid.Nil, fault.Field("name", "Give the organisation a name of 1 to 120 characters.")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("couldn't make an id: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)`, id, name, tx.Now)
	switch {
	case db.Violated(err, "organizations_name_unique"):
		return uuid.Nil, &fault.Error{Kind: fault.Conflict, Field: "name", Public: "There is an organisation with this name already.", Cause: err}
	case err != nil:
		return uuid.Nil, fmt.Errorf("couldn't add the organisation: %w", err)
	}
	return id, nil
}

// CreateUser adds a person with a password within tx, a system transaction. The e-mail is kept in lower case and is
// unique among the users of the local provider. Faults: Invalid with the field "email" or "password", Conflict with
// "email". After a Conflict tx can only be rolled back.
func (a *Auth) CreateUser(ctx context.Context, tx *db.Tx, email, password string, role PlatformRole) (User, error) {
	if err := checkEmail(normalEmail(email)); err != nil {
		return User{}, err
	}
	if role != PlatformNone && role != PlatformOperator {
		return User{}, fault.Field("platform_role", "This platform role does not exist.")
	}
	hash, err := a.hashPassword(ctx, password, email)
	if err != nil {
		return User{}, err
	}
	return addUser(ctx, tx, email, hash, role)
}

func checkEmail(email string) error {
	if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email || len(email) > maxEmail || !storable(email) {
		return fault.Field("email", "Enter an email address such as name@example.com.")
	}
	return nil
}

// addUser adds a user whose password is hashed already.
func addUser(ctx context.Context, tx *db.Tx, email, hash string, role PlatformRole) (User, error) {
	u := User{Email: normalEmail(email), PlatformRole: role}
	if err := checkEmail(u.Email); err != nil {
		return User{}, err
	}
	var err error
	if u.ID, err = uuid.NewV7(); err != nil {
		return User{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO users (id, issuer, subject, email, password_hash, platform_role, created_at)
		VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7)`,
		u.ID, issuerLocal, u.ID.String(), u.Email, hash, string(role), tx.Now)
	switch {
	case db.Violated(err, "users_local_email_unique"):
		return User{}, &fault.Error{Kind: fault.Conflict, Field: "email", Public: "There is an account with this email already.", Cause: err}
	case err != nil:
		return User{}, fmt.Errorf("couldn't add the user: %w", err)
	}
	return u, nil
}

// AddMember lets user work in org as role, within tx, a system transaction. Adding somebody again sets the role.
func (a *Auth) AddMember(ctx context.Context, tx *db.Tx, org, user uuid.UUID, role Role) error {
	if role != RoleOwner && role != RoleMember && role != RoleViewer {
		return fault.Field("role", "Choose owner, member or viewer.")
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO memberships (org_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role`, org, user, string(role), tx.Now)
	if err != nil {
		return fmt.Errorf("couldn't add the member: %w", err)
	}
	return nil
}

// maxEmail is the longest address that can be delivered to, in bytes (RFC 5321, 4.5.3.1.3).
const maxEmail = 254

// normalEmail is the one spelling under which an address is kept and looked up.
func normalEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// storable reports whether Postgres can hold s as text.
func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
