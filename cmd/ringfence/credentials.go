package main

import (
	"context"
	"encoding/base64"

	"ringfence/internal/audit"
	"ringfence/internal/config"
)

type credentialsCmd struct {
	Keyset keysetCmd `cmd:"" help:"Print a keyset for RINGFENCE_ENCRYPTION_KEYSET, alone on the last line of stdout. It is kept nowhere else."`
	Rotate rotateCmd `cmd:"" help:"Seal every credential and webhook secret under the newest key of RINGFENCE_ENCRYPTION_KEYSET. Repeating changes nothing."`
}

// keysetCmd makes the value of the variable. Keys roll in three steps, with every process restarted in between:
//
//  1. `credentials keyset --add` gives the keyset that is in use with a new key that seals; put it in the variable's place.
//  2. `credentials rotate` seals everything under the new key.
//  3. `credentials keyset --newest` gives the keyset without its old keys; put it in the variable's place.
type keysetCmd struct {
	Add    bool `help:"The keyset that is in use, with a new key that seals from now on." xor:"which"`
	Newest bool `help:"The keyset that is in use, without its old keys. Run 'credentials rotate' before that." xor:"which"`
}

// Run prints the keyset.
func (c keysetCmd) Run(e *env) error {
	old, err := c.old(e)
	if err != nil {
		return err
	}
	makes, next := config.NewKeyset, "Set RINGFENCE_ENCRYPTION_KEYSET to this, in every process, and keep a copy where you keep backups."
	switch {
	case c.Newest:
		makes, next = config.PrimaryKeyset, "Set RINGFENCE_ENCRYPTION_KEYSET to this, in every process, when 'ringfence credentials rotate' says that the old keys can go."
	case c.Add:
		next = "Set RINGFENCE_ENCRYPTION_KEYSET to this, restart every process, then run 'ringfence credentials rotate'."
	}
	made, err := makes(old)
	if err != nil {
		return err
	}
	say(e.stderr, "%s", next)
	say(e.stdout, "%s", made)
	return nil
}

// old is the keyset in use, where one is asked about. Making a first one needs no configuration.
func (c keysetCmd) old(e *env) (string, error) {
	if !c.Add && !c.Newest {
		return "", nil
	}
	cfg, err := config.Load(e.getenv)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString([]byte(cfg.EncryptionKeyset.Reveal())), nil
}

type rotateCmd struct{}

// Run seals everything anew and says whether the old keys can go.
func (rotateCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		r, err := a.vault.Reseal(ctx, a.db, audit.CLI(login(e.getenv)))
		say(e.stdout, "%d sealed under the newest key now, %d were before.", r.Now, r.Before)
		if err != nil {
			return err
		}
		for _, id := range r.Stuck {
			say(e.stdout, "credential %s opens under none of the keys: put its key back, or have its owner replace it.", id)
		}
		hooks, err := a.webhooks.Reseal(ctx)
		say(e.stdout, "%d webhook secrets sealed under the newest key now, %d were before.", hooks.Now, hooks.Before)
		if err != nil {
			return err
		}
		for _, id := range hooks.Stuck {
			say(e.stdout, "the secret of webhook endpoint %s opens under none of the keys: put its key back, or have its owner roll it.", id)
		}
		if len(r.Stuck)+len(hooks.Stuck) > 0 {
			return errFailed
		}
		say(e.stdout, "Older keys have nothing left to open and can go: ringfence credentials keyset --newest")
		return nil
	})
}
