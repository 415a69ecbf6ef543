package sandbox

import (
	"errors"
	"net/http"
	"time"
)

// twilioModel is Twilio's page.
type twilioModel struct {
	Account, SMSURL             string
	Numbers                     []string
	Undelivered, Failed, Silent string
	ByHand                      bool
	Ends                        []string
	Messages                    []twilioRow
	Faults                      []Fault
	Presets                     []faultPreset
	// Text is what was typed, Notice why it was not sent.
	Text   textIn
	Notice string
}

type twilioRow struct {
	BookedMessage

	Created   int64
	Open      bool
	Callbacks []Callback
}

var twilioPresets = []faultPreset{
	{"The next text times out, but is made", `[{"match":"` + MakeMessage + `","do":"timeout_after_acting"}]`},
	{"The next text is made, but its answer is lost", `[{"match":"` + MakeMessage + `","do":"cut_after_acting"}]`},
	{"The next text answers 500", `[{"match":"` + MakeMessage + `","do":"500"}]`},
	{"The next text is made, but answers 500", `[{"match":"` + MakeMessage + `","do":"500_after_acting"}]`},
	{"The next text is rate limited", `[{"match":"` + MakeMessage + `","do":"429"}]`},
	{"The next text is refused (21612)", `[{"match":"` + MakeMessage + `","do":"refuse","code":21612}]`},
	{"The next text takes 5 seconds", `[{"match":"` + MakeMessage + `","do":"delay","ms":5000}]`},
	{"Lose the next callback", `[{"match":"deliver *","do":"drop"}]`},
	{"Make each callback twice", `[{"match":"deliver *","do":"repeat","copies":2,"times":-1}]`},
	{"Tell sent after delivered", `[{"match":"deliver status.sent","do":"reorder","times":-1}]`},
	{"Sign the next callback wrongly", `[{"match":"deliver *","do":"other_signature"}]`},
}

func (t *Twilio) mountPage(mux *http.ServeMux) {
	mux.HandleFunc("GET "+twilioControl+"/{$}", func(w http.ResponseWriter, _ *http.Request) {
		t.showPage(w, http.StatusOK, textIn{}, "")
	})
	mux.HandleFunc("POST "+twilioControl+"/inbound", t.postInbound)
	mux.HandleFunc("POST "+twilioControl+"/ring", t.postRing)
}

// postInbound has a text come in. A person whose text is not possible sees the form again.
func (t *Twilio) postInbound(w http.ResponseWriter, r *http.Request) {
	in, err := readText(r)
	var sid string
	if err == nil {
		sid, err = t.Receive(in.From, in.To, in.Body)
	}
	var e *twilioError
	if errors.As(err, &e) && fromForm(r) {
		t.showPage(w, http.StatusUnprocessableEntity, in, e.Message)
		return
	}
	var v any
	if err == nil {
		v, err = t.booked(sid)
	}
	answerControl(w, r, twilioControl+"/", v, err)
}

// postRing has a person call in: the fields from and to of a form, or of JSON.
func (t *Twilio) postRing(w http.ResponseWriter, r *http.Request) {
	in, err := readText(r)
	var sid string
	if err == nil {
		sid, err = t.Ring(in.From, in.To)
	}
	var v any
	if err == nil {
		v, err = t.bookedCall(sid)
	}
	answerControl(w, r, twilioControl+"/", v, err)
}

func (t *Twilio) showPage(w http.ResponseWriter, status int, typed textIn, notice string) {
	m := twilioModel{
		Account: t.account, SMSURL: t.smsURL, Undelivered: NumberUndelivered, Failed: NumberFailed,
		Silent: NumberSilent, ByHand: t.pace < 0, Ends: []string{smsDelivered, smsUndelivered, smsFailed},
		Faults: t.Faults(), Presets: twilioPresets, Text: typed, Notice: notice,
	}
	t.mu.Lock()
	m.Numbers = t.ownedNumbers()
	for one := range newest(t.order) {
		m.Messages = append(m.Messages, twilioRow{
			BookedMessage: one.booked(), Created: one.Created / int64(time.Second), Callbacks: one.shown(),
			Open: !final(one.Status),
		})
	}
	t.mu.Unlock()
	writePage(t.life, t.log, w, status, "twilio.html", m)
}
