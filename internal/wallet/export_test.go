package wallet

import (
	"context"

	"ringfence/internal/batch"
)

// HoldColumns are what a Hold is read from.
const HoldColumns = holdColumns

// What to do with a hold, for Together.
type (
	Capturing Settlement
	Voiding   Settlement
	Extending Settlement
	Expiring  Settlement
)

// Together answers requests and settlements as one round does, in their order: as if they had all arrived while another
// round was being committed. A request that its check refuses fails the call.
func (g *Gates) Together(ctx context.Context, whats ...any) ([]batch.Result[Hold], error) {
	return g.TakingAlong(ctx, whats, nil)
}

// TakingAlong is Together with others who arrive while the round waits for its locks; those whom it takes along are
// answered after the rest.
func (g *Gates) TakingAlong(ctx context.Context, whats, others []any) ([]batch.Result[Hold], error) {
	ops, err := g.operations(ctx, whats)
	if err != nil {
		return nil, err
	}
	waiting, err := g.operations(ctx, others)
	if err != nil {
		return nil, err
	}
	return g.round(ops, func(accept func(operation) bool) (taken []operation) { //nolint:contextcheck // a round has its own
		var left []operation
		for _, op := range waiting {
			if accept(op) {
				taken = append(taken, op)
			} else {
				left = append(left, op)
			}
		}
		waiting = left
		return taken
	}), nil
}

func (g *Gates) operations(ctx context.Context, whats []any) ([]operation, error) {
	ops := make([]operation, 0, len(whats))
	for _, what := range whats {
		switch w := what.(type) {
		case HoldRequest:
			q, err := g.ask(ctx, w)
			if err != nil {
				return nil, err
			}
			ops = append(ops, operation{org: w.OrgID, ask: q})
		case Capturing:
			ops = append(ops, operation{org: w.OrgID, settle: Settlement(w), do: (*book).capture})
		case Voiding:
			ops = append(ops, operation{org: w.OrgID, settle: Settlement(w), do: (*book).void})
		case Extending:
			ops = append(ops, operation{org: w.OrgID, settle: Settlement(w), do: (*book).extend})
		case Expiring:
			ops = append(ops, operation{org: w.OrgID, settle: Settlement(w), do: (*book).expire})
		}
	}
	return ops, nil
}
