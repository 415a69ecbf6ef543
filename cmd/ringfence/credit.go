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
)

type creditCmd struct {
	Org         string `required:"" help:"Name of the organisation."`
	AmountPence int64  `required:"" help:"Pence, at most 10000000 at once. An adjustment's sign counts: negative takes (write --amount-pence=-100). Any other kind is written without one."`
	Reason      string `required:"" help:"Why, in one line; the customer reads it."`
	Reference   string `required:"" help:"Your own reference, such as a ticket: the same one again changes nothing."`
	Kind        string `default:"adjustment" enum:"adjustment,credit,debit,bonus" help:"What it is: an adjustment by its sign, a credit, a debit, or a bonus, which is spent before paid money."`
	Bonus       bool   `help:"The same as --kind=bonus."`
}

// request is what is asked for.
func (c creditCmd) request(org uuid.UUID, actor audit.Actor) (wallet.AdjustmentRequest, error) {
	r := wallet.AdjustmentRequest{
		OrgID: org, Kind: wallet.Adjustment, Amount: money.Pence(c.AmountPence), Reason: c.Reason, Reference: c.Reference, Actor: actor,
	}
	switch {
	case c.Bonus && c.Kind != "adjustment" && c.Kind != "bonus":
		return r, fmt.Errorf("--bonus and --kind=%s say different things", c.Kind)
	case c.Bonus, c.Kind == "bonus":
		r.Kind = wallet.Bonus
	case (c.Kind == "credit" || c.Kind == "debit") && r.Amount < 0:
		return r, fmt.Errorf("the amount of a %s is written without a minus sign", c.Kind)
	case c.Kind == "debit":
		r.Amount = -r.Amount
	}
	return r, nil
}

// Run adjusts the wallet and says how it stands.
func (c creditCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		var org uuid.UUID
		err := a.db.InSystemTx(ctx, "finding an organisation by its name", func(ctx context.Context, tx *db.Tx) (err error) {
			org, err = auth.OrganizationByName(ctx, tx, c.Org)
			return err
		})
		if err != nil {
			return err
		}
		if org == uuid.Nil {
			return fmt.Errorf("there is no organisation %q", c.Org)
		}
		request, err := c.request(org, audit.CLI(login(e.getenv)))
		if err != nil {
			return err
		}
		var b wallet.Balance
		var done wallet.Transaction
		err = a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
			if done, err = wallet.Adjust(ctx, tx, request); err != nil {
				return err
			}
			b, err = wallet.Read(ctx, tx, org)
			return err
		})
		if err != nil {
			return err
		}
		if done.Repeated {
			say(e.stdout, "Booked already, on %s: nothing was done again.", done.At.UTC().Format("2 Jan 2006 15:04 UTC"))
		}
		say(e.stdout, "%s: balance %s, available %s, debt %s", c.Org, b.Balance, b.Available(), b.Debt)
		return nil
	})
}
