package views

import (
	"strings"
	"testing"

	"github.com/a-h/templ"
)

func settings() SettingsPage {
	return SettingsPage{
		Meta:          meta("Settings", "/settings"),
		Organisations: []Organisation{{ID: "1", Name: "Harbour Dental", Role: "owner", Current: true}, {ID: "2", Name: "Second Tenant", Role: "viewer"}},
	}
}

func security() SecurityPage {
	return SecurityPage{Meta: meta("Security", "/settings/security"), PasswordHere: true, FactorOn: true, RecoveryLeft: 9}
}

func keys() KeysPage {
	return KeysPage{
		Meta: meta("API keys", "/settings/keys"), Manages: true,
		Keys: []APIKey{
			{ID: "k1", Name: "Till", Prefix: "abcdefghij", Scopes: []string{"wallet:read", "holds:write"}, CreatedBy: "owner@harbour.example", CreatedAt: noon, LastUsedAt: noon},
			{ID: "k2", Name: "Old", Prefix: "klmnopqrst", Scopes: []string{"wallet:read"}, CreatedAt: noon, Revoked: true},
		},
		KeyForm: KeyForm{Scopes: []ScopeChoice{{Name: "wallet:read", Chosen: true}, {Name: "holds:write"}, {Name: "numbers:write"}}},
	}
}

// identityPages are the pages about who somebody is, in all their states.
func identityPages() map[string]templ.Component {
	bare, off := settings(), security()
	bare.Organisations, bare.Meta.Theme = nil, ThemeDark
	bare.Meta.User.Role = ""
	off.PasswordHere, off.FactorOn, off.FactorRequired = false, false, true
	refused, refusedKey := security(), keys()
	refused.CurrentError, refused.PasswordError = "That is not your present password.", "Too short."
	refusedKey.Keys, refusedKey.KeyForm.NameError, refusedKey.KeyForm.ScopesError = nil, "Give it a name.", "Choose one."
	made := keys()
	made.Notice, made.NewKey, made.NewKeyName = "Done.", "rf_test_abcdefghij_abcdefghijklmnopqrstuvwxyz", "Till"
	evil, evilSecurity, evilKeys := settings(), security(), keys()
	evil.Meta, evil.Notice = hostileMeta(true), hostile
	evil.Organisations = []Organisation{{ID: hostile, Name: hostile, Role: hostile}}
	evilSecurity.Meta, evilSecurity.Notice, evilSecurity.CurrentError, evilSecurity.PasswordError = hostileMeta(true), hostile, hostile, hostile
	evilKeys.Meta, evilKeys.Notice, evilKeys.NewKey, evilKeys.NewKeyName = hostileMeta(true), hostile, hostile, hostile
	evilKeys.Keys = []APIKey{{ID: hostile, Name: hostile, Prefix: hostile, Scopes: []string{hostile}, CreatedBy: hostile, CreatedAt: noon}}
	evilKeys.KeyForm = KeyForm{Name: hostile, NameError: hostile, ScopesError: hostile, Scopes: []ScopeChoice{{Name: hostile}}}
	m := meta("Two-step sign-in", "/settings/second-factor")
	return map[string]templ.Component{
		"factor":                  Factor(FactorPage{Meta: signedOut("Enter your code", "/login/second-factor")}),
		"factor refused":          Factor(FactorPage{Meta: signedOut("Enter your code", "/login/second-factor"), Error: "Too many.", CodeError: "Not right.", Next: "/wallet"}),
		"factor hostile":          Factor(FactorPage{Meta: hostileMeta(false), Error: hostile, CodeError: hostile, Next: hostile}),
		"sign-up":                 SignUp(SignUpPage{Meta: signedOut("Create an account", "/signup")}),
		"sign-up refused":         SignUp(SignUpPage{Meta: signedOut("Create an account", "/signup"), Organisation: "A", Email: "a@b.example", Error: "No.", OrganisationError: "No.", EmailError: "No.", PasswordError: "No."}),
		"sign-up hostile":         SignUp(SignUpPage{Meta: hostileMeta(false), Organisation: hostile, Email: hostile, Error: hostile, OrganisationError: hostile, EmailError: hostile, PasswordError: hostile}),
		"login with sign-up":      Login(LoginPage{Meta: signedOut("Sign in", "/login"), SignUp: true}),
		"settings":                Settings(settings()),
		"settings, bare":          Settings(bare),
		"settings, hostile":       Settings(evil),
		"security":                Security(security()),
		"security, off":           Security(off),
		"security, refused":       Security(refused),
		"security, hostile":       Security(evilSecurity),
		"keys":                    Keys(keys()),
		"keys of a viewer":        Keys(KeysPage{Meta: meta("API keys", "/settings/keys")}),
		"keys, refused":           Keys(refusedKey),
		"keys, made":              Keys(made),
		"keys, hostile":           Keys(evilKeys),
		"factor settings off":     FactorSettings(FactorSettingsPage{Meta: m, Required: true}),
		"factor settings waits":   FactorSettings(FactorSettingsPage{Meta: m, Secret: "ABCD-EFGH", QRPath: "M4 4h1v1h-1z", QRSize: 29, Form: FactorConfirm, CodeError: "Not right."}),
		"factor settings on":      FactorSettings(FactorSettingsPage{Meta: m, On: true, Since: noon, RecoveryLeft: 1, Required: true, Form: FactorRemove, CodeError: "Not right."}),
		"factor settings hostile": FactorSettings(FactorSettingsPage{Meta: hostileMeta(true), Secret: hostile, QRPath: hostile, CodeError: hostile, Form: FactorConfirm}),
		"recovery codes":          RecoveryCodes(RecoveryCodesPage{Meta: m, Codes: []string{"abcd-efgh-ijkl-mnop"}, TurnedOn: true}),
		"recovery codes hostile":  RecoveryCodes(RecoveryCodesPage{Meta: hostileMeta(true), Codes: []string{hostile}}),
	}
}

// A code that is refused is refused beside its own field, and nowhere else.
func TestCodeErrorsStandWhereTheyBelong(t *testing.T) {
	for form, field := range map[FactorForm]string{FactorRecovery: "#recovery-code-error", FactorRemove: "#remove-code-error"} {
		doc := parse(t, FactorSettings(FactorSettingsPage{Meta: meta("", "/x"), On: true, Since: noon, Form: form, CodeError: "Not right."}))
		if words(doc.Find(field)) != "Not right." || strings.Count(doc.Find("main").Text(), "Not right.") != 1 {
			t.Errorf("%s: %q", form, words(doc.Find(".field-error")))
		}
	}
}

// No page but the one after making it holds a key or a password that was typed.
func TestSettingsHoldNoSecrets(t *testing.T) {
	if n := parse(t, Security(security())).Find(`input[type=password][value]:not([value=""])`).Length(); n != 0 {
		t.Errorf("%d passwords came back", n)
	}
	doc := parse(t, Keys(keys()))
	if doc.Find("#new-key").Length() != 0 {
		t.Error("a place for a key that was not made")
	}
	if doc.Find(`form[action="/settings/keys/k2/revoke"]`).Length() != 0 || doc.Find(`form[action="/settings/keys/k1/revoke"]`).Length() != 1 {
		t.Error("the wrong keys can be revoked")
	}
	if doc.Find("#scope-wallet\\:read").AttrOr("checked", "none") == "none" {
		t.Error("what was chosen was forgotten")
	}
}
