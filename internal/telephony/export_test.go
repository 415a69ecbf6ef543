package telephony

import (
	"context"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
)

// Queue is the first step of Send alone, as if the process had died after it.
func (s *Messages) Queue(ctx context.Context, r SendRequest) (Message, error) {
	d, err := s.Draft(r)
	if err != nil {
		return Message{}, err
	}
	return s.queue(ctx, r, d)
}

// Take is the second step alone: in flight, and Twilio not asked.
func (s *Messages) Take(ctx context.Context, m Message) error { return s.take(ctx, m) }

// SaveCredential seals a token for an organisation, as buying a number or its owner does.
func (v *Vault) SaveCredential(ctx context.Context, d *db.DB, org uuid.UUID, kind Kind, sid, token string) (c Credential, err error) {
	err = d.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, org); err != nil {
			return err
		}
		c, err = v.save(ctx, tx, org, kind, account{sid: sid, token: token}, audit.System("test"))
		return err
	})
	return c, err
}

// OpenCredential reads an organisation's credential and gives its token.
func (v *Vault) OpenCredential(ctx context.Context, d *db.DB, org uuid.UUID, kind Kind) (token string, err error) {
	err = d.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		c, _, err := credential(ctx, tx, org, kind)
		if err != nil {
			return err
		}
		a, err := c.open(v)
		token = a.token
		return err
	})
	return token, err
}

// Take is the first part of Advance alone, as if the process had died before the provider was asked.
func (s *Numbers) Take(ctx context.Context, n Number) error {
	_, _, err := s.take(ctx, n.OrgID, n.ID)
	return err
}

// MonthsAfter is monthsAfter.
var MonthsAfter = monthsAfter
