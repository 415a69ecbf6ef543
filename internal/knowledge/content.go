package knowledge

import (
	"bytes"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"ringfence/internal/fault"
)

// Kind is what a document is, by its content.
type Kind string

// The kinds; the schema knows the same ones.
const (
	Text     Kind = "text"
	Markdown Kind = "markdown"
	PDF      Kind = "pdf"
)

// kindOf decides by the content alone whether a file is a PDF or text. Only which sort of text it is is left to the name,
// and makes no difference to how it is read. A file that is neither is Invalid, field "file".
func kindOf(name string, content []byte) (Kind, error) {
	switch {
	case bytes.HasPrefix(bytes.TrimLeft(withoutMark(content), " \t\r\n"), []byte(pdfMark)):
		return PDF, nil
	case isText(content):
		switch strings.ToLower(path.Ext(name)) {
		case ".md", ".markdown", ".mdown", ".mkd":
			return Markdown, nil
		}
		return Text, nil
	case bytes.Contains(content[:min(len(content), 1024)], []byte(pdfMark)): // readers of PDF forgive what stands before it
		return PDF, nil
	case bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")):
		return "", fault.Field("file", "This text is written in UTF-16. Save it as UTF-8 and upload it again.")
	}
	return "", fault.Field("file", "This is neither text nor a PDF. Upload plain text or Markdown (UTF-8), or a PDF.")
}

// pdfMark begins every PDF.
const pdfMark = "%PDF-"

// isText reports whether content is text in UTF-8.
func isText(content []byte) bool {
	return bytes.IndexByte(content, 0) < 0 && utf8.Valid(content)
}

// withoutMark takes away the byte order mark that some editors put before UTF-8.
func withoutMark(content []byte) []byte {
	return bytes.TrimPrefix(content, []byte("\ufeff"))
}

// maxBlanks is how many blanks in a row are kept: enough for what is indented, too few to slow anything down.
const maxBlanks = 16

// clean brings text into the one form that is kept: lines end in a newline and not in blanks, paragraphs are parted by
// one empty line, accents are composed, and of what nobody can see only blanks, tabs and newlines stay.
func clean(text string) string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n\n", "\f", "\n\n", "\v", "\n").Replace(text)
	text = norm.NFC.String(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\u00ad' || r == '\ufeff' || r == '\u200b': // breaks that show only where a line ends
			return -1
		case unicode.Is(unicode.Cc, r):
			return ' '
		}
		return r
	}, text))
	var b strings.Builder
	b.Grow(len(text))
	empty := 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRightFunc(line, unicode.IsSpace)
		if line == "" {
			empty++
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\n\n"[:min(empty+1, 2)])
		}
		empty = 0
		blanks := 0
		for _, r := range line {
			if blanks++; !unicode.IsSpace(r) {
				blanks = 0
			}
			if blanks <= maxBlanks {
				b.WriteRune(r)
			}
		}
	}
	return b.String()
}

// storable reports whether Postgres can keep the text.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// maxName is how long a document's name may be, in characters.
const maxName = 200

// nameOf makes a document's name from what the browser calls the file: the last part of a path, in one line. Empty for a
// name that cannot be shown.
func nameOf(filename string) string {
	if !storable(filename) {
		return ""
	}
	if i := strings.LastIndexAny(filename, `/\`); i >= 0 {
		filename = filename[i+1:]
	}
	name := strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, norm.NFC.String(filename))), " ")
	if utf8.RuneCountInString(name) <= maxName {
		return name
	}
	ending := path.Ext(name)
	if utf8.RuneCountInString(ending) > 10 {
		ending = ""
	}
	keep := []rune(strings.TrimSuffix(name, ending))[:maxName-1-utf8.RuneCountInString(ending)]
	return strings.TrimSpace(string(keep)) + "…" + ending
}
