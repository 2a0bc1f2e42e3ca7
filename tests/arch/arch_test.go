package arch

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

const (
	host   = "../../build/host"
	matrix = "../../patches/ARCHITECTURES.md"
)

var update = flag.Bool("update", false, "write the matrix into patches/ARCHITECTURES.md")

// Every architecture that the host knows takes the rows of a ladder where it should, or says that
// it cannot.
func TestMatrix(t *testing.T) {
	names, err := Names(host)
	require.NoError(t, err)
	var rows []Row
	for _, name := range Variants(names) {
		t.Run(name, func(t *testing.T) {
			arch, _, _ := strings.Cut(name, ",")
			c := &candidate{T: t, arch: arch, hint: Hints[name], dir: t.TempDir()}
			row := Row{Name: name}
			row.Llama, row.Go, row.Notes = c.check()
			t.Log(row.Llama, row.Go, row.Notes)
			rows = append(rows, row)
		})
	}
	goNames, err := goNames(host)
	require.NoError(t, err)
	for _, name := range goNames {
		if slices.Contains(names, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := &candidate{T: t, arch: name, hint: Hints[name], dir: t.TempDir()}
			row := Row{Name: name, Llama: "–"}
			row.Go, row.Notes = c.checkGoOnly()
			t.Log(row.Go, row.Notes)
			rows = append(rows, row)
		})
	}
	if len(rows) < len(names) {
		return // a part was asked for
	}
	have, err := os.ReadFile(matrix)
	require.NoError(t, err)
	want, err := withTable(string(have), Table(rows))
	require.NoError(t, err)
	if *update && !t.Failed() {
		require.NoError(t, os.WriteFile(matrix, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, string(have),
		"patches/ARCHITECTURES.md is out of date: run go test ./tests/arch -update")
}

// candidate is an architecture under test.
type candidate struct {
	*testing.T
	arch, dir string
	hint      Hint
	model     *Model
	plain     string         // file of the model without a ladder
	row0      ropescale.Rung // as convert read it from the model
	words     []string       // first tokens of a file for the Go engine
}

// options of all sessions: a context of 128 tokens, computed at once, with caches in float32.
func (c *candidate) options() session.Options {
	return session.Options{Context: 128, Batch: 128, Hidden: c.hint.Hidden}
}

// tryOpen says what the engine has against a file.
func (c *candidate) tryOpen(path string) error {
	s, err := session.Open(path, c.options())
	if err == nil {
		s.Close()
	}
	return err
}

// Words of both engines and of convert for models that take no ladder.
const (
	noRoPE    = `architecture %s has no RoPE( in this model)?, so it takes no factors`
	localRoPE = `architecture %s(:| has) .*RoPE only in local \(sliding-window or chunked\) ` +
		`layers.*: a ladder would have no effect beyond their window`
)

// refuses wants the words where the model is loaded with a ladder and where it gets one later,
// after which it is what it was; nothing is written that could not be loaded.
func (c *candidate) refuses(m *Model, pairs int, words string) {
	words = fmt.Sprintf(words, c.arch)
	path := filepath.Join(c.dir, "refused.gguf")
	require.NoError(c, m.WithLadder(c.arch, Plain(pairs), Ladder(pairs)).Save(path, true))
	err := c.tryOpen(path)
	require.Error(c, err, "a ladder that nothing applies must be refused")
	require.Regexp(c, words, err.Error())

	s, err := session.Open(c.plain, c.options())
	require.NoError(c, err)
	defer s.Close()
	logits := func() [][]float32 {
		out, err := s.Prefill(ids(Short), 0, 0, Short)
		require.NoError(c, err)
		s.Clear()
		return out
	}
	want := logits()
	l, err := ropescale.NewLadder(
		ropescale.Rope{Dims: 2 * pairs, FreqBase: 50000, OriginalContextLength: Original},
		nil,
		Ladder(pairs)...)
	require.NoError(c, err)
	err = s.SetLadder(l)
	require.Error(c, err, "a ladder that nothing applies must be refused when it is set")
	require.Regexp(c, words, err.Error())
	assert.Equal(c, want, logits(), "after a ladder that was refused")

	if words == fmt.Sprintf(localRoPE, c.arch) {
		out := filepath.Join(c.dir, "converted.gguf")
		_, err = convert.Convert(context.Background(), c.plain, out, l,
			convert.Options{StockRung: convert.StockNone})
		require.ErrorIs(c, err, gguf.ErrLocalRoPE)
		require.Regexp(c, words, err.Error())
		require.NoFileExists(c, out)
	}
}

// check returns what became of it and what is worth knowing.
func (c *candidate) check() (status, status2, notes string) {
	kv, tensors := c.hint.Start(c.arch)
	if c.hint.NoRoPE {
		m := &Model{KV: kv, Tensors: tensors}
		_, err := discover(m.WithLadder(c.arch, Plain(8), Ladder(8)).KV, tensors, c.dir, c.tryOpen)
		require.Error(c, err)
		require.Regexp(c, fmt.Sprintf(noRoPE, c.arch), err.Error())
		status2, _ = c.checkGo(m, ropescale.Rung{}, nil, nil)
		return "no RoPE", status2, ""
	}
	m, err := discover(kv, tensors, c.dir, c.tryOpen)
	if err != nil &&
		(strings.Contains(err.Error(), "unsupported model architecture") ||
			strings.Contains(err.Error(), "cannot be used as main model")) {
		return "–", "–", ""
	}
	require.NoError(c, err)
	c.model, c.plain = m, filepath.Join(c.dir, "plain.gguf")
	require.NoError(c, m.Save(c.plain, true))
	watch := c.options()
	watch.Watch = true
	base := c.compute(c.plain, watch, -1, Long)

	k := c.kinds(base)
	pairs, what := cmp.Or(k.pairs, 8), k.what
	if k.global == 0 {
		status2, _ = c.checkGo(m, ropescale.Rung{}, nil, nil)
		if k.local == 0 {
			c.refuses(m, pairs, noRoPE)
			return "no RoPE", status2, ""
		}
		c.refuses(m, pairs, localRoPE)
		if off, err := c.shifted(c.plain, watch, -1, base, pairs); err == nil {
			assert.Less(c, off, bound, "keys after a context shift, without a ladder")
		}
		return "refused", status2, join(append(what, "so a ladder has nothing to act on"))
	}
	got := c.nodes(base, watch, pairs)
	for _, l := range base.layers {
		for _, n := range l.Ropes {
			if !l.Local && !c.hint.GoOwn {
				d := Deviation(n, func(int) ropescale.Rung { return c.row0 })
				assert.Less(c, d, bound, "row 0 is not what RoPE %s does without a ladder", n.Name)
			}
		}
	}
	c.uniform(base, watch, pairs)
	if !c.hint.GoOwn {
		c.short(pairs)
	}
	if s := c.shift(base, watch, pairs); s != "" {
		what = append(what, s)
	}
	status2, more := c.checkGo(m, c.row0, base.out, got.out)
	for _, note := range more {
		if note == noShift && !slices.Contains(what, noShift) {
			note += " on the Go engine"
		}
		what = append(what, note)
	}
	return "rows", status2, join(what)
}

// kinds are the layers of a model without a ladder, each RoPE of which was held against the oracle.
type kinds struct {
	global, local, without int
	pairs                  int // that global layers rotate
	what                   []string
}

func (c *candidate) kinds(base run) (k kinds) {
	for _, l := range base.layers {
		switch {
		case len(l.Ropes) == 0:
			k.without++
		case l.Local:
			k.local++
		default:
			k.global++
		}
		for _, n := range l.Ropes {
			if g, err := own(n); err == nil {
				assert.Less(c, Deviation(n, func(int) ropescale.Rung { return g }), bound,
					"%s without a ladder", n.Name)
			} else {
				k.what = append(k.what, "YaRN")
			}
			k.pairs = n.Dims / 2
			k.what = append(k.what, kind(n)...)
		}
	}
	if k.local > 0 {
		k.what = append(k.what, fmt.Sprintf("%d of %d layers are local", k.local, len(base.layers)))
	}
	if k.without > 0 && k.global+k.local > 0 {
		k.what = append(k.what, fmt.Sprintf("%d of %d have no RoPE", k.without, len(base.layers)))
	}
	slices.Sort(k.what)
	k.what = slices.Compact(k.what)
	return k
}

// kind is what is particular about a RoPE.
func kind(n session.Node) (what []string) {
	switch n.Mode {
	case 8:
		what = append(what, "M-RoPE")
	case 40:
		what = append(what, "interleaved M-RoPE")
	}
	if n.Dims < n.HeadDim {
		what = append(what, "partial rotary")
	}
	return what
}

// run is what a model computes of a text.
type run struct {
	layers []Layer
	// logits, or hidden states, of each token of a prefill, then of two that follow by themselves
	out [][]float32
}

// ids are the text, n tokens of it.
func ids(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = (i*37 + i*i*5 + 11) % 128
	}
	return ids
}

// layers of what the session computed since the last call.
func (c *candidate) layers(s interface{ Watched() []session.Node }) []Layer {
	layers, err := Layers(s.Watched())
	require.NoError(c, err)
	for i, l := range layers {
		layers[i].Local = l.Local || c.hint.Wide && len(l.Ropes) > 0
	}
	return layers
}

// compute runs n tokens at once, then two by themselves where there is a cache. rung < 0: there is
// no ladder.
func (c *candidate) compute(path string, o session.Options, rung, n int) run {
	s, err := session.Open(path, o)
	require.NoError(c, err)
	defer s.Close()
	if rung >= 0 {
		s.SetRung(0, rung)
	}
	var r run
	text := ids(n + 2)
	r.out, err = s.Prefill(text[:n], 0, 0, n)
	require.NoError(c, err)
	if o.Watch {
		r.layers = c.layers(s)
	}
	if !o.Hidden {
		more, err := s.Prefill(text[n:], 0, n, 1)
		require.NoError(c, err)
		r.out = append(r.out, more...)
	}
	for _, l := range r.out {
		require.NotEmpty(c, l)
		for _, x := range l {
			require.False(c, math.IsNaN(float64(x)) || math.IsInf(float64(x), 0),
				"the model computes %v", x)
		}
	}
	return r
}

// difference is the largest, and the largest number that there is.
func difference(a, b [][]float32) (worst, size float64) {
	for i := range a {
		for j := range a[i] {
			if b[i][j] < -1e30 && a[i][j] < -1e30 {
				continue // a token that the model never says
			}
			worst = max(worst, math.Abs(float64(a[i][j]-b[i][j])))
			size = max(size, math.Abs(float64(b[i][j])))
		}
	}
	return worst, size
}

// ladder converts the model.
func (c *candidate) ladder(rungs []ropescale.Rung) string {
	pairs := len(rungs[0].Factors)
	path := filepath.Join(c.dir, fmt.Sprintf("ladder-%d.gguf", len(rungs)))
	l, err := ropescale.NewLadder(
		ropescale.Rope{Dims: 2 * pairs, FreqBase: 50000, OriginalContextLength: Original},
		nil,
		rungs...)
	require.NoError(c, err)
	report, err := convert.Convert(context.Background(), c.plain, path, l,
		convert.Options{StockRung: convert.StockNone})
	require.NoError(c, err)
	c.row0 = report.Ladder.At(0)
	return path
}

// row is what the RoPE of a layer does with a position on rung 2 of the ladder: in layers that are
// not local, its row from the start window on. n is the node without a ladder.
func (c *candidate) row(
	l Layer,
	n session.Node,
	row0 ropescale.Rung,
) (func(pos int) ropescale.Rung, error) {
	if l.Local {
		g, err := own(n)
		return func(int) ropescale.Rung { return g }, err
	}
	top := Ladder(n.Dims / 2)[1]
	return func(pos int) ropescale.Rung {
		if pos < top.StartWindow {
			return row0
		}
		return top
	}, nil
}

// nodes holds every RoPE of a sequence on a rung against the oracle.
func (c *candidate) nodes(base run, watch session.Options, pairs int) (got run) {
	got = c.compute(c.ladder(Ladder(pairs)), watch, 2, Long)
	c.compareNodes(base, got, c.row0)
	diff, size := difference(got.out[Original:], base.out[Original:])
	assert.Greater(c, diff, 1e-3*size, "the ladder changes nothing")
	return got
}

// compareNodes holds every RoPE of a sequence on rung 2 against the oracle; base is without a
// ladder.
func (c *candidate) compareNodes(base, got run, row0 ropescale.Rung) {
	require.Len(c, got.layers, len(base.layers))
	worst := 0.0
	for i, l := range got.layers {
		require.Equal(c, base.layers[i].Local, l.Local)
		require.Len(c, l.Ropes, len(base.layers[i].Ropes))
		for j, n := range l.Ropes {
			was := base.layers[i].Ropes[j]
			r, err := c.row(l, was, row0)
			if err != nil { // the oracle does not know it, but it must be what it was
				assert.Equal(
					c,
					[]any{
						was.FreqBase,
						was.FreqScale,
						was.ExtFactor,
						was.AttnFactor,
						was.Factors,
						was.Positions,
					},
					[]any{
						n.FreqBase,
						n.FreqScale,
						n.ExtFactor,
						n.AttnFactor,
						n.Factors,
						n.Positions,
					},
					"RoPE %s of a local layer",
					n.Name,
				)
				continue
			}
			d := Deviation(n, r)
			assert.Less(c, d, bound, "attention %d, RoPE %s, local %v", i, n.Name, l.Local)
			worst = max(worst, d)
		}
	}
	c.Logf("RoPE: worst deviation %.1e of %g", worst, bound)
}

// uniform factors are what the host's own frequency scale does, bit for bit since both are powers
// of two, where the host leaves local layers out of it as a ladder does.
func (c *candidate) uniform(base run, watch session.Options, pairs int) {
	watch.FreqScale = 0.25
	want := c.compute(c.plain, watch, -1, Long)
	for i, l := range want.layers {
		for j, n := range l.Ropes {
			if scaled := n.FreqScale != base.layers[i].Ropes[j].FreqScale; scaled == l.Local ||
				c.hint.Scale {
				c.Log("uniform factors: nothing to compare with, the host's frequency scale " +
					"does something else")
				return
			}
		}
	}
	got := c.compute(c.ladder(uniform(pairs, 4)), c.options(), 1, Long)
	diff, size := difference(got.out, want.out)
	assert.Zero(c, diff, "uniform factors against rope_freq_scale, of %g", size)
}

// short stays short: at lengths up to the original, the model with a ladder computes what the model
// without it does.
func (c *candidate) short(pairs int) {
	want := c.compute(c.plain, c.options(), -1, Short)
	got := c.compute(c.ladder(Ladder(pairs)), c.options(), 0, Short)
	diff, size := difference(got.out, want.out)
	if slices.Equal(c.row0.Factors, Plain(pairs).Factors) {
		assert.Zero(c, diff, "at a length that the model was trained for, of %g", size)
		return
	}
	// row 0 is the model's own scaling written as factors: the same angles, rounded in another way
	assert.Less(c, diff, 1e-4*size, "at a length that the model was trained for")
	c.Logf("row 0 instead of the model's own scaling: logits off by %.1e of %g", diff, size)
}

// join makes one text of notes, each once.
func join(notes []string) string {
	var once []string
	for _, note := range notes {
		if !slices.Contains(once, note) {
			once = append(once, note)
		}
	}
	return strings.Join(once, "; ")
}
