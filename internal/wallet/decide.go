package wallet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/batch"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// operation is one thing to do with a hold.
type operation struct {
	org uuid.UUID
	// ask is a request for a new hold, with what it was found to cost; nil where settle says which hold to change.
	ask    *asked
	settle Settlement
	do     func(b *book, h *Hold, s Settlement) error
}

// asked is a request with its price.
type asked struct {
	HoldRequest
	id          uuid.UUID
	fingerprint []byte
	amount      money.Pence
	required    money.Pence
	price, rate int64
	expires     time.Time
	// unpriced is why there is no price; it counts only if no earlier request had the same key.
	unpriced error
}

// decide does the operations in their order within tx, which must see their organisations, and answers each. Once it has
// the wallets' locks it takes along what more has for the same wallets; that is added to ops. An error is the whole
// transaction's: nothing may be committed then.
func decide(ctx context.Context, tx *db.Tx, ops *[]operation, more batch.More[operation]) ([]batch.Result[Hold], error) {
	orgs := make([]uuid.UUID, len(*ops))
	for i, op := range *ops {
		orgs[i] = op.org
	}
	b, err := lock(ctx, tx, sortedOrgs(orgs))
	if err != nil {
		return nil, err
	}
	if more != nil {
		*ops = append(*ops, more(func(op operation) bool { return b.wallets[op.org] != nil })...)
	}
	holds, err := findHolds(ctx, tx, *ops)
	if err != nil {
		return nil, err
	}
	results := make([]batch.Result[Hold], len(*ops))
	for i, op := range *ops {
		var h Hold
		var err error
		if op.ask != nil {
			h, err = b.authorise(holds, op.ask)
		} else {
			h, err = b.settle(holds, op)
		}
		if err != nil {
			if _, said := errors.AsType[*fault.Error](err); !said {
				return nil, err
			}
		}
		results[i] = batch.Result[Hold]{Value: h, Err: err}
	}
	return results, b.write(ctx, tx)
}

// found are the holds that operations speak of, by id and by key.
type found struct {
	byID  map[uuid.UUID]*Hold
	byKey map[holdKey]*Hold
}

type holdKey struct {
	org    uuid.UUID
	source Source
	key    string
}

func (f *found) add(h *Hold) {
	f.byID[h.ID], f.byKey[holdKey{h.OrgID, h.Source, h.Key}] = h, h
}

// findHolds finds the holds that operations speak of. The wallets are locked: nobody else makes or changes one.
func findHolds(ctx context.Context, tx *db.Tx, ops []operation) (*found, error) {
	var keyOrgs, ids []uuid.UUID
	var source, key []string
	for _, op := range ops {
		if op.ask != nil {
			keyOrgs, source, key = append(keyOrgs, op.org), append(source, string(op.ask.Source)), append(key, op.ask.Key)
		} else {
			ids = append(ids, op.settle.Hold)
		}
	}
	var holds []Hold
	var err error
	if len(keyOrgs) > 0 {
		err = tx.SelectContext(ctx, &holds, `
			SELECT `+holdColumns+` FROM unnest($1::uuid[], $2::text[], $3::text[]) k (of_org, of_source, of_key)
			     JOIN holds ON org_id = of_org AND source = of_source AND key = of_key`,
			idArray(keyOrgs), texts(source), texts(key))
	}
	if err == nil && len(ids) > 0 {
		var more []Hold
		err = tx.SelectContext(ctx, &more, `SELECT `+holdColumns+` FROM holds WHERE id = ANY($1::uuid[])`, idArray(ids))
		holds = append(holds, more...)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the holds: %w", err)
	}
	f := &found{byID: make(map[uuid.UUID]*Hold, len(ops)), byKey: make(map[holdKey]*Hold, len(ops))}
	for i := range holds {
		if f.byID[holds[i].ID] == nil { // one that is asked for in both ways, or twice
			f.add(&holds[i])
		}
	}
	return f, nil
}

// authorise decides whether something may happen, from the wallet's locked row.
func (b *book) authorise(holds *found, q *asked) (Hold, error) {
	if h := holds.byKey[holdKey{q.OrgID, q.Source, q.Key}]; h != nil {
		if !bytes.Equal(h.Fingerprint, q.fingerprint) {
			return Hold{}, &fault.Error{Kind: fault.Conflict, Code: "idempotency_key_reused", Public: "This idempotency key was used for another request. Use a new one."}
		}
		again := *h
		again.Repeated = true
		return again, nil
	}
	if q.unpriced != nil {
		return Hold{}, q.unpriced
	}
	w := b.wallets[q.OrgID]
	w.enterMonth(b.now)
	if err := w.refuse(q); err != nil {
		return Hold{}, err
	}
	h := &Hold{
		ID: q.id, OrgID: q.OrgID, Source: q.Source, Key: q.Key, Fingerprint: q.fingerprint, Action: q.Action, Quantity: q.Quantity,
		Destination: q.Destination, PriceID: q.price, RateID: q.rate, Authorised: q.amount, Amount: q.amount, State: HoldOpen, AtOnce: q.AtOnce,
		Actor: string(q.Actor), RequestID: q.RequestID, CreatedAt: b.now, ExpiresAt: q.expires, UpdatedAt: b.now,
		listed: true,
	}
	w.count(h, h.Amount)
	w.Held += h.Amount
	w.changed = true
	holds.add(h)
	b.made = append(b.made, h)
	if q.AtOnce {
		if err := b.capture(h, Settlement{Amount: h.Amount, Actor: q.Actor, RequestID: q.RequestID}); err != nil {
			return Hold{}, err
		}
	}
	return *h, nil
}

// refuse says why something may not happen, if it may not.
func (w *state) refuse(q *asked) error {
	switch {
	case w.ClosedAt != nil:
		return errClosed("so nothing can be spent from its wallet")
	case w.SuspendedAt != nil:
		return ErrSuspended("so nothing can be spent from its wallet")
	case w.FrozenAt != nil:
		return &fault.Error{
			Kind: fault.Forbidden, Code: "wallet_frozen",
			Public: "This wallet is frozen, so nothing can be spent from it. Ask us why, and what to do.",
		}
	case w.Debt > 0:
		return w.short(q.required, "debt", fmt.Sprintf("%s is owed, so nothing can be spent until it is repaid.", w.Debt))
	}
	spent, limit := w.spent(q.Action)
	if limit != nil && *spent+q.amount > *limit {
		return capped(fmt.Sprintf("the monthly limit of %s for this action", *limit))
	}
	if w.Cap != nil && w.SpentCall+w.SpentSMS+w.SpentNumber+w.SpentKnowledge+q.amount > *w.Cap {
		return capped(fmt.Sprintf("the monthly spending limit of %s", *w.Cap))
	}
	if q.required > w.Available() {
		return w.short(q.required, "insufficient_funds", fmt.Sprintf("This needs %s, and %s is available.", q.required, w.Available()))
	}
	return nil
}

// short is the refusal that a top-up helps against.
func (w *state) short(required money.Pence, code, public string) error {
	missing := w.Debt + max(0, required-w.Available()) // what is available repays no debt
	return &fault.Error{
		Kind: fault.Unpaid, Code: code, Public: fmt.Sprintf("%s Top up at least %s.", public, missing),
		Members: map[string]int64{
			"required_pence": int64(required), "available_pence": int64(w.Available()), "debt_pence": int64(w.Debt), "shortfall_pence": int64(missing),
		},
	}
}

func capped(limit string) error {
	return &fault.Error{
		Kind: fault.Forbidden, Code: "spending_limit",
		Public: "This would go over " + limit + " that your organisation has set. An owner can raise it on the wallet page; a new month begins on the 1st (UTC).",
	}
}

// settle finds the hold that an operation is about and does it.
func (b *book) settle(holds *found, op operation) (Hold, error) {
	s := op.settle
	h := holds.byID[s.Hold]
	switch {
	case h == nil || h.OrgID != s.OrgID:
		return Hold{}, fault.New(fault.NotFound, "There is no such hold.")
	case h.Source != s.Source:
		return Hold{}, &fault.Error{
			Kind: fault.Conflict, Code: "not_yours_to_settle",
			Public: "This hold is settled by what it was made for, not over the API.",
		}
	}
	h.Repeated = false
	if err := op.do(b, h, s); err != nil {
		return Hold{}, err
	}
	return *h, nil
}

// change notes that a hold moves on from the state it is in, and takes what it no longer holds off the month's account.
func (b *book) change(h *Hold, to HoldState, amount money.Pence) {
	w := b.wallets[h.OrgID]
	w.count(h, amount-h.Amount)
	if !h.listed {
		h.listed = true
		b.moved, b.was = append(b.moved, h), append(b.was, h.State)
	}
	if !h.State.settled() {
		w.Held -= h.Amount
	}
	if !to.settled() {
		w.Held += amount
	}
	h.State, h.Amount, h.UpdatedAt = to, amount, b.now
	w.changed = true
}

// capture takes what something cost. The same again changes nothing.
func (b *book) capture(h *Hold, s Settlement) error {
	amount := s.Amount
	if s.Whole {
		amount = h.Amount
	}
	w := b.wallets[h.OrgID]
	switch {
	case h.State == HoldCaptured && h.Amount == amount:
		h.Repeated = true
		return nil
	case h.State == HoldCaptured:
		return ended("already_captured", fmt.Sprintf("This hold was captured already, for %s.", h.Amount))
	case h.State.settled():
		return ended("hold_"+string(h.State), "This hold has ended ("+string(h.State)+"), and its money is free again. Make a new one.")
	case amount < 1:
		return fault.Field("amount_pence", "Capture an amount above zero. To take nothing, void the hold.")
	case amount > overCapture*h.Amount && !s.Overrun:
		return fault.Field("amount_pence", fmt.Sprintf("At most twice what is held can be captured: %s.", overCapture*h.Amount))
	case amount > h.Amount+w.Available() && !s.Overrun:
		return w.short(amount-h.Amount, "insufficient_funds", fmt.Sprintf("Beside the %s that is held this takes %s more, and %s is available.", h.Amount, amount-h.Amount, w.Available()))
	}
	held := h.Amount
	b.change(h, HoldCaptured, amount)
	h.SettledBy = string(s.Actor)
	description := s.Description
	if description == "" {
		description = h.description()
	}
	return b.post(movement{
		id: h.ID, org: h.OrgID, kind: Usage, reference: h.ID.String(), description: description,
		legs:  func(w *state) []leg { return spending(w, amount, h.Action.revenue()) },
		actor: s.Actor, action: "wallet.charged", request: s.RequestID, detail: chargeDetail(h, held, amount),
	})
}

func chargeDetail(h *Hold, held, amount money.Pence) map[string]any {
	if held == amount {
		return nil // the hold says it
	}
	return map[string]any{"held_pence": int64(held), "amount_pence": int64(amount), "action": string(h.Action)}
}

func ended(code, public string) error {
	return &fault.Error{Kind: fault.Conflict, Code: code, Public: public}
}

// void gives back what was set aside. The same again changes nothing, nor does it matter whether time was faster.
func (b *book) void(h *Hold, s Settlement) error {
	switch h.State {
	case HoldVoid, HoldExpired:
		h.Repeated = true
		return nil
	case HoldCaptured:
		return ended("already_captured", fmt.Sprintf("This hold was captured already, for %s.", h.Amount))
	case HoldOpen, HoldInFlight:
	}
	b.change(h, HoldVoid, 0)
	h.SettledBy = string(s.Actor)
	return nil
}

// extend raises what is set aside to an amount. One that is not higher changes nothing.
func (b *book) extend(h *Hold, s Settlement) error {
	if h.State.settled() {
		return ended("hold_"+string(h.State), "This hold has ended ("+string(h.State)+").")
	}
	more := s.Amount - h.Amount
	if more <= 0 {
		return nil
	}
	w := b.wallets[h.OrgID]
	w.enterMonth(b.now)
	if err := w.refuse(&asked{HoldRequest: HoldRequest{Action: h.Action}, amount: more, required: more}); err != nil {
		return err
	}
	b.change(h, h.State, s.Amount)
	return nil
}

// send notes that a provider is about to be asked. The same again changes nothing.
func (b *book) send(h *Hold, _ Settlement) error {
	switch {
	case h.State == HoldInFlight:
		h.Repeated = true
		return nil
	case h.State.settled():
		return ended("hold_"+string(h.State), "This hold has ended ("+string(h.State)+").")
	}
	b.change(h, HoldInFlight, h.Amount)
	return nil
}

// expire gives up an open hold whose time has come; any other it leaves as it is.
func (b *book) expire(h *Hold, s Settlement) error {
	if h.State != HoldOpen || h.ExpiresAt.After(b.now) {
		h.Repeated = true
		return nil
	}
	b.change(h, HoldExpired, 0)
	h.SettledBy = string(s.Actor)
	return nil
}
