package views

import "strings"

// APIDocsPage is the model of the API's reference.
type APIDocsPage struct {
	Meta PageMeta
	// Title, Summary and Version are the API's own.
	Title, Summary, Version string
	// BaseURL is where it is, without a slash at the end; SpecHref is its machine-readable description.
	BaseURL, SpecHref string
	Intro             []APIBlock
	Topics            []APITopic
	Groups            []APIGroup
	// Problem are the fields of every refusal, Unpaid those that a 402 has besides.
	Problem, Unpaid []APIField
	Codes           []APICode
	Headers         []APIField
}

// APITopic is a section of prose.
type APITopic struct {
	ID, Title string
	Blocks    []APIBlock
}

// APIBlock is a paragraph, a list or a piece of code: exactly one of them.
type APIBlock struct {
	Text []APISpan
	List [][]APISpan
	Code string
}

// APISpan is a run of text.
type APISpan struct {
	Text string
	Code bool
}

// APIGroup is the operations on one kind of thing.
type APIGroup struct {
	Name       string
	Blocks     []APIBlock
	Operations []APIOperation
}

// APIOperation is one thing that can be asked for.
type APIOperation struct {
	// ID is unique on the page.
	ID, Title, Method, Path string
	Blocks                  []APIBlock
	// Scope is what a key needs.
	Scope string
	// Parameters stand in the path or in the headers.
	Parameters []APIField
	// TakesBody says that a body may be sent, NeedsBody that one must be, and BodyNote what else is to say about it.
	TakesBody, NeedsBody bool
	BodyNote             []APIBlock
	Body                 []APIField
	// Calls are commands to paste.
	Calls   []APIExample
	Answers []APIAnswer
}

// success is the answer that says that it was done.
func (o APIOperation) success() APIAnswer {
	for _, a := range o.Answers {
		if a.Good {
			return a
		}
	}
	return APIAnswer{}
}

// APIField is a named value.
type APIField struct {
	Name string
	// Type is its type in words, such as "integer, 1 to 43200".
	Type string
	// In is where a parameter stands: "path", "query" or "header".
	In       string
	Required bool
	Blocks   []APIBlock
	// Fields are those of each element of a list.
	Fields []APIField
}

// kind says where the value stands and what it may be.
func (f APIField) kind() string {
	if f.In == "" {
		return f.Type
	}
	return "In the " + f.In + ": " + f.Type
}

// APIExample is something to paste, or an answer as it comes.
type APIExample struct {
	Title, Code string
}

// APIAnswer is an answer that an operation may give.
type APIAnswer struct {
	Status, Words string
	// Good is for what was done; the others are refusals.
	Good   bool
	Blocks []APIBlock
	// Codes are the reasons that a refusal may name.
	Codes []string
	// Fields are those of its body, where they are not a problem's.
	Fields  []APIField
	Example string
}

// APICode is a reason for a refusal.
type APICode struct {
	Name     string
	Statuses []string
	Blocks   []APIBlock
}

func (c APICode) statuses() string { return strings.Join(c.Statuses, ", ") }

func codeID(name string) string { return "code-" + name }

// The sections that every reference has after its topics.
const (
	apiProblemsID = "problems"
	apiCodesID    = "codes"
	apiHeadersID  = "headers"
)

func methodClass(method string) string {
	class := "inline-flex shrink-0 items-center rounded-sm px-1.5 py-0.5 font-mono text-xs font-semibold"
	if method == "GET" {
		return class + " bg-sunken text-ink"
	}
	return class + " bg-accent-soft text-accent"
}
