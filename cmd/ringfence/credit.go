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
	AmountPence int64  `required:"" help:"Pence to give; negative takes (write --amount-pence=-100)."`
	Reason      string `required:"" help:"Why; the customer reads it."`
	Reference   string `required:"" help:"Your own reference, such as a ticket: the same one again changes nothing."`
	Bonus       bool   `help:"Give it as a bonus, which is spent before paid money."`
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
		kind := wallet.Adjustment
		if c.Bonus {
			kind = wallet.Bonus
		}
		var b wallet.Balance
		err = a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			if _, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
				OrgID: org, Kind: kind, Amount: money.Pence(c.AmountPence), Reason: c.Reason, Reference: c.Reference,
				Actor: audit.CLI(login(e.getenv)),
			}); err != nil {
				return err
			}
			var err error
			b, err = wallet.Read(ctx, tx, org)
			return err
		})
		if err != nil {
			return err
		}
		say(e.stdout, "%s: balance %s, available %s, debt %s", c.Org, b.Balance, b.Available(), b.Debt)
		return nil
	})
}
