package telephony

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
)

// Comparison is how the providers' books stand to ours.
type Comparison struct {
	// Accounts is how many of Twilio's accounts were compared, Numbers how many of our numbers are there and at Vapi.
	Accounts, Numbers int
	// Orphans are at a provider and nobody's here: they cost money and serve nobody.
	Orphans []Stray
	// Missing are numbers that are active here and not at a provider.
	Missing []Gap
	// Unknown are numbers of which a provider has not said yet what it did.
	Unknown []Number
	// Held are numbers that are given back, or whose purchase is undone, and that a provider has not let go of for a while.
	Held []Number
	// Unreached are what could not be looked at: nothing is said of their numbers.
	Unreached []Unreached
}

// heldAfter is how often a provider is asked to let go of a number before it counts as held.
const heldAfter = 3

// Clean reports whether everything was looked at, and agrees.
func (c *Comparison) Clean() bool {
	return len(c.Orphans)+len(c.Missing)+len(c.Unknown)+len(c.Held)+len(c.Unreached) == 0
}

// Stray is something at a provider that is nobody's here.
type Stray struct {
	Provider string // Twilio or Vapi
	// AccountSID is the account at Twilio that it is in, OrgID whose that is where we know.
	AccountSID string
	OrgID      uuid.UUID
	// ID is the provider's, PhoneNumber is empty for a subaccount that was made twice.
	ID, PhoneNumber string
}

// Gap is a number that a provider does not have.
type Gap struct {
	Provider string
	Number   Number
}

// Unreached is what could not be looked at.
type Unreached struct {
	Provider, AccountSID string
	// Why is for operators: ids and codes.
	Why string
}

// house is what we have of numbers at one moment.
type house struct {
	numbers  []Number
	accounts []held
}

// held is an account at Twilio that is an organisation's.
type held struct {
	OrgID uuid.UUID `db:"org_id"`
	SID   string    `db:"sid"`
	Kind  Kind      `db:"kind"`
}

func (s *Numbers) house(ctx context.Context) (h house, err error) {
	err = s.o.DB.InSystemTx(ctx, "comparing the providers' numbers with ours", func(ctx context.Context, tx *db.Tx) error {
		h = house{}
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &h.numbers, `SELECT `+numberColumns+` FROM numbers WHERE state IN `+liveStates+` ORDER BY id`); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &h.accounts, `
			SELECT org_id, subaccount_sid AS sid, 'managed' AS kind FROM telephony_accounts WHERE subaccount_sid IS NOT NULL
			UNION ALL SELECT org_id, account_sid, kind FROM credentials WHERE kind = 'byoc' ORDER BY 2`)
	})
	return h, err
}

// knows reports whether a number at a provider belongs to somebody here, or to what is under way.
func (h *house) knows(id, number string) bool {
	return slices.ContainsFunc(h.numbers, func(n Number) bool {
		return id != "" && (n.SID.String == id || n.VapiID.String == id) || n.PhoneNumber == number && n.State != NumberActive
	})
}

// keeps reports whether a subaccount is an organisation's, or may be about to be.
func (h *house) keeps(o Stray) bool {
	return slices.ContainsFunc(h.accounts, func(at held) bool { return at.SID == o.ID }) ||
		slices.ContainsFunc(h.numbers, func(n Number) bool { return n.OrgID == o.OrgID && n.Step == StepSubaccount })
}

// still reports whether a number is active as it was.
func (h *house) still(n Number) bool {
	return slices.ContainsFunc(h.numbers, func(m Number) bool {
		return m.ID == n.ID && m.State == NumberActive && m.SID == n.SID && m.VapiID == n.VapiID
	})
}

// Compare holds the providers' books against ours. It changes nothing. Ours are read before and after theirs, so that what
// is under way meanwhile is no difference. What a provider does not answer for is said, and not passed.
func (s *Numbers) Compare(ctx context.Context) (c Comparison, err error) {
	if !s.On() {
		return Comparison{}, errNumbersOff()
	}
	before, err := s.house(ctx)
	if err != nil {
		return Comparison{}, err
	}
	theirs := books{twilio: map[string]map[string]string{}}
	s.readTwilio(ctx, &before, &theirs, &c)
	atVapi, err := s.vapi.numbers(ctx)
	if err != nil {
		c.Unreached = append(c.Unreached, Unreached{Provider: "Vapi", Why: err.Error()})
	} else {
		theirs.vapi = map[string]vapiNumber{}
		for _, n := range atVapi {
			theirs.vapi[n.ID] = n
		}
	}
	after, err := s.house(ctx)
	if err != nil {
		return Comparison{}, err
	}
	theirs.strays = slices.DeleteFunc(theirs.strays, func(o Stray) bool {
		if o.PhoneNumber == "" {
			return before.keeps(o) || after.keeps(o)
		}
		return before.knows(o.ID, o.PhoneNumber) || after.knows(o.ID, o.PhoneNumber)
	})
	for _, n := range theirs.vapi {
		// Only what we name is ours to judge: others may use the same account of Vapi's.
		if _, err := uuid.Parse(n.Name); err == nil && !before.knows(n.ID, n.Number) && !after.knows(n.ID, n.Number) {
			theirs.strays = append(theirs.strays, Stray{Provider: "Vapi", AccountSID: n.AccountSID, ID: n.ID, PhoneNumber: n.Number})
		}
	}
	c.Orphans = append(c.Orphans, theirs.strays...)
	for _, n := range before.numbers {
		if n.State == NumberActive && after.still(n) {
			c.Missing = append(c.Missing, theirs.gaps(n)...)
			c.Numbers++
		}
	}
	for _, n := range after.numbers {
		switch {
		case n.State == NumberUnknown:
			c.Unknown = append(c.Unknown, n)
		case n.Tries >= heldAfter && (n.State == NumberReleasing || n.Undoing()):
			c.Held = append(c.Held, n)
		}
	}
	slices.SortFunc(c.Orphans, func(a, b Stray) int { return strings.Compare(a.ID, b.ID) })
	return c, nil
}

// books are the providers': of Twilio's the numbers by account and name, where that could be read.
type books struct {
	twilio map[string]map[string]string
	vapi   map[string]vapiNumber // nil: could not be read
	strays []Stray
}

// gaps are the providers that do not have an active number as we do.
func (b *books) gaps(n Number) (gaps []Gap) {
	if at, read := b.twilio[n.AccountSID.String]; read && at[n.SID.String] != n.PhoneNumber {
		gaps = append(gaps, Gap{Provider: "Twilio", Number: n})
	}
	if b.vapi != nil && b.vapi[n.VapiID.String].Number != n.PhoneNumber {
		gaps = append(gaps, Gap{Provider: "Vapi", Number: n})
	}
	return gaps
}

// readTwilio reads the numbers of every account that is an organisation's, and the subaccounts that are nobody's.
func (s *Numbers) readTwilio(ctx context.Context, h *house, theirs *books, c *Comparison) {
	unreached := func(sid string, err error) {
		c.Unreached = append(c.Unreached, Unreached{Provider: "Twilio", AccountSID: sid, Why: err.Error()})
	}
	for _, at := range h.accounts {
		if ctx.Err() != nil {
			unreached(at.SID, ctx.Err())
			continue
		}
		as := s.parent
		if at.Kind == BYOC {
			own, err := s.kept(ctx, at.OrgID, BYOC)
			if err != nil {
				unreached(at.SID, err)
				continue
			}
			as = own
		}
		client, err := s.client(as)
		if err != nil {
			unreached(at.SID, err)
			continue
		}
		client.of.sid = at.SID // a parent reads its subaccounts'
		list, err := client.all()
		if err != nil {
			unreached(at.SID, err)
			continue
		}
		c.Accounts++
		has := make(map[string]string, len(list))
		for _, n := range list {
			has[n.sid] = n.number
			if at.Kind == Managed { // what else a customer has in an account of its own is not ours to judge
				theirs.strays = append(theirs.strays, Stray{Provider: "Twilio", AccountSID: at.SID, OrgID: at.OrgID, ID: n.sid, PhoneNumber: n.number})
			}
		}
		theirs.twilio[at.SID] = has
	}
	if err := s.subaccounts(theirs); err != nil {
		unreached(s.parent.sid, err)
	}
}

// subaccounts reads those that have names as we give them.
func (s *Numbers) subaccounts(theirs *books) error {
	parent, err := s.client(s.parent)
	if err != nil {
		return err
	}
	list, err := parent.subaccounts()
	if err != nil {
		return err
	}
	for _, a := range list {
		id, ours := strings.CutPrefix(a.name, subaccountName(""))
		if org, err := uuid.Parse(id); ours && err == nil {
			theirs.strays = append(theirs.strays, Stray{Provider: "Twilio", AccountSID: s.parent.sid, OrgID: org, ID: a.sid})
		}
	}
	return nil
}
