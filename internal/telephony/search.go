package telephony

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// SearchRequest asks for numbers that can be bought.
type SearchRequest struct {
	OrgID uuid.UUID
	// Country is two letters (ISO 3166-1), such as US; Type is empty for all of them.
	Country string
	Type    NumberType
	// Area is an area code of the United States or Canada, Contains digits that are in the number or letters that stand for
	// some; * is any one. Both may be empty.
	Area, Contains string
	// Limit is how many at most; zero means 20.
	Limit int
}

// Offer is a number that can be bought.
type Offer struct {
	PhoneNumber, Country string
	Type                 NumberType
	// Locality and Region are where it is, if Twilio says so.
	Locality, Region string
	Voice, SMS       bool
	// Needs is what stands in the way, as a sentence; empty where nothing does.
	Needs string
}

// Offers is what a search found.
type Offers struct {
	List []Offer
	// Kind says in whose account a number would be. Purchase and Monthly are what it costs at once and each month from one
	// month on, in pence; nothing in the customer's own account, where the provider's bill is the customer's.
	Kind              Kind
	Purchase, Monthly money.Pence
}

// searchMost bounds a search.
const searchMost = 50

var (
	countryForm  = regexp.MustCompile(`^[A-Z]{2}$`)
	containsForm = regexp.MustCompile(`^[0-9A-Za-z*]{2,15}$`)
)

func (r *SearchRequest) check() (area int, err error) {
	r.Country, r.Contains, r.Area = strings.ToUpper(strings.TrimSpace(r.Country)), strings.TrimSpace(r.Contains), strings.TrimSpace(r.Area)
	r.Limit = min(cmp.Or(max(r.Limit, 0), 20), searchMost)
	area, ok := areaCode(r.Area)
	switch {
	case !countryForm.MatchString(r.Country):
		return 0, fault.Field("country", "Give a country by its two letters, such as US.")
	case r.Type != "" && !slices.Contains(NumberTypes, r.Type):
		return 0, fault.Field("type", "Choose local, mobile or tollfree.")
	case !ok:
		return 0, fault.Field("area", "An area code has three digits.")
	case area > 0 && r.Country != "US" && r.Country != "CA":
		return 0, fault.Field("area", "Area codes are for the United States and Canada. Elsewhere, look for digits that the number contains.")
	case r.Contains != "" && (!containsForm.MatchString(r.Contains) || strings.Trim(r.Contains, "*") == ""):
		return 0, fault.Field("contains", "Give 2 to 15 digits or letters that the number is to contain; * stands for any one.")
	}
	return area, nil
}

// Search lists numbers that are for sale now, with what they cost and what stands in the way. Nothing is kept for anybody.
//
// Faults: Invalid with its field; Forbidden where numbers are not sold to the organisation; Unavailable when Twilio could
// not be asked.
func (s *Numbers) Search(ctx context.Context, r SearchRequest) (Offers, error) {
	if !s.On() {
		return Offers{}, errNumbersOff()
	}
	area, err := r.check()
	if err != nil {
		return Offers{}, err
	}
	var found Offers
	var buyer account
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		buyer, found.Kind, err = s.buyer(ctx, tx, r.OrgID)
		return err
	})
	if err != nil {
		return Offers{}, err
	}
	if found.Kind == Managed {
		tariff, err := s.o.Gates.Tariff(ctx)
		if err != nil {
			return Offers{}, err
		}
		price, err := tariff.Price(r.OrgID, wallet.ActionNumber, "", s.o.Now())
		if err != nil {
			return Offers{}, err
		}
		found.Purchase, found.Monthly = price.Unit, price.Monthly
	}
	client, err := s.client(buyer)
	if err != nil {
		return Offers{}, err
	}
	types := NumberTypes
	if r.Type != "" {
		types = []NumberType{r.Type}
	}
	for _, of := range types {
		if len(found.List) == r.Limit || area > 0 && of == Mobile {
			continue
		}
		list, err := client.search(r.Country, of, area, r.Contains, r.Limit-len(found.List))
		if err != nil {
			return Offers{}, s.ownRefused(buyer, err)
		}
		for _, at := range list {
			if at.number == "" {
				continue
			}
			o := Offer{PhoneNumber: at.number, Country: r.Country, Type: of, Locality: at.locality, Region: at.region, Voice: at.voice, SMS: at.sms}
			if at.address != "none" {
				o.Needs = "The law of this country asks for an address or papers, which we cannot hand in yet."
			}
			found.List = append(found.List, o)
		}
	}
	return found, nil
}
