package outgoing_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ringfence/internal/outgoing"
)

// provider answers with the status in the path; 0 is no answer.
type provider struct{}

func (provider) RoundTrip(r *http.Request) (*http.Response, error) {
	var status int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &status); err != nil {
		return nil, err
	}
	if status == 0 {
		return nil, errors.New("the line is dead")
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
}

func TestOutcomesAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	ways := outgoing.New(provider{}, time.Now)
	ways.Register(reg)
	for _, status := range []int{200, 302, 404, 429, 500, 503, 0} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://provider.example/%d", status), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := ways.To("stripe").RoundTrip(r)
		if (err != nil) != (status == 0) || err == nil && res.StatusCode != status {
			t.Errorf("%d: %v, %v", status, res, err)
		}
		if err == nil {
			_ = res.Body.Close()
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "ringfence_provider_requests_total" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[1].GetValue()+"/"+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if want := map[string]float64{"stripe/ok": 2, "stripe/refused": 1, "stripe/limited": 1, "stripe/failed": 2, "stripe/no_answer": 1}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
