package telephony

import "unicode/utf16"

// Encoding is how a text travels.
type Encoding string

// The encodings. One character outside the alphabet of GSM makes the whole text UCS-2, of which less fits a segment.
const (
	GSM7 Encoding = "gsm-7"
	UCS2 Encoding = "ucs-2"
)

// MaxBody is the longest text that Twilio takes, in characters.
const MaxBody = 1600

// The alphabet of 3GPP TS 23.038, section 6.2.1: the default table, and its extension, whose characters take two places.
// https://www.etsi.org/deliver/etsi_ts/123000_123099/123038/
const (
	gsmDefault = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtension = "\f^{}\\[~]|€"
)

var gsmPlaces = func() map[rune]int {
	places := map[rune]int{}
	for _, r := range gsmDefault {
		places[r] = 1
	}
	for _, r := range gsmExtension {
		places[r] = 2
	}
	return places
}()

// Segments counts the segments of a text as Twilio charges for them
// (https://www.twilio.com/docs/glossary/what-sms-character-limit): one holds 160 characters of GSM or 70 of UCS-2, each of
// several 153 or 67, since they say how they belong together. A character of two places is never cut in half. An empty
// text has one.
func Segments(body string) (n int, encoding Encoding) {
	encoding = GSM7
	places := make([]int, 0, len(body))
	for _, r := range body {
		p, ok := gsmPlaces[r]
		if !ok {
			encoding = UCS2
			break
		}
		places = append(places, p)
	}
	alone, each := 160, 153
	if encoding == UCS2 {
		alone, each = 70, 67
		places = places[:0]
		for _, r := range body {
			places = append(places, max(1, utf16.RuneLen(r))) // what is no character travels as U+FFFD
		}
	}
	total := 0
	for _, p := range places {
		total += p
	}
	if total <= alone {
		return 1, encoding
	}
	room := 0
	for _, p := range places {
		if p > room {
			n, room = n+1, each
		}
		room -= p
	}
	return n, encoding
}
