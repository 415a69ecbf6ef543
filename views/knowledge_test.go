package views

import "testing"

func TestDocumentWords(t *testing.T) {
	for want, got := range map[string]string{
		"1 byte":                            Document{Bytes: 1}.size(),
		"1,023 bytes":                       Document{Bytes: 1023}.size(),
		"1 KB":                              Document{Bytes: 1024}.size(),
		"300 KB":                            Document{Bytes: 300 << 10}.size(),
		"1 passage":                         Document{Passages: 1}.contents(),
		"1 page, 2 passages":                Document{Pages: 1, Passages: 2}.contents(),
		"Passage 3":                         Passage{Number: 3}.place(),
		"Page 2, passage 3":                 Passage{Number: 3, Page: 2}.place(),
		"Nothing found":                     SearchResult{}.title(),
		"2 passages found":                  SearchResult{Passages: make([]Passage, 2)}.title(),
		"£0.01 was charged to your wallet.": SearchResult{Cost: 1}.paid(),
		"Added by somebody who left":        Document{}.by(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
