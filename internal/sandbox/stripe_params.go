package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params are form parameters as Stripe reads them: a[b][c]=1, a[0][b]=2, a[]=3.
type params struct {
	root *node
	// leaves are the parameters as they were named, split into segments, in the order they came.
	leaves [][]string
	hash   string
}

type node struct {
	value string
	leaf  bool
	names []string
	kids  map[string]*node
}

const (
	maxParams     = 1000
	maxParamDepth = 8
)

// parseParams reads an encoded form or query. op is made part of the hash, so that the same parameters sent to
// another endpoint are another request.
func parseParams(op, raw string) (*params, error) {
	p := &params{root: &node{}}
	var canonical []string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		if len(p.leaves) == maxParams {
			return nil, invalid("", "", "Too many parameters.")
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(k)
		if err != nil {
			return nil, invalid("", "", "Invalid form encoding: %s", k)
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, invalid("", key, "Invalid form encoding for parameter %s", key)
		}
		segs, ok := splitKey(key)
		if !ok {
			return nil, invalid("", key, "Invalid parameter name: %s", key)
		}
		segs = p.set(segs, value)
		if segs == nil {
			return nil, invalid("", key, "Invalid parameter: %s is given both as a value and as an object", key)
		}
		p.leaves = append(p.leaves, segs)
		canonical = append(canonical, joinKey(segs)+"="+value)
	}
	slices.Sort(canonical)
	sum := sha256.Sum256([]byte(op + "\x00" + strings.Join(canonical, "\x00")))
	p.hash = hex.EncodeToString(sum[:])
	return p, nil
}

// splitKey turns a[b][] into a, b, "".
func splitKey(key string) ([]string, bool) {
	name, rest, nested := strings.Cut(key, "[")
	if name == "" || strings.Contains(name, "]") {
		return nil, false
	}
	segs := []string{name}
	if !nested {
		return segs, true
	}
	if !strings.HasSuffix(rest, "]") {
		return nil, false
	}
	segs = append(segs, strings.Split(strings.TrimSuffix(rest, "]"), "][")...)
	return segs, len(segs) <= maxParamDepth
}

func joinKey(segs []string) string {
	if len(segs) == 1 {
		return segs[0]
	}
	return segs[0] + "[" + strings.Join(segs[1:], "][") + "]"
}

// set stores a value and gives the path with the empty segments filled in; nil when the path contradicts another.
func (p *params) set(segs []string, value string) []string {
	n := p.root
	for i, seg := range segs {
		if n.leaf {
			return nil
		}
		if seg == "" {
			seg = strconv.Itoa(len(n.kids))
			segs[i] = seg
		}
		next := n.kids[seg]
		if next == nil {
			next = &node{}
			if n.kids == nil {
				n.kids = map[string]*node{}
			}
			n.kids[seg] = next
			n.names = append(n.names, seg)
		}
		n = next
	}
	if n.kids != nil {
		return nil
	}
	n.value, n.leaf = value, true
	return segs
}

// allow refuses every parameter that no pattern covers. In a pattern * stands for one segment and a last ** for any
// number. expand is always allowed.
func (p *params) allow(patterns ...string) error {
	patterns = append(patterns, "expand[*]")
	for _, leaf := range p.leaves {
		if !slices.ContainsFunc(patterns, func(pattern string) bool { return covers(pattern, leaf) }) {
			name := joinKey(leaf)
			return invalid("parameter_unknown", name,
				"Received unknown parameter: %s (the sandbox takes only the parameters that it acts on)", name)
		}
	}
	return nil
}

func covers(pattern string, leaf []string) bool {
	want, ok := splitKey(pattern)
	if !ok {
		return false
	}
	for i, seg := range want {
		if seg == "**" {
			return len(leaf) > i
		}
		if i >= len(leaf) || (seg != "*" && seg != leaf[i]) {
			return false
		}
	}
	return len(want) == len(leaf)
}

func (p *params) at(path ...string) *node {
	n := p.root
	for _, seg := range path {
		if n = n.kids[seg]; n == nil {
			return nil
		}
	}
	return n
}

func (p *params) has(path ...string) bool { return p.at(path...) != nil }

func (p *params) str(path ...string) string {
	if n := p.at(path...); n != nil {
		return n.value
	}
	return ""
}

// integer gives a whole number; ok is false when it was not sent.
func (p *params) integer(path ...string) (v int64, ok bool, err error) {
	n := p.at(path...)
	if n == nil || n.value == "" {
		return 0, false, nil
	}
	v, err = strconv.ParseInt(n.value, 10, 64)
	if err != nil {
		return 0, false, invalid("parameter_invalid_integer", joinKey(path), "Invalid integer: %s", n.value)
	}
	return v, true, nil
}

// boolean gives a truth value; ok is false when it was not sent.
func (p *params) boolean(path ...string) (v, ok bool, err error) {
	switch s := p.str(path...); s {
	case "":
		return false, false, nil
	case "true":
		return true, true, nil
	case "false":
		return false, true, nil
	default:
		return false, false, invalid("", joinKey(path), "Invalid boolean: %s", s)
	}
}

// list gives the paths of the elements of an array, in the order they were sent.
func (p *params) list(path ...string) [][]string {
	n := p.at(path...)
	if n == nil {
		return nil
	}
	out := make([][]string, 0, len(n.names))
	for _, name := range n.names {
		out = append(out, append(slices.Clone(path), name))
	}
	return out
}

// strings gives the values of an array, in the order they were sent.
func (p *params) strings(path ...string) []string {
	var out []string
	for _, item := range p.list(path...) {
		out = append(out, p.str(item...))
	}
	return out
}

// metadata gives a metadata map within Stripe's limits (https://docs.stripe.com/api/metadata).
func (p *params) metadata(path ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, item := range p.list(path...) {
		key, name := item[len(item)-1], joinKey(item)
		n := p.at(item...)
		switch {
		case !n.leaf:
			return nil, invalid("", name, "Metadata values must be strings.")
		case len([]rune(key)) > 40:
			return nil, invalid("", name, "Metadata keys can be at most 40 characters long.")
		case len([]rune(n.value)) > 500:
			return nil, invalid("", name, "Metadata values can have up to 500 characters.")
		case n.value != "":
			out[key] = n.value
		}
	}
	if len(out) > 50 {
		return nil, invalid("", joinKey(path), "Metadata can have at most 50 keys.")
	}
	return out, nil
}

// oneOf checks an optional word against those that are known.
func (p *params) oneOf(known []string, path ...string) (string, error) {
	s := p.str(path...)
	if s == "" || slices.Contains(known, s) {
		return s, nil
	}
	return "", invalid("", joinKey(path), "Invalid %s: must be one of %s", joinKey(path), strings.Join(known, ", "))
}
