package handlers_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A page goes out compressed where the browser takes that, and never where its length could tell somebody else what it says:
// not when another site has the browser ask, and not when it answers a form, which may show a secret once.
func TestCompression(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	plain := b.get("/dashboard", "Accept-Encoding", "identity")
	for _, c := range []struct {
		accept, site string
		compressed   bool
	}{
		{"gzip, deflate, br", "", true},
		{"gzip", "same-origin", true},
		{"gzip", "none", true},
		{"identity", "same-origin", false},
		{"gzip;q=0", "same-origin", false},
		{"gzip", "cross-site", false},
		{"gzip", "same-site", false},
		{"gzip", "something new", false},
	} {
		headers := []string{"Accept-Encoding", c.accept}
		if c.site != "" {
			headers = append(headers, "Sec-Fetch-Site", c.site)
		}
		res := b.get("/dashboard", headers...)
		wantStatus(t, "/dashboard", res, http.StatusOK)
		vary := strings.Join(res.Header.Values("Vary"), ", ")
		if !strings.Contains(vary, "Accept-Encoding") || !strings.Contains(vary, "Sec-Fetch-Site") {
			t.Errorf("%+v: Vary is %q", c, vary)
		}
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != c.compressed {
			t.Errorf("%+v: compressed is %t", c, got)
			continue
		}
		if !c.compressed {
			continue
		}
		z, err := gzip.NewReader(strings.NewReader(res.body))
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(z)
		if err != nil || len(page) != len(plain.body) || !strings.HasSuffix(string(page), "</html>") || len(res.body)*4 > len(page) {
			t.Errorf("%+v: %d bytes of %d, plain %d, %v", c, len(res.body), len(page), len(plain.body), err)
		}
	}

	made := b.send("/settings", "/settings/keys", url.Values{"name": {"Till"}, "scopes": {"wallet:read"}}, "Accept-Encoding", "gzip", "Sec-Fetch-Site", "same-origin")
	wantStatus(t, "a new key", made, http.StatusOK)
	if made.Header.Get("Content-Encoding") != "" || made.doc(t).Find("#new-key").Length() == 0 {
		t.Errorf("a new key was answered with encoding %q: %.300s", made.Header.Get("Content-Encoding"), made.body)
	}

	// A compressor would keep events back until it has enough of them.
	e := b.stream("Accept-Encoding", "gzip")
	e.until(t, "event: balance")
	if got := e.res.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("the stream is encoded as %q", got)
	}
}
