package handlers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"ringfence/docs"
	"ringfence/views"
)

// specPath is where the API's description is.
const specPath = "/api/openapi.json"

// reference is the API's description in its two forms, for programs and for people.
type reference struct {
	json []byte
	etag string
	page views.APIDocsPage
}

// newReference reads the description, with baseURL for its server.
func newReference(baseURL string) (*reference, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(docs.OpenAPI, &root); err != nil {
		return nil, fmt.Errorf("couldn't read the API's description: %w", err)
	}
	if err := setServer(&root, baseURL); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := writeNode(&b, &root, ",", ":"); err != nil {
		return nil, err
	}
	var s spec
	if err := root.Decode(&s); err != nil {
		return nil, fmt.Errorf("couldn't read the API's description: %w", err)
	}
	page, err := s.page()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Bytes())
	return &reference{json: b.Bytes(), etag: `"` + hex.EncodeToString(sum[:8]) + `"`, page: page}, nil
}

// setServer puts our own address where the description has its placeholder: as the server, and in the examples.
func setServer(root *yaml.Node, baseURL string) error {
	var s spec
	if err := root.Decode(&s); err != nil {
		return fmt.Errorf("couldn't read the API's description: %w", err)
	}
	if len(s.Servers) != 1 || s.Servers[0].URL == "" {
		return errors.New("the API's description must name one server")
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			n.Value = strings.ReplaceAll(n.Value, s.Servers[0].URL, baseURL)
		}
		for _, c := range n.Content { // what an alias stands for is there too
			walk(c)
		}
	}
	walk(root)
	return nil
}

// openAPI is GET /api/openapi.json: the API's description, for programs.
func (a *app) openAPI(w http.ResponseWriter, r *http.Request, _ *visit) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("ETag", a.reference.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.reference.json))
	return nil
}

// apiDocs is GET /api/docs: the API's description, for people.
func (a *app) apiDocs(w http.ResponseWriter, r *http.Request, v *visit) error {
	page := a.reference.page
	page.Meta = a.meta(r, v, page.Title)
	page.Meta.Wide = true
	return a.render(w, r, http.StatusOK, views.APIDocs(page))
}

// spec is what the page needs of an OpenAPI document.
type spec struct {
	Info struct {
		Title       string
		Version     string
		Summary     string
		Description string
	}
	Servers []struct{ URL string }
	Tags    []struct {
		Name        string
		Description string
	}
	Paths      members[members[specOperation]]
	Components struct {
		Parameters members[specValue]
		Headers    members[specValue]
		Responses  members[specResponse]
		Schemas    members[specSchema]
	}
}

type specOperation struct {
	OperationID string `yaml:"operationId"`
	Tags        []string
	Summary     string
	Description string
	Security    []map[string][]string
	Parameters  []specValue
	RequestBody *struct {
		Required    bool
		Description string
		Content     members[specContent]
	} `yaml:"requestBody"`
	Responses members[specResponse]
}

// specValue is a parameter or a header.
type specValue struct {
	Ref         string `yaml:"$ref"`
	Name        string
	In          string
	Required    bool
	Description string
	Schema      specSchema
	Example     string
}

type specResponse struct {
	Ref         string `yaml:"$ref"`
	Description string
	Content     members[specContent]
}

type specContent struct {
	Schema   specSchema
	Example  yaml.Node
	Examples members[struct {
		Summary string
		Value   yaml.Node
	}]
}

type specSchema struct {
	Ref         string `yaml:"$ref"`
	Type        words
	Format      string
	Description string
	Const       *string
	Enum        []string
	Default     *string
	Minimum     *int64
	Maximum     *int64
	MinLength   *int64 `yaml:"minLength"`
	MaxLength   *int64 `yaml:"maxLength"`
	Required    []string
	Properties  members[specSchema]
	Items       *specSchema
	AllOf       []specSchema `yaml:"allOf"`
	OneOf       []specSchema `yaml:"oneOf"`
}

// words is one word or a list of them.
type words []string

// UnmarshalYAML implements [yaml.Unmarshaler].
func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*w = words{n.Value}
		return nil
	}
	return n.Decode((*[]string)(w))
}

// members are the members of an object in their order.
type members[T any] []member[T]

type member[T any] struct {
	Name  string
	Value T
}

// UnmarshalYAML implements [yaml.Unmarshaler].
func (m *members[T]) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: an object is wanted", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		var v T
		if err := n.Content[i+1].Decode(&v); err != nil {
			return err
		}
		*m = append(*m, member[T]{n.Content[i].Value, v})
	}
	return nil
}

// get is the member with this name.
func (m members[T]) get(name string) (value T, ok bool) {
	for _, one := range m {
		if one.Name == name {
			return one.Value, true
		}
	}
	return value, false
}

// component is what a reference such as "#/components/headers/RateLimit" names.
func component[T any](ref, kind string, all members[T]) (T, error) {
	name, local := strings.CutPrefix(ref, "#/components/"+kind+"/")
	v, ok := all.get(name)
	if !local || !ok {
		return v, fmt.Errorf("the API's description has no %q", ref)
	}
	return v, nil
}

// schema follows a reference; a description that stands beside it counts before the one it leads to.
func (s *spec) schema(v specSchema) (specSchema, error) {
	if v.Ref == "" {
		return v, nil
	}
	found, err := component(v.Ref, "schemas", s.Components.Schemas)
	if v.Description != "" {
		found.Description = v.Description
	}
	return found, err
}

// flat is a schema with the parts of its allOf put together.
func (s *spec) flat(v specSchema) (specSchema, error) {
	v, err := s.schema(v)
	for _, part := range v.AllOf {
		p, perr := s.flat(part)
		err = errors.Join(err, perr)
		v.Required = append(v.Required, p.Required...)
		for _, m := range p.Properties {
			if i := slices.IndexFunc(v.Properties, func(have member[specSchema]) bool { return have.Name == m.Name }); i >= 0 {
				v.Properties[i] = m // the narrower one comes later
			} else {
				v.Properties = append(v.Properties, m)
			}
		}
	}
	return v, err
}

// page draws the document up for people.
func (s *spec) page() (views.APIDocsPage, error) {
	intro, topics := prose(s.Info.Description)
	p := views.APIDocsPage{
		Title: s.Info.Title, Summary: s.Info.Summary, Version: s.Info.Version, BaseURL: s.Servers[0].URL, SpecHref: specPath,
		Intro: intro, Topics: topics,
	}
	statuses := map[string][]string{}
	for _, tag := range s.Tags {
		g := views.APIGroup{Name: tag.Name, Blocks: blocks(tag.Description)}
		for _, path := range s.Paths {
			for _, method := range path.Value {
				if !slices.Contains(method.Value.Tags, tag.Name) {
					continue
				}
				o, err := s.operation(strings.ToUpper(method.Name), path.Name, method.Value)
				if err != nil {
					return p, err
				}
				g.Operations = append(g.Operations, o)
				for _, answer := range o.Answers {
					for _, code := range answer.Codes {
						if !slices.Contains(statuses[code], answer.Status) {
							statuses[code] = append(statuses[code], answer.Status)
						}
					}
				}
			}
		}
		p.Groups = append(p.Groups, g)
	}
	for _, h := range s.Components.Headers {
		f, err := s.value(h.Value)
		if err != nil {
			return p, err
		}
		f.Name = h.Name
		p.Headers = append(p.Headers, f)
	}
	codes, err := component("#/components/schemas/Code", "schemas", s.Components.Schemas)
	if err != nil {
		return p, err
	}
	for _, c := range codes.OneOf {
		if c.Const == nil || len(statuses[*c.Const]) == 0 {
			return p, errors.New("the API's description explains a code that no answer has")
		}
		p.Codes = append(p.Codes, views.APICode{Name: *c.Const, Statuses: statuses[*c.Const], Blocks: blocks(c.Description)})
		delete(statuses, *c.Const)
	}
	for code := range statuses {
		return p, fmt.Errorf("the API's description does not explain the code %q", code)
	}
	return p, s.problems(&p)
}

// problems lists the fields of refusals.
func (s *spec) problems(p *views.APIDocsPage) error {
	for _, of := range []struct {
		schema string
		to     *[]views.APIField
	}{{"Problem", &p.Problem}, {"Unpaid", &p.Unpaid}} {
		fields, err := s.fields(specSchema{Ref: "#/components/schemas/" + of.schema})
		if err != nil {
			return err
		}
		for _, f := range fields {
			if !slices.ContainsFunc(p.Problem, func(have views.APIField) bool { return have.Name == f.Name }) && len(f.Blocks) > 0 {
				*of.to = append(*of.to, f)
			}
		}
	}
	field, err := s.schema(specSchema{Ref: "#/components/schemas/Field"})
	if err != nil {
		return err
	}
	p.Problem = append(p.Problem,
		views.APIField{Name: "code", Type: "string", Blocks: blocks("The reason, where the status alone does not say enough. One of those below.")},
		views.APIField{Name: "field", Type: "string", Blocks: blocks(field.Description)})
	return nil
}

// operation draws up one operation.
func (s *spec) operation(method, path string, op specOperation) (views.APIOperation, error) {
	o := views.APIOperation{ID: op.OperationID, Title: op.Summary, Method: method, Path: path, Blocks: blocks(op.Description)}
	for _, requirement := range op.Security {
		o.Scope = strings.Join(requirement["bearer"], ", ")
	}
	address := path
	for _, v := range op.Parameters {
		if v.Ref != "" {
			found, err := component(v.Ref, "parameters", s.Components.Parameters)
			if err != nil {
				return o, err
			}
			v = found
		}
		f, err := s.value(v)
		if err != nil {
			return o, err
		}
		f.In = v.In
		o.Parameters = append(o.Parameters, f)
		if v.In == "path" {
			address = strings.ReplaceAll(address, "{"+v.Name+"}", v.Example)
		}
		if v.In == "query" && v.Required {
			address += "?" + v.Name + "=" + v.Example
		}
	}
	call := "curl "
	if method == http.MethodDelete || method == http.MethodPut || method == http.MethodPatch {
		call += "-X " + method + " "
	}
	call += s.Servers[0].URL + address + " \\\n     -H \"Authorization: Bearer $KEY\""
	if method == http.MethodPost {
		call += " \\\n     -H \"Idempotency-Key: $(uuidgen)\""
	}
	if op.RequestBody == nil {
		o.Calls = append(o.Calls, views.APIExample{Title: "Example", Code: call})
	} else {
		o.TakesBody, o.NeedsBody, o.BodyNote = true, op.RequestBody.Required, blocks(op.RequestBody.Description)
		content, ok := op.RequestBody.Content.get("application/json")
		if !ok {
			return o, fmt.Errorf("%s takes no JSON", op.OperationID)
		}
		var err error
		if o.Body, err = s.fields(content.Schema); err != nil {
			return o, err
		}
		if o.Calls, err = content.calls(call); err != nil {
			return o, err
		}
	}
	for _, r := range op.Responses {
		a, err := s.answer(r.Name, r.Value)
		if err != nil {
			return o, fmt.Errorf("%s, %s: %w", op.OperationID, r.Name, err)
		}
		o.Answers = append(o.Answers, a)
	}
	return o, nil
}

// calls are commands that send the examples of a body.
func (c specContent) calls(call string) (list []views.APIExample, err error) {
	add := func(title string, body *yaml.Node) {
		var b bytes.Buffer
		err = errors.Join(err, writeNode(&b, body, ", ", ": "))
		list = append(list, views.APIExample{Title: title, Code: call + " \\\n     -d '" + strings.ReplaceAll(b.String(), "'", `'\''`) + "'"})
	}
	if c.Example.Kind != 0 {
		add("Example", &c.Example)
	}
	for i := range c.Examples {
		add(c.Examples[i].Value.Summary, &c.Examples[i].Value.Value)
	}
	return list, err
}

// answer draws up one answer.
func (s *spec) answer(status string, r specResponse) (views.APIAnswer, error) {
	if r.Ref != "" {
		found, err := component(r.Ref, "responses", s.Components.Responses)
		if err != nil {
			return views.APIAnswer{}, err
		}
		r = found
	}
	number, err := strconv.Atoi(status)
	if err != nil || len(r.Content) != 1 {
		return views.APIAnswer{}, errors.New("an answer has one status and one kind of content")
	}
	a := views.APIAnswer{Status: status, Words: http.StatusText(number), Good: number < http.StatusBadRequest, Blocks: blocks(r.Description)}
	content := r.Content[0].Value
	if a.Good {
		if a.Fields, err = s.fields(content.Schema); err != nil {
			return a, err
		}
	} else {
		body, err := s.flat(content.Schema)
		if err != nil {
			return a, err
		}
		code, _ := body.Properties.get("code")
		a.Codes = code.Enum
	}
	var b, indented bytes.Buffer
	if err := writeNode(&b, &content.Example, ",", ":"); err != nil {
		return a, err
	}
	if err := json.Indent(&indented, b.Bytes(), "", "  "); err != nil {
		return a, fmt.Errorf("couldn't lay out an example: %w", err)
	}
	a.Example = indented.String()
	return a, nil
}

// value draws up a parameter or a header.
func (s *spec) value(v specValue) (views.APIField, error) {
	schema, err := s.schema(v.Schema)
	return views.APIField{Name: v.Name, Type: schema.typeInWords(), Required: v.Required, Blocks: blocks(v.Description)}, err
}

// fields draws up the members of an object.
func (s *spec) fields(of specSchema) (list []views.APIField, err error) {
	of, err = s.flat(of)
	if err != nil {
		return nil, err
	}
	for _, m := range of.Properties {
		schema, err := s.schema(m.Value)
		if err != nil {
			return nil, err
		}
		f := views.APIField{Name: m.Name, Type: schema.typeInWords(), Required: slices.Contains(of.Required, m.Name), Blocks: blocks(schema.Description)}
		if schema.Items != nil {
			if f.Fields, err = s.fields(*schema.Items); err != nil {
				return nil, err
			}
		}
		list = append(list, f)
	}
	return list, nil
}

// typeInWords says what a value may be.
func (v specSchema) typeInWords() string {
	kind := strings.Join(v.Type, " or ")
	switch v.Format {
	case "uuid":
		kind = strings.Replace(kind, "string", "UUID", 1)
	case "date-time":
		kind = strings.Replace(kind, "string", "time", 1)
	case "uri":
		kind = strings.Replace(kind, "string", "URL", 1)
	}
	if v.Items != nil {
		kind = "list"
	}
	number := func(n *int64) string { return strconv.FormatInt(*n, 10) }
	switch {
	case v.Const != nil:
		kind += ", always " + *v.Const
	case len(v.Enum) > 0:
		kind += ", " + strings.Join(v.Enum, " | ")
	case v.Minimum != nil && v.Maximum != nil:
		kind += ", " + number(v.Minimum) + " to " + number(v.Maximum)
	case v.Minimum != nil && *v.Minimum > 0:
		kind += ", from " + number(v.Minimum)
	case v.MinLength != nil && v.MaxLength != nil:
		kind += ", " + number(v.MinLength) + " to " + number(v.MaxLength) + " characters"
	}
	if v.Default != nil {
		kind += ", by default " + *v.Default
	}
	return kind
}

// prose takes a description with headings apart.
func prose(text string) (intro []views.APIBlock, topics []views.APITopic) {
	for i, section := range strings.Split("\n"+text, "\n## ") {
		if i == 0 {
			intro = blocks(section)
			continue
		}
		title, body, _ := strings.Cut(section, "\n")
		topics = append(topics, views.APITopic{ID: strings.ToLower(strings.ReplaceAll(title, " ", "-")), Title: title, Blocks: blocks(body)})
	}
	return intro, topics
}

// blocks takes a description apart: paragraphs, lists and fenced code, with an empty line between them.
func blocks(text string) (list []views.APIBlock) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		part = strings.TrimSpace(part)
		switch {
		case part == "":
		case strings.HasPrefix(part, "```"):
			_, code, _ := strings.Cut(part, "\n")
			list = append(list, views.APIBlock{Code: strings.TrimSpace(strings.TrimSuffix(code, "```"))})
		case strings.HasPrefix(part, "- ") || strings.Contains(part, "\n- "):
			before, items, _ := strings.Cut("\n"+part, "\n- ")
			if before = strings.TrimSpace(before); before != "" {
				list = append(list, views.APIBlock{Text: spans(before)})
			}
			var b views.APIBlock
			for item := range strings.SplitSeq(items, "\n- ") {
				b.List = append(b.List, spans(item))
			}
			list = append(list, b)
		default:
			list = append(list, views.APIBlock{Text: spans(part)})
		}
	}
	return list
}

// spans takes a text apart at its marks of code.
func spans(text string) (list []views.APISpan) {
	for i, part := range strings.Split(strings.Join(strings.Fields(text), " "), "`") {
		if part != "" {
			list = append(list, views.APISpan{Text: part, Code: i%2 == 1})
		}
	}
	return list
}

// writeNode writes a YAML node as JSON, its members in their order, with the given words between them.
func writeNode(b *bytes.Buffer, n *yaml.Node, comma, colon string) error {
	switch n.Kind {
	case yaml.DocumentNode:
		return writeNode(b, n.Content[0], comma, colon)
	case yaml.AliasNode:
		return writeNode(b, n.Alias, comma, colon)
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteString(comma)
			}
			if err := writeJSONValue(b, n.Content[i].Value); err != nil {
				return err
			}
			b.WriteString(colon)
			if err := writeNode(b, n.Content[i+1], comma, colon); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		return nil
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				b.WriteString(comma)
			}
			if err := writeNode(b, c, comma, colon); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case yaml.ScalarNode:
		var v any
		if err := n.Decode(&v); err != nil {
			return fmt.Errorf("couldn't read line %d of the API's description: %w", n.Line, err)
		}
		return writeJSONValue(b, v)
	}
	return fmt.Errorf("line %d of the API's description is nothing that JSON has", n.Line)
}

// writeJSONValue writes a value with its quotation marks and angle brackets as they are.
func writeJSONValue(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("couldn't write the API's description: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder ends with a line break
	return nil
}
