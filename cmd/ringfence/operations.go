package main

import (
	"context"
	"fmt"
	"net/http"

	"riverqueue.com/riverui"

	"ringfence/handlers"
	"ringfence/internal/operations"
	"ringfence/jobs"
)

// microsPerUnit and microsPerPenny write amounts in millionths of a currency's unit.
const (
	microsPerUnit  = 1_000_000
	microsPerPenny = 10_000
)

// looks are what the house looks at itself with.
func (a *app) looks() operations.Options {
	o := operations.Options{
		DB: a.db, Log: a.log.With("part", "operations"), Now: a.clock,
		SignIn: a.auth.Working, Jobs: jobs.NewDesk(a.inserter),
		StripeLow: int64(a.cfg.StripeLowBalance) * microsPerUnit, TwilioLow: int64(a.cfg.TwilioLowBalance) * microsPerUnit,
		Stripe: func(ctx context.Context) (operations.Money, error) {
			pence, err := a.payments.AccountBalance(ctx)
			return operations.Money{Micros: pence * microsPerPenny, Currency: "gbp"}, err
		},
		Books: a.verifyBooks,
	}
	if a.numbers.On() {
		o.Numbers = a.verifyNumbers
	}
	if a.messages.On() {
		o.Twilio = func(ctx context.Context) (operations.Money, error) {
			micros, currency, err := a.messages.AccountBalance(ctx)
			return operations.Money{Micros: micros, Currency: currency}, err
		}
	}
	if a.calls.On() {
		o.Calls = a.calls.Reachable
	}
	return o
}

// look looks at the house until ctx ends. What it returns waits for the look that is under way.
func (a *app) look(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.operations.Run(ctx)
	}()
	return func() error {
		cancel()
		<-done
		return nil
	}
}

// jobPages are River's own pages of its jobs. They are not started, so that they ask the database only while somebody looks.
func (a *app) jobPages() (http.Handler, error) {
	pages, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(a.inserter, nil), Logger: a.log.With("part", "river pages"), Prefix: handlers.JobPagesPath, JobListHideArgsByDefault: true,
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't make the pages of jobs: %w", err)
	}
	return pages, nil
}

// violationsLogged bounds how many violations of one invariant are written to the log.
const violationsLogged = 5

// verifyBooks is `ringfence verify` without anybody at the terminal.
func (a *app) verifyBooks(ctx context.Context) (operations.Findings, error) {
	checks, err := a.verify(ctx)
	if err != nil {
		return nil, err
	}
	found := make(operations.Findings, len(checks))
	for _, c := range checks {
		found[c.Name] = len(c.Violations)
		for _, v := range c.Violations[:min(len(c.Violations), violationsLogged)] {
			a.log.ErrorContext(ctx, "an invariant does not hold", "invariant", c.Name, "promise", c.Promise, "violation", v)
		}
	}
	return found, nil
}

// verifyNumbers holds our phone numbers against the providers'.
func (a *app) verifyNumbers(ctx context.Context) (operations.Findings, error) {
	c, err := a.numbers.Compare(ctx)
	if err != nil {
		return nil, err
	}
	return operations.Findings{
		"orphans": len(c.Orphans), "missing": len(c.Missing), "unknown": len(c.Unknown), "held": len(c.Held), "unreached": len(c.Unreached),
	}, nil
}
