package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"ringfence/db/dbtest"
	"ringfence/handlers"
)

// rule is one of Prometheus's, as far as it matters here.
type rule struct {
	Alert       string            `yaml:"alert"`
	Record      string            `yaml:"record"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alertRules(t *testing.T) (list []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "../../deploy/prometheus/alerts.yml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) < 30 {
		t.Fatalf("only %d rules", len(list))
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// panelQueries are the questions that the dashboard asks.
func panelQueries(t *testing.T) (list []string) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../../deploy/grafana/ringfence.json")), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	if len(list) < 40 {
		t.Fatalf("only %d queries", len(list))
	}
	return list
}

var (
	described  = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: ".*", constLabels: \{.*\}, variableLabels: \{([^}]*)\}\}$`)
	metricName = regexp.MustCompile(`\b((?:ringfence|go|process)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	recorded   = regexp.MustCompile(`\bringfence:[a-z0-9_:]+`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouped    = regexp.MustCompile(`\b(?:by|on|without) \(([^)]*)\)`)
)

// exported are the names of what the program shows, each with its labels. A counter with labels shows nothing before it
// has counted, so what is registered is asked, not what is shown.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	e := development(t, dbtest.EmptyURL(t))
	a, err := openApp(t.Context(), &env{ctx: t.Context(), getenv: e.getenv, stdout: &output{}, stderr: &output{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	var seeded atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	if _, err := a.handler(ctx, &seeded, nil); err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		a.registry.Describe(descs)
		close(descs)
	}()
	all := map[string][]string{}
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("client_golang describes metrics differently: %s", d)
		}
		all[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
	}
	return all
}

// Every metric and label that a rule or a picture names is one of the program's, and every route one of its routes.
func TestMonitoringAsksForWhatThereIs(t *testing.T) {
	t.Parallel()
	shown := exported(t)
	queries := panelQueries(t)
	records := map[string]bool{}
	for _, r := range alertRules(t) {
		queries = append(queries, r.Expr)
		records[r.Record] = true
	}
	var routes []string
	for _, r := range handlers.Routes() {
		routes = append(routes, r.Method+" "+r.Pattern)
	}
	for _, q := range queries {
		for _, name := range recorded.FindAllString(q, -1) {
			if !records[name] {
				t.Errorf("no rule records %s, which is asked for in %s", name, q)
			}
		}
		labels := []string{"instance", "job"} // Prometheus's own
		for _, m := range metricName.FindAllStringSubmatch(q, -1) {
			own, ok := shown[m[1]]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, is := strings.CutSuffix(m[1], suffix); !ok && is {
					if own, ok = shown[base]; ok && suffix == "_bucket" {
						own = append(slices.Clone(own), "le")
					}
				}
			}
			if !ok {
				t.Errorf("the program has no %s, which is asked for in %s", m[1], q)
			}
			own = append(slices.Clone(own), "instance", "job")
			labels = append(labels, own...)
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(own, l[1]) {
					t.Errorf("%s has no label %s: %s", m[1], l[1], q)
				}
				if l[1] != "route" {
					continue
				}
				is := regexp.MustCompile("^(?:" + l[3] + ")$")
				if !slices.ContainsFunc(routes, func(r string) bool { return r == l[3] || l[2] == "=~" && is.MatchString(r) }) {
					t.Errorf("there is no route %s: %s", l[3], q)
				}
			}
		}
		for _, g := range grouped.FindAllStringSubmatch(q, -1) {
			for label := range strings.SplitSeq(g[1], ",") {
				if label = strings.TrimSpace(label); label != "" && !slices.Contains(labels, label) {
					t.Errorf("nothing has a label %s: %s", label, q)
				}
			}
		}
	}
}

// Whoever is called finds what the alert means, how soon it matters and what to do, and no section is about an alert that
// is gone. Each alert is seen to fire and seen to be quiet in the rules' own tests.
func TestAlertsAreDocumentedAndTried(t *testing.T) {
	t.Parallel()
	_, after, found := strings.Cut(read(t, "../../docs/operations.md"), "\n## Alerts\n")
	if !found {
		t.Fatal("docs/operations.md has no section Alerts")
	}
	sections := map[string]string{}
	for _, part := range strings.Split(after, "\n### ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		sections[name] = text
	}
	type trial struct {
		Name  string
		Exprs []struct {
			Expr    string
			Samples []any `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
	var tried []trial
	for _, file := range []string{"alerts_test.yml", "alerts_weeks_test.yml"} {
		var tests struct{ Tests []trial }
		if err := yaml.Unmarshal([]byte(read(t, "../../deploy/prometheus/"+file)), &tests); err != nil {
			t.Fatal(err)
		}
		tried = append(tried, tests.Tests...)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	about := regexp.MustCompile(`alertname="(\w+)"`)
	for _, test := range tried {
		for _, e := range test.Exprs {
			m := about.FindStringSubmatch(e.Expr)
			if m == nil {
				t.Fatalf("%s: %s is about no alert", test.Name, e.Expr)
			}
			if len(e.Samples) > 0 {
				fires[m[1]] = true
			} else {
				quiet[m[1]] = true
			}
		}
	}
	severities := []string{"page", "ticket"}
	for _, r := range alertRules(t) {
		if r.Alert == "" {
			continue
		}
		text, ok := sections[r.Alert]
		delete(sections, r.Alert)
		severity := r.Labels["severity"]
		switch {
		case !ok:
			t.Errorf("docs/operations.md has no section ### %s", r.Alert)
		case !slices.Contains(severities, severity) || !strings.HasPrefix(strings.TrimSpace(text), "**"+severity+".**"):
			t.Errorf("%s: the rule says %q, its section begins with %.20q", r.Alert, severity, strings.TrimSpace(text))
		case len(text) < 150:
			t.Errorf("%s: its section says next to nothing", r.Alert)
		}
		if want := "docs/operations.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want || r.Annotations["summary"] == "" {
			t.Errorf("%s: its annotations are %v, want a summary and the runbook %s", r.Alert, r.Annotations, want)
		}
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: seen to fire %t, seen to be quiet %t; want both in deploy/prometheus/alerts_test.yml", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
	for name := range maps.Keys(sections) {
		t.Errorf("docs/operations.md has a section ### %s, which is no alert", name)
	}
}
