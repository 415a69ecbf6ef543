package views

import "time"

// DeviceLine is a browser that is signed in.
type DeviceLine struct {
	// ID names the session, and opens nothing.
	ID string
	// Device is what it seems to be, in plain words, such as "Firefox on Windows".
	Device, Address, OrgName string
	SignedInAt, LastSeenAt   time.Time
	// This is the browser that asks.
	This bool
}

// DevicesPage is the model of the list of one's own sessions.
type DevicesPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice  string
	Devices []DeviceLine
}
