package telephony

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

// Notes of agents that pass nobody on, for people.
const (
	noteDearForward  = "Calls to this number cost more than those that come in, so callers cannot be passed on to it."
	noteDearLeg      = "A minute to the number that its agent passes callers on to costs more than a minute of this call."
	noteClosedLeg    = "Calls to the number that its agent passes callers on to are not offered."
	actionNotForward = "call.not_passed_on"
)

// forwardRefused says, as a fault, why callers may not be passed on to a number as prices stand now: being passed on is not
// charged by itself, so it must cost no more than a call that comes in. Nil: they may.
func (s *Agents) forwardRefused(ctx context.Context, org uuid.UUID, to string) error {
	minute := wallet.HoldRequest{OrgID: org, Action: wallet.ActionCall, Quantity: 60, Source: wallet.SourceCall}
	charged, _, err := s.o.Gates.Quote(ctx, minute)
	if err != nil && !fault.Is(err, fault.Forbidden) { // where no calls come in, none is passed on
		return err
	}
	minute.Destination = to
	costs, _, err := s.o.Gates.Quote(ctx, minute)
	switch {
	case fault.Is(err, fault.Forbidden):
		return atField("forward_to", err)
	case err != nil:
		return err
	case charged > 0 && costs > charged:
		return fault.Field("forward_to", noteDearForward)
	}
	return nil
}

// Passing is how an agent passes callers on as things stand now.
type Passing struct {
	// Refused is why it passes nobody on, as a sentence for people; empty where it does, or was not told to.
	Refused string
	// Hidden is the number that it was to show and may not any more; nil where there is none.
	Hidden *CallerID
}

// Passing says how an agent passes callers on as prices and accounts stand now. Whether it does in a call is decided by the
// price of that call.
func (s *Agents) Passing(ctx context.Context, a Agent) (p Passing, err error) {
	if a.ForwardTo != "" {
		err := s.forwardRefused(ctx, a.OrgID, a.ForwardTo)
		if f := fault.As(err); err != nil && f.Field == "forward_to" {
			p.Refused = f.Public
		} else if err != nil {
			return Passing{}, err
		}
	}
	if a.CallerID.Valid {
		c, err := s.CallerID(ctx, a.OrgID, a.CallerID.UUID)
		if err != nil {
			return Passing{}, err
		}
		if !c.Usable() {
			p.Hidden = &c
		}
	}
	return p, nil
}

// overrides are what differs from the agent's assistant in one of our calls. Where being passed on would cost more than the call
// is charged, or is not offered, by the prices of this moment, the assistant cannot pass anybody on.
func (s *Calls) overrides(ctx context.Context, tx *db.Tx, c Call, a Agent) (vapiOverrides, error) {
	o := vapiOverrides{MaxDuration: c.Ceiling, Metadata: map[string]string{metaCall: c.ID.String()}}
	if a.ForwardTo == "" {
		return o, nil
	}
	why, err := s.legRefused(ctx, tx, c, a.ForwardTo)
	if err != nil || why == "" {
		return o, err
	}
	model := a.model()
	o.Model = &model
	if c.Repeated && c.Direction == InboundCall { // it was written down the first time
		return o, nil
	}
	return o, audit.Record(ctx, tx, audit.Entry{
		OrgID: c.OrgID, Actor: audit.System("calls"), Action: actionNotForward, Subject: "call:" + c.ID.String(), Reason: why, Detail: map[string]any{"agent_id": a.ID.String()},
	})
}

// legRefused says why a call may not be passed on to a number, as a sentence for people; empty: it may.
func (s *Calls) legRefused(ctx context.Context, tx *db.Tx, c Call, to string) (why string, err error) {
	terms, err := wallet.TermsOfCall(ctx, tx, c.HoldID.UUID)
	if err != nil {
		return "", err
	}
	tariff, err := s.o.Gates.Tariff(ctx)
	if err != nil {
		return "", fmt.Errorf("couldn't read what being passed on costs: %w", err)
	}
	price, err := tariff.Price(c.OrgID, wallet.ActionCall, to, s.o.Gates.Now())
	switch {
	case fault.Is(err, fault.Forbidden):
		return noteClosedLeg, nil
	case err != nil:
		return "", fmt.Errorf("couldn't find what being passed on costs: %w", err)
	case price.PerMinute > terms.PerMinute:
		return noteDearLeg, nil
	}
	return "", nil
}
