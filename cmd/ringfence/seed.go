package main

import (
	"context"
	"fmt"
	"slices"
	"time"

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

type seedCmd struct {
	History bool `help:"With two months of history, as RINGFENCE_DEMO_HISTORY=true does; for a demo that is not there yet."`
}

// Run puts the demo into the database.
func (c seedCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.developmentOnly("the demo seed"); err != nil {
			return err
		}
		a.cfg.DemoHistory = a.cfg.DemoHistory || c.History
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
		org := orgs[o.name]
		if err := a.openWallet(ctx, org); err != nil {
			return fmt.Errorf("couldn't open the wallet of %s: %w", o.name, err)
		}
		if o.balance == 0 {
			continue
		}
		if err := a.fillDemo(ctx, org, o.balance); err != nil {
			return fmt.Errorf("couldn't fill the wallet of %s: %w", o.name, err)
		}
	}
	return nil
}

// What the demo's wallet is known by: the line with which it begins a history, and the one with which it is whole.
const (
	demoBegun = "demo-history"
	demoWhole = "demo-opening-balance"
)

// historyWithin is how long a slow machine may take for the demo's history, and others wait for it.
const historyWithin = 10 * time.Minute

// fillDemo brings the demo's wallet to its balance, once: with a history before it where that is wanted and can be made. One
// that was begun, by a process that was killed, is gone on with. Whoever else seeds meanwhile waits, and finds it done.
func (a *app) fillDemo(ctx context.Context, org uuid.UUID, balance money.Pence) error {
	return a.db.InSystemTx(db.Patiently(ctx, historyWithin), "one process at a time makes the demo's history", func(lockCtx context.Context, tx *db.Tx) error {
		// The wait ends with the transaction's time, not with the pool's for locks, since a history takes some seconds.
		if _, err := tx.ExecContext(lockCtx, `SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
			return fmt.Errorf("couldn't prepare to wait for the seed: %w", err)
		}
		if _, err := tx.ExecContext(lockCtx, `SELECT pg_advisory_xact_lock(hashtext('demo history'))`); err != nil {
			return fmt.Errorf("couldn't lock the seed: %w", err)
		}
		s, err := a.demoStands(ctx, org)
		if err != nil || s.whole {
			return err
		}
		reason := "Opening balance"
		if a.cfg.DemoHistory && (s.empty || s.begun) && a.usesSandbox() {
			made, err := a.makeHistory(ctx, org, balance)
			if ctx.Err() != nil {
				return err // told to stop: the next start goes on
			}
			if err != nil { // what is under way is for the sweepers; the demo itself is there all the same
				a.log.WarnContext(ctx, "the demo's history could not be made whole", "error", err)
			}
			if made {
				reason = "Goodwill for a call that dropped"
			}
		}
		return a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			if err := wallet.Lock(ctx, tx, org); err != nil {
				return err
			}
			b, err := wallet.Read(ctx, tx, org)
			if err != nil || b.Balance == balance && !s.empty {
				return err
			}
			_, err = wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
				OrgID: org, Kind: wallet.Adjustment, Amount: balance - b.Balance, Reason: reason, Reference: demoWhole, Actor: audit.System("seed"),
			})
			return err
		})
	})
}

// demoStanding is how far the demo's wallet has come.
type demoStanding struct {
	// empty: nothing has happened in it. begun: its history was begun. whole: it has had its balance.
	empty, begun, whole bool
}

func (a *app) demoStands(ctx context.Context, org uuid.UUID) (s demoStanding, err error) {
	err = a.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		s = demoStanding{}
		var references []string
		if err := tx.SelectContext(ctx, &references, `
			SELECT reference FROM ledger_transactions WHERE org_id = $1 AND kind IN ('adjustment', 'bonus') AND reference IN ($2, $3)`, org, demoBegun, demoWhole); err != nil {
			return fmt.Errorf("couldn't look for what was seeded: %w", err)
		}
		b, err := wallet.Read(ctx, tx, org)
		if err != nil {
			return err
		}
		s.empty, s.begun, s.whole = b.Seq == 0, slices.Contains(references, demoBegun), slices.Contains(references, demoWhole)
		if !s.empty && !s.begun { // somebody has used it: it is theirs
			s.whole = true
		}
		return nil
	})
	return s, err
}
