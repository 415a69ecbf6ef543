package views

import "ringfence/views/ui"

// PhoneText is an E.164 number as people read it, for sentences that are made elsewhere.
func PhoneText(e164 string) string { return ui.PhoneText(e164) }
