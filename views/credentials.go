package views

import (
	"time"

	"github.com/a-h/templ"

	"ringfence/views/ui"
)

// Credential is what may be shown of one: never its token.
type Credential struct {
	AccountSID, LastFour string
	// Refused says that Twilio did not take it when it was last tried, and Note why.
	Refused           bool
	Note              string
	SavedAt, TestedAt time.Time
}

func (c Credential) state() ui.StateProps {
	if c.Refused {
		return ui.StateProps{Word: "Refused", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: "Working", Tone: ui.ToneGood, Icon: ui.IconCheck}
}

// CredentialsPage is by which accounts at Twilio an organisation's numbers are had.
type CredentialsPage struct {
	Meta PageMeta
	// CanEdit is for owners; Off says that numbers are not set up here.
	CanEdit, Off bool
	// BuysOwn says that new numbers are bought in the customer's own account.
	BuysOwn bool
	// Managed is the one that we keep, Own the customer's; nil where there is none.
	Managed, Own *Credential
	// Telling are the numbers for which our voice service does not have the newest token yet.
	Telling []PhoneNumber
	// Removing asks before the customer's own is removed.
	Removing                         bool
	AccountSID, SIDError, TokenError string
	Notice, Problem                  string
}

func (p CredentialsPage) saveTitle() string {
	if p.Own != nil {
		return "Replace it"
	}
	return "Add your own Twilio account"
}

func (p CredentialsPage) saveLabel() string {
	if p.Own != nil {
		return "Try and replace"
	}
	return "Try and save"
}

func (p CredentialsPage) tellingTitle() string {
	if len(p.Telling) == 1 {
		return "Our voice service is being told the new token for 1 number"
	}
	return "Our voice service is being told the new token for " + count(int64(len(p.Telling))) + " numbers"
}

// CredentialsTelling are the numbers whose new token our voice service is being told, alone.
func CredentialsTelling(p CredentialsPage) templ.Component {
	return Part(Credentials(p), FragmentTelling)
}
