package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

func TestPlots(t *testing.T) {
	c := comparison(t)
	factors := []FactorSeries{
		{"linear", []float64{8, 8, 8, 8}},
		{"longrope", []float64{1, 1.5, 4, 9}},
	}
	ladder := &ropescale.Ladder{
		OriginalContextLength: 256, RopeDimensionCount: 8,
		Rungs: []ropescale.Rung{
			{Length: 512, AttentionFactor: 1, Factors: []float64{1, 1, 2, 2}}, {
				Length:      2048,
				StartWindow: 32, AttentionFactor: 1.1, Factors: []float64{1, 2, 4, 8},
			},
		},
	}
	search := []searchSeries{{"longrope", []searchPoint{
		{6144, 16, false},
		{12288, math.Inf(1), false},
		{18432, 15, false},
		{24576, 15.5, true},
	}}}
	for name, tt := range map[string]struct {
		plot func(path string) error
		text []string // that an SVG of it shows
	}{
		"perplexity": {
			func(p string) error {
				return perplexity(p,
					evals.ResultsOf[*evals.PerplexityResult](c))
			},
			[]string{"stock, 300", "long, 420", "trained up to 64", "perplexity"},
		},
		"passkey": {
			func(p string) error { return heatMaps(p, c.Engine.Model, grids(c)) },
			[]string{
				">stock<", ">long<", ">300<", ">420<", ">100<", ">0<", ">all<",
				"50 % (22 to 78)",
			},
		},
		"factors": {
			func(p string) error { return Factors(p, factors) },
			[]string{">linear<", ">longrope<", ">8<"},
		},
		"ladder": {
			func(p string) error { return Ladder(p, ladder) },
			[]string{
				">rung 2, 2k<", ">own RoPE<", ">sequences of 513 – 2048 tokens<",
				">start window 32<",
			},
		},
		"search": {func(p string) error {
			return searchPlot(p, search, []baseline{{"yarn", 16.2}, {"linear", 70}})
		}, []string{"yarn 16.2<", "above the figure: linear 70.00", ">20k<"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, ext := range []string{".png", ".svg"} {
				path := filepath.Join(dir, "figure"+ext)
				require.NoError(t, tt.plot(path))
				first, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, tt.plot(path))
				again, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(first, again), "same results, same picture")
				if ext == ".png" {
					img, err := png.Decode(bytes.NewReader(first))
					require.NoError(t, err)
					colours := map[uint32]bool{}
					for x := 0; x < img.Bounds().Dx(); x += 2 {
						for y := 0; y < img.Bounds().Dy(); y += 2 {
							r, g, b, _ := img.At(x, y).RGBA()
							colours[r>>8<<16|g>>8<<8|b>>8] = true
						}
					}
					require.Greater(t, len(colours), 50, "something is drawn")
					continue
				}
				for d := xml.NewDecoder(bytes.NewReader(first)); ; {
					if _, err := d.Token(); errors.Is(err, io.EOF) {
						break
					} else {
						require.NoError(t, err, "well-formed")
					}
				}
				for _, text := range tt.text {
					require.Contains(t, string(first), text)
				}
				require.NotContains(t, string(first), "NaN")
				require.NotContains(t, string(first), ">-0")
			}
			require.ErrorContains(t, tt.plot(filepath.Join(dir, "figure.gif")), ".png or .svg")
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 2, "a failure leaves nothing")
		})
	}
}

func TestPlotBadInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.png")
	require.Error(t, perplexity(path, nil))
	require.ErrorContains(t, perplexity(path,
		[]*evals.PerplexityResult{{Provenance: evals.Provenance{Method: "a"}}}), `"a" has no curve`)
	require.Error(t, heatMaps(path, "", nil))
	empty := evals.PasskeyResult{Provenance: evals.Provenance{Method: "a"}}
	require.ErrorContains(t, heatMaps(path, "", []evals.Grid{empty.Grid()}), `"a" has no cells`)
	require.Error(t, Factors(path, nil))
	require.ErrorContains(t, Factors(path, []FactorSeries{{"a", []float64{1, 0}}}),
		`factor 1 of "a" is 0`)
	require.ErrorContains(t, Factors(path, []FactorSeries{{"a", nil}}), `"a" are empty`)
	require.ErrorContains(t,
		Ladder(path, &ropescale.Ladder{OriginalContextLength: 256, RopeDimensionCount: 8}),
		"no rungs")
	require.Error(t, searchPlot(path, nil, nil))
	none := []searchPoint{{1, math.NaN(), false}}
	require.ErrorContains(t, searchPlot(path, []searchSeries{{"a", none}}, nil),
		`"a" has no evaluation with a finite`)
	require.NoError(t, Factors(path, []FactorSeries{{"one", []float64{1}}}),
		"a single flat factor is drawn too")
	require.NoError(t, searchPlot(path, []searchSeries{{"one", []searchPoint{{1, 2, true}}}}, nil))
}

func TestJoinedBucketsKeepTheMean(t *testing.T) {
	c := comparison(t)
	for _, r := range evals.ResultsOf[*evals.PerplexityResult](c) {
		var want, got float64
		var tokens, points int
		for _, b := range r.Curve {
			if b.From >= 10 {
				want += b.NLL * float64(b.Tokens)
				tokens += b.Tokens
			}
		}
		for _, b := range joined(r.Curve, 10) {
			got += b.NLL * float64(b.Tokens)
			tokens -= b.Tokens
			points++
			require.GreaterOrEqual(t, b.Tokens, 200)
		}
		require.Zero(t, tokens)
		require.InDelta(t, want, got, 1e-9)
		require.Greater(t, points, 1)
	}
	require.Empty(t, joined(nil, 1))
	require.Len(t, joined([]evals.Bucket{{From: 1, To: 2, Tokens: 3, NLL: 1}}, 1), 1)
}

func TestTicksAndLabels(t *testing.T) {
	for _, r := range [][2]float64{
		{14.2, 17.3},
		{1, 8},
		{1, 600},
		{15, 900},
		{0, 1.05e6},
		{2.5, 2.6},
		{1, 131072},
	} {
		for name, ticks := range map[string][]tick{
			"linear": linearTicks(r[0], r[1]),
			"log":    logTicks(math.Max(r[0], 1e-3), r[1]),
		} {
			require.GreaterOrEqual(t, len(ticks), 3, "%s %v", name, r)
			require.LessOrEqual(t, len(ticks), 14, "%s %v", name, r)
			labels := map[string]bool{}
			for _, k := range ticks {
				require.GreaterOrEqual(t, k.at, r[0]-1e-9)
				require.LessOrEqual(t, k.at, r[1]+1e-9)
				require.False(t, labels[k.label], "%s %v: two ticks are %s", name, r, k.label)
				labels[k.label] = true
			}
		}
	}
	require.LessOrEqual(t, len(sizeTicks(1, 1<<21)), 9)
}

func TestTerminal(t *testing.T) {
	c := comparison(t)
	var b bytes.Buffer
	require.NoError(t, heatMap(&b, grids(c)[1], false))
	require.Equal(t, `long  50 % of 8 (95 %: 22 to 78)
  depth    300    420
     0%  █ 100  ·   0
   100%  █ 100  ·   0
    all  █ 100  ·   0
`, b.String())
	b.Reset()
	require.NoError(t, heatMap(&b, grids(c)[1], true))
	require.Equal(t, 6, strings.Count(b.String(), "\x1b[0m"))
	require.Equal(t, "▁▃▆█ █▁", sparkline([]float64{0, 2, 5, 7, math.NaN(), 99, -1}, 0, 7))
	require.Equal(t, "▁▁", sparkline([]float64{3, 3}, 3, 3))

	b.Reset()
	require.NoError(t, Table(&b, c))
	require.Equal(t, `  method  length  perplexity  ± se       vs stock  bits/byte  passkey    95 %  nll of the key
  stock      300        8.32  0.05              -      3.057      0 %    0–49           8.170
  stock      420        9.23  0.16              -      3.206      0 %    0–49           8.170
  long       300        2.53  0.02  -69.6 ± 0.1 %      1.340    100 %  51–100           6.670
  long       420        2.80  0.10  -69.7 ± 0.5 %      1.485      0 %    0–49           8.170
`, b.String())
	b.Reset()
	require.NoError(t, curveLines(&b, evals.ResultsOf[*evals.PerplexityResult](c)))
	require.Equal(t, 4, strings.Count(b.String(), "\n"))
	require.Contains(t, b.String(), "8.32 ± 0.05")
}
