package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/browsertest"
	"ringfence/internal/knowledge/knowledgetest"
)

// Where things are on the page.
const (
	uploadButton = `#upload-form button[type=submit]`
	searchButton = `#search-form button[type=submit]`
)

// documents are what somebody has on their disk.
func documents(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string]string{
		"Opening hours.md": "# Opening hours\n\nWe are open from nine to five, on Saturdays from ten to two. On Sundays and bank holidays we are closed.\n\nIn an emergency outside these hours, call 111.\n",
		"Price list.pdf":   string(knowledgetest.PDF("Price list\nA check-up costs forty pounds.\nA filling costs from ninety pounds.", "On Saturdays a check-up costs ten pounds more.\nWhitening is not offered.")),
		"Frequently asked questions about parking, access and what to bring to a first appointment.txt": strings.Repeat("There is a car park behind the building. It is free for two hours. Please bring your insurance card to the first appointment. ", 120),
		"holiday.jpg":   "\xff\xd8\xff\xe0\x00\x10JFIF\x00",
		"too large.txt": strings.Repeat("Too large. ", 60_000),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestKnowledgeBase goes through the knowledge base as people do, with scripts and without.
func TestKnowledgeBase(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("with scripts", func(t *testing.T) { lookThingsUp(t, s) })
	t.Run("without scripts", func(t *testing.T) { lookThingsUpWithoutScripts(t, s) })
	s.booksAgree(t)
}

// balancePence is what Harbour Dental has.
func (s *site) balancePence(t *testing.T) int {
	t.Helper()
	return s.count(t, `SELECT balance_pence FROM wallets WHERE org_id = (SELECT id FROM organizations WHERE name = 'Harbour Dental')`)
}

func lookThingsUp(t *testing.T, s *site) {
	dir := documents(t)
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 4")                    // what is refused, on purpose
	tab.Expect("Response Status Error Code 413") // the same, by htmx
	tab.Open(s.base() + "/knowledge")
	want(t, "the list", tab.Text("#documents"), "No documents yet")
	tab.Everywhere("knowledge-empty")

	for _, c := range []struct{ file, says string }{
		{"", "Choose a file first"}, {"holiday.jpg", "neither text nor a PDF"}, {"too large.txt", "larger than 300 KB"},
	} {
		if c.file != "" {
			tab.Choose("#file", filepath.Join(dir, c.file))
		}
		tab.Click(uploadButton)
		tab.WaitText("#file-error", c.says)
		tab.Until("the focus", func() bool { return tab.Focused() == "file" })
	}
	tab.Everywhere("knowledge-refused")
	for _, file := range []string{"Opening hours.md", "Price list.pdf", "Frequently asked questions about parking, access and what to bring to a first appointment.txt"} {
		tab.Choose("#file", filepath.Join(dir, file))
		tab.Leave(uploadButton)
		want(t, "the notice", tab.Text("#done"), file+" was added")
	}
	want(t, "the list", tab.Text("#documents"), "3 documents of 200")
	want(t, "the list", tab.Text("#documents"), "PDF, 2 pages, 1 passage")
	tab.Everywhere("knowledge")
	tab.Choose("#file", filepath.Join(dir, "Opening hours.md"))
	tab.Leave(uploadButton)
	want(t, "the notice", tab.Text("#done"), "Opening hours.md was there already")

	before := s.balancePence(t)
	tab.Type("#query", "the")
	tab.Press("\r")
	tab.WaitText("#query-error", "at least one searchable word")
	tab.Type("#query", "of")
	tab.Click(searchButton)
	tab.Until("the focus", func() bool { return tab.Focused() == "query" })
	tab.Everywhere("knowledge-query-refused")
	tab.Type("#query", "what is a check-up on saturdays?")
	tab.DoubleClick(searchButton)
	tab.WaitText("#results", "£0.01 was charged")
	want(t, "what is read out", tab.Text("#search-status"), "found. £0.01 was charged")
	want(t, "the results", tab.Text("#results li"), "Price list.pdf Page 1, passage 1")
	if tab.Count("#results mark") == 0 {
		t.Error("nothing is marked")
	}
	if got := s.balancePence(t); got != before-1 {
		t.Errorf("a double click cost %dp", before-got)
	}
	tab.Click("#results summary")
	tab.WaitText("#results li", "Whitening is not offered")
	tab.Everywhere("knowledge-results")
	for _, width := range []int64{browsertest.Phone, 700, 1024} {
		tab.Look(browsertest.View{Width: width, Height: 3000})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("knowledge-whole-%d", width))
	}
	tab.Look(browsertest.View{})
	tab.Type("#query", "quantum")
	tab.Click(searchButton)
	tab.WaitText("#results", "Nothing found")
	tab.Everywhere("knowledge-nothing")

	tab.Leave(`#documents tbody tr:first-child a`)
	want(t, "the question", tab.Text("#document-name"), "Frequently asked questions")
	tab.Everywhere("knowledge-delete")
	tab.Leave("#keep")
	tab.Leave(`#documents tbody tr:first-child a`)
	tab.Leave("#delete-submit")
	want(t, "the notice", tab.Text("#done"), "The document was deleted")
	want(t, "the list", tab.Text("#documents"), "2 documents of 200")

	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + "/knowledge")
	want(t, "what a viewer sees", looks.Text("#documents"), "Opening hours.md")
	if n := looks.Count(`main form, main a[href$="/delete"]`); n != 0 {
		t.Errorf("a viewer can do %d things", n)
	}
	looks.Everywhere("knowledge-viewer")

	poor := s.tab(t, browsertest.View{}, "owner@second.example") // whose wallet is empty
	poor.Expect("status of 402")
	poor.Expect("Response Status Error Code 402")
	poor.Open(s.base() + "/knowledge")
	want(t, "another organisation's list", poor.Text("#documents"), "No documents yet")
	poor.Choose("#file", filepath.Join(dir, "Opening hours.md"))
	poor.Leave(uploadButton)
	poor.Type("#query", "saturdays")
	poor.Click(searchButton)
	poor.WaitText("#unpaid", "Top up at least £0.01")
	poor.Everywhere("knowledge-unpaid")
	poor.Leave("#unpaid-top-up")
	poor.WaitPath("/wallet")
}

func lookThingsUpWithoutScripts(t *testing.T, s *site) {
	dir := documents(t)
	tab := s.tab(t, browsertest.View{NoScripts: true}, owner)
	tab.Expect("status of 4")
	tab.Open(s.base() + "/knowledge")
	tab.Choose("#file", filepath.Join(dir, "holiday.jpg"))
	tab.Leave(uploadButton)
	want(t, "the refusal", tab.Text("#file-error"), "neither text nor a PDF")
	tab.Choose("#file", filepath.Join(dir, "too large.txt"))
	tab.Leave(uploadButton)
	want(t, "the refusal", tab.Text("#file-error"), "larger than 300 KB")
	tab.Choose("#file", filepath.Join(dir, "Frequently asked questions about parking, access and what to bring to a first appointment.txt"))
	tab.Leave(uploadButton)
	want(t, "the notice", tab.Text("#done"), "was added")

	before := s.balancePence(t)
	tab.Type("#query", "car park")
	tab.Leave(searchButton)
	want(t, "the results", tab.Text("#results"), "£0.01 was charged")
	tab.Screenshot("knowledge-results-plain")
	tab.Reload()
	want(t, "the results again", tab.Text("#results"), "nothing was charged again")
	if got := s.balancePence(t); got != before-1 {
		t.Errorf("a reload cost %dp", before-got-1)
	}
	tab.Leave(`#documents tbody tr:first-child a`)
	tab.Leave("#delete-submit")
	want(t, "the notice", tab.Text("#done"), "The document was deleted")
}
