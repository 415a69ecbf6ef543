package views

import (
	"strings"
	"testing"

	"ringfence/views/ui"
)

// What the dashboard says of a part is the state that it is in, and says it where the part is.
func TestDashboardSays(t *testing.T) {
	full := func(change func(p *DashboardPage)) DashboardPage {
		p := DashboardPage{
			Meta: meta("Dashboard", "/dashboard"), Balance: wallet().Balance, CanTopUp: true,
			Runway:  Runway{Known: true, Days: 9, Daily: 412, Over: 14},
			Month:   MonthSpent{Total: 12345, Most: KindCall, MostPence: 10000},
			Today:   Today{Calls: 12, CallPence: 672, Texts: 1200, TextPence: 12000},
			Numbers: NumbersGlance{Active: 1, List: []PhoneNumber{{ID: "n", Number: "+1 617", State: NumberActive}}},
			Agents:  AgentsGlance{All: 1, Ready: 1, List: []PhoneAgent{{ID: "a", Name: "Front desk", Active: true, Known: true, Sync: AgentSynced, NumberID: "n", Number: "+1 617"}}},
		}
		change(&p)
		return p
	}
	steps := func(done int) (list []FirstStep) {
		for i, id := range []string{"top-up", "number", "agent", "link", "call"} {
			list = append(list, FirstStep{ID: id, Done: i < done, Href: "/somewhere"})
		}
		return list
	}
	for _, c := range []struct {
		name, where, says string
		change            func(p *DashboardPage)
	}{
		{"runway", "#runway", "About 9 days at this pace: £4.12 a day over 14 days", func(*DashboardPage) {}},
		{"a day", "#runway", "About 1 day Running low", func(p *DashboardPage) { p.Runway.Days = 1 }},
		{"no day", "#runway", "Less than a day Running low", func(p *DashboardPage) { p.Runway.Days = 0 }},
		{"ages", "#runway", "Over a year", func(p *DashboardPage) { p.Runway.Days = 366 }},
		{"unknown", "#runway", "Not known yet", func(p *DashboardPage) { p.Runway = Runway{} }},
		{"month", "#spent", "£123.45 most on calls: £100.00", func(*DashboardPage) {}},
		{"nothing spent", "#spent", "Nothing was used", func(p *DashboardPage) { p.Month = MonthSpent{} }},
		{"calls", "#calls-today", "12 £6.72 paid", func(*DashboardPage) {}},
		{"live", "#calls-today", "12 3 live now", func(p *DashboardPage) { p.Today.LiveCalls = 3 }},
		{"texts", "#texts-today", "1,200 2 on their way £120.00 paid", func(p *DashboardPage) { p.Today.TextsUnderWay = 2 }},
		{"numbers", "#numbers", "3 active, 1 with rent owed, 1 being bought, 2 being released", func(p *DashboardPage) {
			p.Numbers = NumbersGlance{Active: 3, Owing: 1, Coming: 1, Leaving: 2, List: []PhoneNumber{{ID: "n", Number: "+1 617", State: NumberReleasing}}}
		}},
		{"more", "#numbers", "And 5 more.", func(p *DashboardPage) {
			p.Numbers = NumbersGlance{Active: 3, Coming: 1, Leaving: 2, List: []PhoneNumber{{ID: "n", Number: "+1 617", State: NumberReleasing}}}
		}},
		{"no numbers", "#numbers", "No numbers yet", func(p *DashboardPage) { p.Numbers = NumbersGlance{} }},
		{"numbers lost", "#numbers", "Your numbers could not be read just now", func(p *DashboardPage) { p.Numbers = NumbersGlance{Lost: true} }},
		{"agents", "#agents", "Ready for calls", func(*DashboardPage) {}},
		{"agent without a number", "#agents", "Takes no calls without one No number", func(p *DashboardPage) {
			p.Agents.List[0].NumberID, p.Agents.List[0].Number = "", ""
		}},
		{"agent refused", "#agents", "Front desk +1 617 Refused", func(p *DashboardPage) {
			p.Agents.Ready, p.Agents.List[0].Sync, p.Agents.List[0].Known = 0, AgentRefused, false
		}},
		{"no agents", "#agents", "No agents yet", func(p *DashboardPage) { p.Agents = AgentsGlance{} }},
		{"agents lost", "#agents", "Your agents could not be read just now", func(p *DashboardPage) { p.Agents = AgentsGlance{Lost: true} }},
		{"first step", "#start [aria-current]", "Add money", func(p *DashboardPage) { p.Start = steps(0) }},
		{"third step", "#start [aria-current]", "Make an agent", func(p *DashboardPage) { p.Start = steps(2) }},
		{"how far", "#start", "2 of 5 done", func(p *DashboardPage) { p.Start = steps(2) }},
		{"under way", "#step-number", "Under way", func(p *DashboardPage) { p.Start = steps(1); p.Start[1].Under = true }},
		{"a viewer", "#start", "An owner of Harbour Dental does these steps", func(p *DashboardPage) { p.Start, p.CanTopUp = steps(1), false }},
	} {
		doc := parse(t, Dashboard(full(c.change)))
		// Blocks stand apart without a space between them.
		if got := strings.Join(strings.Fields(doc.Find(c.where).First().Text()), ""); !strings.Contains(got, strings.ReplaceAll(c.says, " ", "")) {
			t.Errorf("%s: %q, want %q", c.name, got, c.says)
		}
	}
	for done, primaries := range map[int]int{0: 1, 4: 1} { // the steps take the place of the header's button
		if n := parse(t, Dashboard(full(func(p *DashboardPage) { p.Start = steps(done) }))).Find(`main a[class*="bg-accent-fill"]`).Length(); n != primaries {
			t.Errorf("%d steps done: %d primary actions", done, n)
		}
	}
	// It asks again by itself only while something moves, or could not be read.
	for name, change := range map[string]func(p *DashboardPage){
		"still":              func(*DashboardPage) {},
		"an agent moves":     func(p *DashboardPage) { p.Agents.Moves = true },
		"a number comes":     func(p *DashboardPage) { p.Numbers.Coming = 1 },
		"a number goes":      func(p *DashboardPage) { p.Numbers.Leaving = 1 },
		"a call":             func(p *DashboardPage) { p.Today.LiveCalls = 1 },
		"no calls and texts": func(p *DashboardPage) { p.Today.Lost = true },
		"no agents":          func(p *DashboardPage) { p.Agents.Lost = true },
		"no numbers":         func(p *DashboardPage) { p.Numbers.Lost = true },
	} {
		if n := parse(t, DashboardLive(full(change))).Find(`[hx-trigger="every 5s"]`).Length(); (n == 1) != (name != "still") {
			t.Errorf("%s: asks %d times by itself", name, n)
		}
	}
	if got := (PhoneNumber{State: NumberActive, ReleaseDue: &noon}).state(); got.Tone != ui.ToneWarn {
		t.Errorf("a number whose rent is owed is shown as %+v", got)
	}
}
