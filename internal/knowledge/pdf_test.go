package knowledge

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/fault"
	"ringfence/internal/knowledge/knowledgetest"
)

// reading is one reader for all tests here: it takes a while to start.
var reading = newPDFReader(true)

// bomb is a page that takes longer to draw than anybody lives: each thing on it draws the next ten times.
func bomb() []byte {
	var forms []string
	for i := range 24 {
		forms = append(forms, knowledgetest.Form(strings.Repeat(fmt.Sprintf("/X%d Do ", 5+i), 10), 5+i))
	}
	forms = append(forms, knowledgetest.Form("BT /F1 10 Tf (boom) Tj ET"))
	return knowledgetest.Drawn("", forms, "/X4 Do")
}

// balloon is a page whose content, once unpacked, is larger than the memory that it may take.
func balloon(t *testing.T) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := zlib.NewWriterLevel(&packed, zlib.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	blank := bytes.Repeat([]byte(" "), 1<<20)
	for range 80 {
		if _, err := w.Write(blank); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	form := fmt.Sprintf("<< /Type /XObject /Subtype /Form /BBox [0 0 1 1] /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream", packed.Len(), packed.Bytes())
	return knowledgetest.Drawn("", []string{form}, "/X4 Do BT /F1 10 Tf 50 800 Td (after) Tj ET")
}

func TestPDF(t *testing.T) {
	t.Parallel()
	p := reading
	good := knowledgetest.PDF("Opening hours\nWe open at nine (ten on Sundays).", "", "Prices")
	want := []string{"Opening hours\nWe open at nine (ten on Sundays).", "", "Prices"}
	for what, content := range map[string][]byte{
		"a PDF": good, "junk before it": append([]byte("junk\n"), good...), "no end": bytes.TrimSuffix(good, []byte("%%EOF\n")),
	} {
		if pages, err := p.text(t.Context(), content); err != nil || !slices.Equal(pages, want) {
			t.Errorf("%s: %q, %v", what, pages, err)
		}
	}
	locked := fmt.Sprintf("/Encrypt << /Filter /Standard /V 1 /R 2 /O <%064d> /U <%064d> /P -4 >> /ID [<00> <00>]", 1, 2)
	for what, c := range map[string]struct {
		content []byte
		says    string
	}{
		"locked":                   {knowledgetest.Drawn(locked, nil, "BT ET"), "locked with a password"},
		"locked by another method": {knowledgetest.Drawn("/Encrypt << /Filter /Other /V 9 >>", nil, "BT ET"), "locked with a password"},
		"a scan":                   {knowledgetest.Drawn("", nil, "0 0 100 100 re f", ""), "no text: its pages are pictures"},
		"no pages":                 {knowledgetest.Drawn("", nil), "damaged"},
		"a beginning alone":        {[]byte("%PDF-1.7\n"), "damaged"},
		"noise":                    {append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte{0xff, 0, '<', '<'}, 5000)...), "damaged"},
		"too many pages":           {knowledgetest.Drawn("", nil, slices.Repeat([]string{""}, maxPages+1)...), "more than 1000 pages"},
	} {
		pages, err := p.text(t.Context(), c.content)
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Field != "file" || !strings.Contains(f.Public, c.says) {
			t.Errorf("%s: %q, %v, want it to say %q", what, pages, err, c.says)
		}
	}
}

// Files made to harm us are given up within their time and memory, and the next one is read as if nothing had been.
func TestHostilePDFs(t *testing.T) {
	t.Parallel()
	p := newPDFReader(true)
	p.budget = 100 * time.Millisecond
	_, err := p.text(t.Context(), bomb())
	if f := fault.As(err); f == nil || f.Kind != fault.Invalid || !strings.Contains(f.Public, "takes too long") || !errors.Is(err, errTooLong) {
		t.Errorf("a page without end: %v", err)
	}
	p.budget = pdfBudget
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := p.text(ctx, bomb()); !errors.Is(err, context.Canceled) {
		t.Errorf("the person went away: %v", err)
	}
	if pages, err := p.text(t.Context(), balloon(t)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a page larger than the memory: %q, %v", pages, err)
	}
	if pages, err := p.text(t.Context(), knowledgetest.PDF("Still here")); err != nil || !slices.Equal(pages, []string{"Still here"}) {
		t.Errorf("afterwards: %q, %v", pages, err)
	}
}

// What is damaged anywhere is read or refused, and never more than that.
func TestDamagedPDFs(t *testing.T) {
	t.Parallel()
	p := reading
	whole := knowledgetest.PDF("Opening hours", "Prices")
	for at := 9; at < len(whole); at += 47 {
		for _, content := range [][]byte{whole[:at], slices.Concat(whole[:at], []byte{'<', 0xff}, whole[at+2:])} {
			if pages, err := p.text(t.Context(), content); err != nil && !fault.Is(err, fault.Invalid) || err == nil && len(pages) == 0 {
				t.Fatalf("damaged at %d: %q, %v", at, pages, err)
			}
		}
	}
}
