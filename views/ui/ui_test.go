package ui

import (
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
)

func render(t *testing.T, c templ.Component) string {
	t.Helper()
	var b strings.Builder
	if err := c.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEveryVariantLooksDifferent(t *testing.T) {
	seen := map[string]string{}
	add := func(name, class string) {
		if class == "" {
			t.Errorf("%s has no class", name)
		}
		if other, ok := seen[class]; ok {
			t.Errorf("%s looks like %s", name, other)
		}
		seen[class] = name
	}
	add("secondary", buttonClass(ButtonProps{Variant: ButtonSecondary}))
	add("primary", buttonClass(ButtonProps{Variant: ButtonPrimary}))
	add("danger", buttonClass(ButtonProps{Variant: ButtonDanger}))
	add("ghost", buttonClass(ButtonProps{Variant: ButtonGhost}))
	add("large", buttonClass(ButtonProps{Size: ButtonLarge}))
	add("wide", buttonClass(ButtonProps{Wide: true}))
	for name, tone := range map[string]Tone{"neutral": ToneNeutral, "info": ToneInfo, "good": ToneGood, "warn": ToneWarn, "bad": ToneBad} {
		add("state "+name, stateClass(tone))
		add("notice "+name, noticeClass(tone))
		if icon, class := noticeIcon(tone); icon == NoIcon || class == "" {
			t.Errorf("notice %s speaks by colour alone", name)
		}
	}
}

func TestEveryIconIsDrawn(t *testing.T) {
	for name := NoIcon + 1; name <= IconKey; name++ {
		got := render(t, Icon(IconProps{Name: name}))
		if !strings.Contains(got, "<path") && !strings.Contains(got, "<rect") && !strings.Contains(got, "<circle") && !strings.Contains(got, "<line") {
			t.Errorf("icon %d is empty: %s", name, got)
		}
	}
	if got := render(t, Icon(IconProps{})); got != "" {
		t.Errorf("no icon draws %s", got)
	}
}

func TestMoney(t *testing.T) {
	tests := []struct {
		props MoneyProps
		want  []string
		not   []string
	}{
		{MoneyProps{Pence: 56900}, []string{">£569.00<", "figures"}, []string{"$", "+", "text-good"}},
		{MoneyProps{Pence: 3950, USD: 5000, ShowUSD: true}, []string{">£39.50<", ">~$50.00<"}, nil},
		{MoneyProps{Pence: 5000, Signed: true}, []string{">+£50.00<", "text-good"}, nil},
		{MoneyProps{Pence: -84, Signed: true}, []string{">-£0.84<"}, []string{"+", "text-good"}},
		{MoneyProps{Signed: true}, []string{">£0.00<"}, []string{"+", "text-good"}},
		{MoneyProps{Pence: money.Pence(-1 << 63)}, []string{">-£92,233,720,368,547,758.08<"}, nil},
	}
	for _, tt := range tests {
		got := render(t, Money(tt.props))
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%+v: no %q in %s", tt.props, want, got)
			}
		}
		for _, not := range tt.not {
			if strings.Contains(got, not) {
				t.Errorf("%+v: %q in %s", tt.props, not, got)
			}
		}
	}
}

func TestButtonIsALinkWhenItLeads(t *testing.T) {
	if got := render(t, Button(ButtonProps{Label: "Go", Href: "/wallet"})); !strings.HasPrefix(got, `<a href="/wallet"`) {
		t.Error(got)
	}
	got := render(t, Button(ButtonProps{Label: "Pay", Busy: "Paying…", Name: "do", Value: "pay", FormAction: "/pay"}))
	for _, want := range []string{`type="submit"`, `name="do" value="pay"`, `formaction="/pay"`, "Paying…"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestTimeIsUTC(t *testing.T) {
	at := time.Date(2026, 7, 1, 0, 30, 0, 0, time.FixedZone("BST", 3600))
	for _, stacked := range []bool{false, true} {
		got := render(t, Time(TimeProps{At: at, Stacked: stacked}))
		for _, want := range []string{`datetime="2026-06-30T23:30:00Z"`, "30 Jun 2026", "23:30 UTC"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
	}
}

func TestShellGrowsIntoMore(t *testing.T) {
	items := []NavItem{{Label: "A", Href: "/a"}, {Label: "B", Href: "/b"}, {Label: "C", Href: "/c"}, {Label: "D", Href: "/d"}}
	if got := render(t, Shell(ShellProps{Nav: items})); strings.Contains(got, "More") {
		t.Error("four pages need no More")
	}
	got := render(t, Shell(ShellProps{Nav: append(items, NavItem{Label: "E", Href: "/e"}, NavItem{Label: "F", Href: "/f"})}))
	if !strings.Contains(got, "More") || strings.Count(got, `href="/f"`) != 2 || strings.Count(got, `href="/a"`) != 2 {
		t.Error("a page got lost on the way to the phone")
	}
}

func TestEmptySkeletonAndHints(t *testing.T) {
	if got := render(t, Skeleton(SkeletonProps{Lines: 3, Label: "Loading the history"})); strings.Count(got, "animate-pulse") != 3 || !strings.Contains(got, "Loading the history") {
		t.Error(got)
	}
	if got := render(t, EmptyState(EmptyProps{Icon: IconReceipt, Title: "None", Sentence: "Not yet."})); !strings.Contains(got, "Not yet.") {
		t.Error(got)
	}
	if got := render(t, FieldError("")); strings.TrimSpace(got) != "" {
		t.Errorf("no message renders %q; the place for it must stay empty", got)
	}
	if got := render(t, Field(FieldProps{ID: "x", Name: "x", Label: "X"})); strings.Contains(got, "aria-invalid") || !strings.Contains(got, `aria-describedby="x-error"`) {
		t.Error(got)
	}
}
