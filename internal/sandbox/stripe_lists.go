package sandbox

import (
	"encoding/json"
	"slices"
	"sort"
	"strings"
)

// list is a page of objects, newest first; see https://docs.stripe.com/api/pagination.
type list struct {
	Object  string `json:"object"`
	Data    []any  `json:"data"`
	HasMore bool   `json:"has_more"`
	URL     string `json:"url"`
}

const (
	listDefault = 10
	listMax     = 100
)

// listParams are the parameters every list takes.
var listParams = []string{"limit", "starting_after", "ending_before", "created", "created[*]"}

// page answers a list request: the objects of t that keep holds, in the range and page that the caller asked for.
// view turns an object into what is shown.
func page[W any, P resource[W]](
	in *input, t *table[W, P], noun string, keep func(*row[W]) bool, view func(*row[W]) any,
) (any, error) {
	limit, ok, err := in.integer("limit")
	switch {
	case err != nil:
		return nil, err
	case !ok:
		limit = listDefault
	case limit < 1 || limit > listMax:
		return nil, invalid("parameter_invalid_integer", "limit", "This value must be between 1 and %d.", listMax)
	}
	inRange, err := createdFilter(in)
	if err != nil {
		return nil, err
	}
	after, before := in.str("starting_after"), in.str("ending_before")
	if after != "" && before != "" {
		return nil, invalid("", "", "You can only specify one of these parameters: starting_after, ending_before.")
	}
	out := list{Object: "list", Data: []any{}, URL: in.path}
	match := func(r *row[W]) bool {
		_, created := P(&r.Wire).ref()
		return inRange(created) && (keep == nil || keep(r))
	}
	if before != "" {
		// The page that lies just before the cursor in a list that is newest first: the next newer objects.
		cursor := t.get(before)
		if cursor == nil {
			return nil, noSuch(noun, before, "ending_before")
		}
		for _, r := range t.order[position(t, cursor)+1:] {
			if !match(r) {
				continue
			}
			if int64(len(out.Data)) == limit {
				out.HasMore = true
				break
			}
			out.Data = append(out.Data, view(r))
		}
		slices.Reverse(out.Data)
		return out, nil
	}
	end := len(t.order)
	if after != "" {
		cursor := t.get(after)
		if cursor == nil {
			return nil, noSuch(noun, after, "starting_after")
		}
		end = position(t, cursor)
	}
	for _, r := range slices.Backward(t.order[:end]) {
		if !match(r) {
			continue
		}
		if int64(len(out.Data)) == limit {
			out.HasMore = true
			break
		}
		out.Data = append(out.Data, view(r))
	}
	return out, nil
}

func position[W any, P resource[W]](t *table[W, P], r *row[W]) int {
	return sort.Search(len(t.order), func(i int) bool { return t.order[i].Seq >= r.Seq })
}

// createdFilter reads created, or created[gt|gte|lt|lte], in Unix seconds.
func createdFilter(in *input) (func(int64) bool, error) {
	var checks []func(int64) bool
	if n := in.at("created"); n != nil && n.leaf {
		exact, _, err := in.integer("created")
		if err != nil {
			return nil, err
		}
		return func(c int64) bool { return c == exact }, nil
	}
	for _, path := range in.list("created") {
		bound, _, err := in.integer(path...)
		if err != nil {
			return nil, err
		}
		switch op := path[1]; op {
		case "gt":
			checks = append(checks, func(c int64) bool { return c > bound })
		case "gte":
			checks = append(checks, func(c int64) bool { return c >= bound })
		case "lt":
			checks = append(checks, func(c int64) bool { return c < bound })
		case "lte":
			checks = append(checks, func(c int64) bool { return c <= bound })
		default:
			return nil, invalid("parameter_unknown", joinKey(path), "Received unknown parameter: %s", joinKey(path))
		}
	}
	return func(c int64) bool {
		return !slices.ContainsFunc(checks, func(check func(int64) bool) bool { return !check(c) })
	}, nil
}

// expandable are the members that hold an id and can be expanded.
var expandable = []string{"customer", "payment_intent", "latest_charge", "charge", "payment_method", "setup_intent", "invoice"}

// checkExpand refuses, before anything happens, what no object could expand.
func checkExpand(in *input) error {
	for _, path := range in.strings("expand") {
		for name := range strings.SplitSeq(path, ".") {
			if name != "data" && !slices.Contains(expandable, name) {
				return cannotExpand(path)
			}
		}
	}
	return nil
}

func cannotExpand(path string) error {
	return invalid("", "expand", "This property cannot be expanded (%s).", path)
}

// render encodes an answer and replaces ids by objects where expand[] asks for it. The mutex must be held.
func (s *Stripe) render(in *input, v any) ([]byte, error) {
	paths := in.strings("expand")
	if len(paths) == 0 {
		return json.MarshalIndent(v, "", "  ")
	}
	m, err := asMap(v)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if err := s.expand(m, path, strings.Split(path, ".")); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(m, "", "  ")
}

func (s *Stripe) expand(m map[string]any, whole string, path []string) error {
	cannot := cannotExpand(whole)
	if len(path) == 0 {
		return nil
	}
	if len(path) > 4 {
		return invalid("", "expand", "You cannot expand more than 4 levels of a property.")
	}
	name := path[0]
	value, ok := m[name]
	if items, isList := value.([]any); isList && name == "data" && len(path) > 1 {
		for _, item := range items {
			object, isObject := item.(map[string]any)
			if !isObject {
				return cannot
			}
			if err := s.expand(object, whole, path[1:]); err != nil {
				return err
			}
		}
		return nil
	}
	if !ok {
		return cannot
	}
	switch value := value.(type) {
	case nil:
		return nil
	case map[string]any: // expanded by an earlier path
		return s.expand(value, whole, path[1:])
	case string:
		found := s.find(value)
		if found == nil {
			return cannot
		}
		object, err := asMap(found)
		if err != nil {
			return err
		}
		m[name] = object
		return s.expand(object, whole, path[1:])
	default:
		return cannot
	}
}

// find gives an object by its id, whatever it is; nil when there is none.
func (s *Stripe) find(id string) any {
	if r := s.customers.get(id); r != nil {
		return &r.Wire
	}
	if r := s.intents.get(id); r != nil {
		return &r.Wire
	}
	if r := s.charges.get(id); r != nil {
		return &r.Wire
	}
	if r := s.methods.get(id); r != nil {
		return &r.Wire
	}
	if r := s.setups.get(id); r != nil {
		return &r.Wire
	}
	if r := s.invoices.get(id); r != nil {
		return &r.Wire
	}
	return nil
}
