package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
)

// told is a span as the collector got it.
type told struct {
	*tracepb.Span

	service string
}

func (s told) trace() string { return hex.EncodeToString(s.TraceId) }

func (s told) attribute(name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// spans takes apart what the collector got.
func (c *collector) spans(t *testing.T) (list []told) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, body := range c.bodies {
		var sent collectorpb.ExportTraceServiceRequest
		if err := proto.Unmarshal([]byte(body), &sent); err != nil {
			t.Fatal(err)
		}
		for _, r := range sent.ResourceSpans {
			service := ""
			for _, a := range r.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, s := range r.ScopeSpans {
				for _, span := range s.Spans {
					list = append(list, told{span, service})
				}
			}
		}
	}
	return list
}

// A payment is one trace, from Stripe's webhook in one process to the job in another and the SQL that credits it; asking
// Stripe is a part of the trace of the page. Nothing secret and nothing of anybody's is in any span.
func TestOneTraceFromWebhookToCredit(t *testing.T) {
	t.Parallel()
	collector := newCollector(t)
	e := development(t, dbtest.EmptyURL(t)).with(environment{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_SERVICE_NAME": "web"})
	web := e.spawn(t, "serve", "--no-jobs")
	web.ready(t, e.base())
	worker := e.with(environment{"OTEL_SERVICE_NAME": "worker"}).spawn(t, "work")
	harbour := signedIn(t, e.base(), owner)
	cookie := harbour.cookie().Value
	const planted = "TrAcEpLaNtEd"
	checkout := harbour.checkout("50.00")
	harbour.post(checkout+"/pay", url.Values{}, http.StatusSeeOther)
	harbour.waitBalance("£619.00")
	for _, path := range []string{"/nowhere/" + planted, "/wallet?q=" + planted} { // a stranger's path and query, and a traceparent
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, e.base()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", planted)
		req.Header.Set("X-Forwarded-For", "203.0.113.77")
		req.Header.Set("Traceparent", "00-"+strings.Repeat("ab", 16)+"-"+strings.Repeat("cd", 8)+"-01")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	for _, p := range []*process{worker, web} { // what is left is sent at the end
		if code := p.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("it ends with %d:\n%s", code, &p.log)
		}
	}

	traces := map[string][]told{}
	keys := map[string]bool{}
	for _, s := range collector.spans(t) {
		traces[s.trace()] = append(traces[s.trace()], s)
		for _, a := range s.Attributes {
			keys[a.Key] = true
		}
	}
	// Stripe tells of one payment twice (checkout.session.completed, payment_intent.succeeded). Both look at the credit, and one
	// makes it: the log names the trace in which that was, once.
	lines := regexp.MustCompile(`"msg":"credited".*"trace_id":"([0-9a-f]{32})"`).FindAllStringSubmatch(worker.log.String(), -1)
	if len(lines) != 1 {
		t.Fatalf("%d lines of the log name a trace for the credit:\n%s", len(lines), &worker.log)
	}
	credited, came := lines[0][1], false
	for id, spans := range traces {
		byID := map[string]told{}
		for _, s := range spans {
			byID[string(s.SpanId)] = s
		}
		for _, s := range spans {
			if !strings.Contains(s.attribute("db.query.text"), "INTO credits") {
				continue
			}
			var way []string
			for at, ok := s, true; ok; at, ok = byID[string(at.ParentSpanId)] {
				if !strings.HasPrefix(at.Name, "sql.") {
					way = append(way, at.service+": "+at.Name)
				}
			}
			slices.Reverse(way)
			if want := []string{"web: POST /api/webhooks/stripe", "web: store events", "worker: job stripe_events", "worker: work events"}; !slices.Equal(way, want) {
				t.Errorf("the credit came by %v, want %v", way, want)
			}
			came = came || id == credited
		}
	}
	if !came {
		t.Fatalf("no span of the credit in the trace that the log names, %s, of %d", credited, len(traces))
	}
	// So does the log of the webhook's answer.
	if !slices.ContainsFunc(slices.Collect(strings.Lines(web.log.String())), func(line string) bool {
		return strings.Contains(line, `"route":"POST /api/webhooks/stripe"`) && strings.Contains(line, `"trace_id":"`+credited+`"`)
	}) {
		t.Errorf("no line of the log of webhooks names the trace %s:\n%s", credited, &web.log)
	}
	// What was asked of Stripe, and the SQL around it, are the page's.
	asked := false
	for _, spans := range traces {
		names := map[string]bool{}
		for _, s := range spans {
			names[s.Name] = true
		}
		asked = asked || names["POST /wallet/top-ups"] && names["POST 127.0.0.1"]
	}
	if !asked {
		t.Error("no trace has the top-up's page and the request to Stripe")
	}
	if _, taken := traces[strings.Repeat("ab", 16)]; taken {
		t.Error("a stranger's traceparent decides whose trace a request is")
	}

	want := []string{
		"db.query.text", "db.system.name", "error.type", "http.request.method", "http.response.status_code", "http.route", "ringfence.job.attempt",
		"ringfence.job.id", "ringfence.job.kind", "ringfence.job.queue", "ringfence.request_id", "ringfence.shared",
	}
	for key := range keys {
		if !slices.Contains(want, key) {
			t.Errorf("spans tell %s, which may be anything", key)
		}
	}
	sent := collector.all()
	for _, secret := range []string{
		canary, planted, cookie, e["STRIPE_SECRET_KEY"], owner, "harbour.example", auth.DemoPassword, "Harbour Dental", "203.0.113", "whsec_", "cs_test_",
	} {
		if strings.Contains(sent, secret) {
			t.Errorf("%s is in the spans", secret)
		}
	}
	if id := regexp.MustCompile(`\bpi_\w+`).FindString(sent); id != "" { // not api_keys
		t.Errorf("%s is in the spans", id)
	}
	if raw, err := json.Marshal(slices.Sorted(maps.Keys(keys))); err == nil {
		t.Logf("%d traces, attributes %s", len(traces), raw)
	}
	for _, p := range []*process{web, worker} {
		clean(t, p.log.String())
	}
	e.verify(t)
}
