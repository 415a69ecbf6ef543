package views

import (
	"testing"

	"github.com/PuerkitoBio/goquery"
	"github.com/a-h/templ"
)

// apiDocs is a reference with one of everything, all of it saying the same.
func apiDocs(m PageMeta, says string) APIDocsPage {
	text := []APIBlock{{Text: []APISpan{{Text: "Says "}, {Text: says, Code: true}, {Text: "."}}}, {List: [][]APISpan{{{Text: says}}}}, {Code: says}}
	field := APIField{Name: says, Type: says, Required: true, Blocks: text}
	parameter, list := field, field
	parameter.In, list.Fields = says, []APIField{field}
	return APIDocsPage{
		Meta: m, Title: says, Summary: says, Version: says, BaseURL: says, SpecHref: "/api/openapi.json", Intro: text,
		Topics: []APITopic{{ID: "errors", Title: says, Blocks: text}}, Problem: []APIField{field}, Unpaid: []APIField{field}, Headers: []APIField{field},
		Codes: []APICode{{Name: "debt", Statuses: []string{"402", "403"}, Blocks: text}},
		Groups: []APIGroup{{Name: says, Blocks: text, Operations: []APIOperation{
			{
				ID: "createThing", Title: says, Method: "POST", Path: says, Blocks: text, Scope: says, Parameters: []APIField{parameter},
				TakesBody: true, BodyNote: text, Body: []APIField{list}, Calls: []APIExample{{Title: says, Code: says}},
				Answers: []APIAnswer{
					{Status: "201", Words: "Created", Good: true, Blocks: text, Fields: []APIField{list}, Example: says},
					{Status: "402", Words: "Payment Required", Blocks: text, Codes: []string{"debt"}, Example: says},
				},
			},
			{ID: "readThing", Title: says, Method: "GET", Path: "/thing", Answers: []APIAnswer{{Status: "200", Words: "OK", Good: true, Example: "{}"}}},
		}}},
	}
}

// apiDocsPages are the reference for everybody who may read it.
func apiDocsPages() map[string]templ.Component {
	wide, evil := signedOut("API", "/api/docs"), hostileMeta(false)
	wide.Wide, evil.Wide = true, true
	return map[string]templ.Component{
		"reference":                   APIDocs(apiDocs(meta("API", "/api/docs"), "thing")),
		"reference, signed out":       APIDocs(apiDocs(wide, "thing")),
		"reference, hostile":          APIDocs(apiDocs(hostileMeta(true), hostile)),
		"reference, hostile, outside": APIDocs(apiDocs(evil, hostile)),
	}
}

func TestReference(t *testing.T) {
	wide := signedOut("API", "/api/docs")
	wide.Wide = true
	doc := parse(t, APIDocs(apiDocs(wide, "thing")))
	doc.Find(`a[href^="#"]`).Each(func(_ int, a *goquery.Selection) {
		if to := a.AttrOr("href", ""); doc.Find(to).Length() != 1 {
			t.Errorf("%s leads nowhere", to)
		}
	})
	if doc.Find(`header a[href="/login"]`).Length() != 1 {
		t.Error("who is signed out is not offered to sign in")
	}
	doc.Find("pre").Each(func(_ int, pre *goquery.Selection) {
		if pre.AttrOr("tabindex", "") != "0" || pre.AttrOr("role", "") != "region" || pre.AttrOr("aria-label", "") == "" {
			t.Errorf("code that the keyboard does not reach, or that readers cannot name: %s", words(pre))
		}
	})
	for selector, want := range map[string]string{
		"#errors p":                           "Says thing.",
		"#code-debt [data-label=Status]":      "402, 403",
		"#createThing dt:first-child":         "thing In the thing: thing Required",
		`#createThing a[href="#code-debt"]`:   "debt",
		"#readThing code":                     "/thing",
		"#createThing tr [data-label=Status]": "402 Payment Required",
		`nav[aria-label="On this page"] ul:nth-of-type(1) li:nth-child(2)`: "thing",
	} {
		if got := words(doc.Find(selector).First()); got != want {
			t.Errorf("%s reads %q, want %q", selector, got, want)
		}
	}
}
