package views

// The pages of the settings that others lead to.
const (
	settingsPath = "/settings"
	securityPath = "/settings/security"
	keysPath     = "/settings/keys"
)

// Theme is the colours that the reader has chosen; empty follows the device.
type Theme string

// The themes that can be chosen.
const (
	ThemeSystem Theme = ""
	ThemeLight  Theme = "light"
	ThemeDark   Theme = "dark"
)

// schemes are the colours that the browser may draw its own parts in, before any style is there.
func (t Theme) schemes() string {
	switch t {
	case ThemeLight, ThemeDark:
		return string(t)
	case ThemeSystem:
	}
	return "light dark"
}
