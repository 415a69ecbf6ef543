package telephony

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"ringfence/db"
	"ringfence/internal/audit"
)

// Kind says whose a provider's account is.
type Kind string

// The kinds; the schema knows the same ones.
const (
	Managed Kind = "managed" // a subaccount that we keep for the organisation, and pay for
	BYOC    Kind = "byoc"    // the customer's own: bring your own carrier
)

// provider is who a credential is for.
const providerTwilio = "twilio"

// Vault keeps credentials sealed in the database. A sealed token opens only under the organisation, the provider and the
// row that it was sealed for, so that nothing is gained by putting one into another row.
type Vault struct {
	aead    tink.AEAD
	primary uint32
}

// NewVault makes a vault of a keyset in Tink's binary form. The primary key seals, all of them open.
func NewVault(binaryKeyset []byte) (*Vault, error) {
	// None of Tink's errors is wrapped where it has seen a key.
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(binaryKeyset)))
	if err != nil {
		return nil, errors.New("the encryption keyset cannot be read")
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("the encryption keyset does not seal: %w", err)
	}
	return &Vault{aead: a, primary: handle.KeysetInfo().GetPrimaryKeyId()}, nil
}

// label is what a sealed token is bound to.
func label(org uuid.UUID, provider string, row uuid.UUID) []byte {
	return []byte("ringfence credential\n" + org.String() + "\n" + provider + "\n" + row.String())
}

// seal closes a token, and says by which key.
func (v *Vault) seal(token string, org uuid.UUID, provider string, row uuid.UUID) (sealed []byte, key int64, err error) {
	sealed, err = v.aead.Encrypt([]byte(token), label(org, provider, row))
	if err != nil {
		return nil, 0, fmt.Errorf("couldn't seal the credential: %w", err)
	}
	// Tink writes a byte of its version and the key's id before what it has sealed
	// (https://developers.google.com/tink/wire-format).
	if len(sealed) < 5 || binary.BigEndian.Uint32(sealed[1:5]) != v.primary {
		return nil, 0, errors.New("the credential was sealed by an unknown key")
	}
	return sealed, int64(v.primary), nil
}

// errUnsealed says that no key opens a credential: it was changed, belongs to another row, or its key is gone.
var errUnsealed = errors.New("the credential does not open")

func (v *Vault) open(sealed []byte, org uuid.UUID, provider string, row uuid.UUID) (string, error) {
	token, err := v.aead.Decrypt(sealed, label(org, provider, row))
	if err != nil {
		return "", errUnsealed
	}
	return string(token), nil
}

// Credential is what may be shown of one: never its token.
type Credential struct {
	ID         uuid.UUID `db:"id"`
	OrgID      uuid.UUID `db:"org_id"`
	Provider   string    `db:"provider"`
	Kind       Kind      `db:"kind"`
	AccountSID string    `db:"account_sid"`
	// LastFour are the last characters of the token, to know it again by.
	LastFour string `db:"last_four"`
	// Version is raised with every new token.
	Version int             `db:"version"`
	State   CredentialState `db:"state"`
	// Note is why it was refused, as a sentence for people.
	Note      string    `db:"note"`
	CreatedBy string    `db:"created_by"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
	TestedAt  time.Time `db:"tested_at"`

	Sealed []byte `db:"sealed"`
	KeyID  int64  `db:"key_id"`
}

// CredentialState says whether the provider takes a credential.
type CredentialState string

// The states; the schema knows the same ones.
const (
	Working CredentialState = "working"
	Refused CredentialState = "refused"
)

const vaultColumns = `id, org_id, provider, kind, account_sid, last_four, version, state, note, created_by, created_at, updated_at, tested_at, sealed, key_id`

// credential reads the organisation's credential of a kind.
func credential(ctx context.Context, tx *db.Tx, org uuid.UUID, kind Kind) (c Credential, found bool, err error) {
	err = tx.GetContext(ctx, &c, `SELECT `+vaultColumns+` FROM credentials WHERE org_id = $1 AND provider = 'twilio' AND kind = $2`, org, kind)
	if errors.Is(err, sql.ErrNoRows) {
		return Credential{}, false, nil
	}
	if err != nil {
		return Credential{}, false, fmt.Errorf("couldn't read the credential: %w", err)
	}
	return c, true, nil
}

// account is a provider's account with the token that opens it. It is never logged: its methods say only which it is.
type account struct {
	sid, token string
	// version is the credential's that it was opened from; 0 for one that comes from elsewhere.
	version int
}

// is reports whether two are the same account, opened by the same token.
func (a account) is(b account) bool { return a.sid == b.sid && a.token == b.token }

// String gives the account's id alone.
func (a account) String() string { return a.sid }

// GoString gives the account's id alone.
func (a account) GoString() string { return a.sid }

// open gives the account that a credential opens.
func (c *Credential) open(v *Vault) (account, error) {
	token, err := v.open(c.Sealed, c.OrgID, c.Provider, c.ID)
	if err != nil {
		return account{}, fmt.Errorf("credential %s: %w", c.ID, err)
	}
	return account{sid: c.AccountSID, token: token, version: c.Version}, nil
}

// lastFour is what is shown of a token.
func lastFour(token string) string {
	if len(token) < 8 {
		return "••••"
	}
	return token[len(token)-4:]
}

// save stores an account as the organisation's credential of a kind, in the place of the one that is there, and gives it.
// The caller holds the lock of the telephony account.
func (v *Vault) save(ctx context.Context, tx *db.Tx, org uuid.UUID, kind Kind, a account, actor audit.Actor) (Credential, error) {
	c, found, err := credential(ctx, tx, org, kind)
	if err != nil {
		return Credential{}, err
	}
	action := "credential.replaced"
	if !found {
		action = "credential.saved"
		id, err := uuid.NewV7()
		if err != nil {
			return Credential{}, fmt.Errorf("couldn't make an id: %w", err)
		}
		c = Credential{ID: id, OrgID: org, Provider: providerTwilio, Kind: kind}
	}
	if old, err := c.open(v); err != nil || !old.is(a) {
		c.Version++
	}
	c.AccountSID, c.LastFour = a.sid, lastFour(a.token)
	if c.Sealed, c.KeyID, err = v.seal(a.token, org, c.Provider, c.ID); err != nil {
		return Credential{}, err
	}
	err = tx.GetContext(ctx, &c, `
		INSERT INTO credentials AS c (id, org_id, provider, kind, account_sid, sealed, key_id, last_four, version, state, created_by, created_at, updated_at, tested_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'working', $10, $11, $11, $11)
		ON CONFLICT (id) DO UPDATE SET account_sid = $5, sealed = $6, key_id = $7, last_four = $8, version = $9, state = 'working', note = '', updated_at = $11, tested_at = $11
		RETURNING `+vaultColumns, c.ID, org, c.Provider, kind, a.sid, c.Sealed, c.KeyID, c.LastFour, c.Version, actor, tx.Now)
	if err != nil {
		return Credential{}, fmt.Errorf("couldn't save the credential: %w", err)
	}
	return c, c.record(ctx, tx, action, actor, "")
}

// remove deletes a credential. The caller holds the lock of the telephony account and has made sure that nothing needs it.
func (c *Credential) remove(ctx context.Context, tx *db.Tx, actor audit.Actor, reason string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM credentials WHERE id = $1 AND org_id = $2`, c.ID, c.OrgID); err != nil {
		return fmt.Errorf("couldn't remove the credential: %w", err)
	}
	return c.record(ctx, tx, "credential.removed", actor, reason)
}

func (c *Credential) record(ctx context.Context, tx *db.Tx, action string, actor audit.Actor, reason string) error {
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: c.OrgID, Actor: actor, Action: action, Subject: "credential:" + c.ID.String(), Reason: reason,
		Detail: map[string]any{"provider": c.Provider, "kind": string(c.Kind), "account_sid": c.AccountSID},
	})
}
