package auth

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// commonPasswords are the 10,000 most used passwords that are long enough for us, in lower case and in order: those of
// twelve characters and more, first come first, among SecLists' 10-million-password-list-top-1000000
// (https://github.com/danielmiessler/SecLists/tree/master/Passwords/Common-Credentials, MIT), which is Mark Burnett's. ASVS
// 5.0 (6.2.4) wants at least the 3,000 that meet one's own rules refused.
//
//go:embed common_passwords.txt
var commonPasswords string

var commonSet = sync.OnceValue(func() map[string]struct{} {
	set := make(map[string]struct{}, 10_000)
	for line := range strings.Lines(commonPasswords) {
		set[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return set
})

// common reports whether many people have chosen the password, in whatever case.
func common(password string) bool {
	_, is := commonSet()[strings.ToLower(password)]
	return is
}

// ourWords are words that guessers try here first (ASVS 5.0, 6.1.2).
var ourWords = []string{"ringfence", "telephony", "password", "passwort", "letmein", "welcome", "wallet"}

// enoughBeside is how many characters a password needs beside words that are guessed first.
const enoughBeside = 8

// obvious reports whether little is left of the password without our own words, the person's, such as their address, and
// digits and signs.
func obvious(password string, words []string) bool {
	rest := strings.ToLower(password)
	for _, word := range append(words, ourWords...) {
		for part := range strings.FieldsFuncSeq(strings.ToLower(word), func(r rune) bool { return !unicode.IsLetter(r) }) {
			if utf8.RuneCountInString(part) >= 3 {
				rest = strings.ReplaceAll(rest, part, " ")
			}
		}
	}
	if rest == strings.ToLower(password) {
		return false // none of them is in it
	}
	left := 0
	for _, r := range rest {
		if unicode.IsLetter(r) {
			left++
		}
	}
	return left < enoughBeside
}
