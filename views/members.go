package views

import (
	"strings"
	"time"

	"ringfence/views/ui"
)

// settingsTabs are the pages of the settings, the same on every one of them. Who has no organisation has no pages of one.
func settingsTabs(m PageMeta) ui.TabsProps {
	items := []ui.NavItem{{Label: "General", Href: settingsPath}}
	if m.User.Role != "" {
		items = append(items, ui.NavItem{Label: "Members", Href: "/settings/members"})
	}
	items = append(items, ui.NavItem{Label: "Security", Href: securityPath}, ui.NavItem{Label: "Sessions", Href: "/settings/sessions"})
	if m.User.Role != "" {
		items = append(items, ui.NavItem{Label: "API keys", Href: keysPath}, ui.NavItem{Label: "Webhooks", Href: "/settings/webhooks"},
			ui.NavItem{Label: "Notices", Href: "/settings/notices"}, ui.NavItem{Label: "Privacy", Href: privacyPath})
	}
	at := m.Path
	switch {
	case strings.HasPrefix(at, "/settings/second-factor"), at == "/settings/password":
		at = securityPath
	case strings.HasPrefix(at, "/settings/webhook-deliveries/"):
		at = "/settings/webhooks"
	case at == "/notices":
		at = "/settings/notices"
	}
	for i := range items {
		items[i].Current = at == items[i].Href || items[i].Href != settingsPath && strings.HasPrefix(at, items[i].Href+"/")
	}
	return ui.TabsProps{Label: "Settings", Items: items}
}

// MemberLine is somebody who works in the organisation.
type MemberLine struct {
	ID, Email, Role string
	Since           time.Time
	// You is the reader.
	You bool
}

// InvitationLine is an invitation that is open.
type InvitationLine struct {
	ID, Email, Role string
	// InvitedBy is an e-mail; empty for somebody who left.
	InvitedBy string
	SentAt    time.Time
	ExpiresAt time.Time
	// Expired says that its link has run out.
	Expired bool
}

// InviteForm is the form that asks somebody to join.
type InviteForm struct{ Email, Role, EmailError string }

// MembersPage is the model of the list of who works in the organisation.
type MembersPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago, Problem why something was not.
	Notice, Problem string
	Members         []MemberLine
	Invitations     []InvitationLine
	// Manages is for owners. Mails says that letters can be sent.
	Manages, Mails bool
	Form           InviteForm
}

// roleOptions are the roles, from the least to the most.
var roleOptions = []ui.Option{
	{Value: "viewer", Label: "Viewer: sees everything, changes nothing"},
	{Value: "member", Label: "Member: tops up, calls, texts, buys numbers"},
	{Value: "owner", Label: "Owner: everything, also members, keys and limits"},
}

// MemberPage is the model of the page where an owner changes what somebody may do, or ends it.
type MemberPage struct {
	Meta    PageMeta
	Member  MemberLine
	Problem string
	// Keys are the names of working API keys that they made.
	Keys []string
}

// LeavePage is the model of the page that asks before the reader leaves.
type LeavePage struct {
	Meta    PageMeta
	Problem string
	// Elsewhere says that they work in another organisation too.
	Elsewhere bool
}

// InvitationPage is the model of the page that the link in a letter leads to.
type InvitationPage struct {
	Meta                         PageMeta
	Token                        string
	OrgName, Email, Role, Sender string
	ExpiresAt                    time.Time
	// SignedInAs is who reads it; empty for a stranger. Fits says that it is who the letter went to.
	SignedInAs string
	Fits       bool
	// Makes says that accounts are made here; otherwise a sign-in provider keeps them.
	Makes bool
	// Error is about the attempt as a whole; the others belong beside their fields.
	Error, NewPasswordError, PasswordError string
}

// article is the role with its article.
func (p InvitationPage) article() string {
	if p.Role == "owner" {
		return "an owner"
	}
	return "a " + p.Role
}
