package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// somePage is a search for two rungs: the second improves on NTK, on its own text more than on
// held-out text.
func somePage(t testing.TB) *SearchPage {
	rope := ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: 128}
	p := &SearchPage{
		Title: "tiny <b>, from 128 to 512 tokens", Model: "tiny.gguf",
		Digest: "sha256:1", Rope: rope, Command: "ollama longrope search 'a & b.gguf'",
		Next: []string{"ollama longrope convert"}, Texts: []string{"a"}, HeldOut: []string{"b"},
	}
	value := func(v float64) *float64 { return &v }
	var rungs []ropescale.Rung
	for _, target := range []int{256, 512} {
		r := RungPage{
			Target: target, Measure: "perplexity of 2 windows",
			Search: "Searched by cma, seed 1", Trials: 14, HeldOutTokens: 1234,
		}
		for i, name := range ropescale.MethodNames(ropescale.Seed)[:3] {
			method, err := ropescale.MethodByName(name)
			require.NoError(t, err)
			g, err := method.Rung(rope, target, ropescale.MethodOptions{})
			require.NoError(t, err)
			r.Methods = append(r.Methods, MethodPage{
				Method:  name,
				Fitness: value([]float64{50, 12, 13}[i]), Text: value([]float64{50, 12, 13}[i]),
				HeldOut: value([]float64{60, 14, 15}[i]), Rung: g,
			})
		}
		best := r.Methods[1].Rung
		for i := range 14 {
			g := best
			g.AttentionFactor, g.StartWindow = 1+float64(i)/100, []int{0, 8, 16}[i%3]
			r.Tokens += 1000
			f := 12.5 - 0.1*float64(i)
			if i == 5 {
				f = math.Inf(1)
			}
			r.Candidates = append(r.Candidates,
				Candidate{Tokens: r.Tokens, Fitness: f, Note: "cma", Rung: g})
			if i > 5 {
				b := BestPoint{Tokens: r.Tokens, Fitness: f, Text: value(f)}
				if i%3 == 0 {
					b.HeldOut = value(13.9)
				}
				r.Best = append(r.Best, b)
			}
			best = g
		}
		r.Rival = value(14)
		r.Methods = append(r.Methods, MethodPage{
			Method: "longrope", Fitness: value(12.5 - 0.1*13),
			Text: value(11.2), HeldOut: value(13.72), Rung: best,
		})
		p.Rungs = append(p.Rungs, r)
		best.Length = target
		rungs = append(rungs, best)
	}
	var err error
	p.Ladder, err = ropescale.NewLadder(rope, nil, rungs...)
	require.NoError(t, err)
	return p
}

func page(t testing.TB, p *SearchPage) string {
	var b bytes.Buffer
	require.NoError(t, WritePage(&b, p))
	return b.String()
}

func TestPage(t *testing.T) {
	p := somePage(t)
	html := page(t, p)
	assert.Contains(t, html, "tiny &lt;b&gt;, from 128", "a name is no markup")
	assert.Contains(t, html, "At 512 tokens: −2.0 % against NTK on held-out text (13.72, 14.00).")
	assert.Contains(t, html,
		"perplexity of 2 windows. 14 trials read 14,000 tokens, "+
			"1,234 more were read of held-out text")
	assert.Contains(t, html, "512<td>4x<td><b>13.72</b><td>14.00 NTK<td>−2.0 %<td>",
		"what each rung is worth")
	assert.Contains(t, html, "<h2>256 tokens</h2>")
	assert.NotContains(t, html, "the lowest is behind")
	refused := somePage(t)
	*refused.Rungs[0].Methods[3].Fitness = 11.5
	assert.Equal(t, 1, strings.Count(page(t, refused), "the lowest is behind"))
	for _, title := range []string{
		"Convergence", "Does it carry over?", "Factors",
		"Attention factor", "Start window",
	} {
		assert.Equal(t, 2, strings.Count(html, "<h3>"+title+"</h3>"), title)
	}
	assert.Contains(t, html, "<h3>The ladder</h3>")
	assert.Contains(t, html, "critical dimension 6")
	assert.Equal(t, 3, strings.Count(html, ">critical dimension</text>"),
		"in every picture of factors")
	assert.NotContains(t, html, "NaN")
	assert.NotContains(t, html, "Inf")
	assert.Equal(t, html, page(t, p), "the same page each time")

	assert.NotContains(t, html, "hidden keys", "there are none")

	assert.NotContains(t, html, "Cheap readings")
	cheap := somePage(t)
	cheap.Rungs[0].Renewals = []Renewal{{0.1, -0.25, -0.125, true}, {0.05, -0.5, 0.25, false}}
	html = page(t, cheap)
	assert.Equal(t, 1, strings.Count(html, "<h3>Cheap readings</h3>"))
	assert.Contains(t, html, "<td>1<td>0.100<td>-0.250<td>-0.125<td>agrees")
	assert.Contains(t, html, "<td>2<td>0.050<td>-0.500<td>&#43;0.250<td>does not agree")

	// A fitness of text and keys is shown next to its parts.
	k := 0.25
	for i := range p.Rungs[1].Methods {
		p.Rungs[1].Methods[i].Keys = &k
	}
	both := page(t, p)
	assert.Contains(t, both, "(13.72, 14.00). Hidden keys cost 0.250 nats, with NTK 0.250.")
	assert.Equal(t, 1, strings.Count(both, "<th>hidden keys, nats<th>perplexity, search text"))

	// Those that finalists alone look for say more.
	more := 0.5
	for i := range p.Rungs[1].Methods[1:] {
		p.Rungs[1].Methods[1+i].Further = &more
	}
	both = page(t, p)
	assert.Contains(t, both, "(13.72, 14.00). Further keys cost 0.500 nats, with NTK 0.500.")
	assert.Equal(t, 1, strings.Count(both,
		"<th>hidden keys, nats<th>further keys, nats<th>perplexity, search text"))

	// It needs nothing else, and runs nothing.
	for _, word := range []string{
		"<script", "http:", "https:", "src=", "url(", "@import",
		"<link",
	} {
		assert.NotContains(t, html, word)
	}
	// Every picture is well formed, and no point is outside of it.
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(html, -1)
	require.Len(t, pictures, 11)
	at := regexp.MustCompile(`c([xy])="([^"]*)"`)
	for _, picture := range pictures {
		d := xml.NewDecoder(strings.NewReader(picture))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
		}
		for _, m := range at.FindAllStringSubmatch(picture, -1) {
			assert.Regexp(t, `^[1-9][0-9]{0,2}\.[0-9]$`, m[2], "c%s in %s", m[1], picture[:120])
		}
	}
}

// A page of what has hardly begun, or failed, is a page with less in it.
func TestPageOfLittle(t *testing.T) {
	assert.Contains(t, page(t, &SearchPage{Title: "nothing"}), "<h1>nothing</h1>")

	p := somePage(t)
	p.Ladder = nil
	r := &p.Rungs[1]
	r.Candidates, r.Best, r.Methods, r.Rival = nil, nil, r.Methods[:1], nil
	r.Methods[0].Fitness, r.Methods[0].HeldOut = nil, nil
	html := page(t, p)
	assert.NotContains(t, html, "The ladder")
	assert.Equal(t, 1, strings.Count(html, "<h3>Convergence</h3>"))
	assert.NotContains(t, html, `class="gain"`)

	// One candidate, one value: no picture divides by nothing.
	r.Candidates = []Candidate{{Tokens: 10, Fitness: 3, Rung: r.Methods[0].Rung, Returned: true}}
	three := 3.0
	r.Best, r.Tokens = []BestPoint{{Tokens: 10, Fitness: 3, HeldOut: &three}}, 10
	html = page(t, p)
	assert.NotContains(t, html, "NaN")
	assert.Equal(t, 1, strings.Count(html, `<title>returned: 3`))
}
