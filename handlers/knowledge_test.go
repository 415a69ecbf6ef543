package handlers_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/knowledge"
	"ringfence/internal/knowledge/knowledgetest"
	"ringfence/internal/money"
)

const openingHours = "# Opening hours\n\nWe are open from nine to five, on Saturdays from ten to two.\n"

// multipartForm is a form as a browser sends one with a file: the fields first, then the file.
func multipartForm(t *testing.T, fields map[string]string, filename, content string) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, value := range fields {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile("file", filename)
	if err == nil {
		_, err = io.WriteString(f, content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.FormDataContentType()
}

// upload sends a file from the knowledge page.
func (b *browser) upload(filename, content string, headers ...string) reply {
	b.s.t.Helper()
	body, contentType := multipartForm(b.s.t, map[string]string{"csrf_token": b.token("/knowledge")}, filename, content)
	return b.do("POST", "/knowledge/documents", bytes.NewReader(body), append([]string{"Content-Type", contentType}, headers...)...)
}

// search sends the search form of a page, with the key that the page has.
func (b *browser) search(page reply, query string, headers ...string) reply {
	b.s.t.Helper()
	form := url.Values{"query": {query}}
	for _, name := range []string{"csrf_token", "key"} {
		form.Set(name, page.doc(b.s.t).Find(`#search-form input[name="`+name+`"]`).AttrOr("value", ""))
	}
	return b.post("/knowledge/search", form, headers...)
}

func (s *site) balance() int {
	return s.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, s.org)
}

func wantText(t *testing.T, what string, res reply, selector string, words ...string) {
	t.Helper()
	got := strings.Join(strings.Fields(res.doc(t).Find(selector).Text()), " ")
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %s says %q, want %q in it", what, selector, got, w)
		}
	}
}

func TestKnowledge(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	page := b.get("/knowledge")
	wantStatus(t, "empty", page, http.StatusOK)
	wantText(t, "empty", page, "#documents", "No documents yet")
	wantText(t, "empty", page, "#upload", "Up to 300 KB", "up to 1,000 tokens (cl100k_base) that overlap by about 200")
	wantText(t, "empty", page, `nav[aria-label="Main"] [aria-current=page]`, "Knowledge")
	if page.doc(t).Find("#search").Length() != 0 {
		t.Error("there is a search with nothing to search")
	}

	res := b.upload("Hours.md", openingHours)
	wantStatus(t, "uploading", res, http.StatusSeeOther)
	page = b.get(res.Header.Get("Location"))
	wantText(t, "added", page, "#done", "Hours.md was added")
	wantText(t, "added", page, "#documents", "1 document of 200", "Hours.md", "Markdown, 1 passage", "78 bytes", "owner@harbour.example")
	wantText(t, "added", page, "#search", "Search for £0.01")
	res = b.upload("prices.pdf", string(knowledgetest.PDF("A check-up costs forty pounds.", "Whitening is not offered.")))
	wantText(t, "a PDF", b.get(res.Header.Get("Location")), "#documents", "2 documents of 200", "PDF, 2 pages, 1 passage")
	res = b.upload("again.md", openingHours)
	wantText(t, "the same again", b.get(res.Header.Get("Location")), "#done", "Hours.md was there already", "nothing was added")
	res = b.upload("text.txt", "By htmx.", "HX-Request", "true")
	if to := res.Header.Get("HX-Redirect"); res.StatusCode != http.StatusOK || !strings.HasPrefix(to, "/knowledge?done=added&document=") {
		t.Errorf("by htmx: %s, to %q", res.Status, to)
	}

	page = b.get("/knowledge")
	res = b.search(page, "open on saturdays")
	wantStatus(t, "search", res, http.StatusOK)
	wantText(t, "search", res, "#results", "1 passage found", "£0.01 was charged", "Hours.md", "Passage 1", "from nine to five")
	wantText(t, "search", res, "#results mark", "open", "Saturdays")
	if q := res.doc(t).Find("#query").AttrOr("value", ""); q != "open on saturdays" {
		t.Errorf("the query is shown as %q", q)
	}
	wantText(t, "the same form again", b.search(page, "open on saturdays"), "#results", "nothing was charged again")
	if n := s.balance(); n != 568_99 {
		t.Errorf("after one search the balance is %d", n)
	}
	wantText(t, "the old page, another query", b.search(page, "whitening"), "#results", "prices.pdf", "Page 1, passage 1", "£0.01 was charged")
	res = b.search(page, "quantum", "HX-Request", "true")
	wantStatus(t, "nothing", res, http.StatusOK)
	wantText(t, "nothing", res, "#results", "Nothing found")
	if strings.Contains(res.body, "<html") || !strings.Contains(res.body, `hx-swap-oob="innerHTML:#search-status"`) {
		t.Errorf("by htmx: %s", res.body)
	}
	if n := s.balance(); n != 568_97 {
		t.Errorf("after three searches the balance is %d", n)
	}

	id := page.doc(t).Find(`#documents a[href$="/delete"]`).Last().AttrOr("href", "")
	asked := b.get(id)
	wantStatus(t, "asked first", asked, http.StatusOK)
	wantText(t, "asked first", asked, "main", "Delete this document?", "Hours.md")
	res = b.send(id, id, nil)
	wantStatus(t, "deleting", res, http.StatusSeeOther)
	page = b.get(res.Header.Get("Location"))
	wantText(t, "deleted", page, "#done", "The document was deleted")
	wantText(t, "deleted", page, "#documents", "2 documents of 200")
	for what, res := range map[string]reply{"asked again": b.get(id), "deleted again": b.send("/knowledge", id, nil)} {
		wantStatus(t, what, res, http.StatusNotFound)
	}
}

// A document's name and text are shown as they are, and never obeyed.
func TestKnowledgeShowsTextAsText(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	const nasty = `<script>alert(1)</script> "><b>bold</b>`
	res := b.upload(`x"><img src=x>.md`, "Saturdays "+nasty)
	for what, page := range map[string]reply{"added": b.get(res.Header.Get("Location")), "found": b.search(b.get("/knowledge"), "saturdays "+nasty)} {
		wantStatus(t, what, page, http.StatusOK)
		doc := page.doc(t)
		if doc.Find("main script, main img, main b").Length() > 0 {
			t.Errorf("%s: what was uploaded became part of the page:\n%s", what, page.body)
		}
	}
	wantText(t, "found", b.search(b.get("/knowledge"), "saturdays"), "#results", nasty)
}

func TestUploadRefusals(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	wantStatus(t, "first", b.upload("Hours.md", openingHours), http.StatusSeeOther)
	for _, c := range []struct {
		what, name, content string
		status              int
		says                string
	}{
		{"no file", "", "", http.StatusUnprocessableEntity, "Choose a file first"},
		{"an empty file", "a.txt", "", http.StatusUnprocessableEntity, "is empty"},
		{"a picture", "a.txt", "\x89PNG\x00", http.StatusUnprocessableEntity, "neither text nor a PDF"},
		{"a damaged PDF", "a.pdf", "%PDF-1.7 and no more", http.StatusUnprocessableEntity, "damaged"},
		{"a name that is taken", "Hours.md", "Others", http.StatusConflict, "another document with the name Hours.md"},
		{"a byte too many", "a.txt", strings.Repeat("a", knowledge.MaxFile+1), http.StatusRequestEntityTooLarge, "larger than 300 KB"},
		{"a form too many", "a.txt", strings.Repeat("a", knowledge.MaxFile+16<<10), http.StatusRequestEntityTooLarge, "larger than 300 KB"},
		{"five megabytes", "a.txt", strings.Repeat("a", 5<<20), http.StatusRequestEntityTooLarge, "larger than 300 KB"},
	} {
		res := b.upload(c.name, c.content)
		wantStatus(t, c.what, res, c.status)
		wantText(t, c.what, res, "#file-error", c.says)
		if res.doc(t).Find(`#upload-form input[type=file][aria-invalid=true]`).Length() != 1 || !strings.Contains(res.body, "<html") {
			t.Errorf("%s: the form is not shown again", c.what)
		}
		res = b.upload(c.name, c.content, "HX-Request", "true")
		wantStatus(t, c.what+" by htmx", res, c.status)
		wantText(t, c.what+" by htmx", res, "#file-error", c.says)
		if strings.Contains(res.body, "<html") || res.Header.Get("HX-Retarget") != "#upload-place" {
			t.Errorf("%s by htmx: to %q, %s", c.what, res.Header.Get("HX-Retarget"), res.body)
		}
	}
	wantStatus(t, "as large as may be", b.upload("largest.txt", strings.Repeat("Largest. ", knowledge.MaxFile/9)), http.StatusSeeOther)

	token := b.token("/knowledge")
	for what, c := range map[string]struct {
		body, contentType string
		status            int
	}{
		"another kind of form":   {url.Values{"csrf_token": {token}, "file": {"text"}}.Encode(), "application/x-www-form-urlencoded", http.StatusUnprocessableEntity},
		"another kind of body":   {`{"file":"x"}`, "application/json", http.StatusForbidden},
		"no boundary":            {"x", "multipart/form-data", http.StatusUnprocessableEntity},
		"an end that is missing": {"--x\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n" + token, "multipart/form-data; boundary=x", http.StatusUnprocessableEntity},
	} {
		wantStatus(t, what, b.do("POST", "/knowledge/documents", strings.NewReader(c.body), "Content-Type", c.contentType), c.status)
	}
	if n := s.count(`SELECT count(*) FROM knowledge_documents`); n != 2 {
		t.Errorf("%d documents were kept, want 2", n)
	}
}

// An upload is held to its token like every form, and one too large to be read does nothing whoever sent it.
func TestUploadForgery(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	foreign := s.as("owner@second.example").token("/knowledge")
	for what, fields := range map[string]map[string]string{"no token": nil, "another's": {"csrf_token": foreign}} {
		body, contentType := multipartForm(t, fields, "Hours.md", openingHours)
		wantStatus(t, what, b.do("POST", "/knowledge/documents", bytes.NewReader(body), "Content-Type", contentType), http.StatusForbidden)
	}
	body, contentType := multipartForm(t, map[string]string{"csrf_token": b.token("/knowledge")}, "Hours.md", openingHours)
	wantStatus(t, "from elsewhere", b.do("POST", "/knowledge/documents", bytes.NewReader(body), "Content-Type", contentType, "Origin", "https://evil.example"), http.StatusForbidden)
	wantStatus(t, "signed out", s.browser().do("POST", "/knowledge/documents", bytes.NewReader(body), "Content-Type", contentType), http.StatusSeeOther)
	body, contentType = multipartForm(t, nil, "a.txt", strings.Repeat("a", 2*knowledge.MaxFile))
	wantStatus(t, "too large, no token", b.do("POST", "/knowledge/documents", bytes.NewReader(body), "Content-Type", contentType), http.StatusRequestEntityTooLarge)
	wantStatus(t, "too large, from elsewhere", b.do("POST", "/knowledge/documents", bytes.NewReader(body), "Content-Type", contentType, "Origin", "https://evil.example"), http.StatusForbidden)
	if n := s.count(`SELECT count(*) FROM knowledge_documents`); n != 0 {
		t.Errorf("%d documents were kept", n)
	}
}

// Viewers see the documents, and that is all.
func TestKnowledgeForViewers(t *testing.T) {
	s := newSite(t)
	s.as("owner@harbour.example").upload("Hours.md", openingHours)
	b := s.as("viewer@harbour.example")
	page := b.get("/knowledge")
	wantText(t, "the page", page, "#documents", "Hours.md")
	wantText(t, "the page", page, "#upload", "because your role is viewer")
	if page.doc(t).Find(`main form, main a[href$="/delete"]`).Length() > 0 {
		t.Error("a viewer is offered to do something")
	}
	var id string
	dbtest.Get(t, s.dbURL, &id, `SELECT id FROM knowledge_documents`)
	path := "/knowledge/documents/" + id + "/delete"
	body, contentType := multipartForm(t, map[string]string{"csrf_token": b.token("/knowledge")}, "b.txt", "Text")
	for what, res := range map[string]reply{
		"uploading": b.do("POST", "/knowledge/documents", bytes.NewReader(body), "Content-Type", contentType),
		"asking":    b.get(path),
		"deleting":  b.send("/knowledge", path, nil),
		"searching": b.send("/knowledge", "/knowledge/search", url.Values{"query": {"saturdays"}, "key": {uuid.NewString()}}),
	} {
		wantStatus(t, what, res, http.StatusForbidden)
	}
	token := b.token("/knowledge")
	wantStatus(t, "by the API", b.do("POST", "/api/v1/knowledge/search", strings.NewReader(`{"query":"saturdays"}`), "Idempotency-Key", "k", "X-CSRF-Token", token), http.StatusForbidden)
	if n := s.balance(); n != 569_00 {
		t.Errorf("the balance is %d", n)
	}
}

func TestSearchRefusals(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	b.upload("Hours.md", openingHours)
	page := b.get("/knowledge")
	for query, says := range map[string]string{
		"": "Say what to look for", "the and of": "at least one searchable word", strings.Repeat("x", 501): "at most 500 characters",
	} {
		res := b.search(page, query)
		wantStatus(t, says, res, http.StatusUnprocessableEntity)
		wantText(t, says, res, "#query-error", says)
		if got := res.doc(t).Find("#query").AttrOr("value", ""); got != query {
			t.Errorf("%s: the query is shown as %q", says, got)
		}
		res = b.search(page, query, "HX-Request", "true")
		wantStatus(t, says+" by htmx", res, http.StatusUnprocessableEntity)
		wantText(t, says+" by htmx", res, "#query-error", says)
	}
	wantStatus(t, "no key", b.send("/knowledge", "/knowledge/search", url.Values{"query": {"saturdays"}}), http.StatusUnprocessableEntity)
	if n := s.balance(); n != 569_00 {
		t.Errorf("refusals cost %d", 569_00-n)
	}

	s.adjust(-569_00)
	res := b.search(page, "saturdays")
	wantStatus(t, "without money", res, http.StatusPaymentRequired)
	wantText(t, "without money", res, "#unpaid", "There is not enough in the wallet", "Nothing was searched or charged", "Top up")
	res = b.search(page, "saturdays", "HX-Request", "true")
	wantStatus(t, "without money by htmx", res, http.StatusPaymentRequired)
	if strings.Contains(res.body, "<html") || res.Header.Get("HX-Retarget") != "#search-place" || res.doc(t).Find("#unpaid").Length() != 1 {
		t.Errorf("without money by htmx: %s", res.body)
	}
	s.adjust(1)
	wantText(t, "with a penny", b.search(page, "saturdays"), "#results", "£0.01 was charged")
}

func TestSearchNotOffered(t *testing.T) {
	s := newSite(t)
	dbtest.Super(t, s.dbURL, `INSERT INTO prices (action, state, starts_at, created_at, author, reason) VALUES ('knowledge', 'off', now() - interval '1 minute', now(), 'system:test', 'test')`)
	b := s.as("owner@harbour.example")
	b.upload("Hours.md", openingHours)
	page := b.get("/knowledge")
	wantText(t, "the page", page, "#search", "not offered to your organisation")
	if page.doc(t).Find("#search-form").Length() > 0 {
		t.Error("a search is offered that is not for sale")
	}
	res := b.send("/knowledge", "/knowledge/search", url.Values{"query": {"saturdays"}, "key": {uuid.NewString()}})
	wantStatus(t, "searching", res, http.StatusForbidden)
	wantText(t, "searching", res, "main", "not offered to your organisation")
}

// Pressing the button many times at once, or reloading the answer, is one search.
func TestSearchForm(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	b.upload("Hours.md", openingHours)
	page := b.get("/knowledge")
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			wantText(t, "at once", b.search(page, "saturdays"), "#results", "1 passage found")
		})
	}
	group.Wait()
	if n := s.balance(); n != 568_99 {
		t.Errorf("the balance is %d", n)
	}
	keys := map[string]bool{}
	for range 3 {
		keys[b.get("/knowledge").doc(t).Find(`input[name="key"]`).AttrOr("value", "")] = true
	}
	if len(keys) != 3 || keys[""] {
		t.Errorf("the pages have the keys %v", keys)
	}
}

// found is an answer of the API.
type found struct {
	Data []struct {
		DocumentID uuid.UUID `json:"document_id"`
		Document   string
		Chunk      int
		Page       *int
		Text       string
		Score      float64
	}
	Amount int       `json:"amount_pence"`
	Hold   uuid.UUID `json:"hold_id"`
}

func TestSearchAPI(t *testing.T) {
	f := newFixture(t)
	owner := f.as(callerEmails[owner])
	owner.upload("Opening.md", openingHours)
	owner.upload("prices.pdf", string(knowledgetest.PDF("A check-up costs forty pounds.", "Whitening is not offered.")))
	f.as(callerEmails[outsider]).upload("Theirs.md", "They open at nine.")
	before := f.balance()
	b := f.browser()
	ask := func(key, body string, headers ...string) reply {
		t.Helper()
		h := append([]string{"Authorization", "Bearer " + f.key, "Content-Type", "application/json"}, headers...)
		if key != "" {
			h = append(h, "Idempotency-Key", key)
		}
		return b.do("POST", "/api/v1/knowledge/search", strings.NewReader(body), h...)
	}
	res := ask("k1", `{"query":"open from nine"}`)
	wantStatus(t, "search", res, http.StatusOK)
	var a found
	if err := json.Unmarshal([]byte(res.body), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Data) != 1 || a.Data[0].Document != "Opening.md" || a.Data[0].Chunk != 1 || a.Data[0].Page != nil || a.Data[0].Text != strings.TrimSpace(openingHours) ||
		a.Data[0].Score <= 0 || a.Data[0].DocumentID == uuid.Nil || a.Amount != 1 || a.Hold == uuid.Nil || strings.Contains(res.body, "excerpt") {
		t.Errorf("search: %s", res.body)
	}
	again := ask("k1", `{"query":"open from nine","limit":5}`)
	if again.body != res.body || again.Header.Get("Idempotent-Replayed") != "true" || res.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("again: %s, replayed %q", again.body, again.Header.Get("Idempotent-Replayed"))
	}
	if res = ask("k2", `{"query":"whitening","limit":1}`); !strings.Contains(res.body, `"page":1`) {
		t.Errorf("a PDF: %s", res.body)
	}
	if res = ask("k3", `{"query":"quantum"}`); res.StatusCode != http.StatusOK || !strings.HasPrefix(res.body, `{"data":[],"amount_pence":1,`) {
		t.Errorf("nothing: %s %s", res.Status, res.body)
	}
	if n := f.balance(); n != before-3 {
		t.Errorf("three searches cost %d", before-n)
	}
	for _, c := range []struct {
		what, key, body string
		status          int
		says            string
	}{
		{"no key", "", `{"query":"open from nine"}`, http.StatusBadRequest, "idempotency_key_missing"},
		{"the key of another query", "k1", `{"query":"sundays"}`, http.StatusConflict, "idempotency_key_reused"},
		{"the key of another limit", "k1", `{"query":"open from nine","limit":1}`, http.StatusConflict, "idempotency_key_reused"},
		{"no query", "k4", `{}`, http.StatusUnprocessableEntity, `"field":"query"`},
		{"stop words", "k4", `{"query":"the"}`, http.StatusUnprocessableEntity, "at least one searchable word"},
		{"no limit", "k4", `{"query":"open from nine","limit":0}`, http.StatusUnprocessableEntity, `"field":"limit"`},
		{"a high limit", "k4", `{"query":"open from nine","limit":21}`, http.StatusUnprocessableEntity, `"field":"limit"`},
		{"NUL", "k4", `{"query":"a\u0000b"}`, http.StatusUnprocessableEntity, `"field":"query"`},
		{"no JSON", "k4", `query=open from nine`, http.StatusBadRequest, "JSON"},
		{"an unknown field", "k4", `{"query":"open from nine","org":"x"}`, http.StatusBadRequest, "JSON"},
	} {
		res := ask(c.key, c.body)
		wantStatus(t, c.what, res, c.status)
		if res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(res.body, c.says) {
			t.Errorf("%s: %s", c.what, res.body)
		}
	}
	if n := f.balance(); n != before-3 {
		t.Errorf("refusals cost %d", before-3-n)
	}
	f.adjust(money.Pence(-f.count(`SELECT balance_pence - held_pence FROM wallets WHERE org_id = $1`, f.org)))
	res = ask("k5", `{"query":"open from nine"}`)
	wantStatus(t, "without money", res, http.StatusPaymentRequired)
	var problem map[string]any
	if err := json.Unmarshal([]byte(res.body), &problem); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"required_pence": 1.0, "available_pence": 0.0, "shortfall_pence": 1.0, "top_up_url": "http://127.0.0.1:8080/wallet"} {
		if problem[name] != want {
			t.Errorf("without money: %s is %v, want %v", name, problem[name], want)
		}
	}
	if res = ask("k1", `{"query":"open from nine"}`); res.StatusCode != http.StatusOK {
		t.Errorf("what was paid for is not answered again without money: %s", res.Status)
	}
	if n := f.count(`SELECT count(*) FROM knowledge_searches`); n != 4 { // one is the fixture's
		t.Errorf("%d answers are kept", n)
	}
}
