package ui

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/a-h/templ"
	"github.com/go-analyze/charts/chartdraw"
	lru "github.com/hashicorp/golang-lru/v2"
)

// chartSize is how a chart is laid out, in units of its own; as long as it is about as wide as its place they are pixels.
type chartSize struct {
	width, height int
	// labels is how many days are named.
	labels int
}

var (
	chartWide   = chartSize{width: 420, height: 200, labels: 4}
	chartNarrow = chartSize{width: 300, height: 180, labels: 3}
)

// guides is how many lines go across, the base line among them.
const guides = 4

// drawnKept is how many pictures are kept. Those of ninety days have some 30 KB, so all of them take a few MB at most.
const drawnKept = 128

// drawn are the pictures that were drawn last, by everything that can be seen in them: the same figures are the same
// picture, whoever asks, so none is ever out of date. Drawing one takes longer than reading its figures from the database.
var drawn = newDrawn()

func newDrawn() *lru.Cache[[sha256.Size]byte, []byte] {
	cache, err := lru.New[[sha256.Size]byte, []byte](drawnKept)
	if err != nil {
		panic(err) // only a size below one is refused
	}
	return cache
}

// picture gives the chart as SVG.
func (p ChartProps) picture(size chartSize) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		days := len(p.Days)
		sums := make([]int64, days)
		for _, l := range p.Layers {
			if len(l.Values) != days {
				return fmt.Errorf("a chart of %d days has a layer of %d", days, len(l.Values))
			}
			for i, v := range l.Values {
				sums[i] += v
			}
		}
		if days == 0 {
			return nil
		}
		step := guideStep(sums)
		key := p.seen(size, step)
		svg, ok := drawn.Get(key)
		if !ok {
			var err error
			if svg, err = p.draw(size, step, sums); err != nil {
				return err
			}
			drawn.Add(key, svg)
		}
		_, err := w.Write(svg)
		return err
	})
}

// seen is a digest of all that draw makes its picture of.
func (p ChartProps) seen(size chartSize, step int64) (key [sha256.Size]byte) {
	var b []byte
	add := func(n int64) { b = binary.BigEndian.AppendUint64(b, uint64(n)) } //nolint:gosec // any bits will do
	word := func(s string) { add(int64(len(s))); b = append(b, s...) }
	for _, n := range []int{size.width, size.height, size.labels, len(p.Days)} {
		add(int64(n))
	}
	for _, day := range p.Days {
		word(day)
	}
	for i := range int64(guides) {
		add(i * step)
		word(p.Amount(i * step))
	}
	for _, l := range p.Layers {
		add(int64(l.Shade))
		for _, v := range l.Values {
			add(v)
		}
	}
	return sha256.Sum256(b)
}

// draw draws the chart, whose parts add up to sums. Everything that the library draws is given a class, which it writes
// instead of a style of its own: the policy refuses styles in a page, and the classes have the colours of both themes. What
// it would draw without one (its grid) is left out, and drawn as lines.
func (p ChartProps) draw(size chartSize, step int64, sums []int64) ([]byte, error) {
	nothing := chartdraw.Style{ClassName: chartNothing}
	axis := chartdraw.Style{ClassName: chartAxis, FontStyle: chartdraw.FontStyle{FontSize: 9}}
	hidden := chartdraw.Hidden()
	c := chartdraw.Chart{
		Width: size.width, Height: size.height, Background: nothing, Canvas: nothing,
		XAxis:          chartdraw.XAxis{Style: axis, TickStyle: axis, GridMajorStyle: hidden, GridMinorStyle: hidden},
		YAxis:          chartdraw.YAxis{Style: axis, TickStyle: axis, GridMajorStyle: hidden, GridMinorStyle: hidden, Zero: chartdraw.GridLine{Style: hidden}},
		YAxisSecondary: chartdraw.HideYAxis(),
	}
	c.Background.Padding = chartdraw.Box{Top: 12, Left: 4, Right: 4, Bottom: 4, IsSet: true}
	for i := range int64(guides) {
		at := float64(i * step)
		c.YAxis.Ticks = append(c.YAxis.Ticks, chartdraw.Tick{Value: at, Label: p.Amount(i * step)})
		c.Series = append(c.Series, chartdraw.ContinuousSeries{
			XValues: []float64{0, float64(len(p.Days))}, YValues: []float64{at, at}, Style: chartdraw.Style{ClassName: chartGuide},
		})
	}
	c.XAxis.Ticks = p.dayTicks(size.labels)
	// The sum of all parts is drawn first; each part below covers what it takes of it.
	for _, l := range slices.Backward(p.Layers) {
		c.Series = append(c.Series, steps(l.Shade, sums))
		for j, v := range l.Values {
			sums[j] -= v
		}
	}
	var b bytes.Buffer
	if err := c.Render(chartdraw.SVG, &b); err != nil {
		return nil, fmt.Errorf("couldn't draw the chart: %w", err)
	}
	// The words beside it are the image's; readers are not to stumble over its parts.
	return bytes.Replace(b.Bytes(), []byte("<svg "), []byte(`<svg aria-hidden="true" focusable="false" `), 1), nil
}

// dayTicks are the days that are named: about as many as asked for, evenly, the last among them.
func (p ChartProps) dayTicks(labels int) []chartdraw.Tick {
	days := len(p.Days)
	every := max(1, (days+labels-1)/labels)
	ticks := []chartdraw.Tick{{Value: 0}}
	for i := (days - 1) % every; i < days; i += every {
		ticks = append(ticks, chartdraw.Tick{Value: float64(i) + 0.5, Label: p.Days[i]})
	}
	return append(ticks, chartdraw.Tick{Value: float64(days)})
}

// steps draws values as stairs: each holds for its whole day.
func steps(shade Shade, values []int64) chartdraw.Series {
	s := chartdraw.ContinuousSeries{Style: chartdraw.Style{
		ClassName: layerClass(shade),
		// Only that there are colours counts; the class has them.
		StrokeColor: chartdraw.ColorBlack, FillColor: chartdraw.ColorBlack, StrokeWidth: 1,
	}}
	for i, v := range values {
		s.XValues = append(s.XValues, float64(i), float64(i+1))
		s.YValues = append(s.YValues, float64(v), float64(v))
	}
	return s
}

// guideStep is the distance of the lines across, so that they end at round amounts and above every value.
func guideStep(values []int64) int64 {
	var top int64
	for _, v := range values {
		top = max(top, v)
	}
	for scale := int64(1); ; scale *= 10 {
		for _, round := range []int64{10, 20, 25, 50} {
			if step := round * scale; step*(guides-1) >= top {
				return step
			}
		}
	}
}
