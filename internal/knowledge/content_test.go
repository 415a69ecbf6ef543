package knowledge

import (
	"strings"
	"testing"
	"unicode/utf8"

	"ringfence/internal/fault"
)

// What a file is is decided by what is in it.
func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content string
		want          Kind
		says          string // of the refusal
	}{
		{"a.txt", "Open from nine.", Text, ""},
		{"a", "Grüße", Text, ""},
		{"a.MD", "# Hours", Markdown, ""},
		{"a.markdown", "\ufeff# Hours", Markdown, ""},
		{"hours.pdf", "This is text, whatever its name says.", Text, ""},
		{"hours.txt", "%PDF-1.7\n\x00\xff", PDF, ""},
		{"hours.md", "\ufeff \r\n%PDF-1.7\n", PDF, ""},
		{"hours.md", "Every PDF begins with %PDF- and a number.", Markdown, ""},
		{"hours.pdf", "\x00\x01junk before it %PDF-1.4\n\xff", PDF, ""},
		{"hours.pdf", "\x00" + strings.Repeat("x", 1100) + "%PDF-1.4", "", "neither text nor a PDF"},
		{"picture.txt", "\x89PNG\r\n\x1a\n\x00\x00", "", "neither text nor a PDF"},
		{"latin1.txt", "Gr\xfc\xdfe", "", "neither text nor a PDF"},
		{"nul.txt", "a\x00b", "", "neither text nor a PDF"},
		{"notepad.txt", "\xff\xfea\x00b\x00", "", "UTF-16"},
	} {
		kind, err := kindOf(c.name, []byte(c.content))
		if kind != c.want || c.says == "" && err != nil {
			t.Errorf("%s, %.20q: %q, %v, want %q", c.name, c.content, kind, err, c.want)
		}
		if c.says != "" {
			if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Field != "file" || !strings.Contains(f.Public, c.says) {
				t.Errorf("%s, %.20q: %v, want it to say %q", c.name, c.content, err, c.says)
			}
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\r\nb\rc\n":             "a\nb\nc",
		"\n\n a \t\n\n\n\n b  \n": " a\n\n b",
		"one\ftwo\vthree":         "one\n\ntwo\nthree",
		"cafe\u200b\u0301":        "caf\u00e9",
		"a\x00b\x02c\x1b[0m":      "a b c [0m",
		"re\u00adlease\u200b":     "release",
		"a" + strings.Repeat(" ", 17) + "b" + strings.Repeat("\u00a0", 99) + "c": "a" + strings.Repeat(" ", 16) + "b" + strings.Repeat("\u00a0", 16) + "c",
		"  \n\t\n": "",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Whatever is sent, what is kept is text that Postgres takes and that marks cannot be mistaken in; cleaning it again
// changes nothing.
func FuzzClean(f *testing.F) {
	for _, text := range []string{"a\r\n\r\nb", "\x02\x03", "e\u0301\u0301", "\ufeff", "\u1100\u1161\u11a8", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		got := clean(text)
		if !storable(got) || strings.Contains(got, MarkStart) || strings.Contains(got, MarkEnd) {
			t.Errorf("%q became %q", text, got)
		}
		if again := clean(got); again != got {
			t.Errorf("%q became %q, and then %q", text, got, again)
		}
	})
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 300)
	for name, want := range map[string]string{
		"Hours.pdf":                "Hours.pdf",
		`C:\Users\me\Hours.pdf`:    "Hours.pdf",
		"../../etc/passwd":         "passwd",
		"  a\t\nb\u202e .txt ":     "a b .txt",
		"":                         "",
		"\xff.txt":                 "",
		"a\x00b":                   "",
		"dir/":                     "",
		long + ".pdf":              strings.Repeat("ä", 195) + "….pdf",
		long + "." + long:          strings.Repeat("ä", 199) + "…",
		strings.Repeat("x", 200):   strings.Repeat("x", 200),
		"Zahna\u0308rzte.markdown": "Zahn\u00e4rzte.markdown",
	} {
		got := nameOf(name)
		if got != want || utf8.RuneCountInString(got) > maxName {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
}
