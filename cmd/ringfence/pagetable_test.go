package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"ringfence/handlers"
	"ringfence/internal/browsertest"
)

// docs/pages.md lists every page with the states that the browser tests judged. `make pages` writes it, with a picture of
// each page; every run of the tests holds it against what they judged.
const (
	pageTable    = "../../docs/pages.md"
	pagePictures = "../../docs/images/pages"
)

// pageRow is one page of the table.
type pageRow struct {
	title, path string
	states      []browsertest.Seen
}

// ids are the parts of addresses that differ from run to run.
var ids = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f-]{27}|[a-z]{2,4}_\w+|[A-Z]{2}[0-9a-f]{32}|\d+|[\w.-]{20,})$`)

// pageRows are the pages of the program that were judged, in the order of their addresses.
func pageRows(all []browsertest.Seen) ([]pageRow, error) {
	byPath := map[string]*pageRow{}
	for _, s := range all {
		u, err := url.Parse(s.URL)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(u.Path, "/sandbox/") || strings.HasPrefix(u.Path, "/c/") {
			continue // the sandbox's own
		}
		parts := strings.Split(u.Path, "/")
		for i, part := range parts {
			if ids.MatchString(part) {
				parts[i] = "…"
			}
		}
		path := strings.Join(parts, "/")
		if byPath[path] == nil {
			title, _, _ := strings.Cut(s.Title, " · ")
			byPath[path] = &pageRow{title: title, path: path}
		}
		byPath[path].states = append(byPath[path].states, s)
	}
	var rows []pageRow
	for _, r := range byPath {
		slices.SortStableFunc(r.states, func(a, b browsertest.Seen) int { return cmp.Compare(a.Name, b.Name) })
		r.states = slices.CompactFunc(r.states, func(a, b browsertest.Seen) bool { return a.Name == b.Name })
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b pageRow) int { return cmp.Compare(a.path, b.path) })
	return rows, nil
}

// picture is the state that stands for the page: the first that is not its empty one.
func (r pageRow) picture() browsertest.Seen {
	for _, s := range r.states {
		if !strings.Contains(s.Name, "empty") && !strings.Contains(s.Name, "refused") && !strings.Contains(s.Name, "error") {
			return s
		}
	}
	return r.states[0]
}

// writePageTable writes the table and its pictures anew.
func writePageTable(rows []pageRow) error {
	var b bytes.Buffer
	states := 0
	for _, r := range rows {
		states += len(r.states)
	}
	fmt.Fprintf(&b, `# Pages

Every page of the program with the states that the browser tests judge, each in a real Chromium in light and dark, 1280 and 375
pixels wide: axe-core with the rules of WCAG 2.2 A and AA and target-size, no scrolling sideways, nothing that the browser itself
complains of. A finding fails the tests, so all that stand here have none. States with ↻ were judged after a part of the page had been
exchanged (HTMX or a live stream), the others as they were loaded.

%d pages, %d states. Written by `+"`make pages`"+`; the tests fail where it is not what they judged.

| Page | Address | States | axe | Picture |
|---|---|---|---|---|
`, len(rows), states)
	if err := os.RemoveAll(pagePictures); err != nil {
		return err
	}
	if err := os.MkdirAll(pagePictures, 0o750); err != nil {
		return err
	}
	for _, r := range rows {
		var names []string
		for _, s := range r.states {
			name := "`" + s.Name + "`"
			if s.Swapped {
				name += " ↻"
			}
			names = append(names, name)
		}
		shown := r.picture()
		fmt.Fprintf(&b, "| %s | `%s` | %s | none | ![%s](images/pages/%s.webp) |\n", r.title, r.path, strings.Join(names, ", "), r.title, shown.Name)
		if err := os.WriteFile(filepath.Join(pagePictures, shown.Name+".webp"), shown.Picture, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(pageTable, b.Bytes(), 0o600)
}

// noPages are what is asked for by GET and is no page of ours: it is read by programs, streamed, leads elsewhere, or is River's.
var noPages = regexp.MustCompile(`^/(\{\$\}|api/v1/.*|api/openapi\.json|static/.*|healthz|readyz|metrics|status\.json|wallet/stream|.*\.csv|.*/invoice|.*/payload|ops/jobs/river/)$`)

// notJudged are the pages that there are and no test judged.
func notJudged(rows []pageRow) (missing []string) {
	judged := map[string]bool{}
	for _, r := range rows {
		judged[r.path] = true
	}
	for _, rt := range handlers.Routes() {
		path := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(rt.Pattern, "…")
		if rt.Method == http.MethodGet && !noPages.MatchString(rt.Pattern) && !judged[path] {
			missing = append(missing, "no test judged the page "+rt.Pattern)
		}
	}
	return missing
}

// tableRow takes a row of the table apart: its address and its states.
var tableRow = regexp.MustCompile("(?m)^\\| [^|]* \\| `([^`]*)` \\| ([^|]*) \\|")

// holdPageTable says what the table does not have or, when whole, has and was not judged.
func holdPageTable(table string, rows []pageRow, whole bool) error {
	written := map[string]bool{}
	for _, m := range tableRow.FindAllStringSubmatch(table, -1) {
		for name := range strings.SplitSeq(strings.ReplaceAll(m[2], " ↻", ""), ", ") {
			written[m[1]+" "+strings.Trim(name, "`")] = true
		}
	}
	var wrong []string
	for _, r := range rows {
		for _, s := range r.states {
			state := r.path + " " + s.Name
			if !written[state] {
				wrong = append(wrong, "judged and not in it: "+state)
			}
			delete(written, state)
		}
	}
	if whole {
		wrong = append(wrong, notJudged(rows)...)
		for state := range written {
			wrong = append(wrong, "in it and not judged: "+state)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return errors.New("docs/pages.md is not what the browser tests judged; `make pages` writes it anew:\n  " + strings.Join(wrong, "\n  "))
}

// pagesHold holds the table against what was judged, or writes it where that is asked for.
func pagesHold() error {
	rows, err := pageRows(browsertest.AllSeen())
	if err != nil || len(rows) == 0 {
		return err
	}
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	if os.Getenv(browsertest.Pictures) != "" {
		if !whole {
			return errors.New(browsertest.Pictures + " writes docs/pages.md, which needs all tests")
		}
		return writePageTable(rows)
	}
	table, err := os.ReadFile(pageTable)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return holdPageTable(string(table), rows, whole)
}
