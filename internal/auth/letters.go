package auth

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/notice"
)

func letterLabel(id uuid.UUID) string { return "token of letter " + id.String() }

// OpenToken gives the token that a letter of ours carries in its link, for [notice.Options]. In the database it is sealed
// until the letter is sent, and forgotten then; what links are checked against is its SHA-256.
func (a *Auth) OpenToken(letter uuid.UUID, sealed []byte) (string, error) {
	token, err := a.sealer.open(sealed, letterLabel(letter))
	if err != nil {
		return "", fmt.Errorf("couldn't open the token of a letter: %w", err)
	}
	return string(token), nil
}

// post keeps a letter with a token in its link, to be sent when tx has committed. An empty token makes a link without one.
func (a *Auth) post(ctx context.Context, tx *db.Tx, p notice.Personal, token string) (err error) {
	if p.ID, err = uuid.NewV7(); err != nil {
		return fmt.Errorf("couldn't make an id: %w", err)
	}
	if token != "" {
		if p.Sealed, err = a.sealer.seal([]byte(token), letterLabel(p.ID)); err != nil {
			return err
		}
	}
	return notice.Post(ctx, tx, p)
}
