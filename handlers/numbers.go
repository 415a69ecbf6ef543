package handlers

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/views"
)

const numbersPerPage = 25

// numbersPage lists the numbers, newest first, with a search for another.
func (a *app) numbersPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	p := views.NumbersPage{Search: views.NumberSearch{Country: cmp.Or(strings.ToUpper(q.Get("country")), "GB"), Type: q.Get("type"), Area: q.Get("area"), Contains: q.Get("contains")}}
	part := ""
	if isFragment(r) {
		part = q.Get("part")
	}
	status := http.StatusOK
	if q.Get("find") != "" && part != "list" {
		var err error
		if status, err = a.findNumbers(r, v, &p); err != nil {
			return err
		}
	}
	if part != "search" {
		if err := a.fillNumbers(r, v, &p); err != nil {
			return err
		}
	}
	p.Meta = a.meta(r, v, "Numbers")
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	p.CanBuy, p.Off = v.who.CanPay(), !a.Numbers.On()
	switch part {
	case "search":
		return a.render(w, r, status, views.NumbersResults(p))
	case "list":
		return a.render(w, r, status, views.NumbersList(p))
	}
	return a.render(w, r, status, views.Numbers(p))
}

// fillNumbers adds the list.
func (a *app) fillNumbers(r *http.Request, v *visit, p *views.NumbersPage) error {
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	p.First = err != nil
	if p.First {
		before = uuid.Nil
	}
	list, err := a.Numbers.List(r.Context(), v.who.OrgID, before, numbersPerPage+1)
	if err != nil {
		return err
	}
	if len(list) > numbersPerPage {
		list = list[:numbersPerPage]
		p.Older = "/numbers?before=" + list[len(list)-1].ID.String()
	}
	ids := make([]uuid.UUID, len(list))
	for i, n := range list {
		ids[i] = n.ID
	}
	agents, err := a.Numbers.AgentsOf(r.Context(), v.who.OrgID, ids...)
	if err != nil {
		return err
	}
	for _, n := range list {
		p.Numbers = append(p.Numbers, phoneNumber(n, agents[n.ID]))
	}
	return nil
}

// findNumbers looks for numbers that are for sale, and says with which status the page is answered.
func (a *app) findNumbers(r *http.Request, v *visit, p *views.NumbersPage) (int, error) {
	if err := mayNumber(v.who); err != nil {
		return 0, err
	}
	p.Search.Asked = true
	found, err := a.Numbers.Search(r.Context(), telephony.SearchRequest{
		OrgID: v.who.OrgID, Country: p.Search.Country, Type: telephony.NumberType(p.Search.Type), Area: p.Search.Area, Contains: p.Search.Contains,
	})
	if err != nil {
		f := fault.As(err)
		switch {
		case f.Field == "country":
			p.Search.CountryError = f.Public
		case f.Field == "type":
			p.Search.TypeError = f.Public
		case f.Field == "area":
			p.Search.AreaError = f.Public
		case f.Field == "contains":
			p.Search.ContainsError = f.Public
		case f.Kind == fault.Internal:
			return 0, err
		default:
			p.Problem = f.Public
		}
		if f.Kind == fault.Invalid {
			return answerTo(f.Kind).status, nil
		}
		return http.StatusOK, nil // the page is whole: what the search lacks stands in it
	}
	price, err := a.numberPrice(r.Context(), found)
	if err != nil {
		return 0, err
	}
	p.Results = &views.NumberResults{Price: price}
	for _, o := range found.List {
		p.Results.List = append(p.Results.List, numberOffer(o))
	}
	return http.StatusOK, nil
}

// numberPrice is what a number costs, with what that is in dollars.
func (a *app) numberPrice(ctx context.Context, found telephony.Offers) (p views.NumberPrice, err error) {
	rate, err := a.Wallets.Rate(ctx)
	if err != nil {
		return p, err
	}
	p = views.NumberPrice{Purchase: found.Purchase, Monthly: found.Monthly, Own: found.Kind == telephony.BYOC}
	if p.PurchaseUSD, err = rate.ToUSD(found.Purchase); err != nil {
		return p, err
	}
	p.MonthlyUSD, err = rate.ToUSD(found.Monthly)
	return p, err
}

func numberOffer(o telephony.Offer) views.NumberOffer {
	place := o.Locality
	if o.Region != "" {
		place = strings.TrimPrefix(place+", "+o.Region, ", ")
	}
	return views.NumberOffer{
		Number: o.PhoneNumber, Country: o.Country, Type: string(o.Type), Place: place, Voice: o.Voice, SMS: o.SMS, Needs: o.Needs,
		Href: "/numbers/buy?" + url.Values{"number": {o.PhoneNumber}, "country": {o.Country}}.Encode(),
	}
}

func phoneNumber(n telephony.Number, agents []string) views.PhoneNumber {
	p := views.PhoneNumber{
		ID: n.ID.String(), Number: n.PhoneNumber, Country: n.Country, State: views.NumberState(n.State), Step: string(n.Step), FailedStep: string(n.FailedStep),
		Note: n.Note, Own: n.Kind == telephony.BYOC, Monthly: n.Monthly, Agents: agents, At: n.CreatedAt, ActiveAt: n.ActivatedAt,
		ReleasingAt: n.ReleasingAt, EndedAt: n.EndedAt, Reason: n.ReleaseReason, Org: n.OrgID.String(), NextTry: n.NextAt,
	}
	if n.State == telephony.NumberActive {
		p.NextRent, p.ReleaseDue = n.PaidUntil, n.ReleaseDue()
		if p.Telling = n.TellAt != nil; p.Telling {
			p.Step, p.Note, p.NextTry = "token", n.TellNote, n.TellAt
		}
	}
	return p
}

// mayNumber refuses who may only look.
func mayNumber(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you can see the numbers but not buy or release any. Ask an owner of "+who.OrgName+".")
}

// buyNumberPage asks before a number is bought.
func (a *app) buyNumberPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayNumber(v.who); err != nil {
		return err
	}
	q := r.URL.Query()
	return a.askBuy(w, r, v, http.StatusOK, views.BuyNumberPage{Offer: views.NumberOffer{Number: q.Get("number"), Country: strings.ToUpper(q.Get("country"))}})
}

// askBuy answers with the question, for the number of p as Twilio and the price list have it now.
func (a *app) askBuy(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.BuyNumberPage) error {
	p.Meta, p.Key = a.meta(r, v, "Buy a number"), uuid.NewString()
	number, err := wallet.ParseDestination(p.Offer.Number)
	if err != nil {
		return fault.New(fault.NotFound, "This is not a phone number. Choose one from the list.")
	}
	p.Offer.Number = number
	found, err := a.Numbers.Search(r.Context(), telephony.SearchRequest{OrgID: v.who.OrgID, Country: p.Offer.Country, Contains: strings.TrimPrefix(number, "+")})
	if err != nil {
		f := fault.As(err)
		if f.Kind == fault.Internal || f.Kind == fault.Invalid && p.Gone == "" {
			return err
		}
		p.Gone, status = cmp.Or(p.Gone, f.Public), max(status, answerTo(f.Kind).status)
		return a.render(w, r, status, views.BuyNumber(p))
	}
	if p.Price, err = a.numberPrice(r.Context(), found); err != nil {
		return err
	}
	sold := true
	for _, o := range found.List {
		if o.PhoneNumber == number {
			p.Offer, sold = numberOffer(o), false
		}
	}
	switch {
	case p.Gone != "":
	case sold:
		p.Gone, status = "This number is not for sale any more. Nothing was charged; choose another.", http.StatusConflict
	case p.Offer.Needs != "":
		p.Gone, status = p.Offer.Needs+" Nothing was charged; choose a number of another country.", http.StatusUnprocessableEntity
	}
	balances, err := a.Wallets.Balances(r.Context(), []uuid.UUID{v.who.OrgID})
	if err != nil {
		return err
	}
	b := balances[v.who.OrgID]
	p.Available, p.Debt = b.Available(), b.Debt
	return a.render(w, r, status, views.BuyNumber(p))
}

// buyNumber orders a number from the page, at the price that the page showed. The page's own key makes sending its form
// twice one number.
func (a *app) buyNumber(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayNumber(v.who); err != nil {
		return err
	}
	form := r.PostForm
	key, err := pageKey(form.Get("key"), form.Get("phone_number"))
	if err != nil {
		return err
	}
	var agreed telephony.Agreed
	for name, to := range map[string]*money.Pence{"purchase": &agreed.Purchase, "monthly": &agreed.Monthly} {
		pence, err := strconv.ParseInt(form.Get(name), 10, 64)
		if *to = money.Pence(pence); err != nil {
			return fault.Wrap(fault.Invalid, "The page was too old, so nothing was bought. Load it again.", err)
		}
	}
	n, err := a.Numbers.Buy(r.Context(), telephony.BuyRequest{
		OrgID: v.who.OrgID, PhoneNumber: form.Get("phone_number"), Key: key, Agreed: &agreed, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err == nil {
		seeOther(w, r, "/numbers/"+n.ID.String())
		return nil
	}
	p := views.BuyNumberPage{Offer: views.NumberOffer{Number: form.Get("phone_number"), Country: strings.ToUpper(form.Get("country"))}}
	f := fault.As(err)
	switch {
	case f.Code == "price_changed":
		p.Changed = f.Public
	case f.Kind == fault.Unpaid:
		p.Unpaid = f.Public
	case f.Kind == fault.Internal, f.Kind == fault.Invalid && f.Code == "":
		return err
	default:
		p.Gone = f.Public
	}
	return a.askBuy(w, r, v, answerTo(f.Kind).status, p)
}

// numberPage is one number. While it is on its way the page asks again, by this same address.
func (a *app) numberPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	n, err := a.theirNumber(r, v)
	if err != nil {
		return err
	}
	p := views.NumberPage{Number: phoneNumber(n, nil), CanBuy: v.who.CanPay(), Account: "Ours, kept for " + v.who.OrgName}
	if isFragment(r) && r.URL.Query().Get("seen") == p.Number.Seen() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if n.Kind == telephony.BYOC {
		p.Account = "Your own Twilio account"
		if n.AccountSID.Valid {
			p.Account += " " + n.AccountSID.String
		}
	}
	agents, err := a.Numbers.AgentsOf(r.Context(), v.who.OrgID, n.ID)
	if err != nil {
		return err
	}
	p.Number.Agents = agents[n.ID]
	story, err := a.Numbers.Story(r.Context(), v.who.OrgID, n.ID)
	if err != nil {
		return err
	}
	for _, e := range story {
		p.History = append(p.History, views.NumberEvent{At: e.At, What: numberWords(e.Action), Who: byWhom(e.Actor, v.who), Reason: e.Reason})
	}
	if n.ReleasedBy != "" {
		p.Number.ReleasedBy = byWhom(audit.Actor(n.ReleasedBy), v.who)
	}
	paid, err := a.Wallets.PaidFor(r.Context(), v.who.OrgID, n.HoldID.UUID, n.RentReferences())
	if err != nil {
		return err
	}
	for _, t := range paid {
		p.Entries = append(p.Entries, views.NumberEntry{ID: t.ID.String(), Description: t.Description, Amount: t.Amount, At: t.At})
	}
	if p.Number.Price, err = a.numberHeld(r.Context(), v.who.OrgID, n); err != nil {
		return err
	}
	p.Meta = a.meta(r, v, "Number "+views.PhoneText(n.PhoneNumber))
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	if isFragment(r) {
		return a.render(w, r, http.StatusOK, views.NumberStatus(p))
	}
	return a.render(w, r, http.StatusOK, views.NumberDetail(p))
}

// numberHeld is what is set aside for a number that is being bought.
func (a *app) numberHeld(ctx context.Context, org uuid.UUID, n telephony.Number) (money.Pence, error) {
	if !n.HoldID.Valid {
		return 0, nil
	}
	return a.Wallets.HeldBy(ctx, org, n.HoldID.UUID)
}

// theirNumber reads the number in the path; one of another organisation is none.
func (a *app) theirNumber(r *http.Request, v *visit) (telephony.Number, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.Number{}, err
	}
	return a.Numbers.Number(r.Context(), v.who.OrgID, id)
}

// numberWords says what was done with a number.
func numberWords(action string) string {
	switch action {
	case "number.ordered":
		return "Ordered"
	case "number.bought", "number.purchased":
		return "Bought at Twilio"
	case "number.imported":
		return "Connected to our voice service"
	case "number.activated":
		return "Activated and paid for"
	case "number.turned_back":
		return "Not bought: undoing what was begun"
	case "number.failed":
		return "Nothing of it is left"
	case "number.releasing":
		return "Release begun"
	case "number.vapi_deleted":
		return "Taken from our voice service"
	case "number.twilio_released":
		return "Given back to the telephone company"
	case "number.released":
		return "Released"
	case "number.forced":
		return "Ended by hand"
	case "number.expedited":
		return "Tried again at once"
	case "number.reconnected":
		return "Connected to our voice service again"
	case "integrity.mend":
		return "To be put right"
	case "number.token_told":
		return "Our voice service has its new token"
	case "number.token_put_off":
		return "Our voice service does not have its new token yet"
	case "number.rent_paid":
		return "The month that was owed is paid"
	}
	words := strings.ReplaceAll(strings.TrimPrefix(action, "number."), "_", " ")
	return strings.ToUpper(words[:min(1, len(words))]) + words[min(1, len(words)):]
}

// byWhom says who did something to somebody of the organisation; operators are not named to it.
func byWhom(by audit.Actor, who auth.Identity) string {
	kind, _, _ := strings.Cut(string(by), ":")
	switch {
	case by == who.Actor():
		return "you"
	case kind == "user":
		return "a colleague"
	case kind == "key":
		return "a program"
	case kind == "operator", kind == "cli":
		return "our staff"
	}
	return "Ringfence"
}

// releaseNumberPage asks before a number is released.
func (a *app) releaseNumberPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askRelease(w, r, v, http.StatusOK, views.ReleaseNumberPage{})
}

func (a *app) askRelease(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ReleaseNumberPage) error {
	if err := mayNumber(v.who); err != nil {
		return err
	}
	n, err := a.theirNumber(r, v)
	if err != nil {
		return err
	}
	agents, err := a.Numbers.AgentsOf(r.Context(), v.who.OrgID, n.ID)
	if err != nil {
		return err
	}
	p.Number = phoneNumber(n, agents[n.ID])
	p.Meta = a.meta(r, v, "Release a number")
	return a.render(w, r, status, views.ReleaseNumber(p))
}

// releaseNumber releases a number, when its last four digits were typed.
func (a *app) releaseNumber(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayNumber(v.who); err != nil {
		return err
	}
	n, err := a.theirNumber(r, v)
	if err != nil {
		return err
	}
	said := strings.ReplaceAll(r.PostForm.Get("confirm"), " ", "")
	if said != n.PhoneNumber[len(n.PhoneNumber)-4:] && said != n.PhoneNumber {
		return a.askRelease(w, r, v, http.StatusUnprocessableEntity, views.ReleaseNumberPage{Typed: typed(r.PostForm.Get("confirm")), Error: "These are not the last four digits of this number, so it was not released."})
	}
	if _, err := a.Numbers.Release(r.Context(), telephony.ReleaseRequest{OrgID: v.who.OrgID, Number: n.ID, Actor: v.who.Actor()}); err != nil {
		return err
	}
	seeOther(w, r, "/numbers/"+n.ID.String())
	return nil
}

// apiNumber is a number as programs see it.
type apiNumber struct {
	ID          uuid.UUID             `json:"id"`
	PhoneNumber string                `json:"phone_number"`
	Country     string                `json:"country"`
	State       telephony.NumberState `json:"state"`
	Monthly     int64                 `json:"monthly_pence"`
	Note        string                `json:"note,omitempty"`
}

func numberForAPI(n telephony.Number) apiNumber {
	return apiNumber{ID: n.ID, PhoneNumber: n.PhoneNumber, Country: n.Country, State: n.State, Monthly: int64(n.Monthly), Note: cmp.Or(n.Note, n.TellNote)}
}

// pageOf reads how long a list is to be, and where it goes on.
func pageOf(r *http.Request) (limit int, cursor uuid.UUID, err error) {
	limit = numbersPerPage
	q := r.URL.Query()
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > 100 {
			return 0, uuid.Nil, fault.Field("limit", "The limit is a whole number from 1 to 100.")
		}
	}
	if s := q.Get("cursor"); s != "" {
		if cursor, err = uuid.Parse(s); err != nil {
			return 0, uuid.Nil, fault.Field("cursor", "This cursor is none of ours. Take next_cursor as it was given.")
		}
	}
	return limit, cursor, nil
}

// apiNumbers is GET /api/v1/numbers: the organisation's numbers, newest first. It needs the scope numbers:read.
func (a *app) apiNumbers(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.NumbersRead); err != nil {
		return err
	}
	limit, cursor, err := pageOf(r)
	if err != nil {
		return err
	}
	list, err := a.Numbers.List(r.Context(), v.who.OrgID, cursor, limit+1)
	if err != nil {
		return err
	}
	out := struct {
		Data []apiNumber `json:"data"`
		Next *string     `json:"next_cursor"`
	}{Data: []apiNumber{}}
	if len(list) > limit {
		list = list[:limit]
		out.Next = new(list[limit-1].ID.String())
	}
	for _, n := range list {
		out.Data = append(out.Data, numberForAPI(n))
	}
	return writeJSON(w, http.StatusOK, out)
}

// apiAvailableNumbers is GET /api/v1/numbers/available?country=GB: numbers for sale now, those that can be bought without
// papers first. It needs the scope numbers:read.
func (a *app) apiAvailableNumbers(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.NumbersRead); err != nil {
		return err
	}
	limit, _, err := pageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	found, err := a.Numbers.Search(r.Context(), telephony.SearchRequest{
		OrgID: v.who.OrgID, Country: q.Get("country"), Type: telephony.NumberType(q.Get("type")), Area: q.Get("area"), Contains: q.Get("contains"), Limit: limit,
	})
	if err != nil {
		return err
	}
	type offer struct {
		PhoneNumber string               `json:"phone_number"`
		Country     string               `json:"country"`
		Type        telephony.NumberType `json:"type"`
		Locality    string               `json:"locality"`
		Region      string               `json:"region"`
		Voice       bool                 `json:"voice"`
		SMS         bool                 `json:"sms"`
		Address     bool                 `json:"address_required"`
		Purchase    int64                `json:"purchase_pence"`
		Monthly     int64                `json:"monthly_pence"`
	}
	out := struct {
		Data []offer `json:"data"`
		Next *string `json:"next_cursor"`
	}{Data: []offer{}}
	for _, needs := range []bool{false, true} {
		for _, o := range found.List {
			if needs == (o.Needs != "") {
				out.Data = append(out.Data, offer{o.PhoneNumber, o.Country, o.Type, o.Locality, o.Region, o.Voice, o.SMS, needs, int64(found.Purchase), int64(found.Monthly)})
			}
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// apiNumberByID reads the number in the path, for programs.
func (a *app) apiNumberByID(r *http.Request, v *visit) (telephony.Number, error) {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return telephony.Number{}, fault.New(fault.NotFound, "There is no such number.")
	}
	return a.Numbers.Number(r.Context(), v.who.OrgID, id)
}

// apiNumber is GET /api/v1/numbers/{id}. It needs the scope numbers:read.
func (a *app) apiNumber(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.NumbersRead); err != nil {
		return err
	}
	n, err := a.apiNumberByID(r, v)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, numberForAPI(n))
}

// apiBuyNumber is POST /api/v1/numbers: 201 with the number, which is being bought; 402 with what is missing. It needs the
// scope numbers:write. The same key and body again are the same number, as it stands by then.
func (a *app) apiBuyNumber(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.NumbersWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body struct {
		PhoneNumber string `json:"phone_number"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	n, err := a.Numbers.Buy(r.Context(), telephony.BuyRequest{
		OrgID: v.who.OrgID, PhoneNumber: body.PhoneNumber, Key: key, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err != nil {
		return err
	}
	replayed(w, n.Repeated)
	return writeJSON(w, http.StatusCreated, numberForAPI(n))
}

// apiReleaseNumber is DELETE /api/v1/numbers/{id}: 202 with the number, which is being released; 200 once it is. It needs
// the scope numbers:write, and is safe to repeat.
func (a *app) apiReleaseNumber(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.NumbersWrite); err != nil {
		return err
	}
	n, err := a.apiNumberByID(r, v)
	if err != nil {
		return err
	}
	n, err = a.Numbers.Release(r.Context(), telephony.ReleaseRequest{OrgID: v.who.OrgID, Number: n.ID, Actor: v.who.Actor()})
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if n.State == telephony.NumberReleased {
		status = http.StatusOK
	}
	return writeJSON(w, status, numberForAPI(n))
}
