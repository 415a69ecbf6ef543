package telephony_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/telephony"
)

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		body     string
		n        int
		encoding telephony.Encoding
	}{
		{"", 1, telephony.GSM7},
		{"Hello", 1, telephony.GSM7},
		{strings.Repeat("a", 160), 1, telephony.GSM7},
		{strings.Repeat("a", 161), 2, telephony.GSM7},
		{strings.Repeat("a", 306), 2, telephony.GSM7},
		{strings.Repeat("a", 307), 3, telephony.GSM7},
		{strings.Repeat("a", 1600), 11, telephony.GSM7},
		{strings.Repeat("€", 80), 1, telephony.GSM7},
		{strings.Repeat("€", 81), 2, telephony.GSM7},
		// 153 is odd: the 77th pair would be cut, so it goes to the next segment.
		{strings.Repeat("€", 152), 2, telephony.GSM7},
		{strings.Repeat("€", 153), 3, telephony.GSM7},
		{"{}[]~\\|^€\f", 1, telephony.GSM7},
		{"àèéìòùÇØøÅåÆæßÉÄÖÑÜäöñü¿¡§¤£¥ΔΦΓΛΩΠΨΣΘΞ", 1, telephony.GSM7},
		{"ç", 1, telephony.UCS2},
		{"`", 1, telephony.UCS2},
		{strings.Repeat("ж", 70), 1, telephony.UCS2},
		{strings.Repeat("ж", 71), 2, telephony.UCS2},
		{strings.Repeat("ж", 134), 2, telephony.UCS2},
		{strings.Repeat("ж", 135), 3, telephony.UCS2},
		{strings.Repeat("😀", 35), 1, telephony.UCS2},
		{strings.Repeat("😀", 36), 2, telephony.UCS2},
		{strings.Repeat("😀", 66), 2, telephony.UCS2},
		{strings.Repeat("😀", 67), 3, telephony.UCS2},
	} {
		if n, encoding := telephony.Segments(c.body); n != c.n || encoding != c.encoding {
			t.Errorf("%.12q × %d: %d %s, want %d %s", c.body, len([]rune(c.body)), n, encoding, c.n, c.encoding)
		}
	}
}

// A longer text never takes fewer segments, and no segment is more than full.
func TestSegmentsGrow(t *testing.T) {
	alphabets := [][]rune{[]rune("abc €{}"), []rune("abж😀"), []rune("ab")}
	for range 300 {
		alphabet := alphabets[rand.N(len(alphabets))]
		var body strings.Builder
		last := 1
		for range 400 {
			body.WriteRune(alphabet[rand.N(len(alphabet))])
			n, encoding := telephony.Segments(body.String())
			if encoding == telephony.UCS2 && last > 1 && n < last || encoding == telephony.GSM7 && n < last {
				t.Fatalf("%q takes %d segments, and without its last character %d", body.String(), n, last)
			}
			last = n
		}
	}
}

// signature signs as Twilio does, by the published rule rather than by its library.
func signature(address string, params map[string]string, secret string) string {
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	slices.Sort(names)
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(address))
	for _, name := range names {
		mac.Write([]byte(name + params[name]))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
