package handlers

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// transactionsPerPage is how many lines of the history a page has.
const transactionsPerPage = 25

// transactions is the wallet's history: a page of what the filter finds, or with 422 what is wrong with it.
func (a *app) transactions(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.TransactionsPage{Meta: a.meta(r, v, "Transactions")}
	for _, s := range wallet.Sorts() {
		p.Kinds = append(p.Kinds, views.TransactionKind(s))
	}
	shown, filter := historyFilter(r.URL.Query())
	p.Filter = shown
	status := http.StatusOK
	if shown.Wrong() {
		status = answerTo(fault.Invalid).status
	} else if err := a.fillTransactions(r, v, &p, filter); err != nil {
		return err
	}
	if isFragment(r) {
		return a.render(w, r, status, views.TransactionsList(p))
	}
	return a.render(w, r, status, views.Transactions(p))
}

// fillTransactions adds what the filter finds.
func (a *app) fillTransactions(r *http.Request, v *visit, p *views.TransactionsPage, filter wallet.HistoryFilter) error {
	at, err := historyPlace(r.URL.Query())
	if err != nil {
		return err
	}
	page, err := a.Wallets.History(r.Context(), v.who.OrgID, filter, at, transactionsPerPage)
	if err != nil {
		return err
	}
	p.Transactions, p.First = transactions(page.Lines), page.Newer == nil
	p.LookedUntil, p.Looked = page.LookedUntil, int(page.Looked)
	p.Counted, p.Count, p.Spent = page.Counted, page.Count, page.Spent
	if page.Newer != nil {
		p.Newer = strconv.FormatInt(page.Newer.After, 10)
	}
	if page.Older != nil {
		p.Older = strconv.FormatInt(page.Older.Before, 10)
	}
	return nil
}

// historyPlace reads where a page begins; an address that we did not write leads nowhere.
func historyPlace(q url.Values) (at wallet.HistoryPlace, err error) {
	for name, place := range map[string]*int64{"before": &at.Before, "after": &at.After} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		if *place, err = strconv.ParseInt(text, 10, 64); err != nil || *place < 0 || strconv.FormatInt(*place, 10) != text {
			return wallet.HistoryPlace{}, errNoPage()
		}
	}
	if at.Before > 0 && at.After > 0 {
		return wallet.HistoryPlace{}, errNoPage()
	}
	return at, nil
}

// maxFilterTyped is how much of a field is shown back to who typed it, in bytes.
const maxFilterTyped = 400

// historyFilter reads what is asked for: as typed, with what is wrong beside it, and as the ledger takes it.
func historyFilter(q url.Values) (views.TransactionFilter, wallet.HistoryFilter) {
	shown := views.TransactionFilter{
		From: strings.TrimSpace(q.Get("from")), To: strings.TrimSpace(q.Get("to")), Kind: views.TransactionKind(q.Get("kind")), Text: strings.TrimSpace(q.Get("q")),
	}
	f := wallet.HistoryFilter{Sort: wallet.Sort(shown.Kind), Text: asKept(shown.Text)}
	f.From, shown.FromError = historyDay(shown.From)
	f.To, shown.ToError = historyDay(shown.To)
	if err := f.Check(); err != nil {
		problem := fault.As(err)
		switch problem.Field {
		case "to":
			shown.ToError = problem.Public
		case "kind":
			shown.KindError = problem.Public
		case "q":
			shown.TextError = problem.Public
		}
	}
	for _, field := range []*string{&shown.From, &shown.To, &shown.Text} {
		if len(*field) > maxFilterTyped {
			*field = ""
		}
		*field = strings.ToValidUTF8(strings.ReplaceAll(*field, "\x00", ""), "")
	}
	if shown.KindError != "" {
		shown.Kind = ""
	}
	return shown, f
}

// historyDay reads a day; nothing typed is the zero time.
func historyDay(text string) (time.Time, string) {
	if text == "" {
		return time.Time{}, ""
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil || day.Year() < 1970 || day.Year() > 9998 {
		return time.Time{}, "Write the day as year-month-day, for example 2026-11-23."
	}
	return day, ""
}

// csvWrite is how long a reader may take to accept one part of a file.
const csvWrite = 30 * time.Second

// transactionsCSV sends what the filter finds as a file, newest first. It is read and sent bit by bit, so its length costs
// time and no memory; a reader who goes away ends it. Where it breaks off, the connection is cut, so that nobody takes a
// part for the whole.
func (a *app) transactionsCSV(w http.ResponseWriter, r *http.Request, v *visit) error {
	shown, filter := historyFilter(r.URL.Query())
	if shown.Wrong() {
		return fault.New(fault.Invalid, strings.TrimSpace(strings.Join([]string{shown.FromError, shown.ToError, shown.KindError, shown.TextError}, " ")))
	}
	out, conn := csv.NewWriter(w), http.NewResponseController(w)
	out.UseCRLF = true // RFC 4180
	begun := false
	begin := func() error {
		begun = true
		h := w.Header()
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		h.Set("Content-Disposition", `attachment; filename="`+csvName(filter, a.Now())+`"`)
		return out.Write([]string{
			"time_utc", "number", "kind", "description", "reference", "amount_gbp", "amount_pence", "balance_after_gbp", "balance_after_pence",
			"debt_after_gbp", "debt_after_pence", "transaction_id",
		})
	}
	send := func() error {
		deadline := time.Now().Add(csvWrite) //nolint:forbidigo // the kernel's deadlines go by the wall clock alone
		if err := conn.SetWriteDeadline(deadline); err != nil {
			return fmt.Errorf("couldn't give the reader time: %w", err)
		}
		out.Flush()
		if err := out.Error(); err != nil {
			return fmt.Errorf("couldn't send the file: %w", err)
		}
		return conn.Flush()
	}
	err := a.Wallets.EachLine(r.Context(), v.who.OrgID, filter, func(lines []wallet.Line) error {
		if !begun {
			if err := begin(); err != nil {
				return err
			}
		}
		for _, l := range lines {
			if err := out.Write(csvLine(l)); err != nil {
				return fmt.Errorf("couldn't send the file: %w", err)
			}
		}
		return send()
	})
	if err != nil {
		return err
	}
	if !begun {
		if err := begin(); err != nil {
			return err
		}
	}
	return send()
}

// csvName tells the days that the file is about.
func csvName(f wallet.HistoryFilter, now time.Time) string {
	name := "transactions"
	if !f.From.IsZero() {
		name += "-from-" + f.From.Format(time.DateOnly)
	}
	to := f.To
	if to.IsZero() {
		to = now.UTC()
	}
	return name + "-to-" + to.Format(time.DateOnly) + ".csv"
}

// csvLine is a line of the file. Amounts are numbers that we wrote ourselves; what others wrote is made safe.
func csvLine(l wallet.Line) []string {
	amounts := func(p money.Pence) (pounds, pence string) { return p.Decimal(), strconv.FormatInt(int64(p), 10) }
	amount, amountPence := amounts(l.Amount)
	after, afterPence := amounts(l.BalanceAfter)
	debt, debtPence := amounts(l.DebtAfter)
	return []string{
		l.At.UTC().Format(time.RFC3339), strconv.FormatInt(l.Seq, 10), string(l.Sort()), csvText(l.Description), csvText(l.Reference),
		amount, amountPence, after, afterPence, debt, debtPence, l.ID.String(),
	}
}

// asKept writes a phone number that was copied from a page as descriptions have it, and leaves all else.
func asKept(typed string) string {
	digits, plus := strings.CutPrefix(typed, "+")
	if !plus || strings.Trim(digits, "0123456789 -()") != "" {
		return typed
	}
	return "+" + strings.NewReplacer(" ", "", "-", "", "(", "", ")", "").Replace(digits)
}

// csvText keeps a spreadsheet from taking text for a formula
// (https://owasp.org/www-community/attacks/CSV_Injection): an apostrophe makes it text.
func csvText(s string) string {
	for _, begins := range []string{"=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"} {
		if strings.HasPrefix(s, begins) {
			return "'" + s
		}
	}
	return s
}

// transaction explains one transaction.
func (a *app) transaction(w http.ResponseWriter, r *http.Request, v *visit) error {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return errNoPage()
	}
	e, err := a.Wallets.Explain(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	p := views.TransactionPage{
		Meta: a.meta(r, v, "Transaction"), Transaction: transactions([]wallet.Line{e.Line})[0], Seq: e.Seq, Reference: e.Reference,
		BalanceBefore: e.BalanceBefore, DebtBefore: e.DebtBefore, DebtAfter: e.DebtAfter, By: doer(e.By), Message: messageOf(e),
	}
	for _, posting := range e.Postings {
		p.Postings = append(p.Postings, views.TransactionPosting{Account: posting.Account, Own: posting.Own, Amount: posting.Amount})
	}
	if err := fillBehind(&p, e); err != nil {
		return err
	}
	if e.Use != nil && e.Use.Source == wallet.SourceMessage {
		message, err := a.Messages.PaidBy(r.Context(), v.who.OrgID, e.Use.ID)
		if err != nil {
			return err
		}
		p.Message = idText(message)
	}
	if e.Use != nil && e.Use.Source == wallet.SourceCall {
		call, err := a.Calls.PaidBy(r.Context(), v.who.OrgID, e.Use.ID)
		if err != nil {
			return err
		}
		p.Call = idText(call)
	}
	return a.render(w, r, http.StatusOK, views.TransactionDetail(p))
}

// messageOf is the text that was given back, by the reference that texts adjust wallets with; empty where it is none.
func messageOf(e wallet.Explanation) string {
	text, ok := strings.CutPrefix(e.Reference, "message:")
	id, err := uuid.Parse(text)
	if !ok || err != nil || e.Kind != wallet.Adjustment || e.By.Kind != wallet.DoerHouse {
		return ""
	}
	return id.String()
}

func doer(d wallet.Doer) views.Doer {
	return views.Doer{Kind: string(d.Kind), Name: d.Name, Prefix: d.Prefix}
}

// fillBehind adds what stands behind a transaction.
func fillBehind(p *views.TransactionPage, e wallet.Explanation) (err error) {
	if t := e.TopUp; t != nil {
		p.TopUp = &views.TransactionTopUp{
			ID: t.ID.String(), PaymentIntent: t.PaymentIntent, Paid: t.Paid, Quoted: t.Quoted, USD: t.USD, StartedBy: doer(t.StartedBy), Automatic: t.Automatic, StartedAt: t.StartedAt,
		}
		if p.TopUp.Rate, err = rateVersion(t.Rate); err != nil {
			return err
		}
	}
	if t := e.Reversal; t != nil {
		p.Reversal = &views.TransactionReversal{
			PaymentIntent: t.PaymentIntent, Amount: t.Amount, Bonus: t.Bonus, Credited: t.Credited, CreditID: t.CreditID.String(),
		}
	}
	if u := e.Use; u != nil {
		p.Use = &views.TransactionUse{
			HoldID: u.ID.String(), Kind: views.TransactionKind(u.Action), Quantity: u.Quantity, Destination: u.Destination,
			PerMinute: u.Price.PerMinute, Unit: u.Price.Unit, PriceSince: u.Price.StartsAt, OwnPrice: u.Price.OrgID.Valid,
			Cost: u.Cost, Authorised: u.Authorised, Taken: u.Amount, AskedBy: doer(u.AskedBy), AuthorisedAt: u.CreatedAt, SettledAt: u.UpdatedAt,
		}
		if p.Use.Rate, err = rateVersion(u.Rate); err != nil {
			return err
		}
	}
	return nil
}

func rateVersion(v wallet.ExchangeRate) (views.RateVersion, error) {
	rate, err := v.Rate()
	if err != nil {
		return views.RateVersion{}, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	return views.RateVersion{Rate: rate.String(), Source: v.Source, StartsAt: v.StartsAt}, nil
}
