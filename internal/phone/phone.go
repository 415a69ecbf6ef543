// Package phone writes phone numbers for people. Whatever is kept, computed with or given to programs is E.164.
package phone

import (
	"regexp"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// wrote finds what may be a whole E.164 number inside a sentence.
var wrote = regexp.MustCompile(`\+[1-9]\d{7,14}\b`)

// Text is a number as people read it, +44 7400 123456 for +447400123456. It is safe to repeat. What is no number, such as one that
// was masked, stays as it is.
func Text(e164 string) string {
	if !strings.HasPrefix(e164, "+") || strings.Trim(e164[1:], "0123456789 -()") != "" {
		return e164
	}
	n, err := phonenumbers.Parse(e164, "")
	if err != nil {
		return e164
	}
	return phonenumbers.Format(n, phonenumbers.INTERNATIONAL)
}

// In is a sentence with the numbers in it as people read them.
func In(sentence string) string { return wrote.ReplaceAllStringFunc(sentence, Text) }
