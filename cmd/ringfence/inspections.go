package main

import (
	"context"
	"time"

	"ringfence/internal/watch"
	"ringfence/jobs"
)

// How often everything is looked at. The books are read whole, which on a machine of two cores takes seconds for a million
// postings; the providers are asked for a list of each account.
const (
	inspectBooks   = 15 * time.Minute
	inspectNumbers = time.Hour
)

// violationsLogged bounds how many violations of one invariant are written to the log.
const violationsLogged = 5

// inspections are the regular looks at everything.
func (a *app) inspections() []jobs.Inspection {
	list := []jobs.Inspection{{Kind: watch.Books, Every: inspectBooks, Run: a.inspectBooks}}
	if a.numbers.On() {
		list = append(list, jobs.Inspection{Kind: watch.Numbers, Every: inspectNumbers, Run: a.inspectNumbers})
	}
	return list
}

// inspectBooks is `ringfence verify` without anybody at the terminal.
func (a *app) inspectBooks(ctx context.Context) (map[string]int, error) {
	checks, err := a.verify(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[string]int, len(checks))
	for _, c := range checks {
		found[c.Name] = len(c.Violations)
		for _, v := range c.Violations[:min(len(c.Violations), violationsLogged)] {
			a.log.ErrorContext(ctx, "an invariant does not hold", "invariant", c.Name, "promise", c.Promise, "violation", v)
		}
	}
	return found, nil
}

// inspectNumbers holds our phone numbers against the providers'.
func (a *app) inspectNumbers(ctx context.Context) (map[string]int, error) {
	c, err := a.numbers.Compare(ctx)
	if err != nil {
		return nil, err
	}
	if !c.Clean() {
		a.log.WarnContext(ctx, "our phone numbers and the providers' differ: see /ops/integrity", "orphans", len(c.Orphans), "missing", len(c.Missing),
			"unknown", len(c.Unknown), "held", len(c.Held), "unreached", len(c.Unreached))
	}
	return map[string]int{
		"orphans": len(c.Orphans), "missing": len(c.Missing), "unknown": len(c.Unknown), "held": len(c.Held), "unreached": len(c.Unreached),
	}, nil
}
