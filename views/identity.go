package views

import (
	"strconv"
	"time"
)

// FactorPage is the model of the second step of signing in.
type FactorPage struct {
	Meta PageMeta
	// Error is about the attempts as a whole, CodeError belongs beside the code.
	Error, CodeError string
	// Next is the path to go to afterwards, already checked to be one of ours.
	Next string
}

// SignUpPage is the model of the page that makes an organisation.
type SignUpPage struct {
	Meta PageMeta
	// Organisation and Email are what was typed.
	Organisation, Email string
	// Error is about the attempt as a whole; the others belong beside their fields.
	Error, OrganisationError, EmailError, PasswordError string
}

// Organisation is one that the person works in.
type Organisation struct {
	ID, Name, Role string
	// Current is the one whose pages are shown.
	Current bool
}

// APIKey is an API key as it may be shown.
type APIKey struct {
	ID, Name, Prefix string
	Scopes           []string
	// CreatedBy is an e-mail; empty for the command line.
	CreatedBy string
	CreatedAt time.Time
	// LastUsedAt is zero for a key that was never used.
	LastUsedAt time.Time
	Revoked    bool
}

// ScopeChoice is one thing that a key may do.
type ScopeChoice struct {
	// Name is as programs know it, such as "wallet:read".
	Name   string
	Chosen bool
}

// words says what a scope allows.
func (c ScopeChoice) words() string {
	switch c.Name {
	case "wallet:read":
		return "See the balance"
	case "holds:write":
		return "Hold and spend money"
	case "messages:write":
		return "Send texts"
	case "messages:read":
		return "See texts"
	case "calls:read":
		return "See calls"
	case "calls:write":
		return "Make calls"
	case "numbers:read":
		return "See phone numbers"
	case "numbers:write":
		return "Buy and release phone numbers"
	case "knowledge:read":
		return "Search the knowledge base"
	case "agents:read":
		return "See phone agents"
	case "agents:write":
		return "Make, change and delete phone agents"
	case "webhooks:read":
		return "See webhook endpoints"
	case "webhooks:write":
		return "Change webhook endpoints"
	}
	return c.Name
}

// KeyForm is the form for a new key.
type KeyForm struct {
	Name                   string
	NameError, ScopesError string
	Scopes                 []ScopeChoice
}

// SettingsPage is the model of the first page of the settings.
type SettingsPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice        string
	Organisations []Organisation
}

// SecurityPage is the model of how somebody signs in.
type SecurityPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice string

	// PasswordHere is false where a sign-in provider keeps the password.
	PasswordHere                bool
	CurrentError, PasswordError string

	FactorOn       bool
	FactorRequired bool
	RecoveryLeft   int
}

// KeysPage is the model of the organisation's API keys.
type KeysPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice string
	// Manages is for owners; nobody else sees the keys.
	Manages bool
	Keys    []APIKey
	KeyForm KeyForm
	// NewKey is a key that was made just now: it is shown this once.
	NewKey, NewKeyName string
}

// FactorForm names the form on the page of the second factor that was sent.
type FactorForm string

// The forms.
const (
	FactorConfirm  FactorForm = "confirm"
	FactorRecovery FactorForm = "recovery-codes"
	FactorRemove   FactorForm = "remove"
)

// FactorSettingsPage is the model of the page where the second factor is turned on and off.
type FactorSettingsPage struct {
	Meta PageMeta
	On   bool
	// Since is when it was turned on.
	Since        time.Time
	RecoveryLeft int
	// Required says that an operator has to have one.
	Required bool
	// Secret waits to be confirmed; empty when none does. QRPath draws it, in a square of QRSize units.
	Secret, QRPath string
	QRSize         int
	// Form is the one that was refused, for the reason CodeError.
	Form      FactorForm
	CodeError string
}

// errorIn is the message beside the code of a form.
func (p FactorSettingsPage) errorIn(form FactorForm) string {
	if p.Form == form {
		return p.CodeError
	}
	return ""
}

func (p FactorSettingsPage) viewBox() string {
	size := strconv.Itoa(p.QRSize)
	return "0 0 " + size + " " + size
}

// RecoveryCodesPage is the model of the page that shows the recovery codes, once.
type RecoveryCodesPage struct {
	Meta  PageMeta
	Codes []string
	// TurnedOn says that two-step sign-in was turned on just now; otherwise the codes replace older ones.
	TurnedOn bool
}

// left counts recovery codes for people.
func left(n int) string {
	switch n {
	case 0:
		return "No recovery codes are left."
	case 1:
		return "1 recovery code is left."
	}
	return strconv.Itoa(n) + " recovery codes are left."
}
