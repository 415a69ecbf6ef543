package views

import (
	"time"

	"ringfence/views/ui"
)

// NoticeLine is one thing that the organisation was told.
type NoticeLine struct {
	At                      time.Time
	Title, Text, Link, Path string
	// Bad says that something is wrong.
	Bad bool
}

// state says whether something has to be done about it.
func (n NoticeLine) state() ui.StateProps {
	if n.Bad {
		return ui.StateProps{Word: "Needs attention", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{Word: "For your information", Tone: ui.ToneInfo, Icon: ui.IconInfo}
}

// NoticesPage is the model of the list of notices.
type NoticesPage struct {
	Meta PageMeta
	List []NoticeLine
	// Newest is the first page. Older is where the next page begins; empty on the last.
	Newest bool
	Older  string
}

// NoticeKind is a kind of notice that one may have mailed.
type NoticeKind struct {
	Name, About string
	Mail        bool
}

// NoticeSettingsPage is the model of the choice of what is mailed.
type NoticeSettingsPage struct {
	Meta PageMeta
	// Saved says that it was, a moment ago.
	Saved bool
	// Mails is false where this installation sends no mail.
	Mails bool
	Kinds []NoticeKind
	// SetsMark is for owners. Mark is in pounds, as typed.
	SetsMark        bool
	Mark, MarkError string
}
