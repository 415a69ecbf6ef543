package payments

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/failpoint"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/wallet"
)

// Reversals: what becomes of a payment after it was credited.
//
// An event about a refund or a dispute only says that something has changed; what is the case, Stripe is asked about the
// payment as a whole, before any transaction is open: the PaymentIntent, all its refunds, all its disputes. What it answers
// is kept by id and posted as the difference between what it amounts to and what was posted for it before. The payment is
// credited on the way if it was not yet. So it does not matter which event brings it, in what order, or how often.

// reversing reports whether events of this type have Stripe asked about their payment.
func reversing(kind string) bool {
	return strings.HasPrefix(kind, "charge.dispute.") || kind == "charge.refunded" || kind == "charge.refund.updated" ||
		kind == "refund.created" || kind == "refund.updated"
}

// apartWorked reports whether events of this type are worked apart from credits: since Stripe has to be asked, or since what
// they are about is no payment.
func apartWorked(kind string) bool { return reversing(kind) || kind == cardDetached }

// batchOf is the job for events, each where it is worked.
func batchOf(events ...event) (job EventBatch) {
	for _, e := range events {
		if apartWorked(e.Type) {
			job.Reversals = append(job.Reversals, e.ID)
		} else {
			job.Strays = append(job.Strays, e.ID)
		}
	}
	return job
}

// answer is what Stripe says about a payment.
type answer struct {
	// question is the number under which it was asked; the answer to a higher one is newer.
	question int64
	payment  fact
	refunds  []*stripe.Refund
	disputes []*stripe.Dispute
}

// misfit is what makes an answer one for an operator.
type misfit string

// Error is what the operator reads.
func (m misfit) Error() string { return string(m) }

// askLimit bounds the questions about one payment together.
const askLimit = 40 * time.Second

// workReversals works events about refunds and disputes, payment by payment, and those about saved cards. An event whose
// payment Stripe could not be asked about stays for a later attempt.
func (s *Service) workReversals(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var waiting []event
	var question int64
	err := s.db.InSystemTx(ctx, "finding out which payments events are about", func(ctx context.Context, tx *db.Tx) error {
		waiting = nil
		if err := tx.SelectContext(ctx, &waiting, waitingEvents, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't read the events: %w", err)
		}
		return tx.GetContext(ctx, &question, `SELECT nextval('stripe_questions')`)
	})
	if err != nil {
		return err
	}
	about := map[string][]event{} // by PaymentIntent
	var done []verdict
	var cards []event
	for _, e := range waiting {
		if e.Type == cardDetached {
			cards = append(cards, e)
			continue
		}
		intent, err := e.readReversal(s.livemode)
		if err != nil {
			done = append(done, verdict{e.ID, stateQuarantined, err.Error()})
			continue
		}
		about[intent] = append(about[intent], e)
	}
	if err := s.conclude(ctx, done); err != nil {
		return err
	}
	if err := s.forgetCards(ctx, cards); err != nil {
		return err
	}
	var gone error // Stripe does not answer: nobody waits for it again in this round
	for _, intent := range slices.Sorted(maps.Keys(about)) {
		events := about[intent]
		err := gone
		if err == nil {
			err = s.reverse(ctx, intent, question, events)
		}
		if away(err) {
			gone = err
		}
		if err == nil {
			continue
		}
		for _, e := range events {
			if err := s.postpone(ctx, e, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// readReversal reads which payment an event is about, and keeps the refund or dispute that it names.
func (e *event) readReversal(livemode bool) (intent string, err error) {
	var body envelope
	if err := decode(e.Payload, &body); err != nil {
		return "", err
	}
	o := &body.Data.Object
	switch intent = o.intent(); {
	case intent == "":
		return "", misfit("a refund or dispute without a PaymentIntent")
	case body.Livemode != livemode:
		return "", misfit(fmt.Sprintf("livemode is %t, ours is %t", body.Livemode, livemode))
	}
	if o.Object == "refund" || o.Object == "dispute" {
		e.about = o.ID
	}
	return intent, nil
}

// reverse asks Stripe about one payment and brings our books to the answer. The events, which all belong to it, are
// settled with that. An error means that nothing happened, or that nobody knows: they are to be worked again.
func (s *Service) reverse(ctx context.Context, intent string, question int64, events []event) error {
	a, err := s.ask(ctx, intent, question)
	failpoint.Hit(failpoint.ReverseAfterAsking)
	if err == nil {
		err = a.covers(events)
	}
	var org uuid.UUID
	if err == nil {
		org, err = s.whose(ctx, a, events)
	}
	if m, ok := errors.AsType[misfit](err); ok {
		return s.conclude(ctx, verdictsOn(events, stateQuarantined, m.Error()))
	}
	if err != nil {
		return err
	}
	return s.settleReversal(ctx, org, a, events)
}

// errStripeAway says that Stripe could not be asked.
var errStripeAway = errors.New("couldn't ask Stripe")

// ask has Stripe tell all about a payment. A payment that it does not know is a misfit.
func (s *Service) ask(ctx context.Context, intent string, question int64) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	a.question = question
	get := &stripe.PaymentIntentParams{}
	get.Context = ctx
	pi, err := s.stripe.PaymentIntents.Get(intent, get)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusNotFound {
		return answer{}, misfit("Stripe does not know the payment")
	}
	if err != nil {
		return answer{}, fmt.Errorf("%w about payment %s: %w", errStripeAway, intent, err)
	}
	a.payment = factOf(pi)
	refunds, refundsErr := s.refundsOf(ctx, intent)
	a.refunds = refunds
	disputesOf := &stripe.DisputeListParams{PaymentIntent: new(intent)}
	disputesOf.Context, disputesOf.Limit = ctx, stripe.Int64(100)
	disputes := s.stripe.Disputes.List(disputesOf)
	for disputes.Next() {
		a.disputes = append(a.disputes, disputes.Dispute())
	}
	if err := errors.Join(refundsErr, disputes.Err()); err != nil {
		return answer{}, fmt.Errorf("%w about the refunds and disputes of payment %s: %w", errStripeAway, intent, err)
	}
	return a, a.check()
}

// refundsOf lists the refunds of a payment.
func (s *Service) refundsOf(ctx context.Context, intent string) (refunds []*stripe.Refund, err error) {
	of := &stripe.RefundListParams{PaymentIntent: new(intent)}
	of.Context, of.Limit = ctx, stripe.Int64(100)
	list := s.stripe.Refunds.List(of)
	for list.Next() {
		refunds = append(refunds, list.Refund())
	}
	return refunds, list.Err()
}

// factOf is what a PaymentIntent says, in the form in which its own event would say it.
func factOf(pi *stripe.PaymentIntent) fact {
	f := fact{intent: pi.ID, currency: string(pi.Currency), livemode: pi.Livemode, at: time.Unix(pi.Created, 0).UTC()}
	f.topUp = (&object{Metadata: pi.Metadata}).ours()
	if pi.Customer != nil {
		f.customer = pi.Customer.ID
	}
	if pi.Status == stripe.PaymentIntentStatusSucceeded {
		f.state, f.paid = Paid, money.Pence(pi.AmountReceived)
	}
	return f
}

// check refuses an answer that cannot be booked.
func (a *answer) check() error {
	if a.payment.paid <= 0 {
		return misfit("a refund or dispute of a payment that is not paid")
	}
	for _, r := range a.refunds {
		switch {
		case r.Currency != stripe.CurrencyGBP:
			return misfit(fmt.Sprintf("refund %s is in %q, not in gbp", r.ID, r.Currency))
		case r.Amount <= 0 || !stripeID.MatchString(r.ID):
			return misfit(fmt.Sprintf("refund %q has an amount of %d", r.ID, r.Amount))
		}
	}
	for _, d := range a.disputes {
		switch {
		case d.Currency != stripe.CurrencyGBP:
			return misfit(fmt.Sprintf("dispute %s is in %q, not in gbp", d.ID, d.Currency))
		case d.Amount < 0 || !stripeID.MatchString(d.ID):
			return misfit(fmt.Sprintf("dispute %q has an amount of %d", d.ID, d.Amount))
		}
	}
	return nil
}

// covers makes sure that the answer knows the refunds and disputes that the events tell of: Stripe's lists may lag.
func (a *answer) covers(events []event) error {
	for _, e := range events {
		if e.about != "" && !slices.ContainsFunc(a.refunds, func(r *stripe.Refund) bool { return r.ID == e.about }) &&
			!slices.ContainsFunc(a.disputes, func(d *stripe.Dispute) bool { return d.ID == e.about }) {
			return fmt.Errorf("Stripe's list does not have %s yet", e.about) //nolint:staticcheck // a name
		}
	}
	return nil
}

// withdrawn is what a dispute has taken and not given back, in pence. What counts is the money that moved, not the status:
// an inquiry takes none, and a dispute may be lost before its money has gone.
func withdrawn(d *stripe.Dispute) int64 {
	var net int64
	pounds := true
	for _, t := range d.BalanceTransactions {
		net += t.Amount
		pounds = pounds && t.Currency == stripe.CurrencyGBP
	}
	switch {
	case net >= 0:
		return 0
	case !pounds: // an account that settles in another currency: the amount is the dispute's own
		return d.Amount
	default:
		return min(-net, d.Amount)
	}
}

// whose finds the organisation of a payment and stores it with events that nobody could place.
func (s *Service) whose(ctx context.Context, a answer, events []event) (org uuid.UUID, err error) {
	err = s.db.InSystemTx(ctx, "finding out whose a payment is", func(ctx context.Context, tx *db.Tx) error {
		var known struct {
			Org   uuid.UUID `db:"org_id"`
			TopUp uuid.UUID `db:"top_up_id"`
		}
		err := tx.GetContext(ctx, &known, `SELECT org_id, top_up_id FROM payments WHERE payment_intent = $1`, a.payment.intent)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			err = tx.GetContext(ctx, &known.Org, `SELECT org_id FROM top_ups WHERE id = $1`, a.payment.topUp)
			if errors.Is(err, sql.ErrNoRows) {
				return misfit("a refund or dispute of a payment for no top-up that we know")
			}
		case err == nil && a.payment.topUp != known.TopUp:
			return misfit("the payment belongs to another top-up than Stripe names")
		}
		if err != nil {
			return fmt.Errorf("couldn't look for the payment: %w", err)
		}
		org = known.Org
		late := map[string]uuid.UUID{}
		for _, e := range events {
			switch {
			case e.OrgID == nil:
				late[e.ID] = org
			case *e.OrgID != org:
				return misfit("the event was placed with another organisation than its payment")
			}
		}
		if len(late) == 0 {
			return nil
		}
		return adopt(ctx, tx, late)
	})
	return org, err
}

// settleReversal books an answer and settles its events, in one transaction.
func (s *Service) settleReversal(ctx context.Context, org uuid.UUID, a answer, events []event) error {
	var verdicts []verdict
	var credited map[string]bool
	var paid map[string]payment
	var moved wallet.Moved
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	err := s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		verdicts, credited, paid, moved = nil, nil, nil, nil
		var mine []event
		if err := tx.SelectContext(ctx, &mine, waitingEvents+` FOR NO KEY UPDATE OF e SKIP LOCKED`, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't lock the events: %w", err)
		}
		if len(mine) == 0 {
			return nil
		}
		// The payment itself goes the way of its own event, which may not have come yet.
		own := []event{{ID: mine[0].ID, ReceivedAt: mine[0].ReceivedAt, OrgID: &org, fact: a.payment}}
		topUps, err := lockTopUps(ctx, tx, own)
		if err != nil {
			return err
		}
		on := []verdict{s.judge(a.payment, topUps[a.payment.topUp], own[0].ID)}
		if paid, err = s.recordPayments(ctx, tx, own, on); err != nil {
			return err
		}
		if on[0].state != stateProcessed {
			verdicts = verdictsOn(mine, stateQuarantined, "its payment: "+on[0].reason)
			return finish(ctx, tx, verdicts)
		}
		if credited, err = wallet.CreditPayments(ctx, tx, due(paid)); err != nil {
			return err
		}
		if moved, err = s.book(ctx, tx, org, a, own[0].ID); err != nil {
			return err
		}
		if err := stopAfterReversal(ctx, tx, org, a.payment.intent, audit.Stripe(own[0].ID)); err != nil {
			return err
		}
		failpoint.Hit(failpoint.WorkBeforeCommit)
		if err := moveTopUps(ctx, tx, own, on, paid, credited); err != nil {
			return err
		}
		if err := tell(ctx, tx, own, on, topUps, paid, credited); err != nil {
			return err
		}
		verdicts = verdictsOn(mine, stateProcessed, "")
		return finish(ctx, tx, verdicts)
	})
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.WorkAfterCommit)
	s.report(ctx, verdicts)
	s.announce(ctx, credited, paid)
	for kind, amount := range moved {
		s.metrics.reversed(kind, amount)
		s.log.InfoContext(ctx, "reversed", "org", org, "payment_intent", a.payment.intent, "kind", kind, "pence", int64(amount), "events", ids)
	}
	return nil
}

// book keeps the refunds and disputes of an answer, unless a newer one was kept already, and brings the ledger and the
// wallet's freeze to what is kept. The payment's row is locked.
func (s *Service) book(ctx context.Context, tx *db.Tx, org uuid.UUID, a answer, event string) (wallet.Moved, error) {
	intent := a.payment.intent
	res, err := tx.ExecContext(ctx, `
		UPDATE payments SET answered_question = $2 WHERE payment_intent = $1 AND answered_question < $2`, intent, a.question)
	if err != nil {
		return nil, fmt.Errorf("couldn't note the answer: %w", err)
	}
	newer, err := res.RowsAffected()
	if err != nil {
		return nil, fmt.Errorf("couldn't note the answer: %w", err)
	}
	if newer > 0 {
		if err := keepRefunds(ctx, tx, org, intent, a.refunds); err != nil {
			return nil, err
		}
		if err := keepDisputes(ctx, tx, org, intent, a.disputes); err != nil {
			return nil, err
		}
	}
	stands := wallet.Standing{PaymentIntent: intent, OrgID: org, TopUpID: a.payment.topUp, Actor: audit.Stripe(event)}
	if newer > 0 {
		if stands.Reason, err = settleParts(ctx, tx, org, intent, a.refunds, stands.Actor); err != nil {
			return nil, err
		}
	}
	if err := tx.QueryRowxContext(ctx, `
		SELECT (SELECT coalesce(sum(amount_pence), 0)::bigint FROM refunds WHERE payment_intent = $1 AND status NOT IN ('failed', 'canceled')),
		       (SELECT coalesce(sum(withdrawn_pence), 0)::bigint FROM disputes WHERE payment_intent = $1)`, intent).
		Scan(&stands.Refunded, &stands.Disputed); err != nil {
		return nil, fmt.Errorf("couldn't add up the refunds and disputes: %w", err)
	}
	moved, err := wallet.Reverse(ctx, tx, stands)
	if err != nil {
		return nil, err
	}
	return moved, s.freeze(ctx, tx, org, intent, stands.Actor)
}

func keepRefunds(ctx context.Context, tx *db.Tx, org uuid.UUID, intent string, list []*stripe.Refund) error {
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b *stripe.Refund) int { return cmp.Compare(a.ID, b.ID) })
	var id, status []string
	var amount []int64
	var created []time.Time
	for _, r := range list {
		id, status = append(id, r.ID), append(status, string(r.Status))
		amount, created = append(amount, r.Amount), append(created, time.Unix(r.Created, 0).UTC())
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO refunds AS r (updated_at, org_id, payment_intent, id, amount_pence, status, created_at)
		SELECT $1, $2, $3, u.* FROM unnest($4::text[], $5::bigint[], $6::text[], $7::timestamptz[]) u (id, amount, status, created) ORDER BY u.id
		ON CONFLICT (id) DO UPDATE SET amount_pence = excluded.amount_pence, status = excluded.status, updated_at = excluded.updated_at
		WHERE r.payment_intent = excluded.payment_intent`,
		tx.Now, org, intent, pq.Array(id), pq.Array(amount), pq.Array(status), pq.Array(created))
	return kept(res, err, len(list), "refunds")
}

func keepDisputes(ctx context.Context, tx *db.Tx, org uuid.UUID, intent string, list []*stripe.Dispute) error {
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b *stripe.Dispute) int { return cmp.Compare(a.ID, b.ID) })
	var id, status, reason []string
	var amount, taken []int64
	var created []time.Time
	for _, d := range list {
		id, status, reason = append(id, d.ID), append(status, string(d.Status)), append(reason, string(d.Reason))
		amount, taken, created = append(amount, d.Amount), append(taken, withdrawn(d)), append(created, time.Unix(d.Created, 0).UTC())
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO disputes AS d (updated_at, org_id, payment_intent, id, amount_pence, withdrawn_pence, status, reason, created_at)
		SELECT $1, $2, $3, u.* FROM unnest($4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::timestamptz[])
		       u (id, amount, withdrawn, status, reason, created) ORDER BY u.id
		ON CONFLICT (id) DO UPDATE SET amount_pence = excluded.amount_pence, withdrawn_pence = excluded.withdrawn_pence,
		    status = excluded.status, reason = excluded.reason, updated_at = excluded.updated_at
		WHERE d.payment_intent = excluded.payment_intent`,
		tx.Now, org, intent, pq.Array(id), pq.Array(amount), pq.Array(taken), pq.Array(status), pq.Array(reason), pq.Array(created))
	if err := kept(res, err, len(list), "disputes"); err != nil {
		return err
	}
	return notice.RaiseAll(ctx, tx, tellOfDisputes(org, list))
}

// tellOfDisputes is what people are to be told of disputes: that one was opened, and how it ended. Each is told once.
func tellOfDisputes(org uuid.UUID, list []*stripe.Dispute) (notices []notice.Notice) {
	for _, d := range list {
		n := notice.Notice{OrgID: org, Kind: notice.DisputeOpened, Subject: d.ID, Data: map[string]any{"amount_pence": d.Amount}}
		switch {
		case openDispute(string(d.Status)):
		case d.Status == stripe.DisputeStatusWon || d.Status == stripe.DisputeStatusLost:
			n.Kind, n.Data["status"] = notice.DisputeClosed, string(d.Status)
		default:
			continue // an inquiry
		}
		notices = append(notices, n)
	}
	return notices
}

// kept makes sure that all were stored: one whose id is known with another payment was not.
func kept(res sql.Result, err error, want int, what string) error {
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n != int64(want) {
			err = errors.New("one of them is known with another payment")
		}
	}
	if err != nil {
		return fmt.Errorf("couldn't store the %s: %w", what, err)
	}
	return nil
}

// openDispute reports whether a dispute of this status is still fought over. An inquiry is no dispute yet.
func openDispute(status string) bool {
	ended := []string{string(stripe.DisputeStatusWon), string(stripe.DisputeStatusLost), "charge_refunded", "prevented"} // the last two are of other versions
	return !strings.HasPrefix(status, "warning_") && !slices.Contains(ended, status)
}

// frozenFor is the reason of a freeze by a dispute. It is also how the freeze is known again.
func frozenFor(dispute string) string { return "Dispute " + dispute + " is open." }

// freeze freezes the wallet for disputes of the payment that have opened, once for each, where that is the policy, and
// thaws it when the one that it is frozen for has ended and no other is open. What an operator froze or thawed stays as it
// is. The wallet is locked, so that the disputes of all its payments are seen; those of other payments are only read, since
// who works them may hold their rows and wait for the wallet.
func (s *Service) freeze(ctx context.Context, tx *db.Tx, org uuid.UUID, intent string, actor audit.Actor) error {
	var all []struct {
		ID     string `db:"id"`
		Intent string `db:"payment_intent"`
		Status string `db:"status"`
		Froze  bool   `db:"froze"`
	}
	if err := tx.SelectContext(ctx, &all, `
		SELECT id, payment_intent, status, froze FROM disputes WHERE org_id = $1 ORDER BY created_at, id`, org); err != nil {
		return fmt.Errorf("couldn't read the disputes: %w", err)
	}
	thawed := false
	for _, d := range all {
		if !d.Froze || openDispute(d.Status) {
			continue
		}
		one, err := wallet.ThawIn(ctx, tx, org, frozenFor(d.ID), "Dispute "+d.ID+" has ended: "+d.Status+".", actor)
		if err != nil {
			return err
		}
		thawed = thawed || one
	}
	var noted []string
	for _, d := range all {
		again, first := d.Froze && thawed, !d.Froze && s.freezing && d.Intent == intent
		if !openDispute(d.Status) || !again && !first {
			continue
		}
		if _, err := wallet.FreezeIn(ctx, tx, org, frozenFor(d.ID), actor); err != nil {
			return err
		}
		if first {
			noted = append(noted, d.ID)
		}
	}
	if len(noted) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE disputes SET froze = true WHERE id = ANY($1)`, pq.Array(noted)); err != nil {
		return fmt.Errorf("couldn't note the freeze: %w", err)
	}
	return nil
}

// conclude settles events that need no transaction of an organisation.
func (s *Service) conclude(ctx context.Context, verdicts []verdict) error {
	if len(verdicts) == 0 {
		return nil
	}
	err := s.db.InSystemTx(ctx, "settling events that an operator must look at", func(ctx context.Context, tx *db.Tx) error {
		return finish(ctx, tx, verdicts)
	})
	if err == nil {
		s.report(ctx, verdicts)
	}
	return err
}

// verdictsOn says the same of every event.
func verdictsOn(events []event, state, reason string) []verdict {
	list := make([]verdict, len(events))
	for i, e := range events {
		list[i] = verdict{e.ID, state, reason}
	}
	return list
}
