package telephony

import (
	"context"
	"crypto/sha256"

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
func (s *Messages) Take(ctx context.Context, m Message) error {
	_, err := s.take(ctx, m)
	return err
}

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

// ErrIdle is errIdle.
var ErrIdle = errIdle

// Take is the first part of Advance alone, as if the process had died before the provider was asked.
func (s *Numbers) Take(ctx context.Context, n Number) error {
	_, err := s.TakeUp(ctx, n)
	return err
}

// TakeUp is Take, and gives the number as who took it knows it.
func (s *Numbers) TakeUp(ctx context.Context, n Number) (Number, error) {
	taken, _, err := s.take(ctx, n.OrgID, n.ID)
	return taken, err
}

// Do is the second part of Advance, for who has taken a number.
func (s *Numbers) Do(ctx context.Context, n Number) error { return s.do(ctx, n, telephonyAccount{}) }

// PutOff is what who took a number stores when its provider did not answer.
func (s *Numbers) PutOff(ctx context.Context, n Number) error { return s.later(ctx, n, pauseOf{}) }

// Order is what Buy stores for one who has found that numbers are bought in an account of this kind.
func (s *Numbers) Order(ctx context.Context, r BuyRequest, kind Kind) (Number, error) {
	sum := sha256.Sum256([]byte(r.PhoneNumber))
	return s.order(ctx, r, "US", kind, sum[:])
}

// RenameAtVapi reads a number at Vapi, gives it another name, and says what it was called before and after.
func (s *Numbers) RenameAtVapi(ctx context.Context, id, name string) (before, after string, err error) {
	n, err := s.vapi.number(ctx, id)
	if err != nil {
		return "", "", err
	}
	changed, err := s.vapi.changeNumber(ctx, id, map[string]any{"name": name})
	return n.Name, changed.Name, err
}

// MonthsAfter is monthsAfter.
var MonthsAfter = monthsAfter

// LookAtMost lowers how many calls or texts a page looks at, until the function that it gives is called.
func LookAtMost(n int) (back func()) {
	was := lookMost
	lookMost = n
	return func() { lookMost = was }
}

// TakeToken is the first part of TellToken alone, as if the process had died before Vapi was told. What it gives does the second
// part, and gives the third: storing what came of it.
func (s *Numbers) TakeToken(ctx context.Context, n Number) (tell func() (store func() error), err error) {
	taken, _, err := s.takeToken(ctx, n.OrgID, n.ID)
	return func() func() error {
		version, note := s.tellToken(ctx, taken)
		return func() error {
			_, err := s.storeToken(ctx, taken, version, note)
			return err
		}
	}, err
}
