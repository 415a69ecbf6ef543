package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/auth"
	"ringfence/internal/payments"
)

type benchCmd struct {
	Prepare  prepareCmd  `cmd:"" help:"Make open top-ups over the demo organisations (development only) and print a JSON line for each."`
	Webhooks webhooksCmd `cmd:"" help:"Send signed Stripe events to the running server (development only) and print the figures as JSON."`
	Pages    pagesCmd    `cmd:"" help:"Ask the running server for the pages of a long history (development only) and print the figures as JSON."`
	Gates    gatesCmd    `cmd:"" help:"Ask the running server for holds over its API (development only) and print the figures as JSON."`
}

type prepareCmd struct {
	TopUps int `required:"" help:"How many."`
}

// benchUser owns what measurements leave behind, so that it never gets in the way of a person's own top-ups.
const benchUser = "bench@ringfence.example"

// Run prepares the top-ups, half of them for each demo organisation.
func (c prepareCmd) Run(e *env) error {
	if c.TopUps < 1 || c.TopUps > 1_000_000 {
		return errors.New("--top-ups takes 1 to 1000000")
	}
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.developmentOnly("bench prepare"); err != nil {
			return err
		}
		list, err := a.prepareTopUps(ctx, c.TopUps)
		if err != nil {
			return err
		}
		out := json.NewEncoder(e.stdout)
		for _, p := range list {
			if err := out.Encode(p); err != nil {
				return fmt.Errorf("couldn't print: %w", err)
			}
		}
		return nil
	})
}

// prepareTopUps makes n open top-ups, taking turns between the demo organisations.
func (a *app) prepareTopUps(ctx context.Context, n int) ([]payments.Prepared, error) {
	if err := a.seed(ctx); err != nil {
		return nil, err
	}
	var user uuid.UUID
	orgs := make([]uuid.UUID, len(demoOrgs))
	err := a.db.InSystemTx(ctx, "the demo's organisations and the user of measurements", func(ctx context.Context, tx *db.Tx) (err error) {
		for i, o := range demoOrgs {
			if orgs[i], err = auth.OrganizationByName(ctx, tx, o.name); err != nil {
				return err
			}
		}
		if user, err = auth.UserByEmail(ctx, tx, benchUser); err != nil || user != uuid.Nil {
			return err
		}
		made, err := a.auth.CreateUser(ctx, tx, benchUser, rand.Text(), auth.PlatformNone) // nobody signs in as it
		user = made.ID
		return err
	})
	if err != nil {
		return nil, err
	}
	each := make([][]payments.Prepared, len(orgs))
	for i, org := range orgs {
		share := (n + len(orgs) - 1 - i) / len(orgs)
		if share == 0 {
			continue
		}
		if each[i], err = a.payments.Prepare(ctx, org, user, share); err != nil {
			return nil, err
		}
	}
	list := make([]payments.Prepared, n)
	for i := range list {
		list[i] = each[i%len(orgs)][i/len(orgs)]
	}
	return list, nil
}
