package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/twilio/twilio-go/client"

	"ringfence/db"
	"ringfence/internal/audit"
)

// InboundMessage is a text that somebody sent to an organisation's own number.
type InboundMessage struct {
	ID       uuid.UUID `db:"id"`
	OrgID    uuid.UUID `db:"org_id"`
	NumberID uuid.UUID `db:"number_id"`
	SID      string    `db:"sid"`
	// Sender is masked, and Body gone, once ErasedAt is set by erasing that person; after the retention only Body is gone.
	Sender    string `db:"sender"`
	Recipient string `db:"recipient"`
	Body      string `db:"body"`
	// Media is how many pictures or files came with it.
	Media int `db:"media"`
	// Meaning is what it asked for: stop, start, help or none.
	Meaning    string     `db:"meaning"`
	ReceivedAt time.Time  `db:"received_at"`
	ErasedAt   *time.Time `db:"erased_at"`
}

// ListInbound gives the texts that came in to an organisation's own numbers, newest first, those before the one with the id
// before (uuid.Nil: from the newest), at most limit of them.
func (s *Messages) ListInbound(ctx context.Context, org, before uuid.UUID, limit int) (list []InboundMessage, err error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `
			SELECT id, org_id, number_id, sid, sender, recipient, body, media, meaning, received_at, erased_at FROM inbound_messages
			WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, org, before, limit); err != nil {
			return fmt.Errorf("couldn't list the texts that came in: %w", err)
		}
		return nil
	})
	return list, err
}

// owner is whose number it is that a text came in to.
type owner struct {
	OrgID      uuid.UUID     `db:"org_id"`
	NumberID   uuid.UUID     `db:"id"`
	Credential uuid.NullUUID `db:"credential_id"`
}

// ownerOf finds whose number something of Twilio's is about: an active one, in the account that it is said to be in. found is
// false for a number that is nobody's.
func (s *Messages) ownerOf(ctx context.Context, number, accountSID string) (o owner, found bool, err error) {
	err = s.o.DB.InSystemTx(ctx, "a text that came in, before it is known to whom", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &o, `SELECT id, org_id, credential_id FROM numbers WHERE phone_number = $1 AND account_sid = $2 AND state = 'active'`, number, accountSID)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return owner{}, false, nil
	}
	return o, err == nil, err
}

// validator checks the signatures of the account that a request of Twilio's says it is from: ours, or one that a number of a
// customer's is in. Twilio signs with each account's own token. nil: there is no such account.
func (s *Messages) validator(ctx context.Context, form url.Values) (*client.RequestValidator, error) {
	sid := form.Get("AccountSid")
	if sid == "" || sid == s.o.AccountSID || s.o.Vault == nil {
		return &s.signed, nil
	}
	o, found, err := s.signer(ctx, form.Get("From"), form.Get("To"), sid)
	if err != nil || !found || !o.Credential.Valid {
		return nil, err
	}
	var in account
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{o.OrgID}, func(ctx context.Context, tx *db.Tx) (err error) {
		in, err = openCredential(ctx, tx, s.o.Vault, o.OrgID, o.Credential.UUID)
		return err
	})
	if err != nil {
		return nil, err
	}
	v := client.NewRequestValidator(in.token)
	return &v, nil
}

// takeOwn keeps a text to an organisation's own number, once, and obeys its words about not being texted, for that number alone.
// It gives the organisation's name, for the answer; found is false for a number that is nobody's.
func (s *Messages) takeOwn(ctx context.Context, in Inbound, m meaning, word string) (name string, found bool, err error) {
	o, found, err := s.ownerOf(ctx, in.To, in.AccountSID)
	if err != nil || !found {
		return "", false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", false, fmt.Errorf("couldn't make an id: %w", err)
	}
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{o.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			if err := tx.GetContext(ctx, &name, `SELECT name FROM organizations WHERE id = $1`, o.OrgID); err != nil {
				return fmt.Errorf("couldn't read the organisation: %w", err)
			}
			res, err := tx.ExecContext(ctx, `
				INSERT INTO inbound_messages (id, org_id, number_id, sid, sender, recipient, body, media, meaning, received_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (sid) DO NOTHING`,
				id, o.OrgID, o.NumberID, in.SID, clean(in.From, 40), in.To, clean(in.Body, MaxBody), max(in.Media, 0), m, tx.Now)
			if err != nil {
				return fmt.Errorf("couldn't keep the text: %w", err)
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 { // it came before
				return err
			}
			org := uuid.NullUUID{UUID: o.OrgID, Valid: true}
			switch m {
			case meansStop:
				return optOutIn(ctx, tx, org, in.To, in.From, word)
			case meansStart:
				return optInIn(ctx, tx, org, in.To, in.From, word)
			case meansHelp, meansNone:
			}
			return audit.Record(ctx, tx, audit.Entry{
				OrgID: o.OrgID, Actor: audit.System("messages"), Action: "message.received", Subject: "inbound_message:" + id.String(), Detail: map[string]any{"sid": in.SID},
			})
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	return name, true, err
}
