package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"ringfence/db"
	"ringfence/internal/knowledge"
	"ringfence/internal/payments"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

type verifyCmd struct{}

// Run prints each invariant with its count and fails if one does not hold.
func (verifyCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		checks, err := a.verify(ctx)
		if err != nil {
			return err
		}
		broken := 0
		for _, c := range checks {
			verdict := "ok"
			if len(c.Violations) > 0 {
				verdict = "FAILED"
				broken++
			}
			say(e.stdout, "%-7s %-32s %8d checked, %d violations: %s", verdict, c.Name, c.Checked, len(c.Violations), c.Promise)
			for _, v := range c.Violations {
				say(e.stdout, "        %s", v)
			}
		}
		agree, err := a.compareProviders(ctx, e.stdout)
		if err != nil {
			return err
		}
		if broken > 0 {
			say(e.stdout, "%d of %d invariants do not hold.", broken, len(checks))
			return errFailed
		}
		say(e.stdout, "All %d invariants hold.", len(checks))
		if !agree {
			return errFailed
		}
		return nil
	})
}

// compareFor bounds how long the providers are asked.
const compareFor = 30 * time.Second

// compareProviders holds the providers' books against ours and says how they differ; agree is false where they do. A provider
// that cannot be reached is said to be, and neither agrees nor differs.
func (a *app) compareProviders(ctx context.Context, out io.Writer) (agree bool, err error) {
	const name = "providers-agree"
	if !a.numbers.On() {
		say(out, "%-7s %-32s the providers of numbers are off", "off", name)
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareFor)
	defer cancel()
	c, err := a.numbers.Compare(ctx)
	if err != nil {
		return false, err
	}
	verdict, differ := "ok", len(c.Orphans)+len(c.Missing)
	switch {
	case differ > 0:
		verdict = "FAILED"
	case len(c.Unreached) > 0:
		verdict = "UNKNOWN"
	}
	say(out, "%-7s %-32s %8d checked, %d violations: every number at Twilio and Vapi is somebody's here, and every active one is there", verdict, name, c.Numbers, differ)
	for _, o := range c.Orphans {
		say(out, "        %s has %s %s, which is nobody's here", o.Provider, o.ID, o.PhoneNumber)
	}
	for _, g := range c.Missing {
		say(out, "        %s does not have number %s, which is active", g.Provider, g.Number.ID)
	}
	for _, u := range c.Unreached {
		say(out, "        %s %s could not be reached: %s", u.Provider, u.AccountSID, u.Why)
	}
	for _, n := range c.Unknown {
		say(out, "        of number %s it is not known yet what the provider did", n.ID)
	}
	for _, n := range c.Held {
		say(out, "        number %s is not let go of by its provider", n.ID)
	}
	return differ == 0, nil
}

// verifyBudget is how long the books may take. They are read whole: 13 seconds for a million transactions on two cores.
const verifyBudget = 10 * time.Minute

// The tables that verify must see whole, and the promises that it holds them to beside the wallet's.
var (
	verifiedTables = slices.Concat(wallet.BookTables, payments.Tables, telephony.Tables, knowledge.Tables)
	verifiedToo    = slices.Concat(payments.Invariants, telephony.Invariants, knowledge.Invariants)
)

// verify checks the books, and before them that the role that reads them sees all of them.
func (a *app) verify(ctx context.Context) ([]wallet.Check, error) {
	var seen, there map[string]int64
	var checks []wallet.Check
	err := a.db.InSystemReadTx(db.Patiently(ctx, verifyBudget), "verifying the books", func(ctx context.Context, tx *db.Tx) (err error) {
		if seen, err = wallet.CountVisible(ctx, tx, verifiedTables); err != nil {
			return err
		}
		// Counted at the same moment of the data: rows come and, where they are kept for a time only, go.
		var snapshot string
		if err := tx.GetContext(ctx, &snapshot, `SELECT pg_export_snapshot()`); err != nil {
			return fmt.Errorf("couldn't show another connection what this one sees: %w", err)
		}
		if there, err = db.CountRows(ctx, a.databaseURL, snapshot, verifiedTables); err != nil {
			return err
		}
		checks, err = wallet.CheckBooks(ctx, tx, verifiedToo...)
		return err
	})
	if err != nil {
		return nil, err
	}
	sight := wallet.Check{Name: "verify-sees-everything", Promise: "the rows these checks see are all that there are, counted independently"}
	for _, table := range verifiedTables {
		sight.Checked += seen[table]
		if seen[table] != there[table] {
			sight.Violations = append(sight.Violations, fmt.Sprintf("%s: %d rows seen, %d are there", table, seen[table], there[table]))
		}
	}
	return slices.Insert(checks, 0, sight), nil
}
