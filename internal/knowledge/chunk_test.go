package knowledge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// texts of every sort that people and programs send, each long enough for several passages.
func texts(t *testing.T) map[string]string {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 11))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	build := func(parts int, part func(i int) string) string {
		var b strings.Builder
		for i := range parts {
			b.WriteString(part(i))
		}
		return b.String()
	}
	word := func() string {
		return build(1+r.IntN(9), func(int) string { return string(rune('a' + r.IntN(26))) })
	}
	sentence := func() string {
		return "The" + build(3+r.IntN(20), func(int) string { return " " + word() }) + pick(".", "!", "?", ".”")
	}
	return map[string]string{
		"paragraphs": build(300, func(int) string { return sentence() + pick("", " "+sentence()) + "\n\n" }),
		"lines":      build(400, func(int) string { return sentence() + "\n" }),
		"one line":   build(300, func(int) string { return sentence() + " " }),
		"words":      build(4000, func(int) string { return word() + " " }),
		"one word":   build(9000, func(int) string { return word() }),
		"one letter": strings.Repeat("a", 40_000),
		"digits":     build(9000, func(i int) string { return fmt.Sprint(i) }),
		"blanks":     "a" + strings.Repeat(" ", 200_000) + strings.Repeat("b \t\u00a0", 20_000) + strings.Repeat("\t \n", 20_000) + "c",
		"dashes":     strings.Repeat("-", 100_000) + strings.Repeat("a-", 3000),
		"chinese":    build(6000, func(int) string { return string(rune(0x4e00 + r.IntN(3000))) }),
		"emoji":      build(2500, func(int) string { return string(rune(0x1f300 + r.IntN(700))) }),
		"accents":    build(2000, func(int) string { return "e\u0301" + pick(" ", "", "\u00a0") + string(rune(0x0900+r.IntN(100))) }),
		"anything":   build(6000, func(int) string { return string(rune(1 + r.IntN(0xd7fe))) }),
		"markdown":   build(200, func(i int) string { return fmt.Sprintf("## Part %d\n\n- %s\n- `%s`\n\n", i, sentence(), word()) }),
	}
}

// Every token is in a passage, no passage is too long, none parts a character, and each shares about overlap with the next.
func TestSplit(t *testing.T) {
	t.Parallel()
	for name, text := range texts(t) {
		text = clean(text)
		chunks, err := split(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		tokens := func(from, to int) int {
			n, err := encoding().Count(text[from:to])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		all, at := tokens(0, len(text)), 0
		if all > ChunkTokens && len(chunks) < 2 {
			t.Errorf("%s: %d tokens in %d passages", name, all, len(chunks))
		}
		for i, c := range chunks {
			what := fmt.Sprintf("%s, passage %d of %d", name, i+1, len(chunks))
			piece := text[c.start:c.end]
			if strings.TrimSpace(piece) != piece || piece == "" || !utf8.ValidString(piece) {
				t.Errorf("%s begins with %.10q and ends with %q", what, piece, piece[max(0, len(piece)-10):])
			}
			n := tokens(c.start, c.end)
			if n > ChunkTokens {
				t.Errorf("%s has %d tokens", what, n)
			}
			if c.start > at && strings.TrimSpace(text[at:c.start]) != "" {
				t.Errorf("%s leaves out %.40q", what, text[at:c.start])
			}
			at = c.end
			if i+1 < len(chunks) && chunks[i+1].start < c.end {
				// What is shared is counted alone, which can be a few more than as a part of the whole.
				if shared := tokens(chunks[i+1].start, c.end); shared < Overlap-overlapSway-10 || shared > Overlap+overlapSway+10 {
					t.Errorf("%s shares %d tokens with the next", what, shared)
				}
			} else if i+1 < len(chunks) {
				t.Errorf("%s shares nothing with the next", what)
			}
		}
		if rest := strings.TrimSpace(text[at:]); rest != "" {
			t.Errorf("%s: the end is left out: %.40q", name, rest)
		}
	}
}

// A cut is made at the best place near the limit.
func TestSplitAtGoodPlaces(t *testing.T) {
	t.Parallel()
	ends := map[string]func(before, after string) bool{
		"paragraphs": func(_, after string) bool { return strings.HasPrefix(after, "\n\n") },
		"one line":   func(before, _ string) bool { return strings.ContainsAny(before[len(before)-4:], ".!?") },
		"words":      func(_, after string) bool { return strings.HasPrefix(after, " ") },
	}
	all := texts(t)
	for name, good := range ends {
		text := all[name]
		chunks, err := split(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chunks[:len(chunks)-1] {
			if !good(text[:c.end], text[c.end:]) {
				t.Errorf("%s: cut between %q and %.10q", name, text[c.end-10:c.end], text[c.end:])
			}
		}
		for _, c := range chunks[1:] {
			if r, _ := utf8.DecodeLastRuneInString(text[:c.start]); !unicode.IsSpace(r) {
				t.Errorf("%s: a passage begins within a word: %q, %.10q", name, text[c.start-10:c.start], text[c.start:])
			}
		}
	}
}

func TestSplitShort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "[]", "a": "[{0 1}]", "Open from nine.": "[{0 15}]", "  x  ": "[{2 3}]", " \n ": "[]"} {
		chunks, err := split(text)
		if err != nil || fmt.Sprint(chunks) != want {
			t.Errorf("%q: %v, %v, want %s", text, chunks, err, want)
		}
	}
}

func TestPageOf(t *testing.T) {
	t.Parallel()
	starts := []int{0, 10, 10, 30} // the second page is empty
	for offset, want := range map[int]int{0: 1, 9: 1, 10: 3, 29: 3, 30: 4, 99: 4} {
		if got := pageOf(starts, offset); got != want {
			t.Errorf("offset %d is on page %d, want %d", offset, got, want)
		}
	}
	if got := pageOf(nil, 5); got != 0 {
		t.Errorf("without pages: %d", got)
	}
}
