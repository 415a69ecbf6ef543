package views

import (
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"
	"github.com/a-h/templ"
)

// settingsPages are all pages of the settings, each with the tab that it stands under.
func settingsPages() map[string]struct {
	tab  string
	page templ.Component
} {
	type under = struct {
		tab  string
		page templ.Component
	}
	at := func(path string) PageMeta { return meta("x", path) }
	member := MemberLine{ID: "m", Email: "a@b.example", Role: "member", Since: noon}
	return map[string]under{
		"general":          {"General", Settings(settings())},
		"members":          {"Members", Members(MembersPage{Meta: at("/settings/members")})},
		"a member":         {"Members", Member(MemberPage{Meta: at("/settings/members/m"), Member: member})},
		"leaving":          {"Members", Leave(LeavePage{Meta: at("/settings/members/leave")})},
		"security":         {"Security", Security(security())},
		"password refused": {"Security", Security(SecurityPage{Meta: at("/settings/password"), PasswordHere: true})},
		"second factor":    {"Security", FactorSettings(FactorSettingsPage{Meta: at("/settings/second-factor")})},
		"recovery codes":   {"Security", RecoveryCodes(RecoveryCodesPage{Meta: at("/settings/second-factor/confirm")})},
		"sessions":         {"Sessions", Devices(DevicesPage{Meta: at("/settings/sessions")})},
		"keys":             {"API keys", Keys(keys())},
		"webhooks":         {"Webhooks", Webhooks(WebhooksPage{Meta: at("/settings/webhooks")})},
		"a new webhook":    {"Webhooks", NewWebhook(NewWebhookPage{Meta: at("/settings/webhooks/new")})},
		"a webhook":        {"Webhooks", Endpoint(WebhookPage{Meta: at("/settings/webhooks/w"), Manages: true})},
		"removing it":      {"Webhooks", RemoveWebhook(RemoveWebhookPage{Meta: at("/settings/webhooks/w/remove")})},
		"a delivery":       {"Webhooks", Delivery(DeliveryPage{Meta: at("/settings/webhook-deliveries/d")})},
		"notices":          {"Notices", NoticeSettings(NoticeSettingsPage{Meta: at("/settings/notices")})},
		"what was told":    {"Notices", Notices(NoticesPage{Meta: at("/notices"), Newest: true})},
		"privacy":          {"Privacy", Privacy(PrivacyPage{Meta: at("/settings/privacy"), CanChange: true})},
	}
}

// Every page of the settings has the same tabs, and says under which of them it stands.
func TestSettingsAreOneArea(t *testing.T) {
	const all = "General Members Security Sessions API keys Webhooks Notices Privacy"
	for name, c := range settingsPages() {
		doc := parse(t, c.page)
		tabs := doc.Find(`nav[aria-label="Settings"] a`)
		if got := strings.Join(tabs.Map(func(_ int, s *goquery.Selection) string { return words(s) }), " "); got != all {
			t.Errorf("%s: the tabs are %q", name, got)
		}
		if got := words(doc.Find(`nav[aria-label="Settings"] [aria-current="page"]`)); got != c.tab {
			t.Errorf("%s: it stands under %q", name, got)
		}
		if got := words(doc.Find(`nav[aria-label="Main"] [aria-current="page"]`)); got != "Settings" {
			t.Errorf("%s: the navigation says %q", name, got)
		}
	}
	bare := settings()
	bare.Meta.User.Role = ""
	if got := words(parse(t, Settings(bare)).Find(`nav[aria-label="Settings"]`)); got != "GeneralSecuritySessions" {
		t.Errorf("without an organisation: %q", got)
	}
}

// The colours that were chosen stand in the page itself, so that no others are ever painted.
func TestChosenColoursComeWithThePage(t *testing.T) {
	for theme, scheme := range map[Theme]string{ThemeSystem: "light dark", ThemeLight: "light", ThemeDark: "dark"} {
		p := settings()
		p.Meta.Theme = theme
		doc := parse(t, Settings(p))
		if got := doc.Find("html").AttrOr("data-theme", ""); got != string(theme) {
			t.Errorf("%q: the page is %q", theme, got)
		}
		if got := doc.Find(`meta[name="color-scheme"]`).AttrOr("content", ""); got != scheme {
			t.Errorf("%q: the browser may draw in %q", theme, got)
		}
		if got := doc.Find(`#appearance [aria-pressed="true"]`).AttrOr("value", "none"); got != string(theme) {
			t.Errorf("%q: the choice shown is %q", theme, got)
		}
		if n := doc.Find(`#appearance [aria-pressed="true"]`).Length(); n != 1 {
			t.Errorf("%q: %d choices are shown as made", theme, n)
		}
	}
}

// What cannot be undone is never a single press away: its form lies in a question, or on a page of its own.
func TestNothingIsUndoneByOnePress(t *testing.T) {
	asks := map[string]templ.Component{
		`form[action="/settings/keys/k1/revoke"]`: Keys(keys()),
		`form[action$="/m/remove"]`:               settingsPages()["a member"].page,
		`form[action$="/i/revoke"]`: Members(MembersPage{Meta: meta("x", "/settings/members"), Manages: true, Mails: true, Invitations: []InvitationLine{
			{ID: "i", Email: "a@b.example", Role: "member", SentAt: noon, ExpiresAt: noon},
		}}),
		`form[action$="/roll"]`: settingsPages()["a webhook"].page,
	}
	for form, page := range asks {
		question := parse(t, page).Find("details:not([open]) " + form).Closest("details")
		if question.Length() != 1 || question.Find("summary").Length() != 1 || len(words(question.Find("p"))) < 40 {
			t.Errorf("%s does not ask before", form)
		}
	}
}

// A phone number is shown as people read it, wherever one is; forms and copies keep it as programs write it.
func TestPhoneNumbersAreShownOneWay(t *testing.T) {
	const raw, shown = "+16177144244", "+1 617-714-4244"
	n := PhoneNumber{ID: "n", Number: raw, Country: "US", State: NumberActive, At: noon}
	told := Transaction{ID: "t", At: noon, Description: "Phone number " + raw, Kind: KindNumber, Amount: -1000}
	m := Message{ID: "m", From: "+15005550006", To: raw, State: "delivered", At: noon, Talk: true}
	own := wallet()
	own.Transactions = []Transaction{told}
	for name, page := range map[string]templ.Component{
		"numbers":       Numbers(NumbersPage{Meta: meta("x", "/numbers"), Numbers: []PhoneNumber{n}}),
		"a number":      NumberDetail(NumberPage{Meta: meta("x", "/numbers/n"), Number: n, CanBuy: true}),
		"releasing it":  ReleaseNumber(ReleaseNumberPage{Meta: meta("x", "/numbers/n/release"), Number: n}),
		"buying one":    BuyNumber(BuyNumberPage{Meta: meta("x", "/numbers/buy"), Offer: NumberOffer{Number: raw, Country: "US"}}),
		"agents":        Agents(AgentsPage{Meta: meta("x", "/agents"), Agents: []PhoneAgent{{ID: "a", Name: "Front desk", NumberID: "n", Number: raw}}}),
		"caller IDs":    CallerIDs(CallerIDsPage{Meta: meta("x", "/caller-ids"), List: []CallerNumber{{ID: "c", Number: raw, State: CallerIDVerified, At: noon}}}),
		"a caller ID":   CallerID(CallerIDPage{Meta: meta("x", "/caller-ids/c"), Number: CallerNumber{ID: "c", Number: raw, State: CallerIDVerified, At: noon}}),
		"messages":      Messages(MessagesPage{Meta: meta("x", "/messages"), Messages: []Message{m}}),
		"a message":     MessageDetail(MessagePage{Meta: meta("x", "/messages/m"), Message: m}),
		"what is ours":  Conversation(ConversationPage{MessagesPage: MessagesPage{Meta: meta("x", "/messages/i/conversation"), Messages: []Message{{ID: "i", Inbound: true, From: m.From, To: raw, State: "received", At: noon}}}, With: m.From}),
		"conversation":  Conversation(ConversationPage{MessagesPage: MessagesPage{Meta: meta("x", "/messages/m/conversation"), Messages: []Message{m}}, With: raw}),
		"wallet":        Wallet(own),
		"a transaction": TransactionDetail(TransactionPage{Meta: meta("x", "/wallet/transactions/t"), Transaction: told}),
		"notices":       Notices(NoticesPage{Meta: meta("x", "/notices"), List: []NoticeLine{{Title: "The rent of " + raw, Text: raw + " is released.", At: noon}}}),
	} {
		doc := parse(t, page)
		if text := words(doc.Find("main")); strings.Contains(text, raw) || !strings.Contains(text, shown) {
			t.Errorf("%s shows a number as programs write it, or not at all: %s", name, text)
		}
	}
	if got := parse(t, NumberDetail(NumberPage{Meta: meta("x", "/numbers/n"), Number: n})).Find("[data-copy]").AttrOr("data-copy", ""); got != raw {
		t.Errorf("what is copied is %q", got)
	}
	if got := parse(t, BuyNumber(BuyNumberPage{Meta: meta("x", "/numbers/buy"), Offer: NumberOffer{Number: raw, Country: "US"}})).Find(`input[name=phone_number]`).AttrOr("value", raw); got != raw {
		t.Errorf("what is bought is %q", got)
	}
}
