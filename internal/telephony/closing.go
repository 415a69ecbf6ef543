package telephony

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

// namedMost is how many numbers a sentence names; of more it says how many.
const namedMost = 5

// MayClose says, as a Conflict, why an organisation's account cannot be closed as its telephony stands: it has numbers that
// are not given back, which somebody pays for every month, or calls that go on. Nil: nothing is in the way. With the wallet's
// lock held nothing of this begins any more before the caller's transaction has ended. Agents stay: without a number they do
// and cost nothing.
func MayClose(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
	var numbers []Number
	if err := tx.SelectContext(ctx, &numbers, `SELECT `+numberColumns+` FROM numbers WHERE org_id = $1 AND state IN `+liveStates+` ORDER BY id`, org); err != nil {
		return fmt.Errorf("couldn't look for numbers: %w", err)
	}
	var calls int
	if err := tx.GetContext(ctx, &calls, `SELECT count(*) FROM calls WHERE org_id = $1 AND ended_at IS NULL`, org); err != nil {
		return fmt.Errorf("couldn't look for calls under way: %w", err)
	}
	switch {
	case len(numbers) > 0:
		return fault.New(fault.Conflict, fmt.Sprintf("It has %s. Close the account when nothing of that is left: active numbers are released on the organisation's page, and the others end by themselves.", listed(numbers)))
	case calls == 1:
		return fault.New(fault.Conflict, "A call is under way. Close the account when it has ended.")
	case calls > 1:
		return fault.New(fault.Conflict, fmt.Sprintf("%d calls are under way. Close the account when they have ended.", calls))
	}
	return nil
}

// listed names numbers and how they stand.
func listed(numbers []Number) string {
	noun := "a phone number"
	if len(numbers) > 1 {
		noun = fmt.Sprintf("%d phone numbers", len(numbers))
	}
	var names []string
	for _, n := range numbers[:min(len(numbers), namedMost)] {
		names = append(names, n.PhoneNumber+" ("+n.standing()+")")
	}
	if more := len(numbers) - namedMost; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return noun + ": " + strings.Join(names, ", ")
}

// standing is a live number's state in a word or two.
func (n *Number) standing() string {
	switch {
	case n.Undoing():
		return "being undone"
	case n.State == NumberReleasing:
		return "being released"
	case n.State == NumberActive:
		return "active"
	}
	return "being bought"
}

// mustBeOpen refuses what asks no gate where the organisation's account is closed. It takes the wallet's lock, which comes
// before every other, so that an account is not closed meanwhile.
func mustBeOpen(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
	if err := wallet.Lock(ctx, tx, org); err != nil {
		return err
	}
	return wallet.MustBeOpen(ctx, tx, org, "so nothing new can be begun")
}
