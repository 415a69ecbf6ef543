// Package layout holds the rules of who may import whom. Linters pass over generated files, so the rules are a test.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rule says what the packages below a folder may import of ours (empty: nothing), and what of others they may not.
type rule struct {
	folder  string
	ours    []string
	foreign []string
}

// The first rule that fits a package counts. cmd may import everything.
var rules = []rule{
	{"cmd/", []string{"ringfence/"}, nil},
	{"db/embedded", nil, nil},
	{"db/dbtest", []string{"ringfence/db", "ringfence/db/embedded"}, nil},
	{"db", nil, []string{"net/http"}},
	{"deploy", nil, nil}, // tests only
	{"internal/money", nil, []string{"net/http", "database/sql", "os"}},
	{"internal/phone", nil, []string{"net/http", "database/sql", "os"}},
	{"internal/config", nil, []string{"net/http", "database/sql"}},
	{"internal/failpoint", nil, []string{"net/http", "database/sql"}},
	{"internal/faulttest", nil, nil}, // tests only; it drives the program from outside
	{"internal/fault", nil, []string{"net/http", "database/sql"}},
	{"internal/batch", nil, []string{"net/http", "database/sql"}},
	{"internal/audit", []string{"ringfence/db"}, []string{"net/http"}},
	{"internal/notice", []string{"ringfence/db", "ringfence/internal/money", "ringfence/internal/phone", "ringfence/internal/fault", "ringfence/internal/audit"}, []string{"net/http"}},
	{"internal/wallet", []string{"ringfence/db", "ringfence/internal/money", "ringfence/internal/fault", "ringfence/internal/audit", "ringfence/internal/batch", "ringfence/internal/wallet"}, []string{"net/http"}},
	{"internal/auth", []string{"ringfence/db", "ringfence/internal/money", "ringfence/internal/fault", "ringfence/internal/audit", "ringfence/internal/notice"}, nil},
	{"internal/outgoing", nil, []string{"database/sql"}},
	{"internal/report", nil, []string{"database/sql", "os"}},
	{"internal/tracing", nil, []string{"os"}},
	{"internal/watch", []string{"ringfence/db"}, []string{"net/http"}},
	{"internal/payments", []string{"ringfence/db", "ringfence/internal/money", "ringfence/internal/fault", "ringfence/internal/audit", "ringfence/internal/batch", "ringfence/internal/failpoint", "ringfence/internal/notice", "ringfence/internal/wallet"}, nil},
	{"internal/knowledge", []string{"ringfence/db", "ringfence/internal/money", "ringfence/internal/fault", "ringfence/internal/audit", "ringfence/internal/batch", "ringfence/internal/wallet"}, []string{"net/http"}},
	{"internal/telephony", []string{"ringfence/db", "ringfence/internal/money", "ringfence/internal/fault", "ringfence/internal/audit", "ringfence/internal/failpoint", "ringfence/internal/notice", "ringfence/internal/wallet"}, nil},
	{"internal/webhooks", []string{"ringfence/db", "ringfence/internal/fault", "ringfence/internal/audit", "ringfence/internal/notice"}, nil},
	{"internal/operations", []string{"ringfence/db", "ringfence/internal/fault", "ringfence/internal/audit"}, []string{"net/http"}},
	{"internal/sandbox", []string{"ringfence/internal/money"}, []string{"database/sql"}},
	{"internal/browser", nil, []string{"net/http", "database/sql"}},
	{"internal/browsertest", []string{"ringfence/internal/browser"}, nil},
	{"internal/layout", nil, nil},
	{"views/ui", []string{"ringfence/internal/money", "ringfence/internal/phone"}, []string{"net/http", "database/sql", "os"}},
	{"views", []string{"ringfence/internal/money", "ringfence/views/ui"}, []string{"net/http", "database/sql", "os"}},
	{"docs", nil, []string{"net/http", "database/sql", "os"}},
	{"static", nil, []string{"database/sql"}},
	{"handlers", []string{"ringfence/docs", "ringfence/internal/", "ringfence/views", "ringfence/static"}, []string{"database/sql", "github.com/jmoiron/sqlx"}},
	{"jobs", []string{"ringfence/db", "ringfence/internal/"}, []string{"net/http"}},
}

func TestImportRules(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, "ringfence/")
		i := slices.IndexFunc(rules, func(r rule) bool {
			return path == strings.TrimSuffix(r.folder, "/") || strings.HasPrefix(path, strings.TrimSuffix(r.folder, "/")+"/")
		})
		if i < 0 {
			t.Errorf("%s has no rule: say in this test what it may import", path)
			continue
		}
		r := rules[i]
		for _, imported := range p.Imports {
			switch {
			case strings.HasPrefix(imported, "ringfence/"):
				if !slices.ContainsFunc(r.ours, func(may string) bool {
					return imported == may || strings.HasSuffix(may, "/") && strings.HasPrefix(imported, may)
				}) {
					t.Errorf("%s must not import %s", path, imported)
				}
				if imported == "ringfence/internal/sandbox" && !strings.HasPrefix(path, "cmd/") {
					t.Errorf("%s must not know the sandbox: it speaks to whatever stands at the configured address", path)
				}
			case slices.Contains(r.foreign, imported):
				t.Errorf("%s must not import %s", path, imported)
			}
		}
	}
}

// pkg is what `go list -json` says of a package, without its tests.
type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) (list []pkg) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "ringfence/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			if len(list) < 10 {
				t.Fatalf("go list found only %d packages", len(list))
			}
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, p)
	}
}
