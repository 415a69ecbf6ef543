package telephony_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

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

// FuzzSegments holds the count against another way to find it: the text is written out as it travels, and cut.
func FuzzSegments(f *testing.F) {
	for _, body := range []string{"", "Hello", strings.Repeat("€a", 150), strings.Repeat("a", 152) + "€", "\xff", "e\u0301", strings.Repeat("😀", 40) + "x", strings.Repeat("ж", 66) + "😀ж"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		n, encoding := telephony.Segments(body)
		if want, e := cutInto(body); n != want || encoding != e {
			t.Errorf("%q: %d %s, want %d %s", body, n, encoding, want, e)
		}
	})
}

// cutInto counts the segments of a text of which no unit that begins a pair may stand at an end.
func cutInto(body string) (n int, encoding telephony.Encoding) {
	const esc = 0x1b
	alone, each, first := 160, 153, func(u uint16) bool { return u == esc }
	encoding = telephony.GSM7
	var units []uint16
	for _, r := range body {
		_, single := slices.BinarySearch(gsmSingle, r)
		_, double := slices.BinarySearch(gsmDouble, r)
		switch {
		case single:
			units = append(units, 0)
		case double:
			units = append(units, esc, 0)
		default:
			encoding = telephony.UCS2
		}
	}
	if encoding == telephony.UCS2 {
		alone, each, first = 70, 67, func(u uint16) bool { return u >= 0xd800 && u < 0xdc00 }
		units = utf16.Encode([]rune(body))
	}
	if len(units) <= alone {
		return 1, encoding
	}
	for ; len(units) > 0; n++ {
		cut := min(each, len(units))
		if first(units[cut-1]) {
			cut--
		}
		units = units[cut:]
	}
	return n, encoding
}

// The alphabet by code point, in ascending order, from the table of Unicode's for GSM 03.38
// (https://www.unicode.org/Public/MAPPINGS/ETSI/GSM0338.TXT).
var (
	gsmSingle = func() []rune {
		all := []rune{
			0x0a, 0x0d, 0x40, 0x5f, 0xa1, 0xa3, 0xa4, 0xa5, 0xa7, 0xbf, 0xc4, 0xc5, 0xc6, 0xc7, 0xc9, 0xd1, 0xd6, 0xd8, 0xdc, 0xdf, 0xe0, 0xe4, 0xe5, 0xe6,
			0xe8, 0xe9, 0xec, 0xf1, 0xf2, 0xf6, 0xf8, 0xf9, 0xfc, 0x393, 0x394, 0x398, 0x39b, 0x39e, 0x3a0, 0x3a3, 0x3a6, 0x3a8, 0x3a9,
		}
		for _, span := range [][2]rune{{' ', '?'}, {'A', 'Z'}, {'a', 'z'}} {
			for r := span[0]; r <= span[1]; r++ {
				all = append(all, r)
			}
		}
		slices.Sort(all)
		return all
	}()
	gsmDouble = []rune{0x0c, '[', '\\', ']', '^', '{', '|', '}', '~', 0x20ac}
)

func TestAlphabet(t *testing.T) {
	if len(gsmSingle) != 127 || len(gsmDouble) != 10 { // with the escape they are the table's 128
		t.Fatalf("%d and %d characters", len(gsmSingle), len(gsmDouble))
	}
	for r := range rune(0x20000) {
		n, encoding := telephony.Segments(strings.Repeat(string(r), 81))
		if want, e := cutInto(strings.Repeat(string(r), 81)); n != want || encoding != e {
			t.Fatalf("%q × 81: %d %s, want %d %s", r, n, encoding, want, e)
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
