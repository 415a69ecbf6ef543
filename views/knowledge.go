package views

import (
	"strconv"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// DocumentKind is what a document of the knowledge base is.
type DocumentKind string

// The kinds.
const (
	DocumentText     DocumentKind = "text"
	DocumentMarkdown DocumentKind = "markdown"
	DocumentPDF      DocumentKind = "pdf"
)

func documentKind(k DocumentKind) string {
	switch k {
	case DocumentText:
		return "Text"
	case DocumentMarkdown:
		return "Markdown"
	case DocumentPDF:
		return "PDF"
	}
	return "Document"
}

// Document is one document of the knowledge base.
type Document struct {
	ID, Name string
	Kind     DocumentKind
	Bytes    int
	// Pages is how many pages a PDF has; 0 for anything else.
	Pages    int
	Passages int
	// UploadedBy is an e-mail; empty for people who left.
	UploadedBy string
	CreatedAt  time.Time
}

func (d Document) deletePath() string { return "/knowledge/documents/" + d.ID + "/delete" }

// size is the size of the file for people.
func (d Document) size() string {
	if d.Bytes < 1024 {
		return counted(d.Bytes, "byte")
	}
	return strconv.Itoa((d.Bytes+512)/1024) + " KB"
}

// by says who added it.
func (d Document) by() string {
	if d.UploadedBy == "" {
		return "Added by somebody who left"
	}
	return "Added by " + d.UploadedBy
}

// contents says what is in it.
func (d Document) contents() string {
	text := counted(d.Passages, "passage")
	if d.Pages > 0 {
		text = counted(d.Pages, "page") + ", " + text
	}
	return text
}

// counted is a number of things in words.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(int64(n)) + " " + thing + "s"
}

// SearchForm is the form of a search, with what was typed and what is wrong with it.
type SearchForm struct {
	Query string
	// Error belongs beside the query.
	Error string
	// Key makes sending the form twice the same search: new on every page.
	Key string
}

// Segment is a piece of an excerpt; Mark says that it was sought.
type Segment struct {
	Text string
	Mark bool
}

// Passage is a passage that a search found.
type Passage struct {
	Document string
	// Number is its place in the document, Page the page on which it begins; 0 where there are none.
	Number, Page int
	// Excerpt is what stands around the words that were sought; Text is all of it.
	Excerpt []Segment
	Text    string
}

// place says where in its document it stands.
func (p Passage) place() string {
	text := "Passage " + strconv.Itoa(p.Number)
	if p.Page > 0 {
		text = "Page " + strconv.Itoa(p.Page) + ", passage " + strconv.Itoa(p.Number)
	}
	return text
}

// SearchResult is the answer to a search.
type SearchResult struct {
	Query    string
	Passages []Passage
	Cost     money.Pence
	// Repeated says that it was asked and paid before.
	Repeated bool
}

func (r SearchResult) title() string {
	if len(r.Passages) == 0 {
		return "Nothing found"
	}
	return counted(len(r.Passages), "passage") + " found"
}

// paid says what became of the wallet.
func (r SearchResult) paid() string {
	if r.Repeated {
		return "This search was paid for before, so nothing was charged again."
	}
	return r.Cost.String() + " was charged to your wallet."
}

// KnowledgePage is the model of the knowledge base.
type KnowledgePage struct {
	Meta PageMeta
	// Notice says what was done a moment ago, about the document NoticeName.
	Notice, NoticeName string
	// CanUse is false for those who may only look.
	CanUse    bool
	Documents []Document
	// MaxDocuments and MaxKB are the limits of an organisation and of a file.
	MaxDocuments, MaxKB int
	// PassageTokens and PassageOverlap say how documents are cut, counted by Vocabulary.
	PassageTokens, PassageOverlap int
	Vocabulary                    string

	// Price is what a search costs. NoSearch is why there can be none, if so.
	Price    money.Pence
	NoSearch string
	Search   SearchForm
	// Result is nil until something was searched for.
	Result *SearchResult
	// Unpaid is why the wallet did not allow the search.
	Unpaid string

	// UploadError belongs beside the file.
	UploadError string
}

// documentsSub says how many there are and may be.
func (p KnowledgePage) documentsSub() string {
	if len(p.Documents) == 0 {
		return ""
	}
	return counted(len(p.Documents), "document") + " of " + strconv.Itoa(p.MaxDocuments)
}

// searchable reports whether there is a search to show.
func (p KnowledgePage) searchable() bool { return p.CanUse && len(p.Documents) > 0 }

// documentColumns are the heads of the table; what can be done with a document is for those who may.
func (p KnowledgePage) documentColumns() []ui.Column {
	columns := []ui.Column{{Label: "Name", Grow: true}, {Label: "Size", End: true}, {Label: "Added"}}
	if p.CanUse {
		columns = append(columns, ui.Column{End: true}) // each says itself what it does
	}
	return columns
}

func (p KnowledgePage) uploadHint() string {
	return "Text or Markdown (UTF-8), or a PDF with text in it. Up to " + strconv.Itoa(p.MaxKB) + " KB."
}

// searchButton is the one primary action as soon as there is something to search. Its id has htmx give it the focus back;
// where something is wrong the field takes it instead.
func (p KnowledgePage) searchButton() ui.ButtonProps {
	b := ui.ButtonProps{Label: "Search for " + p.Price.String(), Variant: ui.ButtonPrimary, Size: ui.ButtonLarge, Icon: ui.IconSearch, Busy: "Searching…"}
	if p.Search.Error == "" {
		b.ID = "search-submit"
	}
	return b
}

// uploadButton is the primary action until then.
func (p KnowledgePage) uploadButton() ui.ButtonProps {
	b := ui.ButtonProps{Label: "Upload", Size: ui.ButtonLarge, Icon: ui.IconUpload, Busy: "Reading the document…", Wide: true}
	if len(p.Documents) == 0 {
		b.Variant = ui.ButtonPrimary
	}
	return b
}

// KnowledgeSearch answers a search by htmx: the form again, for the next one, and what was found; or with 422 what is wrong.
func KnowledgeSearch(p KnowledgePage) templ.Component {
	return Part(Knowledge(p), FragmentSearchStatus, FragmentSearch)
}

// KnowledgeUpload answers an upload that was refused: the form again, with what is wrong.
func KnowledgeUpload(p KnowledgePage) templ.Component { return Part(Knowledge(p), FragmentUpload) }

// DeleteDocumentPage is the model of the page that asks before a document is deleted.
type DeleteDocumentPage struct {
	Meta     PageMeta
	Document Document
	// AnswersKept is for how many days answers stay that were given from it.
	AnswersKept int
}
