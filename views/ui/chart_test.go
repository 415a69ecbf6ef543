package ui

import (
	"slices"
	"strconv"
	"testing"
)

// A picture that was kept is shown again only to who would be drawn the same.
func TestPicturesThatAreKept(t *testing.T) {
	chart := func() ChartProps {
		return ChartProps{
			Days: []string{"1 Jan", "2 Jan", "3 Jan"}, Amount: func(pence int64) string { return strconv.FormatInt(pence, 10) },
			Layers: []ChartLayer{{Shade: Shade1, Values: []int64{10, 20, 30}}, {Shade: Shade2, Values: []int64{1, 2, 3}}},
		}
	}
	seen := []string{render(t, chart().picture(chartWide))}
	for name, change := range map[string]func(*ChartProps){
		"a value":       func(p *ChartProps) { p.Layers[1].Values[0] = 2 },
		"the same sums": func(p *ChartProps) { p.Layers[0].Values[0], p.Layers[1].Values[0] = 9, 2 },
		"a shade":       func(p *ChartProps) { p.Layers[1].Shade = Shade3 },
		"a layer less":  func(p *ChartProps) { p.Layers = p.Layers[:1] },
		"a day's name":  func(p *ChartProps) { p.Days[2] = "4 Jan" },
		"how amounts look": func(p *ChartProps) {
			p.Amount = func(pence int64) string { return "£" + strconv.FormatInt(pence, 10) }
		},
	} {
		p := chart()
		change(&p)
		got := render(t, p.picture(chartWide))
		if slices.Contains(seen, got) {
			t.Errorf("with %s changed the picture is one of before", name)
		}
		seen = append(seen, got)
		if again := render(t, p.picture(chartWide)); again != got {
			t.Errorf("with %s changed the picture is another the second time", name)
		}
	}
	if slices.Contains(seen, render(t, chart().picture(chartNarrow))) {
		t.Error("the narrow picture is one of the wide ones")
	}
	if render(t, chart().picture(chartWide)) != seen[0] {
		t.Error("the first picture is no longer what it was")
	}
}
