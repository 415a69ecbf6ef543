package handlers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/knowledge"
	"ringfence/views"
)

const (
	uploadPath = "/knowledge/documents"
	// maxUpload is the largest form with a document, in bytes: the file, and what a browser writes around it.
	maxUpload = knowledge.MaxFile + 16<<10
	// maxDrained is how much more of a form that is too large is read and thrown away: a browser whose connection is cut
	// while it sends shows its own error instead of our answer.
	maxDrained = 32 << 20
)

// knowledgePage is the list of documents and the search over them.
func (a *app) knowledgePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	var p views.KnowledgePage
	q := r.URL.Query()
	switch q.Get("done") {
	case "deleted":
		p.Notice = "The document was deleted."
	case "added", "there":
		id, err := uuid.Parse(q.Get("document"))
		if err != nil {
			break
		}
		d, err := a.Knowledge.Document(r.Context(), v.who.OrgID, id)
		switch {
		case fault.Is(err, fault.NotFound): // deleted since
		case err != nil:
			return err
		case q.Get("done") == "added":
			p.NoticeName, p.Notice = d.Name+" was added", "It can be searched from now on."
		default:
			p.NoticeName, p.Notice = d.Name+" was there already", "A document with exactly the same content is there, so nothing was added."
		}
	}
	return a.showKnowledge(w, r, v, http.StatusOK, p)
}

// showKnowledge answers with the whole page around the forms as given.
func (a *app) showKnowledge(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.KnowledgePage) error {
	if err := a.fillKnowledge(r, v, &p); err != nil {
		return err
	}
	return a.render(w, r, status, views.Knowledge(p))
}

// fillKnowledge adds what is the same whatever was done.
func (a *app) fillKnowledge(r *http.Request, v *visit, p *views.KnowledgePage) error {
	p.Meta, p.CanUse = a.meta(r, v, "Knowledge"), v.who.CanPay()
	p.MaxDocuments, p.MaxKB = knowledge.MaxDocuments, knowledge.MaxFile>>10
	p.PassageTokens, p.PassageOverlap, p.Vocabulary = knowledge.ChunkTokens, knowledge.Overlap, knowledge.Vocabulary
	list, err := a.Knowledge.Documents(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, d := range list {
		p.Documents = append(p.Documents, document(d))
	}
	if !p.CanUse {
		return nil
	}
	p.Search.Key = uuid.NewString()
	switch price, err := a.Knowledge.Price(r.Context(), v.who.OrgID); {
	case fault.Is(err, fault.Forbidden):
		p.NoSearch = fault.As(err).Public
	case err != nil:
		return err
	default:
		p.Price = price
	}
	return nil
}

func document(d knowledge.Document) views.Document {
	return views.Document{
		ID: d.ID.String(), Name: d.Name, Kind: views.DocumentKind(d.Kind), Bytes: d.Bytes, Pages: d.Pages, Passages: d.Chunks,
		UploadedBy: d.UploadedBy, CreatedAt: d.CreatedAt,
	}
}

// mayUseKnowledge refuses who may only look.
func mayUseKnowledge(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you can see the documents, but not add, delete or search them. Ask an owner of "+who.OrgName+".")
}

// checkUpload is checkForm for the form that a document comes with. One that is too large goes on to its handler without
// having been read, and marked: all that happens then is that this is said, so its token, which may be in what was not
// read, is not asked for.
func (a *app) checkUpload(r *http.Request, v *visit) error {
	whole := r.Body
	r.Body = http.MaxBytesReader(v.out.ResponseWriter, whole, maxUpload)
	err := r.ParseMultipartForm(maxUpload) //nolint:gosec // the line above bounds it; all of it stays in memory
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		v.oversize = true
		_, _ = io.CopyN(io.Discard, whole, maxDrained) // it ends, or the server's own limit of time ends it
		return nil
	}
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return fault.Wrap(fault.Invalid, "The form could not be read. Load the page again and retry.", err)
	}
	return a.checkToken(r, v, cmp.Or(r.PostForm.Get("csrf_token"), r.Header.Get("X-CSRF-Token")))
}

// upload takes a document. Sending it twice keeps it once.
func (a *app) upload(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayUseKnowledge(v.who); err != nil {
		return err
	}
	name, content, err := sentFile(r, v)
	if err != nil {
		return a.refuseUpload(w, r, v, err)
	}
	d, there, err := a.Knowledge.Upload(r.Context(), knowledge.File{
		OrgID: v.who.OrgID, UserID: v.who.UserID, Actor: v.who.Actor(), Name: name, Content: content,
	})
	if err != nil {
		return a.refuseUpload(w, r, v, err)
	}
	done := "added"
	if there {
		done = "there"
	}
	seeOther(w, r, "/knowledge?done="+done+"&document="+d.ID.String())
	return nil
}

// sentFile is the file in the form.
func sentFile(r *http.Request, v *visit) (name string, content []byte, err error) {
	if v.oversize {
		return "", nil, knowledge.TooLarge()
	}
	if r.MultipartForm == nil || len(r.MultipartForm.File["file"]) == 0 {
		return "", nil, fault.Field("file", "Choose a file first.")
	}
	header := r.MultipartForm.File["file"][0]
	f, err := header.Open()
	if err != nil {
		return "", nil, fmt.Errorf("couldn't open the file that was sent: %w", err)
	}
	defer f.Close()
	if content, err = io.ReadAll(f); err != nil {
		return "", nil, fmt.Errorf("couldn't read the file that was sent: %w", err)
	}
	return header.Filename, content, nil
}

// refuseUpload shows the form again with what is wrong beside the file.
func (a *app) refuseUpload(w http.ResponseWriter, r *http.Request, v *visit, err error) error {
	f := fault.As(err)
	if f.Field != "file" {
		return err
	}
	p, status := views.KnowledgePage{UploadError: f.Public}, answerTo(f.Kind).status
	if !isFragment(r) {
		return a.showKnowledge(w, r, v, status, p)
	}
	if err := a.fillKnowledge(r, v, &p); err != nil {
		return err
	}
	w.Header().Set("HX-Retarget", "#upload-place") // where a 422 goes anyway
	return a.render(w, r, status, views.KnowledgeUpload(p))
}

// seeOther leads to a page of ours after something was done.
func seeOther(w http.ResponseWriter, r *http.Request, path string) {
	if isFragment(r) {
		w.Header().Set("HX-Redirect", path) // htmx ignores the headers of a 3xx
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusSeeOther)
}

// documentID reads the id in the path.
func documentID(r *http.Request) (uuid.UUID, error) {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return uuid.Nil, fault.New(fault.NotFound, "There is no such document.")
	}
	return id, nil
}

// deleteDocumentPage asks before a document is deleted.
func (a *app) deleteDocumentPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayUseKnowledge(v.who); err != nil {
		return err
	}
	id, err := documentID(r)
	if err != nil {
		return err
	}
	d, err := a.Knowledge.Document(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, views.DeleteDocument(views.DeleteDocumentPage{
		Meta: a.meta(r, v, "Delete a document"), Document: document(d), AnswersKept: knowledge.AnswersKeptDays,
	}))
}

// deleteDocument deletes a document.
func (a *app) deleteDocument(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayUseKnowledge(v.who); err != nil {
		return err
	}
	id, err := documentID(r)
	if err != nil {
		return err
	}
	if err := a.Knowledge.Delete(r.Context(), v.who.OrgID, id, v.who.Actor()); err != nil {
		return err
	}
	seeOther(w, r, "/knowledge?done=deleted")
	return nil
}

// searchKnowledge is a search from the page. The page's own key makes sending its form twice one search: see pageKey.
func (a *app) searchKnowledge(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayUseKnowledge(v.who); err != nil {
		return err
	}
	p := views.KnowledgePage{Search: views.SearchForm{Query: r.PostForm.Get("query")}}
	key, err := pageKey(r.PostForm.Get("key"), p.Search.Query)
	if err != nil {
		return err
	}
	answer, err := a.Knowledge.Search(r.Context(), knowledge.Query{OrgID: v.who.OrgID, Actor: v.who.Actor(), Key: key, Text: p.Search.Query})
	status := http.StatusOK
	if err != nil {
		f := fault.As(err)
		switch {
		case f.Field == "query":
			p.Search.Error = f.Public
		case f.Kind == fault.Unpaid:
			p.Unpaid = f.Public
		default:
			return err
		}
		status = answerTo(f.Kind).status
		if len(p.Search.Query) > 4*knowledge.MaxQuery {
			p.Search.Query = ""
		}
	} else {
		p.Result = searchResult(p.Search.Query, answer)
	}
	if !isFragment(r) {
		return a.showKnowledge(w, r, v, status, p)
	}
	if err := a.fillKnowledge(r, v, &p); err != nil {
		return err
	}
	w.Header().Set("HX-Retarget", "#search-place") // where a 402 does not go by itself
	return a.render(w, r, status, views.KnowledgeSearch(p))
}

// pageKey is the idempotency key of a search from a page: made of the random one that the page was given, so that sending
// its form twice is one search, and of the query, so that going back and asking something else is another.
func pageKey(random, query string) (string, error) {
	id, err := uuid.Parse(random)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, "The page was too old, so nothing was searched. Load it again.", err)
	}
	sum := sha256.Sum256([]byte(query))
	return "page:" + id.String() + ":" + hex.EncodeToString(sum[:8]), nil
}

func searchResult(query string, answer knowledge.Answer) *views.SearchResult {
	res := &views.SearchResult{Query: query, Cost: answer.Amount, Repeated: answer.Repeated}
	for _, h := range answer.Hits {
		res.Passages = append(res.Passages, views.Passage{
			Document: h.Document, Number: h.Chunk, Page: h.Page, Text: h.Text, Excerpt: segments(h.Excerpt),
		})
	}
	return res
}

// segments takes an excerpt apart at its marks.
func segments(excerpt string) (list []views.Segment) {
	add := func(text string, mark bool) {
		if text != "" {
			list = append(list, views.Segment{Text: text, Mark: mark})
		}
	}
	for {
		before, rest, found := strings.Cut(excerpt, knowledge.MarkStart)
		add(before, false)
		if !found {
			return list
		}
		var marked string
		marked, excerpt, _ = strings.Cut(rest, knowledge.MarkEnd)
		add(marked, true)
	}
}

// apiPassage is a passage as programs see it.
type apiPassage struct {
	DocumentID uuid.UUID `json:"document_id"`
	Document   string    `json:"document"`
	Chunk      int       `json:"chunk"`
	Page       int       `json:"page,omitempty"`
	Text       string    `json:"text"`
	Score      float64   `json:"score"`
}

// apiSearchKnowledge is POST /api/v1/knowledge/search: the passages that fit a query best, for the price of a search. It
// needs the scope knowledge:read. The same key and body again get the same answer and are not charged again.
func (a *app) apiSearchKnowledge(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.KnowledgeRead); err != nil {
		return err
	}
	if v.who.KeyID == uuid.Nil { // a person, whose role must allow to spend as well
		if err := mayUseKnowledge(v.who); err != nil {
			return err
		}
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body struct {
		Query string `json:"query"`
		Limit *int   `json:"limit"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	q := knowledge.Query{OrgID: v.who.OrgID, Actor: v.who.Actor(), Key: key, Text: body.Query}
	if body.Limit != nil {
		if q.Limit = *body.Limit; q.Limit == 0 {
			q.Limit = -1 // zero was asked for, which is not the same as nothing
		}
	}
	answer, err := a.Knowledge.Search(r.Context(), q)
	if err != nil {
		return err
	}
	replayed(w, answer.Repeated)
	data := make([]apiPassage, len(answer.Hits))
	for i, h := range answer.Hits {
		data[i] = apiPassage{DocumentID: h.DocumentID, Document: h.Document, Chunk: h.Chunk, Page: h.Page, Text: h.Text, Score: h.Score}
	}
	return writeJSON(w, http.StatusOK, struct {
		Data   []apiPassage `json:"data"`
		Amount int64        `json:"amount_pence"`
		Hold   uuid.UUID    `json:"hold_id"`
	}{data, int64(answer.Amount), answer.Hold})
}
