package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// The demo: two tenants, so that one can be seen not to see the other, and an operator.
var (
	demoOrgs = []struct {
		name    string
		balance money.Pence
	}{
		{"Harbour Dental", 569_00},
		{"Second Tenant", 0},
	}
	demoUsers = []struct {
		email, org string
		role       auth.Role
		platform   auth.PlatformRole
		describes  string
	}{
		{"owner@harbour.example", "Harbour Dental", auth.RoleOwner, auth.PlatformNone, "Owner of Harbour Dental: sees and pays"},
		{"viewer@harbour.example", "Harbour Dental", auth.RoleViewer, auth.PlatformNone, "Viewer of Harbour Dental: sees, cannot pay"},
		{"owner@second.example", "Second Tenant", auth.RoleOwner, auth.PlatformNone, "Owner of another organisation, with an empty wallet"},
		{"operator@ringfence.example", "", "", auth.PlatformOperator, "Operator of the platform"},
	}
)

// demoAccounts are what the sign-in page offers in development.
func demoAccounts() []views.DemoAccount {
	accounts := make([]views.DemoAccount, len(demoUsers))
	for i, u := range demoUsers {
		accounts[i] = views.DemoAccount{Email: u.email, Password: auth.DemoPassword, Describes: u.describes}
	}
	return accounts
}

type seedCmd struct{}

// Run puts the demo into the database.
func (seedCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.developmentOnly("the demo seed"); err != nil {
			return err
		}
		return a.seed(ctx)
	})
}

// seed adds what is missing of the demo and changes nothing that is there, so that it may run at every start and in
// several processes at once.
func (a *app) seed(ctx context.Context) error {
	orgs := map[string]uuid.UUID{}
	err := a.db.InSystemTx(ctx, "the demo's organisations and users", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('demo seed'))`); err != nil {
			return fmt.Errorf("couldn't lock the seed: %w", err)
		}
		for _, o := range demoOrgs {
			id, err := auth.OrganizationByName(ctx, tx, o.name)
			if err == nil && id == uuid.Nil {
				id, err = a.auth.CreateOrganization(ctx, tx, o.name)
			}
			if err != nil {
				return err
			}
			orgs[o.name] = id
		}
		for _, u := range demoUsers {
			id, err := auth.UserByEmail(ctx, tx, u.email)
			if err != nil {
				return err
			}
			if id != uuid.Nil {
				continue
			}
			user, err := a.auth.CreateUser(ctx, tx, u.email, auth.DemoPassword, u.platform)
			if err == nil && u.org != "" {
				err = a.auth.AddMember(ctx, tx, orgs[u.org], user.ID, u.role)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("couldn't seed the demo: %w", err)
	}
	for _, o := range demoOrgs {
		err := a.db.InTx(ctx, []uuid.UUID{orgs[o.name]}, func(ctx context.Context, tx *db.Tx) error {
			if err := wallet.Open(ctx, tx, orgs[o.name]); err != nil || o.balance == 0 {
				return err
			}
			_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
				OrgID: orgs[o.name], Kind: wallet.Adjustment, Amount: o.balance, Reason: "Opening balance", Reference: "demo-opening-balance",
				Actor: audit.System("seed"),
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("couldn't open the wallet of %s: %w", o.name, err)
		}
	}
	return nil
}
