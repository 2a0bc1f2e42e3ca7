package tests

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/model"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/gosession"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

func openGo(t testing.TB, path string, o session.Options) *gosession.Session {
	t.Helper()
	s, err := gosession.Open(path, o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// With no factors the Go engine of the patched host computes what that of the unpatched one does,
// bit for bit.
func TestGoNoHarm(t *testing.T) {
	sameDigests(t, "gologits", writeDefault(t, nil), "150", "24")
}

// The Go engine's logits are the reference's, to TestReference's bound, and those of the llama.cpp
// engine.
func TestGoReference(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	r := m.Rope
	L := r.OriginalContextLength
	s := openGo(t, path, session.Options{Context: 4 * L})
	other := open(t, path, session.Options{Context: 4 * L})

	for _, c := range []struct {
		name      string
		tokens    int
		reference bool // which is slow
		rung      *ropescale.Rung
	}{
		{name: "plain", tokens: L},
		{name: "start window", tokens: L / 2, reference: true, rung: ptr(someRung(r, 4*L, 20, 1))},
		{name: "start window and attention factor", tokens: 2 * L, rung: ptr(someRung(r, 4*L, 32, 1.1))},
		{name: "start window longer than the text", tokens: 48, reference: true, rung: ptr(someRung(r, 4*L, 64, 1.1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := someTokens(c.tokens, s.Vocab(), uint64(c.tokens))
			l, rung := someLadder(t, r), 0
			if c.rung != nil {
				l, rung = someLadder(t, r, *c.rung), 1
				require.NoError(t, s.SetLadder(l))
				require.NoError(t, other.SetLadder(l))
			} else {
				require.NoError(t, s.SetLadder(nil))
				require.NoError(t, other.SetLadder(nil))
			}
			s.SetRung(0, rung)
			got, err := s.Prefill(tokens, 0, 0, 512)
			require.NoError(t, err)
			if c.reference {
				d := compare(t, m.Logits(tokens, l, rung), got)
				t.Logf("reference: %v", d)
				assert.LessOrEqual(t, d.worst, 5e-5*d.largest, "engine and reference differ: %v", d)
			}

			other.SetRung(0, rung)
			same, err := other.Prefill(tokens, 0, 0, 512)
			require.NoError(t, err)
			d := compare(t, same, got)
			t.Logf("llama.cpp engine: %v", d)
			assert.LessOrEqual(t, d.worst, sameSums*d.largest, "the engines differ: %v", d)

			if c.rung == nil || c.rung.StartWindow > c.tokens {
				return
			}
			without := *c.rung
			without.StartWindow = 0
			require.NoError(t, s.SetLadder(someLadder(t, r, without)))
			naked, err := s.Prefill(tokens, 0, 0, 512)
			require.NoError(t, err)
			assert.Greater(t, compare(t, naked, got).worst, 2e-3*d.largest,
				"the case cannot tell its rung from another")
		})
	}
}

// Up to the original context length a ladder changes no bit.
func TestGoShortStaysShort(t *testing.T) {
	path := writeDefault(t, nil)
	r := defaultLlama(t).Rope
	s := openGo(t, path, session.Options{Keys: "f16"})
	tokens := someTokens(r.OriginalContextLength, s.Vocab(), 6)
	plain, err := s.Prefill(tokens, 0, 0, 100)
	require.NoError(t, err)
	l := rungLadder(t, r)
	require.NoError(t, s.SetLadder(l))
	s.SetRung(0, l.RungFor(len(tokens)))
	laddered, err := s.Prefill(tokens, 0, 0, 100)
	require.NoError(t, err)
	require.Equal(t, plain, laddered)
}

// A model that cannot take the rows of a ladder is an error, never silence.
func TestGoRefuses(t *testing.T) {
	path := writeDefault(t, nil)
	r := defaultLlama(t).Rope
	s := openGo(t, path, session.Options{})
	half := ropescale.Rope{
		Dims:                  r.Dims / 2,
		FreqBase:              r.FreqBase,
		OriginalContextLength: r.OriginalContextLength,
	}
	require.NoError(t, s.SetLadder(rungLadder(t, half)))
	_, err := s.Prefill([]int{1, 2, 3}, 0, 0, 3)
	require.ErrorIs(t, err, model.ErrLadder)
	assert.ErrorContains(t, err,
		"16 factors in a row, but the model rotates 64 dimensions: needs 32")

	good := withLadder(t, path, 8*r.OriginalContextLength)
	for key, c := range map[string]struct {
		value any
		want  string
	}{
		"version":           {uint32(2), "llama.rope.longrope.version is not 1: this build cannot read the ladder, update it"},
		"lengths":           {uint32(256), "0 lengths, 2 start windows, 2 attention factors and 64 factors do not fit together"},
		"start_windows":     {uint32(0), "2 lengths, 0 start windows"},
		"attention_factors": {float32(1), "0 attention factors"},
		"factors":           {float32(1), "a ladder needs at least row 0 and one factor"},
	} {
		t.Run(key, func(t *testing.T) {
			f, err := reference.ReadFile(good)
			require.NoError(t, err)
			f.Set("llama.rope.longrope."+key, c.value)
			bad := filepath.Join(t.TempDir(), "bad.gguf")
			require.NoError(t, f.WriteFile(bad))
			_, err = gosession.Open(bad, session.Options{})
			require.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, bad)
		})
	}
}

// Sequences on mixed rungs in one batch, prompts cut in any way, and reused and copied prefixes
// have the logits of one plain run of the sequence on its rung.
func TestGoRungs(t *testing.T) {
	path := writeDefault(t, nil)
	l := rungLadder(t, defaultLlama(t).Rope)
	const from = 40
	g := goRungs{n: 72, rungs: []int{2, 0, 1, 2}}
	g.s = openGo(t, path, session.Options{Context: 128, Sequences: len(g.rungs) + 1})
	s, first := g.s, g.rungs[0]
	require.NoError(t, s.SetLadder(l))
	for seq, rung := range g.rungs {
		g.alone = append(g.alone, g.run(t, rung, seq, 512))
	}
	d := compare(t, g.alone[0], g.run(t, 1, 0, 512))
	require.Greater(t, d.worst, 100*sameSums*d.largest, "rungs 1 and 2 give the same")

	for _, chunk := range []int{1, 7, 32} {
		t.Run(fmt.Sprintf("chunks of %d", chunk),
			func(t *testing.T) { g.same(t, g.alone[0], g.run(t, first, 0, chunk)) })
	}
	t.Run("mixed", g.mixed)
	t.Run("reused prefix", func(t *testing.T) {
		g.run(t, first, 0, 512)
		require.NoError(t, s.Remove(0, from))
		again, err := s.Prefill(g.tokens(0)[from:], 0, from, 16)
		require.NoError(t, err)
		g.same(t, g.alone[0][from:], again)
	})
	t.Run("recompute", func(t *testing.T) { g.recompute(t, from) })
	t.Run("copied prefix", func(t *testing.T) {
		g.run(t, first, 0, 512)
		const copied = 4
		s.Copy(0, copied, from)
		again, err := s.Prefill(g.tokens(0)[from:], copied, from, 16)
		require.NoError(t, err)
		g.same(t, g.alone[0][from:], again)
		assert.Error(t, s.Rerotate(copied, 1), "keys that another sequence shares were re-rotated")
	})
}

// goRungs are sequences of n tokens on rungs, and the logits that each has alone.
type goRungs struct {
	s     *gosession.Session
	n     int
	rungs []int
	alone [][][]float32
}

func (g *goRungs) tokens(seq int) []int { return someTokens(g.n, g.s.Vocab(), uint64(seq)) }

func (g *goRungs) same(t *testing.T, want, got [][]float32) {
	t.Helper()
	d := compare(t, want, got)
	t.Log(d)
	assert.LessOrEqual(t, d.worst, sameSums*d.largest)
}

// run computes a sequence by itself.
func (g *goRungs) run(t *testing.T, rung, seq, chunk int) [][]float32 {
	t.Helper()
	g.s.Clear()
	g.s.SetRung(0, rung)
	logits, err := g.s.Prefill(g.tokens(seq), 0, 0, chunk)
	require.NoError(t, err)
	return logits
}

// mixed computes all sequences in batches that have parts of each.
func (g *goRungs) mixed(t *testing.T) {
	g.s.Clear()
	got := make([][][]float32, len(g.rungs))
	for seq, rung := range g.rungs {
		g.s.SetRung(seq, rung)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for {
		var batch []session.Token
		for seq := range g.rungs {
			at := len(got[seq])
			for p := at; p < min(g.n, at+1+rng.IntN(20)); p++ {
				batch = append(batch,
					session.Token{ID: g.tokens(seq)[p], Pos: p, Seq: seq, Logits: true})
			}
		}
		if len(batch) == 0 {
			break
		}
		require.NoError(t, g.s.Decode(batch...))
		for i, b := range batch {
			got[b.Seq] = append(got[b.Seq], g.s.Logits(i))
		}
	}
	for seq := range g.rungs {
		g.same(t, g.alone[seq], got[seq])
	}
}

// recompute is a crossing: all again on the new rung, while another sequence, which has some
// tokens, continues.
func (g *goRungs) recompute(t *testing.T, have int) {
	g.run(t, 1, 0, 512)
	const other = 1
	g.s.SetRung(other, 0)
	_, err := g.s.Prefill(g.tokens(1)[:have], other, 0, 512)
	require.NoError(t, err)
	require.NoError(t, g.s.Remove(0, 0))
	g.s.SetRung(0, g.rungs[0])
	var got [][]float32
	for p := 0; p < g.n; p += 9 {
		batch := []session.Token{
			{ID: g.tokens(1)[p/9], Pos: have + p/9, Seq: other, Logits: true},
		}
		for q := p; q < min(p+9, g.n); q++ {
			batch = append(batch, session.Token{ID: g.tokens(0)[q], Pos: q, Logits: true})
		}
		require.NoError(t, g.s.Decode(batch...))
		for i := range batch[1:] {
			got = append(got, g.s.Logits(i+1))
		}
	}
	g.same(t, g.alone[0], got)
}

// After context shifts, and after its sequence went to other rungs and back, a cached key of layer
// 0 is the one that the token would get afresh: see keyDeviation for the bound.
func TestGoKeys(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	r := m.Rope
	L := r.OriginalContextLength
	const prompt, keep, discard, shifts = 120, 8, 7, 5
	for _, c := range shiftCases {
		l := someLadder(t, r, someRung(r, 2*L, c.startWindow, c.attn),
			someRung(r, 8*L, c.startWindow/2, 1.1*c.attn))
		for _, typ := range []string{"f32", "f16", "q8_0"} {
			t.Run(c.name+"/"+typ, func(t *testing.T) {
				s := openGo(t, path,
					session.Options{Context: 256, Batch: 50, Keys: typ, Flash: typ == "q8_0"})
				require.NoError(t, s.SetLadder(l))
				s.SetRung(0, 1)
				tokens := someTokens(prompt, s.Vocab(), 3)
				_, err := s.Prefill(tokens, 0, 0, 50)
				require.NoError(t, err)
				check := func(rung, rotations int) {
					t.Helper()
					keys, err := s.Keys(0, 0)
					require.NoError(t, err)
					require.Len(t, keys, len(tokens))
					at := map[int]int{}
					for p, id := range tokens {
						at[p] = id
					}
					ratio, where := keyDeviation(m, l, rung, at, keys, typ, rotations)
					t.Logf("rung %d: worst of its bound %.2f at %s", rung, ratio, where)
					assert.LessOrEqual(t, ratio, 1.0, where)
					ratio, _ = keyDeviation(m, l, 3-rung, at, keys, typ, rotations)
					assert.Greater(t, ratio, 1.0, "the case cannot tell the rungs apart")
				}
				check(1, 0)
				before, err := s.Keys(0, 0)
				require.NoError(t, err)

				for i := range shifts {
					require.NoError(t, s.Shift(0, keep, discard))
					tokens = append(append(tokens[:keep:keep], tokens[keep+discard:]...), i+1)
					require.NoError(t,
						s.Decode(session.Token{ID: i + 1, Pos: len(tokens) - 1, Logits: true}))
				}
				check(1, shifts)
				keys, err := s.Keys(0, 0)
				require.NoError(t, err)
				for p := range keep {
					assert.Equal(t, before[p], keys[p], "position %d did not move", p)
				}

				require.NoError(t, s.Rerotate(0, 2))
				check(2, shifts+1)
				require.NoError(t, s.Shift(0, keep, discard))
				tokens = append(tokens[:keep:keep], tokens[keep+discard:]...)
				check(2, shifts+2)
				require.NoError(t, s.Rerotate(0, 1))
				check(1, shifts+3)
			})
		}
	}
}

// Logits after a re-rotation are near to those that a sequence that was on the rung from the start
// gets, and nearer than with the keys left as they were; in a model of one layer it would be the
// same.
func TestGoRerotate(t *testing.T) {
	path := writeDefault(t, nil)
	l := rungLadder(t, defaultLlama(t).Rope)
	const n, more = 120, 40
	s := openGo(t, path, session.Options{Context: 256})
	require.NoError(t, s.SetLadder(l))
	tokens := someTokens(n+more, s.Vocab(), 8)
	after := func(from, to int, rerotate bool) [][]float32 {
		s.Clear()
		s.SetRung(0, from)
		_, err := s.Prefill(tokens[:n], 0, 0, 512)
		require.NoError(t, err)
		if rerotate {
			require.NoError(t, s.Rerotate(0, to))
		}
		s.SetRung(0, to)
		logits, err := s.Prefill(tokens[n:], 0, n, 512)
		require.NoError(t, err)
		return logits
	}
	fresh := after(2, 2, false)
	same := compare(t, fresh, after(2, 2, true))
	assert.Zero(t, same.worst, "re-rotating to the same rung changes keys")
	rotated, left := compare(t, fresh, after(1, 2, true)), compare(t, fresh, after(1, 2, false))
	t.Logf("re-rotated: %v; left as they were: %v", rotated, left)
	assert.Less(t, rotated.worst, left.worst)
}

// TestGoOwnScaling: the host's Go engine ignores the YaRN of a llama, which is an error and never
// another number; with factors, and on the other engine, the model is run.
func TestGoOwnScaling(t *testing.T) {
	f, err := reference.Read(defaultmodel.Model)
	require.NoError(t, err)
	yarn := func(arch, typ string) string {
		f.Set(arch+".rope.scaling.type", typ)
		f.Set(arch+".rope.scaling.factor", float32(8))
		f.Set(arch+".rope.scaling.original_context_length", uint32(defaultmodel.ContextLength))
		f.Set(arch+".context_length", uint32(8*defaultmodel.ContextLength))
		path := filepath.Join(t.TempDir(), arch+"-"+typ+".gguf")
		require.NoError(t, f.WriteFile(path))
		return path
	}
	run := func(on, path string) (engine.Runner, []float64, error) {
		e, err := engine.OpenOn(on, path, engine.Options{Length: 4096, Threads: 1})
		require.NoError(t, err)
		t.Cleanup(e.Close)
		x, err := e.NLL(t.Context(), someTokens(300, e.Info().VocabSize, 3), 1)
		return e, x, err
	}
	path := yarn("llama", "yarn")
	_, want, err := run(evals.LlamaEngine, path)
	require.NoError(t, err)
	e, _, err := run(evals.GoEngine, path)
	require.ErrorContains(t, err, "llama-yarn.gguf: the host's Go engine does not run it with the "+
		"scaled RoPE of its file: NLLs are up to ")
	t.Log(err)
	r := defaultLlama(t).Rope
	r.OriginalContextLength = e.Info().OriginalContextLength
	require.NoError(t, e.SetLadder(someLadder(t, r, someRung(r, 4096, 0, 1))))
	got, err := e.NLL(t.Context(), someTokens(300, e.Info().VocabSize, 3), 1)
	require.NoError(t, err)
	assert.InDeltaSlice(t, want, got, 5e-2, "row 0 is its YaRN, rounded in another way")
	require.NoError(t, e.SetLadder(nil))
	_, err = e.Generate(t.Context(), []int{1, 2, 3}, 2)
	require.Error(t, err)

	_, want, err = run(evals.LlamaEngine, yarn("llama", "linear"))
	require.NoError(t, err)
	_, got, err = run(evals.GoEngine, yarn("llama", "linear"))
	require.NoError(t, err, "it does know linear scaling")
	assert.InDeltaSlice(t, want, got, 5e-2)
	f.SetArchitecture("mistral3")
	_, _, err = run(evals.GoEngine, yarn("mistral3", "yarn"))
	require.NoError(t, err, "and YaRN elsewhere")
}

// Keys of a model with YaRN keep their size when they are shifted; each shift used to multiply them
// by the attention factor.
func TestGoShiftAttentionFactor(t *testing.T) {
	const prompt, keep, discard, shifts = 60, 4, 5, 4
	f, err := reference.Read(defaultmodel.Model)
	require.NoError(t, err)
	f.SetArchitecture("mistral3") // tensors and sums of a llama, and YaRN
	f.Set("mistral3.rope.scaling.type", "yarn")
	f.Set("mistral3.rope.scaling.factor", float32(4))
	path := filepath.Join(t.TempDir(), "mistral3.gguf")
	require.NoError(t, f.WriteFile(path))
	s := openGo(t, path, session.Options{})
	_, err = s.Prefill(someTokens(prompt, s.Vocab(), 3), 0, 0, prompt)
	require.NoError(t, err)
	before, err := s.Keys(0, 0)
	require.NoError(t, err)
	for range shifts {
		require.NoError(t, s.Shift(0, keep, discard))
	}
	after, err := s.Keys(0, 0)
	require.NoError(t, err)
	length := func(key []float32) float64 {
		x := make([]float64, len(key))
		for i, v := range key {
			x[i] = float64(v)
		}
		return norm(x...)
	}
	for p := keep; p < prompt-shifts*discard; p++ {
		assert.InEpsilon(t, length(before[p+shifts*discard]), length(after[p]), 1e-4, "position %d",
			p)
	}
}
