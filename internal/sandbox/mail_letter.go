package sandbox

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // reads what is not UTF-8
	"github.com/emersion/go-message/mail"
)

// Letter is a message as a mail program shows it.
type Letter struct {
	ID       string    `json:"id"`
	Received time.Time `json:"received"` // UTC
	// From and To are of the envelope: who handed it over for whom. What the headers say is in Header.
	From    string   `json:"from"`
	To      []string `json:"to"`
	Subject string   `json:"subject"`
	// Header has every header field decoded, under its canonical name.
	Header map[string][]string `json:"header"`
	// Text and HTML are the parts to be read; several of a kind follow each other.
	Text        string       `json:"text"`
	HTML        string       `json:"html"`
	Attachments []Attachment `json:"attachments,omitempty"`
	// Fault says why the message could not be read to its end; what came before is there.
	Fault string `json:"fault,omitempty"`
}

// Attachment is a file in a message, without its content.
type Attachment struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Bytes int    `json:"bytes"`
}

// Letters gives the messages that somebody was sent, newest first; everybody's when to is empty.
func (m *Mail) Letters(to string) []Letter {
	found := m.newestFirst(to)
	out := make([]Letter, 0, len(found))
	for _, one := range found {
		out = append(out, one.letter())
	}
	return out
}

// letter reads a message. One that cannot be read is a letter too, with its fault.
func (m *mailed) letter() Letter {
	l := Letter{
		ID: m.key(), Received: time.Unix(0, m.At).UTC(), From: m.From, To: m.To, Header: map[string][]string{},
	}
	// A charset nobody knows leaves the bytes as they are; that is no reason to show nothing.
	r, err := mail.CreateReader(bytes.NewReader(m.Raw))
	if err != nil && !message.IsUnknownCharset(err) {
		l.Fault = err.Error()
		return l
	}
	for fields := r.Header.Fields(); fields.Next(); {
		value, err := fields.Text()
		if err != nil {
			value = fields.Value()
		}
		l.Header[fields.Key()] = append(l.Header[fields.Key()], value)
	}
	l.Subject = strings.Join(l.Header["Subject"], " ")
	for {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return l
		}
		if err == nil || message.IsUnknownCharset(err) {
			err = l.add(part)
		}
		if err != nil {
			l.Fault = err.Error()
			return l
		}
	}
}

// add puts a part where it belongs.
func (l *Letter) add(part *mail.Part) error {
	body, err := io.ReadAll(part.Body)
	if err != nil {
		return err
	}
	switch h := part.Header.(type) {
	case *mail.InlineHeader:
		kind, _, err := h.ContentType()
		switch {
		case err != nil:
			return err
		case kind == "text/html":
			l.HTML += string(body)
			return nil
		case strings.HasPrefix(kind, "text/"):
			l.Text += strings.ReplaceAll(string(body), "\r\n", "\n")
			return nil
		}
		l.Attachments = append(l.Attachments, Attachment{Name: "(inline)", Type: kind, Bytes: len(body)})
	case *mail.AttachmentHeader:
		kind, _, err := h.ContentType()
		if err != nil {
			return err
		}
		name, err := h.Filename()
		if err != nil {
			return err
		}
		l.Attachments = append(l.Attachments, Attachment{Name: cmp.Or(name, "(no name)"), Type: kind, Bytes: len(body)})
	}
	return nil
}
