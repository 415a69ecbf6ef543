package handlers

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// recentForOperators is how many of the newest transactions an operator sees of a wallet.
const recentForOperators = 20

// opsWallets lists the wallets of all organisations.
func (a *app) opsWallets(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	f := wallet.SurveyFilter{Name: typed(strings.TrimSpace(q.Get("q"))), Show: wallet.SurveyShow(q.Get("show"))}
	switch f.Show {
	case wallet.SurveyAll, wallet.SurveyFrozen, wallet.SurveyDebt, wallet.SurveyClosed, wallet.SurveySuspended:
	default:
		return errNoPage()
	}
	if after := q.Get("after"); after != "" {
		var err error
		if f.After, err = exactID(after); err != nil {
			return err
		}
	}
	list, more, err := a.Wallets.Survey(r.Context(), f)
	if err != nil {
		return err
	}
	p := views.WalletsPage{Meta: a.meta(r, v, "Wallets"), Filter: views.WalletFilter{Name: f.Name, Show: string(f.Show)}, First: f.After == uuid.Nil}
	for _, s := range list {
		p.Rows = append(p.Rows, views.WalletRow{
			ID: s.OrgID.String(), Name: s.Name, Balance: s.Balance.Balance, Held: s.SetAside(), Debt: s.Debt, Spent: s.Spent,
			Frozen: s.FrozenAt != nil, Closed: s.ClosedAt != nil, Suspended: s.SuspendedAt != nil,
		})
	}
	if more {
		p.Next = p.Rows[len(p.Rows)-1].ID
	}
	return a.render(w, r, http.StatusOK, views.OpsWallets(p))
}

// exactID reads an id in an address, in its one spelling.
func exactID(raw string) (uuid.UUID, error) {
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return uuid.Nil, errNoPage()
	}
	return id, nil
}

// opsWallet is everything about one wallet.
func (a *app) opsWallet(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	p := views.OpsWalletPage{ID: org.String(), Month: a.Now()}
	switch r.URL.Query().Get("done") {
	case "frozen":
		p.Notice = "The wallet was frozen. Nothing is spent from it any more."
	case "thawed":
		p.Notice = "The wallet was thawed. It can be spent from again."
	case "adjusted":
		p.Notice = "The adjustment was made. It is the newest line of the history."
	case "adjusted-before":
		p.Notice = "This adjustment had been made already, under the same reference. Nothing was done again."
	case "withdrawn":
		p.Notice = "Stripe is being asked for the refunds. How they stand is below."
	case "closed":
		p.Notice = "The account was closed. Its people are told."
	case "reopened":
		p.Notice = "The account is open again."
	}
	if p.Name, err = a.Wallets.Holder(r.Context(), org); err != nil {
		return err
	}
	s, err := a.Wallets.Statement(r.Context(), org, recentForOperators)
	if err != nil {
		return err
	}
	_, rate, err := a.tariff(r.Context())
	if err != nil {
		return err
	}
	if p.Balance, err = balance(s, rate); err != nil {
		return err
	}
	if p.Holds, p.MoreHolds, err = a.openHolds(r.Context(), org); err != nil {
		return err
	}
	p.Meta, p.Bonus, p.Seq, p.UpdatedAt, p.FrozenReason = a.meta(r, v, p.Name), s.Balance.Bonus, s.Balance.Seq, s.Balance.UpdatedAt, s.Balance.FrozenReason
	if p.Withdrawals, err = a.withdrawals(r.Context(), org); err != nil {
		return err
	}
	p.ClosedReason = s.Balance.ClosedReason
	p.Spending, p.Transactions = spending(s.Limits), transactions(s.Lines)
	if p.Balance.Reserved > 0 { // Stripe has not answered for all of it yet
		p.Meta.RefreshSeconds = 5
	}
	if isFragment(r) {
		return a.render(w, r, http.StatusOK, views.OpsWalletMoney(p))
	}
	return a.render(w, r, http.StatusOK, views.OpsWallet(p))
}

// freezePage asks before a wallet is frozen, thawPage before it is thawed.
func (a *app) freezePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askFreeze(w, r, v, http.StatusOK, views.FreezePage{})
}

func (a *app) thawPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askFreeze(w, r, v, http.StatusOK, views.FreezePage{Thaw: true})
}

// askFreeze answers with the page around the form as given.
func (a *app) askFreeze(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.FreezePage) error {
	org, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if p.Name, err = a.Wallets.Holder(r.Context(), org); err != nil {
		return err
	}
	s, err := a.Wallets.Statement(r.Context(), org, 0)
	if err != nil {
		return err
	}
	if at := s.Balance.FrozenAt; at != nil {
		p.FrozenAt, p.FrozenReason = *at, s.Balance.FrozenReason
	}
	p.ID = org.String()
	p.Meta = a.meta(r, v, "Freeze a wallet")
	if p.Thaw {
		p.Meta.Title = "Thaw a wallet"
	}
	return a.render(w, r, status, views.FreezeWallet(p))
}

// freeze has the gates refuse everything for an organisation.
func (a *app) freeze(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.setFrozen(w, r, v, views.FreezePage{}, "frozen")
}

// thaw lets a frozen wallet spend again.
func (a *app) thaw(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.setFrozen(w, r, v, views.FreezePage{Thaw: true}, "thawed")
}

func (a *app) setFrozen(w http.ResponseWriter, r *http.Request, v *visit, p views.FreezePage, done string) error {
	org, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if _, err := a.Wallets.Holder(r.Context(), org); err != nil {
		return err
	}
	reason, err := oneLine(r.PostForm.Get("reason"))
	if err == nil {
		change := a.Wallets.Freeze
		if p.Thaw {
			change = a.Wallets.Thaw
		}
		err = change(r.Context(), org, reason, v.who.Actor())
	}
	if f := fault.As(err); err != nil && f.Field == "reason" {
		p.Reason, p.Error = typed(r.PostForm.Get("reason")), f.Public
		return a.askFreeze(w, r, v, answerTo(f.Kind).status, p)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/ops/wallets/"+org.String()+"?done="+done, http.StatusSeeOther) //nolint:gosec // a page of ours: org is an id
	return nil
}

// oneLine refuses a reason that cannot be kept, or would be shown as something else than it is.
func oneLine(reason string) (string, error) {
	if !utf8.ValidString(reason) || strings.ContainsFunc(reason, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
		return "", fault.Field("reason", "Write the reason in one line, without control characters.")
	}
	return reason, nil
}
