package views

import (
	"strings"
	"testing"

	"github.com/a-h/templ"
)

func settings() SettingsPage {
	return SettingsPage{
		Meta: meta("Settings", "/settings"), PasswordHere: true, FactorOn: true, RecoveryLeft: 9, ManagesKeys: true,
		Organisations: []Organisation{{ID: "1", Name: "Harbour Dental", Role: "owner", Current: true}, {ID: "2", Name: "Second Tenant", Role: "viewer"}},
		Keys: []APIKey{
			{ID: "k1", Name: "Till", Prefix: "abcdefghij", Scopes: []string{"wallet:read", "holds:write"}, CreatedBy: "owner@harbour.example", CreatedAt: noon, LastUsedAt: noon},
			{ID: "k2", Name: "Old", Prefix: "klmnopqrst", Scopes: []string{"wallet:read"}, CreatedAt: noon, Revoked: true},
		},
		KeyForm: KeyForm{Scopes: []ScopeChoice{{Name: "wallet:read", Chosen: true}, {Name: "holds:write"}, {Name: "numbers:write"}}},
	}
}

// identityPages are the pages about who somebody is, in all their states.
func identityPages() map[string]templ.Component {
	bare := settings()
	bare.PasswordHere, bare.FactorOn, bare.FactorRequired, bare.ManagesKeys, bare.Organisations = false, false, true, false, nil
	refused := settings()
	refused.CurrentError, refused.PasswordError = "That is not your present password.", "Too short."
	refused.Keys, refused.KeyForm.NameError, refused.KeyForm.ScopesError = nil, "Give it a name.", "Choose one."
	made := settings()
	made.Notice, made.NewKey, made.NewKeyName = "Done.", "rf_test_abcdefghij_abcdefghijklmnopqrstuvwxyz", "Till"
	evil := settings()
	evil.Meta, evil.Notice, evil.CurrentError, evil.PasswordError, evil.NewKey, evil.NewKeyName = hostileMeta(true), hostile, hostile, hostile, hostile, hostile
	evil.Organisations = []Organisation{{ID: hostile, Name: hostile, Role: hostile}}
	evil.Keys = []APIKey{{ID: hostile, Name: hostile, Prefix: hostile, Scopes: []string{hostile}, CreatedBy: hostile, CreatedAt: noon}}
	evil.KeyForm = KeyForm{Name: hostile, NameError: hostile, ScopesError: hostile, Scopes: []ScopeChoice{{Name: hostile}}}
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
		"settings, refused":       Settings(refused),
		"settings, key made":      Settings(made),
		"settings, hostile":       Settings(evil),
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
	p := settings()
	doc := parse(t, Settings(p))
	if doc.Find("#new-key").Length() != 0 {
		t.Error("a place for a key that was not made")
	}
	if n := doc.Find(`input[type=password][value]:not([value=""])`).Length(); n != 0 {
		t.Errorf("%d passwords came back", n)
	}
	if doc.Find(`form[action="/settings/keys/k2/revoke"]`).Length() != 0 || doc.Find(`form[action="/settings/keys/k1/revoke"]`).Length() != 1 {
		t.Error("the wrong keys can be revoked")
	}
	if doc.Find("#scope-wallet\\:read").AttrOr("checked", "none") == "none" {
		t.Error("what was chosen was forgotten")
	}
}
