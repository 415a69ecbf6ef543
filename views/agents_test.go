package views

import (
	"strings"
	"testing"
	"time"
)

func hostileAgent() AgentPage {
	return AgentPage{
		Meta: meta("", "/agents/1"), CanEdit: true, Since: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC),
		Agent: PhoneAgent{ID: "1", Name: hostile, Active: true, Sync: AgentRefused, Note: hostile, NumberID: "2", Number: hostile},
		Form: AgentForm{
			Name: hostile, FirstMessage: hostile, Prompt: hostile, ForwardTo: hostile, Consent: hostile, Errors: map[string]string{"prompt": hostile},
			CallerIDs: []AgentChoice{{ID: hostile, Label: hostile}}, PromptMost: 16_000,
		},
		Call:    TestCall{To: hostile, Problem: hostile, Placed: &PlacedCall{ID: "3", To: hostile, Note: hostile}, Cost: &CallCost{Refused: hostile}},
		Problem: hostile,
	}
}

// Whatever people write about an agent stays text, for those who change it and those who only look.
func TestHostileAgentStaysText(t *testing.T) {
	p := hostileAgent()
	doc := parse(t, AgentDetail(p))
	if got := doc.Find("#prompt").Text(); got != hostile {
		t.Errorf("the prompt came back as %q", got)
	}
	if got := doc.Find("#name").AttrOr("value", ""); got != hostile {
		t.Errorf("the name came back as %q", got)
	}
	for _, where := range []string{"h1", "#note", "#prompt-error", "#call-cost", "#not-called", "#placed-state", "#problem-here", "#caller_id"} {
		if !strings.Contains(doc.Find(where).Text(), hostile) {
			t.Errorf("%s does not show it as it is: %q", where, doc.Find(where).Text())
		}
	}
	p.CanEdit = false
	looks := parse(t, AgentDetail(p))
	if got := strings.Count(looks.Find("#agent").Text(), hostile); got < 4 {
		t.Errorf("a viewer sees it %d times", got)
	}
	if got := words(parse(t, Agents(AgentsPage{Meta: meta("", "/agents"), Agents: []PhoneAgent{p.Agent}})).Find("#agents a")); got != strings.Join(strings.Fields(hostile), " ") {
		t.Errorf("the list says %q", got)
	}
}

// Each way in which an agent can stand has its own word and sentence, and only what goes on by itself is asked about again.
func TestAgentStates(t *testing.T) {
	for _, c := range []struct {
		agent         PhoneAgent
		word, says    string
		moves, usable bool
	}{
		{PhoneAgent{Active: true, Sync: AgentWaiting}, "Being set up", "once it is ready", true, false},
		{PhoneAgent{Active: true, Sync: AgentWaiting, Note: "Away."}, "Delayed", "once it is ready", true, false},
		{PhoneAgent{Active: true, Sync: AgentWaiting, Known: true}, "Being updated", "goes on as it was", true, true},
		{PhoneAgent{Active: true, Sync: AgentRefused, Note: "No."}, "Refused", "neither make calls", true, false},
		{PhoneAgent{Active: true, Sync: AgentRefused, Known: true, Note: "No."}, "Change refused", "as it was before", true, true},
		{PhoneAgent{Active: true, Sync: AgentSynced, Known: true}, "Ready", "as it is here", false, true},
		{PhoneAgent{Sync: AgentSynced, Known: true}, "Off", "makes no calls, and takes none", false, false},
		{PhoneAgent{Sync: AgentWaiting, Known: true}, "Being updated", "goes on as it was", true, false},
	} {
		a := c.agent
		if a.state().Word != c.word || !strings.Contains(a.sentence(), c.says) || a.Moves() != c.moves || a.Ready() != c.usable {
			t.Errorf("%+v: %s. %s moves %t, ready %t", a, a.state().Word, a.sentence(), a.Moves(), a.Ready())
		}
		p := AgentPage{Meta: meta("", "/agents/1"), Agent: a, CanEdit: true}
		if live := parse(t, AgentDetail(p)).Find("#agent-place [hx-get]").Length() == 1; live != c.moves {
			t.Errorf("%s: it is live %t", c.word, live)
		}
		if p.RefreshSeconds() != 0 {
			t.Errorf("%s: the page loads itself again while somebody may type", c.word)
		}
	}
	p := AgentPage{Meta: meta("", "/agents/1"), Agent: PhoneAgent{Sync: AgentWaiting}, Off: true}
	if parse(t, AgentDetail(p)).Find("#agent-place [hx-get]").Length() != 0 {
		t.Error("where nobody is told, it is asked again and again")
	}
}

func TestSpoken(t *testing.T) {
	for seconds, want := range map[int64]string{0: "0 s", 59: "59 s", 60: "1 min", 61: "1 min 1 s", 1800: "30 min", 3600: "1 h 0 min", 7260: "2 h 1 min", 360_000_000: "100,000 h 0 min"} {
		if got := spoken(seconds); got != want {
			t.Errorf("%d seconds are %q, want %q", seconds, got, want)
		}
	}
}
