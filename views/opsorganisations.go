package views

import (
	"net/url"
	"strconv"
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// OrganisationFilter is what the list of organisations was asked for, as it was asked.
type OrganisationFilter struct {
	Text string
	// Show is empty, suspended or closed.
	Show string
}

func (f OrganisationFilter) empty() bool { return f == OrganisationFilter{} }

func (f OrganisationFilter) href(after string) string {
	return hrefWith("/ops/organisations", "q", f.Text, "show", f.Show, "after", after)
}

func (f OrganisationFilter) options() []ui.Option {
	return []ui.Option{{Label: "All organisations"}, {Value: "suspended", Label: "Suspended"}, {Value: "closed", Label: "Closed"}}
}

// hrefWith is an address with what of the query is not empty: name, value, name, value …
func hrefWith(path string, query ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		if query[i+1] != "" {
			q.Set(query[i], query[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// OrgRow is an organisation as operators see it.
type OrgRow struct {
	ID, Name  string
	CreatedAt time.Time
	// SuspendedAt is zero while it works.
	SuspendedAt time.Time
	Closed      bool
	// People work in it, Invited are asked to.
	People, Invited int
	// Owner is the e-mail of the first; empty where there is none yet.
	Owner string
}

func organisationHref(id string) string { return "/ops/organisations/" + url.PathEscape(id) }

func (o OrgRow) state() ui.StateProps {
	switch {
	case o.Closed:
		return ui.StateProps{Word: "Closed", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case !o.SuspendedAt.IsZero():
		return ui.StateProps{Word: "Suspended", Tone: ui.ToneBad, Icon: ui.IconLock}
	case o.People == 0:
		return ui.StateProps{Word: "Nobody yet", Tone: ui.ToneWarn, Icon: ui.IconClock}
	}
	return ui.StateProps{Word: "Works", Tone: ui.ToneGood, Icon: ui.IconCheck}
}

func (o OrgRow) people() string {
	text := strconv.Itoa(o.People)
	if o.Invited > 0 {
		text += " (" + strconv.Itoa(o.Invited) + " invited)"
	}
	return text
}

// OrganisationsPage is the model of the operators' list.
type OrganisationsPage struct {
	Meta   PageMeta
	Filter OrganisationFilter
	Rows   []OrgRow
	// Next is the cursor of the next page, empty on the last; First is false on every page but the first.
	Next  string
	First bool
}

// OrganisationForm is the form for a new organisation, with what was typed and what is wrong with it by field.
type OrganisationForm struct {
	Name, Owner, Reason string
	Errors              map[string]string
}

// NewOrganisationPage is the model of the page with that form.
type NewOrganisationPage struct {
	Meta PageMeta
	Form OrganisationForm
	// Mails says that letters can be sent, as the invitation is one.
	Mails bool
}

// OrganisationPage is the model of one organisation's page for operators.
type OrganisationPage struct {
	Meta            PageMeta
	Organisation    OrgRow
	SuspendedReason string
	// Notice says what was done a moment ago.
	Notice string
	People []MemberLine
	// Wallet says that there is one.
	Wallet        bool
	Balance, Debt money.Pence
	// Numbers are active, Live those that have not ended; MoreNumbers says that not all were looked at.
	Numbers     int
	Live        []PhoneNumber
	MoreNumbers bool
}

func (p OrganisationPage) numbers() string {
	if p.MoreNumbers {
		return "At least " + strconv.Itoa(p.Numbers)
	}
	return strconv.Itoa(p.Numbers)
}

// SuspendPage is the model of the page that asks before an organisation is suspended, or works again.
type SuspendPage struct {
	Meta     PageMeta
	ID, Name string
	// Lift asks for the opposite.
	Lift bool
	// Since and SinceReason say how it stands; zero while it works.
	Since       time.Time
	SinceReason string
	// Reason and Error are the form as it was refused.
	Reason, Error string
}

func (p SuspendPage) title() string {
	if p.Lift {
		return "Let this organisation work again?"
	}
	return "Suspend this organisation?"
}

func (p SuspendPage) path() string {
	if p.Lift {
		return organisationHref(p.ID) + "/unsuspend"
	}
	return organisationHref(p.ID) + "/suspend"
}

// nothingToDo says that it stands already as it would after this form.
func (p SuspendPage) nothingToDo() bool { return p.Lift == p.Since.IsZero() }

// ViewPage is the model of the page that asks why an operator looks at an organisation as its people see it.
type ViewPage struct {
	Meta     PageMeta
	ID, Name string
	// Reason and Error are the form as it was refused, Problem is why it cannot be.
	Reason, Error, Problem string
}
