package handlers

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nyaruka/phonenumbers"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// exampleSeconds are the lengths of calls whose cost the price list works out.
var exampleSeconds = []int{1, 30, 60, 91}

// prices is what everything costs this organisation now. Asked for an example, it works that out.
func (a *app) prices(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.PricesPage{Form: views.CostForm{Action: views.KindCall, Quantity: "60"}}
	status := http.StatusOK
	if q := r.URL.Query(); q.Has("action") {
		action := wallet.Action(q.Get("action"))
		if !slices.Contains(wallet.Actions, action) {
			return errNoPage()
		}
		p.Form = views.CostForm{Action: views.TransactionKind(action), Quantity: shownBack(q.Get("quantity")), Destination: shownBack(q.Get("destination"))}
		n, err := strconv.ParseInt(strings.TrimSpace(q.Get("quantity")), 10, 64)
		if err != nil {
			n = 0 // which no action takes
		}
		p.Answer, err = a.cost(r.Context(), wallet.HoldRequest{OrgID: v.who.OrgID, Action: action, Quantity: n, Destination: strings.TrimSpace(q.Get("destination"))})
		if f := fault.As(err); err != nil {
			switch f.Field {
			case "quantity":
				p.Form.QuantityError = f.Public
			case "destination":
				p.Form.DestinationError = f.Public
			default:
				return err
			}
			status = answerTo(f.Kind).status
		}
	}
	p.Meta = a.meta(r, v, "Prices")
	if isFragment(r) {
		return a.render(w, r, status, views.WalletCost(p))
	}
	if err := a.priceList(r.Context(), v.who.OrgID, &p); err != nil {
		return err
	}
	return a.render(w, r, status, views.Prices(p))
}

// shownBack is what somebody typed, as far as it is shown to them again.
func shownBack(typed string) string {
	if len(typed) > maxTyped {
		return ""
	}
	return strings.ToValidUTF8(typed, "")
}

// cost works out what something would cost. That it is not offered is an answer too.
func (a *app) cost(ctx context.Context, q wallet.HoldRequest) (*views.CostAnswer, error) {
	c := &views.CostAnswer{What: views.Hold{Kind: views.TransactionKind(q.Action), Quantity: q.Quantity}}
	amount, required, err := a.Gates.Quote(ctx, q)
	switch {
	case fault.Is(err, fault.Forbidden):
		c.NotOffered = fault.As(err).Public
	case err != nil:
		return nil, err
	}
	if q.Destination != "" {
		to, err := wallet.ParseDestination(q.Destination)
		if err != nil {
			return nil, err
		}
		c.What.Destination, c.Place = views.PhoneText(to), placeOf(strings.TrimPrefix(to, "+"))
	}
	if c.NotOffered != "" {
		return c, nil
	}
	_, rate, err := a.tariff(ctx)
	if err != nil {
		return nil, err
	}
	c.What.Amount, c.Required = amount, required
	if c.USD, err = rate.ToUSD(amount); err != nil {
		return nil, fmt.Errorf("couldn't convert a cost: %w", err)
	}
	return c, nil
}

// tariff is the rate card of this moment with its exchange rate.
func (a *app) tariff(ctx context.Context) (*wallet.Tariff, money.Rate, error) {
	t, err := a.Gates.Tariff(ctx)
	if err != nil {
		return nil, money.Rate{}, err
	}
	version, err := t.Rate(a.Gates.Now())
	if err != nil {
		return nil, money.Rate{}, err
	}
	rate, err := version.Rate()
	if err != nil {
		return nil, money.Rate{}, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	return t, rate, nil
}

// priceList fills in what an organisation pays now.
func (a *app) priceList(ctx context.Context, org uuid.UUID, p *views.PricesPage) error {
	t, rate, err := a.tariff(ctx)
	if err != nil {
		return err
	}
	version, err := t.Rate(a.Gates.Now())
	if err != nil {
		return err
	}
	p.VAT = a.VATStatement
	p.Rate = views.ExchangeRate{Pounds: rate.String(), Version: version.ID, Since: sinceStart(version.StartsAt)}
	for _, line := range t.Lines(org, a.Gates.Now()) {
		switch line.Action {
		case wallet.ActionCall, wallet.ActionSMS:
			to := &p.Calls.Destinations
			if line.Action == wallet.ActionSMS {
				to = &p.Texts
			}
			if err := addDestination(to, line, rate); err != nil {
				return err
			}
		case wallet.ActionNumber:
			p.Number, err = flatPrice(line, rate)
		case wallet.ActionKnowledge:
			p.Knowledge, err = flatPrice(line, rate)
		}
		if err != nil {
			return err
		}
	}
	arrange(&p.Calls.Destinations)
	arrange(&p.Texts)
	return examples(&p.Calls, rate)
}

// sinceStart is a moment for people: the epoch stands for what was in force before anybody looked, which is the zero time.
func sinceStart(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// addDestination adds a line of calls or texts to a price list; one that is shut joins the others that are shut under its
// name.
func addDestination(list *[]views.Destination, line wallet.Price, rate money.Rate) error {
	d := views.Destination{Name: lineName(line), Own: line.OrgID.Valid}
	if line.Prefix != "" {
		d.Prefixes = []string{"+" + line.Prefix}
	}
	if line.State != wallet.PriceOn {
		i := slices.IndexFunc(*list, func(o views.Destination) bool { return !o.Offered && o.Name == d.Name && o.Own == d.Own })
		if i >= 0 {
			(*list)[i].Prefixes = append((*list)[i].Prefixes, d.Prefixes...)
		} else {
			*list = append(*list, d)
		}
		return nil
	}
	d.Offered, d.Price, d.Undelivered = true, line.Unit, line.ChargeUndelivered
	var err error
	if line.Action == wallet.ActionCall {
		d.Start, d.USD = line.Unit, line.PerMinute
		d.Price, err = money.CallCost(60, line.PerMinute, rate)
	} else {
		d.USD, err = rate.ToUSD(line.Unit)
	}
	if err != nil {
		return fmt.Errorf("couldn't convert a price: %w", err)
	}
	*list = append(*list, d)
	return nil
}

// arrange puts what is offered first, by name, then what is not, and at the end what no line says.
func arrange(list *[]views.Destination) {
	slices.SortStableFunc(*list, func(a, b views.Destination) int {
		rank := func(d views.Destination) int {
			switch {
			case len(d.Prefixes) == 0:
				return 1
			case d.Offered:
				return 0
			}
			return 2
		}
		return cmp.Or(rank(a)-rank(b), strings.Compare(a.Name, b.Name))
	})
	*list = append(*list, views.Destination{Name: "Everywhere else"})
}

func flatPrice(line wallet.Price, rate money.Rate) (f views.FlatPrice, err error) {
	if line.State != wallet.PriceOn {
		return views.FlatPrice{}, nil
	}
	f = views.FlatPrice{Offered: true, Own: line.OrgID.Valid, Price: line.Unit, Monthly: line.Monthly}
	if f.USD, err = rate.ToUSD(f.Price); err == nil {
		f.MonthlyUSD, err = rate.ToUSD(f.Monthly)
	}
	if err != nil {
		return views.FlatPrice{}, fmt.Errorf("couldn't convert a price: %w", err)
	}
	return f, nil
}

// examples works out some calls at the price that most destinations have; of equals, the first.
func examples(c *views.CallPrices, rate money.Rate) (err error) {
	times := map[money.USDCents]int{}
	for _, d := range c.Destinations {
		if d.Offered {
			times[d.USD]++
			if times[d.USD] > times[c.PerMinute] {
				c.PerMinute, c.Start = d.USD, d.Start
			}
		}
	}
	if c.PerMinute == 0 {
		return nil
	}
	for _, s := range exampleSeconds {
		e := views.Example{Seconds: s}
		if e.Cost, err = money.CallCost(int64(s), c.PerMinute, rate); err != nil {
			return fmt.Errorf("couldn't work out an example: %w", err)
		}
		c.Examples = append(c.Examples, e)
	}
	return nil
}

// firstAuthor wrote the first rate card, whose reasons say what the numbers of a line are. Those of people are their own
// business.
const firstAuthor = "system:migration"

// lineName is what a line of calls or texts is called in a price list.
func lineName(p wallet.Price) string {
	switch {
	case p.Prefix == "":
		return "Without a destination, over the API"
	case p.State == wallet.PriceOff && p.Author == firstAuthor:
		return p.Reason
	}
	return placeOf(p.Prefix)
}

// placeOf is the country of a number or of the digits that numbers begin with, in English. Where several share the digits
// it is the main one, as libphonenumber has it.
func placeOf(prefix string) string {
	region := phonenumbers.GetRegionCodeForNumber(numberWith(prefix))
	if region == "" || region == "ZZ" {
		for n := 1; n <= min(3, len(prefix)); n++ { // no country code is the beginning of another
			code, err := strconv.Atoi(prefix[:n])
			if err != nil {
				break
			}
			if region = phonenumbers.GetRegionCodeForCountryCode(code); region != "ZZ" {
				break
			}
		}
	}
	parsed, err := language.ParseRegion(region)
	if err != nil || !parsed.IsCountry() {
		return "International numbers" // such as +800
	}
	return display.English.Regions().Name(parsed)
}

// numberWith is some number that begins with the digits, as far as one can be found.
func numberWith(prefix string) *phonenumbers.PhoneNumber {
	for _, digit := range "2345678901" {
		for length := max(len(prefix), 7); length <= 15; length++ {
			n, err := phonenumbers.Parse("+"+prefix+strings.Repeat(string(digit), length-len(prefix)), "")
			if err == nil && phonenumbers.IsValidNumber(n) {
				return n
			}
		}
	}
	return &phonenumbers.PhoneNumber{}
}
