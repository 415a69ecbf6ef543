package telephony

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// NumberChoice is an active number of an organisation's, and the agent that answers it, if one does.
type NumberChoice struct {
	ID          uuid.UUID     `db:"id"`
	PhoneNumber string        `db:"phone_number"`
	AgentID     uuid.NullUUID `db:"agent_id"`
	AgentName   string        `db:"agent_name"`
}

// numbersMost bounds how many numbers are offered to be linked.
const numbersMost = 500

// Numbers gives an organisation's active numbers in the order of their digits, each with the agent that has it.
func (s *Agents) Numbers(ctx context.Context, org uuid.UUID) (list []NumberChoice, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `
			SELECT n.id, n.phone_number, a.id AS agent_id, coalesce(a.name, '') AS agent_name
			FROM numbers n LEFT JOIN agents a ON a.number_id = n.id AND a.org_id = n.org_id
			WHERE n.org_id = $1 AND n.state = 'active' LIMIT $2`, org, numbersMost); err != nil {
			return fmt.Errorf("couldn't list the numbers that agents can have: %w", err)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b NumberChoice) int { return cmp.Compare(a.PhoneNumber, b.PhoneNumber) })
	return list, err
}

// Replace removes an agent as [Agents.Delete] does, and has another one of the organisation's answer its number from then on:
// both in one commit, so that the number is without an agent at no moment.
//
// Faults, with nothing changed: NotFound for an agent that is not there; Conflict where the one to be deleted has no number
// ("agent_without_number"), its number is not active ("number_not_active"), or the other one answers another number already
// ("agent_linked"); Invalid with the field "link_to" for an agent that would replace itself.
func (s *Agents) Replace(ctx context.Context, org, id, by uuid.UUID, actor audit.Actor) error {
	if id == by {
		return fault.Field("link_to", "Choose another agent than the one that is deleted.")
	}
	_, err := s.change(ctx, org, id, func(ctx context.Context, tx *db.Tx, a Agent) error {
		if !a.NumberID.Valid {
			return &fault.Error{Kind: fault.Conflict, Code: "agent_without_number", Public: a.Name + " has no number that another agent could answer."}
		}
		other, found, err := readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.id = $2 AND a.deleted_at IS NULL FOR NO KEY UPDATE OF a`, org, by)
		switch {
		case err != nil:
			return err
		case !found:
			return errNoAgent()
		case other.NumberID.Valid:
			return &fault.Error{
				Kind: fault.Conflict, Code: "agent_linked", Field: "link_to",
				Public: fmt.Sprintf("%s answers %s already. Unlink that first, or choose another agent.", other.Name, other.PhoneNumber.String),
			}
		}
		n, err := Usable(ctx, tx, org, a.NumberID.UUID)
		if err != nil {
			return err
		}
		if err := s.deleteIn(ctx, tx, a, actor); err != nil {
			return err
		}
		return other.linkIn(ctx, tx, n, actor)
	})
	return err
}
