package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

var (
	ownSID   = regexp.MustCompile(`^AC[0-9a-f]{32}$`)
	ownToken = regexp.MustCompile(`^[0-9A-Za-z]{16,64}$`)
)

func errNoCredential() error {
	return &fault.Error{Kind: fault.Conflict, Code: "no_credential", Public: "Your organisation has no Twilio account of its own here. Add its credential first."}
}

func errCredentialRefused() error {
	return &fault.Error{
		Kind: fault.Declined, Code: "credential_refused", Field: "auth_token",
		Public: "Twilio does not take this credential. Copy the Account SID and the Auth Token from Twilio's console again.",
	}
}

// OwnAccount is a customer's own account at Twilio.
type OwnAccount struct {
	OrgID                 uuid.UUID
	AccountSID, AuthToken string
	Actor                 audit.Actor
}

// SaveOwn tries a credential of the customer's own at Twilio and keeps it, in the place of the one that is there. Where
// numbers are live in the old account, only a new token of the same account takes its place, and Vapi is told of it by a job for
// each active number: see [Numbers.TellToken]. It does not change where
// numbers are bought: see SetMode. It is safe to repeat.
//
// Faults, each with nothing changed: Invalid with its field; Declined where Twilio refuses it; Conflict where numbers need
// the old one; Unavailable where Twilio did not answer.
func (s *Numbers) SaveOwn(ctx context.Context, o OwnAccount) (c Credential, err error) {
	if !s.On() {
		return Credential{}, errNumbersOff()
	}
	o.AccountSID, o.AuthToken = strings.TrimSpace(o.AccountSID), strings.TrimSpace(o.AuthToken)
	switch {
	case !ownSID.MatchString(o.AccountSID):
		return Credential{}, fault.Field("account_sid", "Copy the Account SID from Twilio's console: AC and 32 digits or letters a to f.")
	case !ownToken.MatchString(o.AuthToken):
		return Credential{}, fault.Field("auth_token", "Copy the Auth Token from Twilio's console: letters and digits, at least 16.")
	case o.AccountSID == s.parent.sid:
		return Credential{}, fault.Field("account_sid", "This is not an account of your organisation.")
	}
	if err := s.notKept(ctx, o.AccountSID); err != nil {
		return Credential{}, err
	}
	if err := s.tryOwn(account{sid: o.AccountSID, token: o.AuthToken}); err != nil {
		return Credential{}, err
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{o.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, o.OrgID); err != nil {
			return err
		}
		old, found, err := credential(ctx, tx, o.OrgID, BYOC)
		if err != nil {
			return err
		}
		if found && old.AccountSID != o.AccountSID {
			if err := ownNeeded(ctx, tx, o.OrgID, "Numbers are live in the account that is there now. Release them first, or give a token of the same account."); err != nil {
				return err
			}
		}
		c, err = s.keep(ctx, tx, o.OrgID, BYOC, account{sid: o.AccountSID, token: o.AuthToken}, o.Actor)
		return err
	})
	return c, err
}

// notKept refuses an account that we keep for some organisation.
func (s *Numbers) notKept(ctx context.Context, sid string) error {
	var kept bool
	err := s.o.DB.InSystemTx(ctx, "whether an account is one of ours, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &kept, `SELECT EXISTS (SELECT FROM telephony_accounts WHERE subaccount_sid = $1)`, sid)
	})
	if err == nil && kept {
		return fault.Field("account_sid", "This is not an account of your organisation.")
	}
	return err
}

// tryOwn asks Twilio whether an account takes its token and is open.
func (s *Numbers) tryOwn(a account) error {
	c, err := s.client(a)
	if err != nil {
		return err
	}
	status, err := c.status()
	switch {
	case notOurs(err), gone(err):
		return errCredentialRefused()
	case err != nil:
		return providerAway(err)
	case status != "active":
		return fault.Field("account_sid", "Twilio says that this account is "+status+".")
	}
	return nil
}

// ownNeeded refuses, with the sentence public, while numbers live in the customer's own account.
func ownNeeded(ctx context.Context, tx *db.Tx, org uuid.UUID, public string) error {
	var needed bool
	if err := tx.GetContext(ctx, &needed, `SELECT EXISTS (SELECT FROM numbers WHERE org_id = $1 AND kind = 'byoc' AND state IN `+liveStates+`)`, org); err != nil {
		return fmt.Errorf("couldn't see whether the credential is needed: %w", err)
	}
	if needed {
		return &fault.Error{Kind: fault.Conflict, Code: "credential_needed", Public: public}
	}
	return nil
}

// TestOwn tries the credential of the customer's own at Twilio, and keeps what came of it. A credential that is refused
// is no error: the result says so.
func (s *Numbers) TestOwn(ctx context.Context, org uuid.UUID) (c Credential, err error) {
	if !s.On() {
		return Credential{}, errNumbersOff()
	}
	a, err := s.kept(ctx, org, BYOC)
	if err != nil {
		return Credential{}, err
	}
	state, note := Working, ""
	if err := s.tryOwn(a); err != nil {
		f := fault.As(err)
		if f.Kind != fault.Declined && f.Kind != fault.Invalid {
			return Credential{}, err
		}
		state, note = Refused, f.Public
	}
	return s.tested(ctx, org, a, state, note)
}

// refused notes that Twilio does not take the customer's own credential.
func (s *Numbers) refused(ctx context.Context, org uuid.UUID) error {
	a, err := s.kept(ctx, org, BYOC)
	if err != nil {
		return err
	}
	_, err = s.tested(ctx, org, a, Refused, fault.As(errCredentialRefused()).Public)
	return err
}

// tested stores what came of trying an account; nothing where another one has taken its place since.
func (s *Numbers) tested(ctx context.Context, org uuid.UUID, a account, state CredentialState, note string) (c Credential, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, org); err != nil {
			return err
		}
		var found bool
		if c, found, err = credential(ctx, tx, org, BYOC); err != nil || !found {
			return errors.Join(err, errNoCredential())
		}
		if now, err := c.open(s.o.Vault); err != nil || !now.is(a) {
			return err
		}
		changed := c.State != state
		if err := tx.GetContext(ctx, &c, `UPDATE credentials SET state = $2, note = $3, tested_at = $4 WHERE id = $1 RETURNING `+vaultColumns, c.ID, state, note, tx.Now); err != nil {
			return fmt.Errorf("couldn't store what came of it: %w", err)
		}
		if !changed {
			return nil
		}
		return c.record(ctx, tx, "credential."+string(state), audit.System("numbers"), "")
	})
	return c, err
}

// RemoveOwn removes the credential of the customer's own. While numbers are live in its account it is a Conflict; removing
// one that is not there changes nothing. Numbers are bought in the account that we keep from then on.
func (s *Numbers) RemoveOwn(ctx context.Context, org uuid.UUID, actor audit.Actor) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		at, err := lockAccount(ctx, tx, org)
		if err != nil {
			return err
		}
		c, found, err := credential(ctx, tx, org, BYOC)
		if err != nil || !found {
			return err
		}
		if err := ownNeeded(ctx, tx, org, "Numbers are live in this account. Release them first."); err != nil {
			return err
		}
		if at.Mode == BYOC {
			if err := setMode(ctx, tx, org, Managed, actor); err != nil {
				return err
			}
		}
		return s.drop(ctx, tx, c, actor, "")
	})
}

// Credentials are an organisation's, without their tokens.
func (s *Numbers) Credentials(ctx context.Context, org uuid.UUID) (list []Credential, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `SELECT `+vaultColumns+` FROM credentials WHERE org_id = $1 ORDER BY id`, org); err != nil {
			return fmt.Errorf("couldn't list the credentials: %w", err)
		}
		return nil
	})
	for i := range list {
		list[i].Sealed = nil // nobody outside has a use for it
	}
	return list, err
}

// Mode says in whose account an organisation buys numbers.
func (s *Numbers) Mode(ctx context.Context, org uuid.UUID) (mode Kind, err error) {
	mode = Managed
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		err := tx.GetContext(ctx, &mode, `SELECT mode FROM telephony_accounts WHERE org_id = $1`, org)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return mode, err
}

// SetMode says in whose account the organisation buys numbers from now on. A number stays where it was bought, and one that
// is being bought ends where it was begun. Buying in the customer's own account without a credential that works is a
// Conflict. It is safe to repeat.
func (s *Numbers) SetMode(ctx context.Context, org uuid.UUID, mode Kind, actor audit.Actor) error {
	if mode != Managed && mode != BYOC {
		return fault.Field("mode", "Choose managed or byoc.")
	}
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		at, err := lockAccount(ctx, tx, org)
		if err != nil || at.Mode == mode {
			return err
		}
		if mode == BYOC {
			c, found, err := credential(ctx, tx, org, BYOC)
			if err != nil {
				return err
			}
			if !found || c.State != Working {
				return errNoCredential()
			}
		}
		return setMode(ctx, tx, org, mode, actor)
	})
}

func setMode(ctx context.Context, tx *db.Tx, org uuid.UUID, mode Kind, actor audit.Actor) error {
	if _, err := tx.ExecContext(ctx, `UPDATE telephony_accounts SET mode = $2, updated_at = $3 WHERE org_id = $1`, org, mode, tx.Now); err != nil {
		return fmt.Errorf("couldn't set where numbers are bought: %w", err)
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: org, Actor: actor, Action: "telephony.mode_set", Subject: "organisation:" + org.String(), Detail: map[string]any{"mode": string(mode)},
	})
}
