package handlers_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	fileName = regexp.MustCompile(`\b(?:[\w-]+/)+[\w.-]+\.(?:go|templ|md|js|sql|txt)\b`)
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// Each row of docs/security.md names tests and files that there are, and no id is there twice. Whether they show what the
// row says is for its reader to judge.
func TestSecurityDocumentNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || path != ".." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range testName.FindAllString(string(text), -1) {
		if !tests[name] {
			t.Errorf("there is no %s", name)
		}
	}
	for _, name := range fileName.FindAllString(string(text), -1) {
		if strings.HasPrefix(name, "decisions/") {
			name = "docs/" + name
		}
		if _, err := os.Stat("../" + name); err != nil {
			t.Error(err)
		}
	}
	seen, states := map[string]bool{}, map[string]int{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !regexp.MustCompile(`^V\d+\.\d+\.\d+$`).MatchString(cells[0]) {
			continue
		}
		if len(cells) != 5 || seen[cells[0]] {
			t.Errorf("%s has %d cells, or is there twice", cells[0], len(cells))
			continue
		}
		seen[cells[0]] = true
		states[cells[3]]++
		if !slices.Contains([]string{"met", "partly", "not yet", "n/a"}, cells[3]) || cells[1] != "1" && cells[1] != "2" || cells[4] == "" {
			t.Errorf("%s: level %q, state %q, %q", cells[0], cells[1], cells[3], cells[4])
		}
	}
	if len(seen) != 253 { // levels 1 and 2 of ASVS 5.0.0
		t.Errorf("%d requirements, want 253", len(seen))
	}
	joined := strings.Join(strings.Fields(string(text)), " ")
	for state, words := range map[string]string{"met": " are met", "partly": " partly", "not yet": " not yet", "n/a": " do not apply"} {
		if !strings.Contains(joined, " "+strconv.Itoa(states[state])+words) {
			t.Errorf("%d rows are %q, and the text says otherwise", states[state], state)
		}
	}
}
