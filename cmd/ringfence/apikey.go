package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
)

type apiKeyCmd struct {
	Create apiKeyCreateCmd `cmd:"" help:"Make an API key. It alone is the last line of the output, this once."`
	List   apiKeyListCmd   `cmd:"" help:"List an organisation's API keys, without their secrets."`
	Revoke apiKeyRevokeCmd `cmd:"" help:"Revoke an API key. Repeating changes nothing."`
}

type apiKeyCreateCmd struct {
	Org    string   `required:"" help:"Name of the organisation."`
	Name   string   `required:"" help:"Name of the key, such as the program that will use it."`
	Scopes []string `help:"What it may do, comma-separated; by default everything."`
}

// Run makes the key and prints it.
func (c apiKeyCreateCmd) Run(e *env) error {
	scopes := auth.AllScopes
	if len(c.Scopes) > 0 {
		var err error
		if scopes, err = auth.ParseScopes(c.Scopes); err != nil {
			return err
		}
	}
	return withOrg(e, c.Org, func(ctx context.Context, a *app, tx *db.Tx, org uuid.UUID) (report func(), err error) {
		secret, k, err := a.auth.CreateKey(ctx, tx, org, c.Name, scopes, uuid.Nil, audit.CLI(login(e.getenv)))
		return func() {
			say(e.stdout, "Key %s of %s, for %s. It is shown this once:", k.Name, c.Org, strings.Join(k.Scopes.Names(), ", "))
			say(e.stdout, "%s", secret)
		}, err
	})
}

type apiKeyListCmd struct {
	Org string `required:"" help:"Name of the organisation."`
}

// Run lists the keys.
func (c apiKeyListCmd) Run(e *env) error {
	return withOrg(e, c.Org, func(ctx context.Context, _ *app, tx *db.Tx, org uuid.UUID) (report func(), err error) {
		keys, err := auth.Keys(ctx, tx, org)
		return func() {
			const layout = "2006-01-02 15:04"
			say(e.stdout, "%-10s  %-24s  %-16s  %-16s  %-8s  %s", "prefix", "name", "made (UTC)", "last used", "state", "scopes")
			for _, k := range keys {
				used, state := "never", "works"
				if !k.LastUsedAt.IsZero() {
					used = k.LastUsedAt.UTC().Format(layout)
				}
				if !k.RevokedAt.IsZero() {
					state = "revoked"
				}
				say(e.stdout, "%-10s  %-24s  %-16s  %-16s  %-8s  %s", k.Prefix, k.Name, k.CreatedAt.UTC().Format(layout), used, state, strings.Join(k.Scopes.Names(), ","))
			}
		}, err
	})
}

type apiKeyRevokeCmd struct {
	Org    string `required:"" help:"Name of the organisation."`
	Prefix string `required:"" help:"The part of the key that the list shows."`
}

// Run revokes the key.
func (c apiKeyRevokeCmd) Run(e *env) error {
	return withOrg(e, c.Org, func(ctx context.Context, a *app, tx *db.Tx, org uuid.UUID) (report func(), err error) {
		keys, err := auth.Keys(ctx, tx, org)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if k.Prefix == c.Prefix {
				return func() { say(e.stdout, "Key %s (%s) is revoked.", k.Name, k.Prefix) }, a.auth.RevokeKey(ctx, tx, org, k.ID, audit.CLI(login(e.getenv)))
			}
		}
		return nil, errors.New("this organisation has no key with this prefix")
	})
}

// withOrg runs fn in a transaction of the organisation with this name, and its report after the commit.
func withOrg(e *env, name string, fn func(ctx context.Context, a *app, tx *db.Tx, org uuid.UUID) (report func(), err error)) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		var org uuid.UUID
		err := a.db.InSystemTx(ctx, "finding an organisation by its name", func(ctx context.Context, tx *db.Tx) (err error) {
			org, err = auth.OrganizationByName(ctx, tx, name)
			return err
		})
		if err != nil {
			return err
		}
		if org == uuid.Nil {
			return fmt.Errorf("there is no organisation %q", name)
		}
		var report func()
		err = a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
			report, err = fn(ctx, a, tx, org)
			return err
		})
		if err != nil {
			return err
		}
		report()
		return nil
	})
}
