package main

import (
	"context"
	"fmt"

	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

type operatorCmd struct {
	Add    operatorAddCmd    `cmd:"" help:"Make somebody an operator. The password of an account that is made for it is the last line of the output, this once."`
	Remove operatorRemoveCmd `cmd:"" help:"Make an operator somebody like everybody else. Repeating changes nothing."`
}

type operatorAddCmd struct {
	Email    string `required:"" help:"Who it is."`
	Reason   string `required:"" help:"Why, for the audit log."`
	Existing bool   `help:"Take the account with this email that is there already. Make sure whose it is."`
}

// Run makes the operator.
func (c operatorAddCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		made, err := a.auth.AddOperator(ctx, auth.NewOperator{Email: c.Email, Existing: c.Existing, Actor: audit.CLI(login(e.getenv)), Reason: c.Reason})
		if fault.Is(err, fault.Conflict) && !c.Existing {
			return fmt.Errorf("%w Then: --existing", err)
		}
		if err != nil {
			return err
		}
		say(e.stdout, "%s is an operator, and is led to two-step sign-in at %s/ops.", c.Email, a.cfg.BaseURL)
		if made != "" {
			say(e.stdout, "An account was made. Its password is shown this once; change it at the first sign-in:")
			say(e.stdout, "%s", made)
		}
		return nil
	})
}

type operatorRemoveCmd struct {
	Email  string `required:"" help:"Who it is."`
	Reason string `required:"" help:"Why, for the audit log."`
}

// Run takes the role away.
func (c operatorRemoveCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.auth.RemoveOperator(ctx, c.Email, audit.CLI(login(e.getenv)), c.Reason); err != nil {
			return err
		}
		say(e.stdout, "%s is no operator.", c.Email)
		return nil
	})
}
