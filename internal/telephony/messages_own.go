package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

// OwnNumber is one that an organisation's texts go out from, or came in to.
type OwnNumber struct {
	ID          uuid.UUID `db:"id"`
	PhoneNumber string    `db:"phone_number"`
	// Sends says that texts can be sent from it now.
	Sends bool `db:"sends"`
}

// OwnNumbers gives the numbers that are an organisation's, or were, in the order of their digits; those that send now first.
// Each stands there once.
func (s *Messages) OwnNumbers(ctx context.Context, org uuid.UUID) (list []OwnNumber, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `
			SELECT id, phone_number, sends FROM (
			    SELECT DISTINCT ON (phone_number) id, phone_number, state = 'active' AND texts AS sends FROM numbers
			    WHERE org_id = $1 AND activated_at IS NOT NULL ORDER BY phone_number, state = 'active' DESC, id DESC) n
			ORDER BY sends DESC, phone_number LIMIT $2`, org, numbersMost); err != nil {
			return fmt.Errorf("couldn't list the numbers of texts: %w", err)
		}
		return nil
	})
	if s.o.Vault == nil { // nothing can be sent from them
		for i := range list {
			list[i].Sends = false
		}
	}
	return list, err
}

func errNotYourNumber() error {
	return fault.Field("from", "This is not an active number of your organisation. Leave it empty to use ours.")
}

// ownSender finds the organisation's own number that a text is to go out from: an active one that sends texts. There is no
// other in its place, and another organisation's is none. It holds the number until the transaction ends: releasing it waits.
func (s *Messages) ownSender(ctx context.Context, tx *db.Tx, org uuid.UUID, d Draft) (id uuid.NullUUID, err error) {
	if !d.Own {
		return id, nil
	}
	// The wallet's lock first, as everybody takes it; the number's comes after it.
	if err := wallet.Lock(ctx, tx, org); err != nil {
		return id, err
	}
	n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND phone_number = $2 AND state = 'active' FOR SHARE`, org, d.Sender)
	switch {
	case err != nil:
		return id, err
	case !found, !n.CredentialID.Valid, s.o.Vault == nil:
		return id, errNotYourNumber()
	case !n.Texts:
		return id, fault.Field("from", "This number takes calls, but sends no texts. Leave it empty to use ours.")
	}
	return uuid.NullUUID{UUID: n.ID, Valid: true}, nil
}

// errAccountGone says that a text went out from an account that nobody opens any more.
var errAccountGone = errors.New("the text's account at Twilio cannot be opened any more")

// place is where a text lives at Twilio.
type place struct {
	twilio *api.ApiService
	// account is the one that it is in, which may be another than the client's own.
	account string
	// own says that it is the customer's own account, whose token the customer has too.
	own bool
}

// placeOf finds where a text lives at Twilio: in our account, or in that of the number that it goes out from. Of a number that
// was released since, our account may still ask about its own subaccount; errAccountGone where nobody can ask any more.
func (s *Messages) placeOf(ctx context.Context, tx *db.Tx, m Message) (place, error) {
	if !m.NumberID.Valid {
		return place{twilio: s.twilio, account: s.o.AccountSID}, nil
	}
	n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2`, m.OrgID, m.NumberID.UUID)
	switch {
	case err != nil:
		return place{}, err
	case !found, s.o.Vault == nil:
		return place{}, errAccountGone
	case n.CredentialID.Valid:
		in, err := openCredential(ctx, tx, s.o.Vault, m.OrgID, n.CredentialID.UUID)
		if err != nil {
			return place{}, err
		}
		client, err := newTwilio(in.sid, in.token, s.o.APIBase, s.o.Timeout, s.o.Transport, s.o.Log, s.o.Now)
		return place{twilio: client, account: in.sid, own: n.Kind == BYOC}, err
	case n.Kind == BYOC:
		return place{}, errAccountGone
	}
	return place{twilio: s.twilio, account: n.AccountSID.String}, nil
}

// lookPlace is placeOf in a transaction of its own.
func (s *Messages) lookPlace(ctx context.Context, m Message) (p place, err error) {
	if !m.NumberID.Valid {
		return s.placeOf(ctx, nil, m)
	}
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{m.OrgID}, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = s.placeOf(ctx, tx, m)
		return err
	})
	return p, err
}

// subject is whose text a status is about, and the account that may speak of it.
type subject struct {
	OrgID   uuid.UUID      `db:"org_id"`
	Account sql.NullString `db:"account_sid"`
	Kind    sql.NullString `db:"kind"`
}

// subjectOf finds the text that a status is about; found is false for one that is not here.
func (s *Messages) subjectOf(ctx context.Context, id uuid.UUID) (of subject, found bool, err error) {
	err = s.o.DB.InSystemTx(ctx, "a status of a text, before it is known whose it is", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &of, `SELECT m.org_id, n.account_sid, n.kind FROM messages m LEFT JOIN numbers n ON n.id = m.number_id WHERE m.id = $1`, id)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return subject{}, false, nil
	}
	if err != nil {
		return subject{}, false, fmt.Errorf("couldn't find the text: %w", err)
	}
	return of, true, nil
}

// speaks reports whether an account may tell of the text: the one that the text was sent from. Empty stands for ours.
func (s *Messages) speaks(of subject, account string) bool {
	ours := s.o.AccountSID
	if of.Account.Valid {
		ours = of.Account.String
	}
	return account == ours || account == "" && ours == s.o.AccountSID
}

// signer finds the organisation, and the credential, of an account that a request of Twilio's says it is from: one that a
// number named in it is in. found is false where there is none.
func (s *Messages) signer(ctx context.Context, from, to, accountSID string) (o owner, found bool, err error) {
	err = s.o.DB.InSystemTx(ctx, "who signs for a number, before it is known whose it is", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &o, `
			SELECT id, org_id, credential_id FROM numbers
			WHERE phone_number IN ($1, $2) AND account_sid = $3 AND state IN ('active', 'releasing') AND credential_id IS NOT NULL LIMIT 1`, from, to, accountSID)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return owner{}, false, nil
	}
	return o, err == nil, err
}
