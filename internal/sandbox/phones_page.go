package sandbox

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// phonesPath is the page of everything that rings: numbers, calls and agents.
const phonesPath = "/sandbox/"

// phones is that page.
type phones struct {
	twilio *Twilio
	vapi   *Vapi // nil when it is off
}

// phonesModel is what the page shows.
type phonesModel struct {
	Vapi    bool
	ByHand  bool
	Numbers []numberCard
	Calls   []callCard
	Agents  []agentCard
	Callers []BookedCaller
	Bundles []bundleCard
	Scripts []CallScript
	Presets []faultPreset
	// TwilioFaults and VapiFaults are the rules in force, the others are ready to be set.
	TwilioFaults, VapiFaults             []Fault
	TwilioFaultPresets, VapiFaultPresets []faultPreset
	// Busy and the others are numbers whose calls do not end well.
	Busy, NoAnswer, Unreachable, Talker string
	// Typed is what was typed, Notice why it was not done.
	Typed  textIn
	Notice string
}

type numberCard struct {
	Number, Kind, Country string
	Account, AccountName  string
	SMS, Voice            bool
	// Answers says who takes its calls, Texts where its texts go.
	Answers, Texts string
}

type callCard struct {
	BookedCall

	Created int64
	Open    bool
	// Agent is the phone agent's name and Reason why Vapi says it ended, of Vapi's calls.
	Agent, Reason, VapiID string
	Told                  []Callback
}

type agentCard struct {
	ID, Name, Says, Server string
	Numbers, Tools         []string
}

type bundleCard struct{ SID, FriendlyName, Country, Status string }

var scriptPresets = []faultPreset{
	{"As always: rings 3 s, talks 20 s", `[]`},
	{"The next call lasts 61 seconds", `[{"ring":1,"talk":61}]`},
	{"The next call lasts 10 minutes", `[{"ring":1,"talk":600}]`},
	{"The next person never hangs up", `[{"talk":-1}]`},
	{"The next person is busy", `[{"does":"busy"}]`},
	{"The next person does not answer", `[{"does":"no-answer"}]`},
	{"The next call fails", `[{"does":"fail"}]`},
	{"The next agent hangs up", `[{"talk":15,"agent_hangs_up":true}]`},
	{"The next agent searches the knowledge base", `[{"talk":30,"tools":[{"at":5,"name":"search_knowledge","arguments":{"query":"opening hours"}}]}]`},
}

var numberFaultPresets = []faultPreset{
	{"The next purchase times out, but is made", `[{"match":"` + BuyNumber + `","do":"timeout_after_acting"}]`},
	{"The next purchase answers 500", `[{"match":"` + BuyNumber + `","do":"500"}]`},
	{"The next purchase finds the number sold", `[{"match":"` + BuyNumber + `","do":"refuse","code":21422}]`},
	{"The next release is made, but its answer is lost", `[{"match":"` + ReleaseNumber + `","do":"cut_after_acting"}]`},
	{"Releases are refused until cleared", `[{"match":"` + ReleaseNumber + `","do":"500","times":-1}]`},
	{"The next subaccount is rate limited", `[{"match":"` + MakeAccount + `","do":"429"}]`},
}

var vapiFaultPresets = []faultPreset{
	{"The next import times out, but is made", `[{"match":"` + ImportNumber + `","do":"timeout_after_acting"}]`},
	{"The next import answers 500", `[{"match":"` + ImportNumber + `","do":"500"}]`},
	{"Deleting numbers fails until cleared", `[{"match":"` + DeleteImported + `","do":"500","times":-1}]`},
	{"The next call is made, but its answer is lost", `[{"match":"` + MakeAgentCall + `","do":"cut_after_acting"}]`},
	{"The next call is rate limited", `[{"match":"` + MakeAgentCall + `","do":"429"}]`},
	{"Ending a call fails once", `[{"match":"` + ControlCall + `","do":"500"}]`},
	{"Lose the next end-of-call report", `[{"match":"deliver end-of-call-report","do":"drop"}]`},
	{"Send each message twice", `[{"match":"deliver *","do":"repeat","copies":2,"times":-1}]`},
	{"The next message has a wrong secret", `[{"match":"deliver *","do":"other_signature"}]`},
}

func (p phones) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET "+phonesPath+"{$}", func(w http.ResponseWriter, _ *http.Request) {
		p.show(w, http.StatusOK, textIn{}, "")
	})
	// The number's own button is in a form with what else was typed.
	for word, act := range map[string]func(in textIn) error{
		"ring": func(in textIn) error { _, err := p.twilio.Ring(in.From, in.To); return err },
		"text": func(in textIn) error { _, err := p.twilio.Receive(in.From, in.To, in.Body); return err },
	} {
		mux.HandleFunc("POST "+phonesPath+word, func(w http.ResponseWriter, r *http.Request) {
			in, err := readText(r)
			if err == nil {
				err = act(in)
			}
			if said := saying(err); said != "" && fromForm(r) {
				p.show(w, http.StatusUnprocessableEntity, in, said)
				return
			}
			answerControl(w, r, phonesPath, map[string]bool{"done": err == nil}, err)
		})
	}
}

// saying is what an error says to a person; empty for one that is not theirs to mend.
func saying(err error) string {
	var twilios *twilioError
	var ours *apiError
	switch {
	case errors.As(err, &twilios):
		return twilios.Message
	case errors.As(err, &ours):
		return ours.Message
	default:
		return ""
	}
}

func (p phones) show(w http.ResponseWriter, status int, typed textIn, notice string) {
	m := phonesModel{
		Vapi: p.vapi != nil, ByHand: p.twilio.second < 0, Scripts: p.twilio.Scripts(), Presets: scriptPresets,
		TwilioFaults: p.twilio.Faults(), TwilioFaultPresets: numberFaultPresets, VapiFaultPresets: vapiFaultPresets,
		Busy: NumberBusy, NoAnswer: NumberNoAnswer, Unreachable: NumberUnreachable, Talker: NumberTalker,
		Typed: typed, Notice: notice,
	}
	if typed.From == "" {
		m.Typed.From = "+447400123456"
	}
	if p.vapi != nil {
		m.VapiFaults = p.vapi.Faults()
	}
	p.read(&m)
	writePage(p.twilio.life, p.twilio.log, w, status, "phones.html", m)
}

// read fills in what there is now.
func (p phones) read(m *phonesModel) {
	agents := p.agents(m)
	p.twilio.mu.Lock()
	defer p.twilio.mu.Unlock()
	for _, n := range p.twilio.numberOrder {
		if n.Released != 0 {
			continue
		}
		card := numberCard{
			Number: n.Number, Kind: kindWords[n.Kind], Country: n.Country, Account: n.Account, SMS: n.SMS, Voice: n.VoiceURL != "",
			Answers: agents.answers[n.Number], Texts: p.twilio.textsTo(n),
		}
		if a := p.twilio.accounts[n.Account]; a != nil {
			card.AccountName = a.FriendlyName
		}
		if card.Answers == "" {
			card.Answers = n.VoiceURL
		}
		m.Numbers = append(m.Numbers, card)
	}
	for one := range newest(p.twilio.callOrder) {
		card := callCard{BookedCall: one.booked(), Created: one.Created / int64(time.Second), Open: !one.over(), Told: one.shown()}
		if x, ok := agents.calls[one.SID]; ok {
			card.Agent, card.Reason, card.VapiID = x.Agent, x.Reason, x.VapiID
			card.Told = append(card.Told, x.Told...)
		}
		m.Calls = append(m.Calls, card)
	}
	for _, i := range p.twilio.callerOrder {
		if b := i.booked(); b.State == "asked" {
			m.Callers = append(m.Callers, b)
		}
	}
	for _, b := range p.twilio.bundleOrder {
		m.Bundles = append(m.Bundles, bundleCard{b.SID, b.FriendlyName, b.Country, b.Status})
	}
}

// atVapi is what Vapi knows of numbers and calls.
type atVapi struct {
	answers map[string]string   // by number
	calls   map[string]callCard // by the call's SID at Twilio
}

// agents fills in Vapi's agents.
func (p phones) agents(m *phonesModel) atVapi {
	out := atVapi{answers: map[string]string{}, calls: map[string]callCard{}}
	if p.vapi == nil {
		return out
	}
	v := p.vapi
	v.mu.Lock()
	defer v.mu.Unlock()
	byAgent := map[string][]string{}
	for _, n := range v.numberOrder {
		if n.Deleted != 0 {
			continue
		}
		out.answers[n.text("number")] = "Vapi asks its server"
		if a := v.assistants[n.text("assistantId")]; a != nil {
			out.answers[n.text("number")] = "Agent " + a.text("name")
			byAgent[a.ID] = append(byAgent[a.ID], n.text("number"))
		}
	}
	for _, a := range v.assistantOrder {
		if a.Deleted != 0 {
			continue
		}
		card := agentCard{ID: a.ID, Name: a.text("name"), Says: a.text("firstMessage"), Numbers: byAgent[a.ID]}
		if s, ok := v.serverFrom(a.Fields["server"]); ok {
			card.Server = s.url
		}
		card.Tools = toolNames(a.Fields)
		m.Agents = append(m.Agents, card)
	}
	for x := range newest(v.callOrder) {
		name, _ := x.Agent["name"].(string)
		out.calls[x.SID] = callCard{Agent: name, Reason: x.EndedReason, VapiID: x.ID, Told: x.shown()}
	}
	return out
}

// toolNames are what an assistant can do, by name.
func toolNames(fields map[string]any) []string {
	model, _ := fields["model"].(map[string]any)
	tools, _ := model["tools"].([]any)
	var out []string
	for _, one := range tools {
		tool, _ := one.(map[string]any)
		name, _ := tool["type"].(string)
		if function, ok := tool["function"].(map[string]any); ok {
			name, _ = function["name"].(string)
		}
		out = append(out, strings.TrimSpace(name))
	}
	return out
}
