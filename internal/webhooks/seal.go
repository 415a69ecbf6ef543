package webhooks

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"ringfence/db"
)

func newAEAD(binaryKeyset []byte) (tink.AEAD, uint32, error) {
	// None of Tink's errors is wrapped where it has seen a key.
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(binaryKeyset)))
	if err != nil {
		return nil, 0, errors.New("the encryption keyset cannot be read")
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, 0, fmt.Errorf("the encryption keyset does not seal: %w", err)
	}
	return a, handle.KeysetInfo().GetPrimaryKeyId(), nil
}

// newSecret makes what signs an endpoint's messages: 256 random bits, written as the specification has it.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return "whsec_" + base64.StdEncoding.EncodeToString(b)
}

// label is what a sealed secret is bound to.
func label(org, endpoint uuid.UUID) []byte {
	return []byte("ringfence webhook secret\n" + org.String() + "\n" + endpoint.String())
}

func (s *Service) seal(secret string, org, endpoint uuid.UUID) (sealed []byte, key int64, err error) {
	sealed, err = s.aead.Encrypt([]byte(secret), label(org, endpoint))
	if err != nil {
		return nil, 0, fmt.Errorf("couldn't seal the secret: %w", err)
	}
	// Tink writes a byte of its version and the key's id before what it has sealed
	// (https://developers.google.com/tink/wire-format).
	if len(sealed) < 5 || binary.BigEndian.Uint32(sealed[1:5]) != s.primary {
		return nil, 0, errors.New("the secret was sealed by an unknown key")
	}
	return sealed, int64(s.primary), nil
}

func (s *Service) open(sealed []byte, org, endpoint uuid.UUID) (string, error) {
	secret, err := s.aead.Decrypt(sealed, label(org, endpoint))
	if err != nil {
		return "", fmt.Errorf("the secret of endpoint %s does not open: it was changed, or its key is gone", endpoint)
	}
	return string(secret), nil
}

// Resealed is what came of [Service.Reseal].
type Resealed struct {
	Now, Before int         // secrets that are under the newest key now, and that were before
	Stuck       []uuid.UUID // endpoints whose secret opens under none of the keys
}

// Reseal seals every secret under the newest key, one organisation after the other. Repeating it changes nothing.
func (s *Service) Reseal(ctx context.Context) (r Resealed, err error) {
	var orgs []uuid.UUID
	if err := s.o.DB.InSystemTx(ctx, "organisations whose secrets are sealed by an old key", func(ctx context.Context, tx *db.Tx) error {
		r = Resealed{}
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		if err := tx.GetContext(ctx, &r.Before, `SELECT count(*) FROM webhook_endpoints WHERE removed_at IS NULL AND key_id = $1`, int64(s.primary)); err != nil {
			return fmt.Errorf("couldn't count the secrets: %w", err)
		}
		return tx.SelectContext(ctx, &orgs, `
			SELECT DISTINCT org_id FROM webhook_endpoints WHERE removed_at IS NULL AND (key_id <> $1 OR old_key_id <> $1) ORDER BY org_id`, int64(s.primary))
	}); err != nil {
		return r, err
	}
	for _, org := range orgs {
		var now int
		var stuck []uuid.UUID
		if err := s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
			now, stuck, err = s.resealOf(ctx, tx, org)
			return err
		}); err != nil {
			return r, err
		}
		r.Now, r.Stuck = r.Now+now, append(r.Stuck, stuck...)
	}
	return r, nil
}

func (s *Service) resealOf(ctx context.Context, tx *db.Tx, org uuid.UUID) (now int, stuck []uuid.UUID, err error) {
	var rows []struct {
		ID     uuid.UUID `db:"id"`
		Sealed []byte    `db:"sealed"`
		Old    []byte    `db:"old_sealed"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT id, sealed, old_sealed FROM webhook_endpoints WHERE org_id = $1 AND removed_at IS NULL AND (key_id <> $2 OR old_key_id <> $2)
		ORDER BY id FOR NO KEY UPDATE`, org, int64(s.primary)); err != nil {
		return 0, nil, fmt.Errorf("couldn't read the secrets: %w", err)
	}
	for _, row := range rows {
		again := func(sealed []byte) ([]byte, error) {
			if sealed == nil {
				return nil, nil
			}
			secret, err := s.open(sealed, org, row.ID)
			if err != nil {
				return nil, err
			}
			fresh, _, err := s.seal(secret, org, row.ID)
			return fresh, err
		}
		sealed, err := again(row.Sealed)
		if err != nil {
			stuck = append(stuck, row.ID)
			continue
		}
		old, err := again(row.Old)
		if err != nil {
			old = nil // it is on its way out anyway
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE webhook_endpoints SET sealed = $2, key_id = $4, old_sealed = $3, old_key_id = CASE WHEN $3::bytea IS NULL THEN NULL ELSE $4::bigint END,
			       old_until = CASE WHEN $3::bytea IS NULL THEN NULL ELSE old_until END WHERE id = $1`, row.ID, sealed, old, int64(s.primary)); err != nil {
			return 0, nil, fmt.Errorf("couldn't seal the secret anew: %w", err)
		}
		now++
	}
	return now, stuck, nil
}

// textArray is types as the database takes them.
func textArray(types []Type) any {
	list := make([]string, len(types))
	for i, t := range types {
		list[i] = string(t)
	}
	return pq.Array(list)
}
