// Package knowledgetest makes documents for tests.
package knowledgetest

import (
	"bytes"
	"fmt"
	"strings"
)

// PDF makes a PDF with a page for each text, whose lines are set one below the other. A text may have ASCII characters
// alone.
func PDF(pages ...string) []byte {
	contents := make([]string, len(pages))
	for i, page := range pages {
		var b strings.Builder
		b.WriteString("BT /F1 10 Tf 12 TL 50 800 Td\n")
		for line := range strings.SplitSeq(page, "\n") {
			fmt.Fprintf(&b, "(%s) Tj T*\n", strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(line))
		}
		b.WriteString("ET")
		contents[i] = b.String()
	}
	return Drawn("", nil, contents...)
}

// Drawn makes a PDF with a page for each content stream. extra stands in the trailer; more are objects that are numbered
// from 4 on, and that pages can draw as /X4 and so on.
func Drawn(extra string, more []string, contents ...string) []byte {
	first := 4 + len(more)
	var kids, drawn strings.Builder
	for i := range contents {
		fmt.Fprintf(&kids, "%d 0 R ", first+2*i)
	}
	for i := range more {
		fmt.Fprintf(&drawn, "/X%d %d 0 R ", 4+i, 4+i)
	}
	resources := "<< /Font << /F1 3 0 R >> /XObject << " + drawn.String() + ">> >>"
	objects := append([]string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		fmt.Sprintf("<< /Type /Pages /Count %d /Kids [ %s] /MediaBox [0 0 595 842] /Resources %s >>", len(contents), kids.String(), resources),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
	}, more...)
	for i, content := range contents {
		objects = append(objects,
			fmt.Sprintf("<< /Type /Page /Parent 2 0 R /Contents %d 0 R >>", first+2*i+1),
			fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(content), content))
	}
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
	at := make([]int, len(objects))
	for i, o := range objects {
		at[i] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	table := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, offset := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, extra, table)
	return b.Bytes()
}

// Form is an object for [Drawn]: something that is drawn by its name, with the things that it draws itself.
func Form(content string, draws ...int) string {
	var x strings.Builder
	for _, n := range draws {
		fmt.Fprintf(&x, "/X%d %d 0 R ", n, n)
	}
	return fmt.Sprintf("<< /Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> /XObject << %s>> >> /Length %d >>\nstream\n%s\nendstream",
		x.String(), len(content), content)
}
