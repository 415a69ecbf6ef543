package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// organisationsMost is how many organisations one page of the operators' list has.
const organisationsMost = 50

// OrgShow says which organisations operators look for.
type OrgShow string

// All organisations, or those of a sort.
const (
	OrgsAll       OrgShow = ""
	OrgsSuspended OrgShow = "suspended"
	OrgsClosed    OrgShow = "closed"
)

// OrgFilter is what operators look for.
type OrgFilter struct {
	// Text is a part of the name or of a member's e-mail, in any case; empty is everything.
	Text string
	Show OrgShow
	// After is the last organisation of the page before; uuid.Nil begins.
	After uuid.UUID
}

// Organisation is one as operators see it.
type Organisation struct {
	ID          uuid.UUID  `db:"id"`
	Name        string     `db:"name"`
	CreatedAt   time.Time  `db:"created_at"`
	SuspendedAt *time.Time `db:"suspended_at"`
	ClosedAt    *time.Time `db:"closed_at"`
	// People is how many work in it, Invited how many are asked to.
	People  int `db:"people"`
	Invited int `db:"invited"`
	// Owner is the e-mail of its first owner; empty where it has none yet.
	Owner string `db:"owner"`
}

const organisationColumns = `o.id, o.name, o.created_at, o.suspended_at, o.closed_at,
	(SELECT count(*) FROM memberships m WHERE m.org_id = o.id) AS people,
	(SELECT count(*) FROM invitations i WHERE i.org_id = o.id AND i.accepted_at IS NULL AND i.revoked_at IS NULL) AS invited,
	coalesce((SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.org_id = o.id AND m.role = 'owner' ORDER BY m.created_at, u.email LIMIT 1), '') AS owner`

// Organisations gives a page of organisations by name, for operators, and whether there are more.
func (a *Auth) Organisations(ctx context.Context, f OrgFilter) (list []Organisation, more bool, err error) {
	err = a.db.InSystemTx(ctx, "the operators' list of organisations", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		return tx.SelectContext(ctx, &list, `
			SELECT `+organisationColumns+` FROM organizations o
			WHERE (strpos(lower(o.name), lower($1)) > 0
			       OR EXISTS (SELECT FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.org_id = o.id AND strpos(u.email, lower($1)) > 0))
			  AND CASE $2::text WHEN 'suspended' THEN o.suspended_at IS NOT NULL WHEN 'closed' THEN o.closed_at IS NOT NULL ELSE true END
			  AND ($3 = '00000000-0000-0000-0000-000000000000'::uuid OR o.name > (SELECT name FROM organizations WHERE id = $3))
			ORDER BY o.name LIMIT $4`, f.Text, f.Show, f.After, organisationsMost+1)
	})
	if err != nil {
		return nil, false, fmt.Errorf("couldn't list the organisations: %w", err)
	}
	if len(list) > organisationsMost {
		return list[:organisationsMost], true, nil
	}
	return list, false, nil
}

// Organisation gives one organisation with its people, owners first, for operators. NotFound for one that does not exist.
func (a *Auth) Organisation(ctx context.Context, org uuid.UUID) (o Organisation, people []Member, err error) {
	err = a.db.InSystemTx(ctx, "an organisation that an operator looks at", func(ctx context.Context, tx *db.Tx) error {
		people = nil
		if err := tx.GetContext(ctx, &o, `SELECT `+organisationColumns+` FROM organizations o WHERE o.id = $1`, org); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &people, `
			SELECT m.user_id, u.email, m.role, m.created_at FROM memberships m JOIN users u ON u.id = m.user_id
			WHERE m.org_id = $1 ORDER BY m.role <> 'owner', u.email, m.user_id LIMIT 200`, org)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Organisation{}, nil, fault.New(fault.NotFound, "There is no such organisation.")
	case err != nil:
		return Organisation{}, nil, fmt.Errorf("couldn't read the organisation: %w", err)
	}
	return o, people, nil
}

// NewOrganisation is what an operator opens an organisation with.
type NewOrganisation struct {
	Name string
	// Owner is the e-mail of its first owner, who is invited by mail.
	Owner string
	// Reason is for the audit log.
	Reason string
}

// OpenOrganisation makes an organisation with its wallet and invites its first owner, for an operator. The letter's link
// holds for seven days; whoever has it makes the account, or comes in with the one they have. Should the process end before
// the wallet is there, Sweep opens it.
//
// Faults: NotFound for who is no operator; Invalid with the field "name", "owner" or "reason"; Conflict with the field
// "name", which is also what a repeat gets.
func (a *Auth) OpenOrganisation(ctx context.Context, who Identity, n NewOrganisation) (org uuid.UUID, err error) {
	if !who.Operator || who.Viewing || a.o.OpenWallet == nil {
		return uuid.Nil, fault.New(fault.NotFound, "There is no such page here.")
	}
	email := normalEmail(n.Owner)
	if f, told := errors.AsType[*fault.Error](checkEmail(email)); told {
		return uuid.Nil, &fault.Error{Kind: f.Kind, Field: "owner", Public: f.Public}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = a.db.InSystemTx(ctx, "an organisation that an operator opens", func(ctx context.Context, tx *db.Tx) error {
		if org, err = a.CreateOrganization(ctx, tx, n.Name); err != nil {
			return err
		}
		token, hash := newToken()
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO invitations (id, org_id, email, role, token_hash, invited_by, created_at, sent_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)`,
			id, org, email, string(RoleOwner), hash[:], who.UserID, tx.Now, tx.Now.Add(invitedFor)); err != nil {
			return fmt.Errorf("couldn't keep the invitation: %w", err)
		}
		if err := audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: who.Actor(), Action: "organisation.opened", Subject: "organization:" + org.String(), Reason: n.Reason,
			Detail: map[string]any{"owner": email},
		}); err != nil {
			return err
		}
		invites := who
		if err := tx.GetContext(ctx, &invites.OrgName, `SELECT name FROM organizations WHERE id = $1`, org); err != nil {
			return fmt.Errorf("couldn't read the organisation's name: %w", err)
		}
		invites.OrgID = org
		return a.mailInvitation(ctx, tx, invites, "member.invited", id, email, RoleOwner, token)
	})
	if err != nil {
		return uuid.Nil, err
	}
	if err := a.o.OpenWallet(ctx, org); err != nil {
		return uuid.Nil, fmt.Errorf("couldn't open the new organisation's wallet: %w", err)
	}
	return org, nil
}
