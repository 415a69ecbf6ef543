package views

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/views/ui"
)

// Assets are the addresses of the built files, as static.Path gives them.
type Assets struct {
	CSS, HTMX, SSE, App, Zone, Font, Favicon string
}

// User is who looks at the page; the zero value is nobody.
type User struct {
	Email string
	// OrgName is the organisation whose money is shown.
	OrgName string
	// Role is the role there: owner, member or viewer.
	Role string
	// Operator is set for platform operators.
	Operator bool
	// Suspended says that the organisation is, so that nothing can be changed.
	Suspended bool
	// Viewing says that an operator looks at the organisation as its people see it, until ViewUntil.
	Viewing   bool
	ViewUntil time.Time
}

// SignedIn reports whether there is anybody.
func (u User) SignedIn() bool { return u.Email != "" }

// whyNot says why somebody may look and not act: what is said before it ends in a comma.
func (u User) whyNot() string {
	if u.Suspended {
		return "because " + u.OrgName + " is suspended."
	}
	return "because your role is " + u.Role + ". Ask an owner of " + u.OrgName + " to change it."
}

// PageMeta is what every page has in common.
type PageMeta struct {
	// Title is the page's own; the name of the product is added.
	Title string
	// Path is the path of the request, which tells the navigation where we are.
	Path      string
	User      User
	CSRFToken string
	Assets    Assets
	// Theme is the colours that the reader has chosen.
	Theme Theme
	// RefreshSeconds reloads the page in browsers without scripts; 0 does not.
	RefreshSeconds int
	// Wide gives the signed-out a page as wide as everybody else's, for what they come to read.
	Wide bool
}

// heading is the text of the title element.
func (m PageMeta) heading() string {
	if m.Title == "" {
		return "Ringfence"
	}
	return m.Title + " · Ringfence"
}

func (m PageMeta) refresh() string { return strconv.Itoa(m.RefreshSeconds) }

// sitePages are the pages of the navigation, in order. A new page is added here and nowhere else.
var sitePages = []ui.NavItem{
	{Label: "Dashboard", Href: "/dashboard", Icon: ui.IconDashboard},
	{Label: "Wallet", Href: "/wallet", Icon: ui.IconWallet},
	{Label: "Numbers", Href: "/numbers", Icon: ui.IconNumber},
	{Label: "Agents", Href: "/agents", Icon: ui.IconAgent},
	{Label: "Calls", Href: "/calls", Icon: ui.IconPhone},
	{Label: "Messages", Href: "/messages", Icon: ui.IconMessage},
	{Label: "Knowledge", Href: "/knowledge", Icon: ui.IconKnowledge},
}

// opsPages are the operators' own, below a heading.
var opsPages = []ui.NavItem{
	{Label: "Overview", Href: "/ops", Icon: ui.IconDashboard, Section: "Operations"},
	{Label: "Organisations", Href: "/ops/organisations", Icon: ui.IconPerson},
	{Label: "Wallets", Href: "/ops/wallets", Icon: ui.IconWallet},
	{Label: "Prices", Href: "/ops/prices", Icon: ui.IconPrice},
	{Label: "Stripe events", Href: "/ops/stripe-events", Icon: ui.IconReceipt},
	{Label: "Auto top-ups", Href: "/ops/auto-top-ups", Icon: ui.IconMoneyIn},
	{Label: "Integrity", Href: "/ops/integrity", Icon: ui.IconCheck},
	{Label: "Jobs", Href: "/ops/jobs", Icon: ui.IconClock},
	{Label: "Margin", Href: "/ops/margin", Icon: ui.IconBank},
	{Label: "Audit log", Href: "/ops/audit", Icon: ui.IconFile},
	{Label: "Incidents", Href: "/ops/incidents", Icon: ui.IconAlert},
}

// nav is the navigation of this person as seen from this page: the organisation's pages for those who have one, and the
// operations for operators.
func nav(m PageMeta) []ui.NavItem {
	var items []ui.NavItem
	if m.User.Role != "" || !m.User.Operator {
		items = append(items, sitePages...)
	}
	settings := ui.NavItem{Label: "Settings", Href: "/settings", Icon: ui.IconPerson}
	switch {
	case m.User.Operator && m.User.Role == "": // what they come for stands first
		settings.Section = "Account"
		items = append(append(items, opsPages...), settings)
	case m.User.Operator:
		items = append(append(items, settings), opsPages...)
	default:
		items = append(items, settings)
	}
	for i := range items {
		items[i].Current = m.Path == items[i].Href || items[i].Href != "/ops" && strings.HasPrefix(m.Path, items[i].Href+"/") ||
			items[i].Href == settingsPath && m.Path == "/notices" ||
			items[i].Href == "/numbers" && (strings.HasPrefix(m.Path, "/credentials") || strings.HasPrefix(m.Path, "/caller-ids"))
	}
	return items
}

func shell(m PageMeta) ui.ShellProps {
	return ui.ShellProps{Nav: nav(m), Org: m.User.OrgName, Email: m.User.Email, Role: m.User.Role, CSRFToken: m.CSRFToken}
}

// htmxConfig is the configuration of htmx: no eval, no scripts in answers, no styles of its own and no copies of pages in
// the browser's storage. A 422 is swapped like any answer, since it is the same form again; other refusals go to the
// place for problems at the head of the page, whatever the target of the request was.
const htmxConfig = `{"allowEval":false,"allowScriptTags":false,"includeIndicatorStyles":false,"historyCacheSize":0,"timeout":20000,"defaultSettleDelay":0,` +
	`"responseHandling":[{"code":"204","swap":false},{"code":"[23]..","swap":true},{"code":"422","swap":true},` +
	`{"code":"[45]..","swap":true,"error":true,"target":"#problem","swapOverride":"innerHTML"}]}`

// Fragment names a part of a page that can be rendered alone.
type Fragment string

// The parts.
const (
	// FragmentProblem is the notice of an error page.
	FragmentProblem Fragment = "problem"
	// FragmentBalance is the content of the balance card, on the dashboard and the wallet.
	FragmentBalance Fragment = "balance"
	// FragmentBalanceStatus is the sentence that readers hear when the balance moved. It swaps itself into its place.
	FragmentBalanceStatus Fragment = "balance-status"
	// FragmentFrozen says that the wallet is frozen, where it is. It swaps itself into its place.
	FragmentFrozen Fragment = "frozen"
	// FragmentTransactions is the unfinished top-ups, the open holds and the recent transactions of the wallet.
	FragmentTransactions Fragment = "transactions"
	// FragmentQuote is what a custom amount will cost.
	FragmentQuote Fragment = "quote"
	// FragmentAmountError is the message beside the amount. It swaps itself into its place.
	FragmentAmountError Fragment = "amount-error"
	// FragmentTopUpForm is the form for a custom amount.
	FragmentTopUpForm Fragment = "top-up-form"
	// FragmentCost is the form that asks what something would cost, with the answer.
	FragmentCost Fragment = "cost"
	// FragmentCostStatus is the sentence that readers hear then. It swaps itself into its place.
	FragmentCostStatus Fragment = "cost-status"
	// FragmentReturn is the state of a top-up on its return page.
	FragmentReturn Fragment = "return"
	// FragmentOpsWallet is the money of a wallet on the operators' page of it.
	FragmentOpsWallet Fragment = "ops-wallet"
	// FragmentEvent is how an event of Stripe's stands, on its page.
	FragmentEvent Fragment = "event"
	// FragmentSearch is the search of the knowledge base with what it found.
	FragmentSearch Fragment = "search"
	// FragmentSearchStatus is the sentence that readers hear then. It swaps itself into its place.
	FragmentSearchStatus Fragment = "search-status"
	// FragmentDashboard is what the dashboard shows of today, numbers and agents, FragmentActivity what happened lately. It swaps
	// itself into its place.
	FragmentDashboard Fragment = "dashboard"
	FragmentActivity  Fragment = "activity"
	// FragmentHistory is the list of transactions with its form.
	FragmentHistory Fragment = "history"
	// FragmentHistoryStatus is the sentence that readers hear then. It swaps itself into its place.
	FragmentHistoryStatus Fragment = "history-status"
	// FragmentUpload is the form for a document.
	FragmentUpload Fragment = "upload"
	// FragmentAutoWords is what the settings of automatic top-ups come to, in pounds and dollars.
	FragmentAutoWords Fragment = "auto-words"
	// FragmentNumberSearch is the search for phone numbers with what it found, FragmentNumbers the list of those that there
	// are, FragmentNumber how one stands, and FragmentComparison how the providers' books stand to ours.
	FragmentNumberSearch Fragment = "number-search"
	FragmentNumbers      Fragment = "numbers"
	FragmentNumber       Fragment = "number"
	FragmentComparison   Fragment = "comparison"
	// FragmentAgents is the list of agents, FragmentAgent how one stands, FragmentAgentCall its test call (it swaps itself into its
	// place), FragmentCallCost what such a call may come to, and FragmentCallState how one that was placed goes.
	FragmentAgents    Fragment = "agents"
	FragmentAgent     Fragment = "agent"
	FragmentAgentCall Fragment = "agent-call"
	FragmentCallCost  Fragment = "call-cost"
	FragmentCallState Fragment = "call-state"
	// FragmentTelling are the numbers whose new token our voice service is being told.
	FragmentTelling Fragment = "telling"
	// FragmentCallerIDs is the list of numbers that may be shown, FragmentCallerID how one of them stands.
	FragmentCallerIDs Fragment = "caller-ids"
	FragmentCallerID  Fragment = "caller-id"
	// FragmentCalls is the list of calls with its form, FragmentCallRows without it, FragmentCallsStatus the sentence that readers hear
	// then (it swaps itself into its place), FragmentCall how one stands, FragmentPlaceCall the form for one, and FragmentPlaceCost
	// what the call in it may come to.
	FragmentCalls       Fragment = "calls"
	FragmentCallRows    Fragment = "call-rows"
	FragmentCallsStatus Fragment = "calls-status"
	FragmentCall        Fragment = "call"
	FragmentPlaceCall   Fragment = "place-call"
	FragmentPlaceCost   Fragment = "place-cost"
	// FragmentCompose is the form for a text, and FragmentMessageQuote what the text in it would cost.
	FragmentCompose Fragment = "compose"
	// FragmentMessages is the list of texts with its form, FragmentMessageRows without it, and FragmentMessagesStatus the sentence
	// that readers hear then. It swaps itself into its place.
	FragmentMessages       Fragment = "messages"
	FragmentMessageRows    Fragment = "message-rows"
	FragmentMessagesStatus Fragment = "messages-status"
	FragmentMessageQuote   Fragment = "message-quote"
	// FragmentOverview is how everything stands, on the operators' first page.
	FragmentOverview Fragment = "overview"
)

// Part renders the named parts of a page alone, in the order of the page.
func Part(page templ.Component, names ...Fragment) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		ids := make([]any, len(names))
		for i, name := range names {
			ids[i] = name
		}
		return templ.RenderFragments(ctx, w, page, ids...)
	})
}

// count prints a whole number with commas between the thousands.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}
