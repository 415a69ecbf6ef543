package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/failpoint"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/wallet"
)

const (
	// leaseFor is how long who has taken a step may need for it; longer than the requests of one step may take together.
	leaseFor = time.Minute
	// pauseFirst and pauseMost bound the pause before a step is tried again; it doubles in between.
	pauseFirst = 2 * time.Second
	pauseMost  = 15 * time.Minute
	// giveUpAfter is how long buying may be held up by a provider that does not answer or a credential that does not work;
	// after it, what there is of the number is undone. An outcome that is not known is never given up, only found out.
	giveUpAfter = 30 * time.Minute
	// leftBehind is how long after its time a number is taken up by the sweeper: its job was lost, or died.
	leftBehind = 30 * time.Second
)

var (
	// errIdle says that there is nothing to do with a number now, or that somebody else does it.
	errIdle = errors.New("nothing to do now")
	// errTooLate says that the money that was set aside for a number is free again.
	errTooLate = errors.New("the hold has ended")
	// errBusyAccount says that the organisation's subaccount is being made for another number.
	errBusyAccount = errors.New("the subaccount is being made")
)

// Notes of numbers, for people.
const (
	noteBusy       = "Our provider did not answer. We try again."
	noteUnknown    = "Our provider did not say whether it did it. We are finding out."
	noteNotThere   = "Our provider did not answer, and does not have it. Nothing was charged; try again."
	noteGivenUp    = "Our provider could not do it. Nothing was charged; try again later."
	noteOutOfTime  = "It could not be bought in time. Nothing was charged; try again."
	noteImport     = "The number could not be connected to our voice service. Nothing was charged."
	noteOwnRefused = "The credential of your own Twilio account does not work. Replace it, then try again."
)

// Advance does the next step of a number, if its time has come and nobody else has it in hand, and adds the job of the step
// after that. It is safe to repeat, and to run anywhere and in several places at once. What a provider does not do is no
// error: the number says it, and goes on later.
func (s *Numbers) Advance(ctx context.Context, org, id uuid.UUID) error {
	if !s.On() {
		return errors.New("numbers wait to be brought on, and the providers are not configured")
	}
	ctx = context.WithoutCancel(ctx)
	n, at, err := s.take(ctx, org, id)
	switch {
	case errors.Is(err, errIdle), errors.Is(err, db.ErrCommitUnknown):
		return nil // whether it is in hand nobody knows, so nobody is asked: the lease ends, and the sweeper goes on
	case errors.Is(err, errTooLate):
		return s.turnBack(ctx, n, noteOutOfTime)
	case errors.Is(err, errBusyAccount):
		return s.later(ctx, n, pauseOf{})
	case err != nil:
		return err
	}
	failpoint.Hit(failpoint.NumberBeforeAsk + "/" + string(n.Step))
	if err = s.do(ctx, n, at); errors.Is(err, errIdle) { // somebody else has taken it up meanwhile
		return nil
	}
	failpoint.Hit(failpoint.NumberAfterCommit + "/" + string(n.Step))
	return err
}

// do does the step that the caller has taken; errIdle where somebody else has taken it up since.
func (s *Numbers) do(ctx context.Context, n Number, at telephonyAccount) error {
	switch n.Step {
	case StepSubaccount:
		return s.haveSubaccount(ctx, n, at)
	case StepPurchase:
		return s.purchase(ctx, n)
	case StepImport:
		return s.importToVapi(ctx, n)
	case StepCredential:
		return s.haveCredential(ctx, n)
	case StepActivate:
		return s.activate(ctx, n)
	case StepUndoImport, StepVapiDelete:
		return s.deleteAtVapi(ctx, n)
	case StepUndoPurchase, StepTwilioRelease:
		return s.releaseAtTwilio(ctx, n)
	case StepFinish:
		return s.finish(ctx, n)
	}
	return nil
}

// take leases a number's next step to the caller and notes that its provider is about to be asked, before it is. What n says
// of an earlier asking is from before that. Of money that is set aside it says that only a provider's answer ends it.
func (s *Numbers) take(ctx context.Context, org, id uuid.UUID) (n Number, at telephonyAccount, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		before, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2`, org, id)
		if err != nil || !found {
			return errors.Join(err, errIdle)
		}
		// Locks are taken in one order: the wallet's, the account's, the number's.
		if before.Step == StepPurchase && before.HoldID.Valid {
			_, err := s.o.Gates.SendIn(ctx, tx, before.settlement())
			if fault.Is(err, fault.Conflict) {
				n = before
				return errTooLate
			}
			if err != nil {
				return err
			}
		}
		if before.Step == StepSubaccount {
			if at, err = lockAccount(ctx, tx, org); err != nil {
				return err
			}
		}
		if n, _, err = readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`, org, id); err != nil {
			return err
		}
		if n.Step == "" || n.Step != before.Step || n.NextAt.After(tx.Now) || n.BusyUntil != nil && n.BusyUntil.After(tx.Now) {
			return errIdle
		}
		until := tx.Now.Add(leaseFor)
		if n.Step == StepSubaccount && !at.Subaccount.Valid {
			if at.BusyUntil != nil && at.BusyUntil.After(tx.Now) {
				return errBusyAccount
			}
			if _, err := tx.ExecContext(ctx, `
				UPDATE telephony_accounts SET busy_until = $2, asked_at = coalesce(asked_at, $3), updated_at = $3 WHERE org_id = $1`, org, until, tx.Now); err != nil {
				return fmt.Errorf("couldn't take up the subaccount: %w", err)
			}
			at.BusyUntil = &until
		}
		if _, err := tx.ExecContext(ctx, `UPDATE numbers SET busy_until = $2, asked_at = coalesce(asked_at, $3) WHERE id = $1`, id, until, tx.Now); err != nil {
			return fmt.Errorf("couldn't take up the number: %w", err)
		}
		n.BusyUntil = &until
		return nil
	})
	return n, at, err
}

// settlement is what is said of the number's hold.
func (n *Number) settlement() wallet.Settlement {
	return wallet.Settlement{
		OrgID: n.OrgID, Hold: n.HoldID.UUID, Source: wallet.SourceNumber, Whole: true, Actor: audit.System("numbers"), Description: "Phone number " + n.PhoneNumber,
	}
}

// settle runs fn in a transaction, with the number's row locked as take left it; errIdle where somebody else has taken it up
// since, or where an earlier try did commit. before takes the locks that come before the number's, and may be nil.
func (s *Numbers) settle(ctx context.Context, n Number, before, fn func(ctx context.Context, tx *db.Tx) error) error {
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{n.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			if before != nil {
				if err := before(ctx, tx); err != nil {
					return err
				}
			}
			var id uuid.UUID
			err := tx.GetContext(ctx, &id, `
				SELECT id FROM numbers WHERE org_id = $1 AND id = $2 AND step = $3 AND busy_until IS NOT DISTINCT FROM $4 FOR NO KEY UPDATE`,
				n.OrgID, n.ID, n.Step, n.BusyUntil)
			if errors.Is(err, sql.ErrNoRows) {
				return errIdle
			}
			if err != nil {
				return fmt.Errorf("couldn't lock the number: %w", err)
			}
			return fn(ctx, tx)
		})
	}
	failpoint.Hit(failpoint.NumberAfterAsk + "/" + string(n.Step))
	err := run()
	if errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	return err
}

// locked is a step of settle that takes the account's lock.
func (s *Numbers) locked(org uuid.UUID) func(ctx context.Context, tx *db.Tx) error {
	return func(ctx context.Context, tx *db.Tx) error {
		_, err := lockAccount(ctx, tx, org)
		return err
	}
}

// went is what a step has brought: empty parts stay as they are.
type went struct {
	to                      Step
	account, sid, vapi      string
	credential              uuid.UUID
	action                  string // for the audit log
	forgetSID, forgetVapiID bool
}

// forward stores what a step has brought and adds the next one's job. The caller has the number locked.
func (s *Numbers) forward(ctx context.Context, tx *db.Tx, n Number, w went) error {
	state := n.State
	if state == NumberUnknown {
		state = NumberProvisioning
	}
	note := ""
	if n.FailedStep != "" {
		note = n.Note
	}
	null := func(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
	after := n
	err := tx.GetContext(ctx, &after, `
		UPDATE numbers SET state = $2, step = $3, note = $4, account_sid = coalesce($5, account_sid), sid = CASE WHEN NOT $6::boolean THEN coalesce($7, sid) END,
		       vapi_id = CASE WHEN NOT $8::boolean THEN coalesce($9, vapi_id) END, credential_id = coalesce($10, credential_id),
		       asked_at = NULL, looks = 0, tries = 0, busy_until = NULL, next_at = $11
		WHERE id = $1 RETURNING `+numberColumns,
		n.ID, state, w.to, note, null(w.account), w.forgetSID, null(w.sid), w.forgetVapiID, null(w.vapi),
		uuid.NullUUID{UUID: w.credential, Valid: w.credential != uuid.Nil}, tx.Now)
	if err != nil {
		return fmt.Errorf("couldn't bring the number on: %w", err)
	}
	if err := s.enqueue(ctx, tx, &after, time.Time{}); err != nil || w.action == "" {
		return err
	}
	return after.record(ctx, tx, w.action, audit.System("numbers"), "", map[string]any{"account_sid": after.AccountSID.String, "sid": after.SID.String, "vapi_id": after.VapiID.String})
}

// pauseOf says how a step that was not done goes on.
type pauseOf struct {
	note string
	// unknown says that the provider may have done it. notAsked that it surely did not, so that it may be asked again.
	unknown, notAsked bool
	// looked says that the provider was looked at, and had nothing.
	looked bool
	// after is the pause; zero means one that doubles with each try.
	after time.Duration
}

// later leaves a step as it is, to be tried again.
func (s *Numbers) later(ctx context.Context, n Number, p pauseOf) error {
	return s.settle(ctx, n, nil, func(ctx context.Context, tx *db.Tx) error { return s.laterIn(ctx, tx, n, p) })
}

func (s *Numbers) laterIn(ctx context.Context, tx *db.Tx, n Number, p pauseOf) error {
	state := n.State
	switch {
	case n.FailedStep != "", n.State == NumberReleasing:
	case p.unknown:
		state = NumberUnknown
	case p.notAsked:
		state = NumberProvisioning
	}
	if p.after == 0 {
		p.after = min(pauseFirst<<min(n.Tries, 20), pauseMost)
	}
	looks := n.Looks
	if p.looked {
		looks++
	}
	after := n
	err := tx.GetContext(ctx, &after, `
		UPDATE numbers SET state = $2, note = coalesce(nullif($3, ''), note), asked_at = CASE WHEN NOT $4::boolean THEN asked_at END, looks = $5, tries = tries + 1, busy_until = NULL, next_at = $6
		WHERE id = $1 RETURNING `+numberColumns, n.ID, state, p.note, p.notAsked, looks, tx.Now.Add(p.after))
	if err != nil {
		return fmt.Errorf("couldn't put the number off: %w", err)
	}
	return s.enqueue(ctx, tx, &after, *after.NextAt)
}

// overdue reports whether buying has been held up for too long.
func (s *Numbers) overdue(n Number) bool {
	return n.FailedStep == "" && n.State != NumberReleasing && s.o.Now().Sub(n.CreatedAt) > giveUpAfter
}

// turnBack gives the money back and goes back over what was done, where something was; else the number has failed. The note
// is what its owner reads.
func (s *Numbers) turnBack(ctx context.Context, n Number, note string) error {
	err := s.settle(ctx, n, func(ctx context.Context, tx *db.Tx) error {
		if n.HoldID.Valid {
			if _, err := s.o.Gates.VoidIn(ctx, tx, n.settlement()); err != nil {
				return err
			}
		}
		_, err := lockAccount(ctx, tx, n.OrgID)
		return err
	}, func(ctx context.Context, tx *db.Tx) error {
		if n.Step == StepSubaccount { // nobody is asking any more
			if _, err := tx.ExecContext(ctx, `UPDATE telephony_accounts SET busy_until = NULL, updated_at = $2 WHERE org_id = $1`, n.OrgID, tx.Now); err != nil {
				return fmt.Errorf("couldn't leave the subaccount: %w", err)
			}
		}
		failed := n
		failed.FailedStep, failed.Note, failed.State = n.Step, note, NumberProvisioning
		bought := n.Step == StepImport || n.Step == StepCredential || n.Step == StepActivate
		if _, err := tx.ExecContext(ctx, `UPDATE numbers SET failed_step = $2 WHERE id = $1`, n.ID, failed.FailedStep); err != nil {
			return fmt.Errorf("couldn't note where it failed: %w", err)
		}
		if err := failed.record(ctx, tx, "number.turned_back", audit.System("numbers"), note, map[string]any{"step": string(n.Step)}); err != nil {
			return err
		}
		if err := failed.tellFailed(ctx, tx); err != nil {
			return err
		}
		if !bought {
			return s.finishIn(ctx, tx, failed)
		}
		return s.forward(ctx, tx, failed, went{to: StepUndoImport})
	})
	if err == nil {
		s.metrics.numbers.WithLabelValues("turned_back").Inc()
	}
	return err
}

// tellFailed tells the organisation's people that a number was not bought. The caller has its hold voided.
func (n *Number) tellFailed(ctx context.Context, tx *db.Tx) error {
	var held money.Pence
	if n.HoldID.Valid {
		if err := tx.GetContext(ctx, &held, `SELECT authorised_pence FROM holds WHERE org_id = $1 AND id = $2`, n.OrgID, n.HoldID.UUID); err != nil {
			return fmt.Errorf("couldn't read what was set aside: %w", err)
		}
	}
	return notice.Raise(ctx, tx, notice.Notice{
		OrgID: n.OrgID, Kind: notice.NumberFailed, Subject: n.ID.String(), Data: n.figures(map[string]any{"amount_pence": int64(held), "reason": n.Note}),
	})
}

// haveSubaccount makes the organisation's subaccount at Twilio, once, and has its credential in the vault.
func (s *Numbers) haveSubaccount(ctx context.Context, n Number, at telephonyAccount) error {
	parent, err := s.client(s.parent)
	if err != nil {
		return err
	}
	sub, err := s.subaccount(ctx, parent, n, at)
	if errors.Is(err, errIdle) {
		return err
	}
	switch answerOf(err) {
	case accepted:
		return s.settle(ctx, n, s.locked(n.OrgID), func(ctx context.Context, tx *db.Tx) error { return s.keepSubaccount(ctx, tx, n, sub) })
	case rejected:
		s.log(ctx, n, "Twilio refused a subaccount", err)
		return s.turnBack(ctx, n, noteGivenUp)
	case unknown, notAsked:
	}
	s.log(ctx, n, "an organisation has no subaccount yet", err)
	if s.overdue(n) {
		return s.turnBack(ctx, n, noteGivenUp)
	}
	forget := answerOf(err) == notAsked
	return s.settle(ctx, n, s.locked(n.OrgID), func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE telephony_accounts SET busy_until = NULL, asked_at = CASE WHEN NOT $3::boolean THEN asked_at END, updated_at = $2 WHERE org_id = $1 AND subaccount_sid IS NULL`,
			n.OrgID, tx.Now, forget && at.AskedAt == nil); err != nil {
			return fmt.Errorf("couldn't put the subaccount off: %w", err)
		}
		return s.laterIn(ctx, tx, n, pauseOf{note: noteBusy, notAsked: true})
	})
}

// subaccount finds or makes the subaccount.
func (s *Numbers) subaccount(ctx context.Context, parent *numberClient, n Number, at telephonyAccount) (account, error) {
	if at.Subaccount.Valid {
		if a, err := s.kept(ctx, n.OrgID, Managed); err == nil && a.sid == at.Subaccount.String {
			return a, nil
		}
		return parent.subaccount(at.Subaccount.String)
	}
	name := subaccountName(n.OrgID.String())
	if at.AskedAt != nil { // it may have been made
		a, found, err := parent.findSubaccount(name)
		if err != nil || found {
			return a, err
		}
		if s.o.Now().Sub(*at.AskedAt) < lookEvery {
			return account{}, &failure{provider: "Twilio", cause: errors.New("it may still come")}
		}
	}
	if err := s.inTime(n); err != nil {
		return account{}, err
	}
	return parent.makeSubaccount(name)
}

// inTime refuses to ask for something when the lease is nearly over: whoever was so slow may not be the one who acts any
// more, and what it would do then nobody would look for.
func (s *Numbers) inTime(n Number) error {
	if n.BusyUntil.Sub(s.o.Now()) < leaseFor/4 {
		return errIdle
	}
	return nil
}

// kept opens the organisation's credential of a kind.
func (s *Numbers) kept(ctx context.Context, org uuid.UUID, kind Kind) (a account, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		c, found, err := credential(ctx, tx, org, kind)
		if err != nil {
			return err
		}
		if !found {
			return errNoCredential()
		}
		a, err = c.open(s.o.Vault)
		return err
	})
	return a, err
}

// keepSubaccount stores the subaccount with its credential. The caller has the account and the number locked. Where another
// one was stored meanwhile that one counts, and this number goes on with it.
func (s *Numbers) keepSubaccount(ctx context.Context, tx *db.Tx, n Number, sub account) error {
	at, err := lockAccount(ctx, tx, n.OrgID)
	if err != nil {
		return err
	}
	if at.Subaccount.Valid && at.Subaccount.String != sub.sid {
		s.o.Log.ErrorContext(ctx, "an organisation has two subaccounts at Twilio", "org_id", n.OrgID, "kept", at.Subaccount.String, "left", sub.sid)
		return s.laterIn(ctx, tx, n, pauseOf{note: noteBusy, notAsked: true})
	}
	if !at.Subaccount.Valid {
		if _, err := tx.ExecContext(ctx, `
			UPDATE telephony_accounts SET subaccount_sid = $2, asked_at = NULL, busy_until = NULL, updated_at = $3 WHERE org_id = $1`,
			n.OrgID, sub.sid, tx.Now); err != nil {
			return fmt.Errorf("couldn't store the subaccount: %w", err)
		}
		if err := audit.Record(ctx, tx, audit.Entry{
			OrgID: n.OrgID, Actor: audit.System("numbers"), Action: "subaccount.made", Subject: "account:" + sub.sid,
		}); err != nil {
			return err
		}
	}
	if _, err := s.keepManaged(ctx, tx, n.OrgID, sub); err != nil {
		return err
	}
	return s.forward(ctx, tx, n, went{to: StepPurchase, account: sub.sid})
}

// keepManaged has the subaccount's token in the vault, and gives the version of its credential; one that is there already is
// left alone.
func (s *Numbers) keepManaged(ctx context.Context, tx *db.Tx, org uuid.UUID, sub account) (version int, err error) {
	c, found, err := credential(ctx, tx, org, Managed)
	if err != nil {
		return 0, err
	}
	if found {
		if a, err := c.open(s.o.Vault); err == nil && a.is(sub) {
			return c.Version, nil
		}
	}
	c, err = s.keep(ctx, tx, org, Managed, sub, audit.System("numbers"))
	return c.Version, err
}

// acting is the account that a number is in, opened: from the vault, or where a managed one's credential is gone or does not
// work any more, anew from Twilio, whose parent account may read it.
func (s *Numbers) acting(ctx context.Context, n Number, anew bool) (*numberClient, error) {
	a, err := s.kept(ctx, n.OrgID, n.Kind)
	if err == nil && a.sid != n.AccountSID.String {
		err = fmt.Errorf("the credential is of account %s, number %s is in %s", a.sid, n.ID, n.AccountSID.String)
	}
	if n.Kind == Managed && (err != nil || anew) {
		parent, cerr := s.client(s.parent)
		if cerr != nil {
			return nil, cerr
		}
		if a, err = parent.subaccount(n.AccountSID.String); err != nil {
			return nil, err
		}
		err = s.o.DB.InTx(ctx, []uuid.UUID{n.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			if _, err := lockAccount(ctx, tx, n.OrgID); err != nil {
				return err
			}
			a.version, err = s.keepManaged(ctx, tx, n.OrgID, a)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return s.client(a)
}

// as asks Twilio as the account that a number is in; once more with a fresh token where a managed one's was refused. A
// token that is refused has done nothing.
func (s *Numbers) as(ctx context.Context, n Number, ask func(*numberClient) error) error {
	c, err := s.acting(ctx, n, false)
	if err != nil {
		return s.closed(ctx, n, err)
	}
	err = ask(c)
	if n.Kind == Managed && notOurs(err) {
		if c, err = s.acting(ctx, n, true); err == nil {
			err = ask(c)
		}
	}
	if n.Kind == BYOC && notOurs(err) {
		return errors.Join(err, s.refused(ctx, n.OrgID))
	}
	return err
}

// closed is what an account that cannot be opened means: Twilio was not asked.
func (s *Numbers) closed(ctx context.Context, n Number, err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return &failure{provider: f.provider, answer: notAsked, status: f.status, code: f.code, cause: f.cause}
	}
	s.o.Log.ErrorContext(ctx, "a number's account cannot be opened", "number", n.ID, "org_id", n.OrgID, "error", err)
	return &failure{provider: "Twilio", answer: notAsked, cause: err}
}

// purchase buys the number at Twilio; where it was asked for before, it looks first.
func (s *Numbers) purchase(ctx context.Context, n Number) error {
	var got owned
	found := false
	if n.AskedAt != nil {
		err := s.as(ctx, n, func(c *numberClient) (err error) {
			got, found, err = c.find(n.PhoneNumber)
			return err
		})
		switch {
		case err != nil:
			s.log(ctx, n, "Twilio's list of numbers cannot be read", err)
			return s.later(ctx, n, pauseOf{note: s.why(n, err, noteUnknown), unknown: true})
		case !found && n.Looks > 0 && s.o.Now().Sub(*n.AskedAt) > lostFor:
			return s.turnBack(ctx, n, noteNotThere)
		case !found:
			return s.later(ctx, n, lookAgain())
		}
		return s.bought(ctx, n, got)
	}
	err := s.as(ctx, n, func(c *numberClient) (err error) {
		if err := s.inTime(n); err != nil {
			return err
		}
		got, err = c.buy(n.PhoneNumber, n.ID.String(), s.smsURL())
		return err
	})
	if errors.Is(err, errIdle) {
		return err
	}
	switch answerOf(err) {
	case accepted:
		if err = s.bought(ctx, n, got); errors.Is(err, errIdle) {
			s.late(ctx, n, "Twilio", got.sid)
		}
		return err
	case rejected:
		s.log(ctx, n, "Twilio did not sell a number", err)
		return s.turnBack(ctx, n, numberSentence(codeOf(err))+" Nothing was charged.")
	case notAsked:
		s.log(ctx, n, "Twilio could not be asked for a number", err)
		if s.overdue(n) {
			return s.turnBack(ctx, n, s.why(n, err, noteGivenUp))
		}
		return s.later(ctx, n, pauseOf{note: s.why(n, err, noteBusy), notAsked: true})
	case unknown:
	}
	s.log(ctx, n, "it is not known whether Twilio has sold a number", err)
	return s.later(ctx, n, pauseOf{note: noteUnknown, unknown: true})
}

// late has a job take away what a provider has made for a step that somebody else had taken up by then, unless that one has found
// it there, or it has become somebody's since: see [Numbers.RemoveStray].
func (s *Numbers) late(ctx context.Context, n Number, provider, id string) {
	s.o.Log.ErrorContext(ctx, "a provider's answer comes after its step was taken up by another", "number", n.ID, "org_id", n.OrgID, "provider", provider, "id", id)
	if err := s.AskMend(ctx, Mend{
		What: MendStray, OrgID: n.OrgID, Number: n.ID, Provider: provider, ID: id, Actor: audit.System("numbers"), Reason: "The provider's answer came too late",
	}); err != nil {
		s.o.Log.ErrorContext(ctx, "what a provider has made too late could not be noted: a comparison shows it", "number", n.ID, "provider", provider, "id", id, "error", err)
	}
}

// lookAgain is the pause after a look that found nothing.
func lookAgain() pauseOf {
	return pauseOf{note: noteUnknown, unknown: true, looked: true, after: lookEvery}
}

// why is the note of a step that failed by a customer's own credential, or else otherwise.
func (s *Numbers) why(n Number, err error, otherwise string) string {
	if n.Kind == BYOC && notOurs(err) {
		return noteOwnRefused
	}
	return otherwise
}

// smsURL is where Twilio tells of texts that come in to a number.
func (s *Numbers) smsURL() string { return s.o.BaseURL + "/api/webhooks/twilio/sms" }

func (s *Numbers) bought(ctx context.Context, n Number, got owned) error {
	return s.settle(ctx, n, nil, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE numbers SET texts = $2 WHERE id = $1`, n.ID, got.texts); err != nil {
			return fmt.Errorf("couldn't store what the number can do: %w", err)
		}
		return s.forward(ctx, tx, n, went{to: StepImport, sid: got.sid, action: "number.bought"})
	})
}

// importToVapi has Vapi answer the number; where it was asked for before, it looks first.
func (s *Numbers) importToVapi(ctx context.Context, n Number) error {
	if n.AskedAt != nil {
		found, err := s.vapi.findNumbers(ctx, n.PhoneNumber, n.AccountSID.String)
		switch {
		case err == nil && len(found) > 0:
			return s.imported(ctx, n, found[0].ID, 0)
		case s.overdue(n):
			return s.turnBack(ctx, n, noteImport)
		case err != nil:
			s.log(ctx, n, "Vapi's list of numbers cannot be read", err)
			return s.later(ctx, n, pauseOf{note: noteUnknown, unknown: true})
		case n.Looks > 0 && s.o.Now().Sub(*n.AskedAt) > lostFor: // it was not imported, and may be asked for again
			return s.later(ctx, n, pauseOf{note: noteBusy, notAsked: true})
		}
		return s.later(ctx, n, lookAgain())
	}
	var id string
	c, err := s.acting(ctx, n, false)
	if err != nil {
		err = s.closed(ctx, n, err)
	} else if err = s.inTime(n); err == nil {
		id, err = s.vapi.importNumber(ctx, n.PhoneNumber, n.ID.String(), c.of, s.o.Events.server())
	}
	if errors.Is(err, errIdle) {
		return err
	}
	switch answerOf(err) {
	case accepted:
		if err = s.imported(ctx, n, id, c.of.version); errors.Is(err, errIdle) {
			s.late(ctx, n, "Vapi", id)
		}
		return err
	case rejected:
		// It may be there already: an earlier request without an answer has come late.
		if found, lerr := s.vapi.findNumbers(ctx, n.PhoneNumber, n.AccountSID.String); lerr == nil && len(found) > 0 && found[0].Name == n.ID.String() {
			return s.imported(ctx, n, found[0].ID, 0)
		}
		s.log(ctx, n, "Vapi refused a number", err)
		return s.turnBack(ctx, n, noteImport)
	case notAsked:
		s.log(ctx, n, "Vapi could not be asked for a number", err)
		if s.overdue(n) {
			return s.turnBack(ctx, n, noteImport)
		}
		return s.later(ctx, n, pauseOf{note: noteBusy, notAsked: true})
	case unknown:
	}
	s.log(ctx, n, "it is not known whether Vapi has a number", err)
	return s.later(ctx, n, pauseOf{note: noteUnknown, unknown: true})
}

// imported stores Vapi's name for the number, and which version of the credential Vapi has, 0 where nobody knows.
func (s *Numbers) imported(ctx context.Context, n Number, id string, version int) error {
	return s.settle(ctx, n, nil, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE numbers SET told_version = $2 WHERE id = $1`, n.ID, version); err != nil {
			return fmt.Errorf("couldn't store what Vapi has of the number: %w", err)
		}
		return s.forward(ctx, tx, n, went{to: StepCredential, vapi: id, action: "number.imported"})
	})
}

// haveCredential ties the number to the credential by which we act for it. Under the account's lock no release of another
// number deletes it from now on.
func (s *Numbers) haveCredential(ctx context.Context, n Number) error {
	if _, err := s.acting(ctx, n, false); err != nil { // a managed one is fetched anew where it is gone
		s.log(ctx, n, "a number has no credential yet", err)
		if s.overdue(n) {
			return s.turnBack(ctx, n, s.why(n, err, noteGivenUp))
		}
		return s.later(ctx, n, pauseOf{note: noteBusy, notAsked: true})
	}
	return s.settle(ctx, n, s.locked(n.OrgID), func(ctx context.Context, tx *db.Tx) error {
		c, found, err := credential(ctx, tx, n.OrgID, n.Kind)
		if err != nil {
			return err
		}
		if !found || c.AccountSID != n.AccountSID.String {
			return s.laterIn(ctx, tx, n, pauseOf{note: noteBusy, notAsked: true})
		}
		return s.forward(ctx, tx, n, went{to: StepActivate, credential: c.ID})
	})
}

// activate takes the money and makes the number usable, in one commit.
func (s *Numbers) activate(ctx context.Context, n Number) error {
	err := s.settle(ctx, n, func(ctx context.Context, tx *db.Tx) error {
		if n.HoldID.Valid {
			if _, err := s.o.Gates.CaptureIn(ctx, tx, n.settlement()); err != nil {
				return err
			}
		}
		_, err := lockAccount(ctx, tx, n.OrgID)
		return err
	}, func(ctx context.Context, tx *db.Tx) error {
		var paid *time.Time
		if n.Kind == Managed {
			until := monthsAfter(tx.Now, 1)
			paid = &until
		}
		active := n
		if err := tx.GetContext(ctx, &active, `
			UPDATE numbers SET state = 'active', step = '', note = '', activated_at = $2, paid_until = $3, asked_at = NULL, looks = 0, tries = 0, busy_until = NULL, next_at = NULL
			WHERE id = $1 RETURNING `+numberColumns, n.ID, tx.Now, paid); err != nil {
			return fmt.Errorf("couldn't activate the number: %w", err)
		}
		if _, err := s.hasToken(ctx, tx, &active, active.ToldVersion); err != nil {
			return err
		}
		return active.record(ctx, tx, "number.activated", audit.System("numbers"), "", nil)
	})
	if err == nil {
		s.metrics.numbers.WithLabelValues("active").Inc()
	}
	return err
}

// log tells what went wrong with a number, in ids.
func (s *Numbers) log(ctx context.Context, n Number, what string, err error) {
	s.o.Log.WarnContext(ctx, what, "number", n.ID, "org_id", n.OrgID, "step", n.Step, "tries", n.Tries, "error", err)
}

// Sweep adds a job for each number whose own was lost, or died with its process, and says for how many. It is safe to repeat
// and to run in several processes at once.
func (s *Numbers) Sweep(ctx context.Context) (n int, err error) {
	if !s.On() {
		return 0, nil
	}
	var due []struct {
		ID    uuid.UUID `db:"id"`
		OrgID uuid.UUID `db:"org_id"`
		// Token says that Vapi is to be told of a token.
		Token bool `db:"token"`
	}
	err = s.o.DB.InSystemTx(ctx, "numbers that were left behind, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			(SELECT id, org_id, false AS token FROM numbers WHERE next_at < $1::timestamptz - $2::interval AND (busy_until IS NULL OR busy_until < $1) ORDER BY next_at LIMIT $3)
			UNION ALL
			(SELECT id, org_id, true FROM numbers WHERE tell_at < $1::timestamptz - $2::interval AND (tell_busy_until IS NULL OR tell_busy_until < $1) ORDER BY tell_at LIMIT $3)`,
			tx.Now, leftBehind.String(), sweepMost)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, d := range due {
		if ctx.Err() != nil {
			break
		}
		takeUp := s.takeUp
		if d.Token {
			takeUp = s.takeUpToken
		}
		moved, err := takeUp(ctx, d.OrgID, d.ID)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("number %s: %w", d.ID, err))
		}
		if moved {
			n++
		}
	}
	return n, all
}

// takeUp gives a number that was left behind a new job.
func (s *Numbers) takeUp(ctx context.Context, org, id uuid.UUID) (moved bool, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		moved = false
		var n Number
		err := tx.GetContext(ctx, &n, `
			UPDATE numbers SET next_at = $2::timestamptz WHERE id = $1 AND next_at < $2::timestamptz - $3::interval AND (busy_until IS NULL OR busy_until < $2) RETURNING `+numberColumns,
			id, tx.Now, leftBehind.String())
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't take the number up: %w", err)
		}
		moved = true
		return s.enqueue(ctx, tx, &n, time.Time{})
	})
	if moved && err == nil {
		s.metrics.repaired.Inc()
	}
	return moved && err == nil, err
}
