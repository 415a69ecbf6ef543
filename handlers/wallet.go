package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// recentOnWallet is how many of the newest transactions the wallet shows.
const recentOnWallet = 10

// holdsShown is how many open holds a page lists.
const holdsShown = 10

// wallet is the page where money is added.
func (a *app) wallet(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showWallet(w, r, v, http.StatusOK, views.TopUpForm{}, nil)
}

// showWallet answers with the whole wallet page around the form as given.
func (a *app) showWallet(w http.ResponseWriter, r *http.Request, v *visit, status int, form views.TopUpForm, q *views.Quote) error {
	var p views.WalletPage
	err := a.Wallets.InOneMoment(r.Context(), v.who.OrgID, func(ctx context.Context) (err error) {
		var rate money.Rate
		if p, rate, err = a.liveWallet(ctx, v.who); err != nil {
			return err
		}
		if p.Presets, err = a.presets(ctx, v.who.OrgID); err != nil {
			return err
		}
		if p.Auto, err = a.autoGlance(ctx, v.who); err != nil {
			return err
		}
		return a.limits(&p, rate)
	})
	if err != nil {
		return err
	}
	p.Meta, p.Form, p.Quote = a.meta(r, v, "Wallet"), offerSaving(form, p.Auto), q
	return a.render(w, r, status, views.Wallet(p))
}

// limits fills in what a top-up may be.
func (a *app) limits(p *views.WalletPage, rate money.Rate) (err error) {
	p.Min, p.Max = a.Payments.Limits()
	if p.MinUSD, err = rate.ToUSD(p.Min); err != nil {
		return fmt.Errorf("couldn't convert the limits: %w", err)
	}
	if p.MaxUSD, err = rate.ToUSD(p.Max); err != nil {
		return fmt.Errorf("couldn't convert the limits: %w", err)
	}
	return nil
}

// liveWallet is the part of the wallet page that changes while it is open, and the rate of its dollars.
func (a *app) liveWallet(ctx context.Context, who auth.Identity) (views.WalletPage, money.Rate, error) {
	none := func(err error) (views.WalletPage, money.Rate, error) { return views.WalletPage{}, money.Rate{}, err }
	s, err := a.Wallets.Statement(ctx, who.OrgID, recentOnWallet)
	if err != nil {
		return none(err)
	}
	open, err := a.Payments.Unfinished(ctx, who.OrgID, who.UserID)
	if err != nil {
		return none(err)
	}
	p := views.WalletPage{CanTopUp: who.CanPay(), Transactions: transactions(s.Lines)}
	if p.Balance, err = balance(s, s.Rate); err != nil {
		return none(err)
	}
	if p.Holds, p.MoreHolds, err = a.openHolds(ctx, who.OrgID); err != nil {
		return none(err)
	}
	for _, t := range open {
		o := views.OpenTopUp{ID: t.ID.String(), At: t.CreatedAt, State: views.TopUpState(t.State), Amount: t.Amount, Note: t.Note}
		if t.State == payments.Open && p.CanTopUp {
			o.CheckoutURL = t.CheckoutURL
		}
		p.OpenTopUps = append(p.OpenTopUps, o)
	}
	return p, s.Rate, nil
}

// quote says what an amount will cost: a fragment beside the form, or without scripts the whole page.
func (a *app) quote(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayPay(v.who); err != nil {
		return err
	}
	form := formOf(r.PostForm)
	q, err := a.Payments.Quote(r.Context(), form.Amount, form.Currency)
	if err != nil {
		if form, err = refusedForm(form, err); err != nil {
			return err
		}
		if isFragment(r) {
			return a.render(w, r, answerTo(fault.Invalid).status, views.WalletQuote(views.WalletPage{CanTopUp: true, Form: form}))
		}
		return a.showWallet(w, r, v, answerTo(fault.Invalid).status, form, nil)
	}
	shown := a.quoted(q)
	if isFragment(r) {
		return a.render(w, r, http.StatusOK, views.WalletQuote(views.WalletPage{CanTopUp: true, Form: form, Quote: shown}))
	}
	return a.showWallet(w, r, v, http.StatusOK, form, shown)
}

// startTopUp sends the browser to pay. Sending the form twice pays once: see payments.Service.StartTopUp.
func (a *app) startTopUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayPay(v.who); err != nil {
		return err
	}
	form := formOf(r.PostForm)
	start := a.Payments.StartShownTopUp
	if form.SaveCard {
		if err := mayManageCards(v.who); err != nil {
			return err
		}
		start = a.Payments.StartTopUpKeepingCard
	}
	t, err := start(r.Context(), v.who.OrgID, v.who.UserID, form.Amount, form.Currency, shownOf(r.PostForm))
	if changed, ok := errors.AsType[*payments.QuoteChangedError](err); ok {
		form.Was = changed.Was
		return a.showTopUpForm(w, r, v, answerTo(fault.Invalid).status, form, a.quoted(changed.Now))
	}
	if err != nil {
		return a.refuseTopUp(w, r, v, form, err)
	}
	to := t.CheckoutURL // has passed payments.CheckURL
	if to == "" {       // paid or under way already
		to = "/wallet/top-ups/" + t.ID.String()
	}
	if isFragment(r) {
		w.Header().Set("HX-Redirect", to) // htmx ignores the headers of a 3xx
		w.WriteHeader(http.StatusOK)
		return nil
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// refuseTopUp shows the form again with what is wrong beside the amount.
func (a *app) refuseTopUp(w http.ResponseWriter, r *http.Request, v *visit, form views.TopUpForm, err error) error {
	status := answerTo(fault.As(err).Kind).status
	form, err = refusedForm(form, err)
	if err != nil {
		return err
	}
	return a.showTopUpForm(w, r, v, status, form, nil)
}

// showTopUpForm answers with the form as given, or without scripts with the whole page around it.
func (a *app) showTopUpForm(w http.ResponseWriter, r *http.Request, v *visit, status int, form views.TopUpForm, q *views.Quote) error {
	if !isFragment(r) {
		return a.showWallet(w, r, v, status, form, q)
	}
	rate, err := a.Wallets.Rate(r.Context())
	if err != nil {
		return err
	}
	glance, err := a.autoGlance(r.Context(), v.who)
	if err != nil {
		return err
	}
	p := views.WalletPage{Meta: a.meta(r, v, "Wallet"), CanTopUp: true, Form: offerSaving(form, glance), Quote: q}
	if err := a.limits(&p, rate); err != nil {
		return err
	}
	if form.Was == 0 {
		return a.render(w, r, status, views.WalletTopUpForm(p))
	}
	if p.Presets, err = a.presets(r.Context(), v.who.OrgID); err != nil {
		return err
	}
	return a.render(w, r, status, views.WalletQuoteChanged(p))
}

// presets are the amounts at one click, with what they cost now.
func (a *app) presets(ctx context.Context, org uuid.UUID) ([]views.Preset, error) {
	quotes, err := a.Payments.Presets(ctx, org)
	if err != nil {
		return nil, err
	}
	presets := make([]views.Preset, len(quotes))
	for i, q := range quotes {
		presets[i] = views.Preset{USD: q.USD, Pence: q.Charge, Shown: a.shown(q)}
	}
	return presets, nil
}

// quoted is a quote as the page shows it, and as its form sends it back.
func (a *app) quoted(q payments.Quote) *views.Quote {
	return &views.Quote{Pence: q.Charge, USD: q.USD, EstimatedCredits: q.Credits, Shown: a.shown(q)}
}

func (a *app) shown(q payments.Quote) views.Shown {
	return views.Shown{Pence: q.Charge, RateID: q.RateID, At: a.Now()}
}

// shownOf reads the quote that a form was sent with. Programs, and forms that showed none, send none; what cannot be read is
// none either, since nobody is believed on the strength of it.
func shownOf(values url.Values) payments.Shown {
	var figures [3]int64
	for i, name := range []string{"quoted_pence", "quoted_rate", "quoted_at"} {
		n, err := strconv.ParseInt(values.Get(name), 10, 64)
		if err != nil || n <= 0 {
			return payments.Shown{}
		}
		figures[i] = n
	}
	return payments.Shown{Charge: money.Pence(figures[0]), RateID: figures[1], At: time.Unix(figures[2], 0)}
}

// maxTyped is how much of an amount is shown back to who typed it.
const maxTyped = 64

// formOf reads the top-up form. The amount is passed on as typed: what it means is for payments to say.
func formOf(values url.Values) views.TopUpForm {
	return views.TopUpForm{Amount: values.Get("amount"), Currency: values.Get("currency"), SaveCard: values.Get("save_card") == "yes"}
}

// refusedForm puts what the person can mend beside the field; any other error comes back.
func refusedForm(form views.TopUpForm, err error) (views.TopUpForm, error) {
	f := fault.As(err)
	if f.Kind != fault.Invalid && f.Kind != fault.Declined {
		return form, err
	}
	form.Error = f.Public
	if len(form.Amount) > maxTyped {
		form.Amount = ""
	}
	return form, nil
}

// topUp tells how a top-up stands. It says only what our own rows say: the address a payer comes back on proves nothing,
// it only tells whether to speak of waiting or of going on.
func (a *app) topUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return errNoPage()
	}
	t, err := a.Payments.TopUp(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	b, _, err := a.Wallets.Overview(r.Context(), v.who.OrgID, 0)
	if err != nil {
		return err
	}
	p := views.TopUpReturnPage{
		ID: raw, State: views.TopUpState(t.State), Amount: t.Amount, Balance: b.Balance, Note: t.Note, CanTopUp: v.who.CanPay(),
		NoDocument: r.URL.Query().Get("document") == "none",
	}
	done := r.URL.Query().Get("checkout") == "done"
	if done {
		p.PollURL = "/wallet/top-ups/" + raw + "?checkout=done"
	}
	switch t.State {
	case payments.Open:
		if done {
			p.State = views.TopUpWaiting
		} else if p.CanTopUp {
			p.CheckoutURL = t.CheckoutURL
		}
	case payments.Paid:
		p.Amount = t.Paid
	case payments.Processing:
		if t.Automatic { // no bank debit: only its event is awaited
			p.State = views.TopUpWaiting
		}
	case payments.Creating, payments.Expired, payments.Failed:
	}
	p.Meta = a.meta(r, v, "Top-up")
	p.Meta.RefreshSeconds = p.State.RefreshSeconds()
	if isFragment(r) {
		if r.URL.Query().Get("seen") == string(p.State) {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return a.render(w, r, http.StatusOK, views.TopUpReturnStatus(p))
	}
	return a.render(w, r, http.StatusOK, views.TopUpReturn(p))
}

// topUpInvoice leads to where Stripe shows the invoice or receipt of what was paid for a top-up, and back to the top-up where
// there is none. The address is asked for each time: Stripe's expire.
func (a *app) topUpInvoice(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	to, err := a.Payments.Document(r.Context(), v.who.OrgID, id, r.URL.Query().Get("payment"))
	if errors.Is(err, payments.ErrNoDocument) {
		to, err = "/wallet/top-ups/"+id.String()+"?document=none", nil
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // an address that has passed CheckURL, or our own
	return nil
}

// openHolds are the newest holds of an organisation that have not ended, and whether there are more.
func (a *app) openHolds(ctx context.Context, org uuid.UUID) (list []views.Hold, more bool, err error) {
	holds, err := a.Wallets.OpenHolds(ctx, org, holdsShown+1)
	if err != nil {
		return nil, false, err
	}
	if more = len(holds) > holdsShown; more {
		holds = holds[:holdsShown]
	}
	for _, h := range holds {
		shown := views.Hold{
			ID: h.ID.String(), Kind: views.TransactionKind(h.Action), Quantity: h.Quantity, Destination: views.PhoneText(h.Destination), Amount: h.Amount, At: h.CreatedAt,
		}
		if h.State == wallet.HoldOpen {
			shown.ExpiresAt = h.ExpiresAt
		}
		list = append(list, shown)
	}
	return list, more, nil
}

// balance is a wallet as the pages show it.
func balance(s wallet.Statement, rate money.Rate) (views.Balance, error) {
	b := s.Balance
	usd, err := rate.ToUSD(b.Balance)
	if err != nil {
		return views.Balance{}, fmt.Errorf("couldn't convert the balance: %w", err)
	}
	shown := views.Balance{
		Seen: eventID(b), Balance: b.Balance, Held: b.SetAside(), Reserved: b.Reserved, Debt: b.Debt, USD: usd, EstimatedCredits: money.EstimatedCredits(b.Available()),
		Month: views.Spending{Spent: s.Limits.Spent(), Limit: s.Limits.All},
	}
	if b.FrozenAt != nil {
		shown.FrozenAt = *b.FrozenAt
	}
	if b.ClosedAt != nil {
		shown.ClosedAt = *b.ClosedAt
	}
	return shown, nil
}

// transactions are lines of the ledger as the pages show them. What was used is shown as what it was.
func transactions(list []wallet.Line) []views.Transaction {
	out := make([]views.Transaction, len(list))
	for i, t := range list {
		kind := views.TransactionKind(t.Kind)
		if t.Action != "" {
			kind = views.TransactionKind(t.Action)
		}
		out[i] = views.Transaction{
			ID: t.ID.String(), At: t.At, Description: t.Description, Kind: kind, Amount: t.Amount, BalanceAfter: t.BalanceAfter,
		}
	}
	return out
}
