package notice

import (
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"

	"github.com/wneessen/go-mail"
)

//go:embed letter.txt
var plain string

//go:embed letter.html
var rich string

var (
	plainLetter = texttemplate.Must(texttemplate.New("letter").Parse(plain))
	richLetter  = htmltemplate.Must(htmltemplate.New("letter").Parse(rich))
)

// write makes the letter: plain text, and beside it the same in HTML. Its Message-ID is its row's id, so it is the same
// however often it is sent.
func (s *Service) write(l *letter) (*mail.Msg, error) {
	content := struct {
		Subject, OrgName, Base string
		Told                   []Words
		More                   int
		Personal               bool
	}{l.subject(), l.OrgName, s.o.BaseURL, l.told, l.unlisted(), l.personal()}
	var text, html strings.Builder
	if err := plainLetter.Execute(&text, content); err != nil {
		return nil, fmt.Errorf("couldn't write the text: %w", err)
	}
	if err := richLetter.Execute(&html, content); err != nil {
		return nil, fmt.Errorf("couldn't write the page: %w", err)
	}
	msg := mail.NewMsg()
	if err := msg.From(s.o.From); err != nil {
		return nil, fmt.Errorf("couldn't say who it is from: %w", err)
	}
	if err := msg.To(l.Email); err != nil {
		return nil, fmt.Errorf("couldn't say whom it is for: %w", err)
	}
	msg.Subject(content.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(l.ID.String() + "@ringfence")
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	msg.SetBodyString(mail.TypeTextPlain, text.String())
	msg.AddAlternativeString(mail.TypeTextHTML, html.String())
	return msg, nil
}
