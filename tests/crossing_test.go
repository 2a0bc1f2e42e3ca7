package tests

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/runner/longrope"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// at is the tokens by position, as keyDeviation wants them.
func at(tokens []int) map[int]int {
	m := map[int]int{}
	for p, id := range tokens {
		m[p] = id
	}
	return m
}

// freshKeys wants a sequence's cached keys of layer 0 to be those of its tokens rotated afresh on
// the rung; rotations is how often they were rotated since they were computed.
func freshKeys(
	t *testing.T,
	m *reference.Llama,
	l *ropescale.Ladder,
	s *session.Session,
	seq, rung int,
	tokens []int,
	typ string,
	rotations int,
) {
	t.Helper()
	keys, err := s.Keys(seq)
	require.NoError(t, err)
	require.Len(t, keys, len(tokens))
	ratio, where := keyDeviation(m, l, rung, at(tokens), keys, typ, rotations)
	t.Logf("sequence %d on rung %d: worst of its bound %.2f at %s", seq, rung, ratio, where)
	assert.LessOrEqual(t, ratio, 1.0, where)
}

func prefill(t testing.TB, s *session.Session, seq, rung int, tokens []int, chunk int) [][]float32 {
	t.Helper()
	require.NoError(t, s.Remove(seq, 0, -1))
	require.NoError(t, s.SetRung(seq, rung))
	logits, err := s.Prefill(tokens, seq, 0, chunk)
	require.NoError(t, err)
	return logits
}

// A crossing by rerotation leaves keys of layer 0 as if they had been computed on the new rung, up,
// down, and with a context shift that is due; the other sequence's keys stay bit for bit.
func TestRerotate(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	l := rungLadder(t, m.Rope) // start windows 8 and 20, attention factors 1.05 and 1.1
	for _, typ := range []string{"f32", "f16", "q8_0"} {
		t.Run(typ, func(t *testing.T) {
			s := open(t, path, session.Options{Context: 128, Sequences: 2, Keys: typ})
			require.NoError(t, s.SetLadder(l))
			tokens, others := someTokens(100, s.Vocab(), 1), someTokens(60, s.Vocab(), 2)
			prefill(t, s, 0, 0, tokens, 64)
			prefill(t, s, 1, 1, others, 64)
			before, err := s.Keys(1)
			require.NoError(t, err)

			for i, rung := range []int{1, 2, 1, 0, 2} {
				require.NoError(t, s.SetRung(0, rung))
				require.Equal(t, rung, s.Rung(0))
				freshKeys(t, m, l, s, 0, rung, tokens, typ, i+1)
			}
			if typ != "q8_0" { // it would notice keys of another rung
				keys, err := s.Keys(0)
				require.NoError(t, err)
				ratio, _ := keyDeviation(m, l, 1, at(tokens), keys, typ, 5)
				assert.Greater(t, ratio, 1.0, "the case cannot tell rungs apart")
			}

			const keep, discard = 4, 30
			require.NoError(t, s.Shift(0, keep, discard, len(tokens)))
			require.NoError(t, s.SetRung(0, 1)) // the shift is still due
			tokens = append(tokens[:keep:keep], tokens[keep+discard:]...)
			freshKeys(t, m, l, s, 0, 1, tokens, typ, 7)
			after, err := s.Keys(1)
			require.NoError(t, err)
			assert.Equal(t, before, after, "another sequence")
		})
	}
}

// A crossing whose rotation fails leaves the sequence on its old rung and without keys, since they
// may be on either; other sequences and what follows are as if it had not been tried.
func TestRerotateFails(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	l := rungLadder(t, m.Rope)
	s := open(t, path, session.Options{Context: 128, Sequences: 2})
	require.NoError(t, s.SetLadder(l))
	tokens, others := someTokens(100, s.Vocab(), 1), someTokens(60, s.Vocab(), 2)
	prefill(t, s, 0, 0, tokens, 64)
	want := prefill(t, s, 0, 1, tokens, 64)
	prefill(t, s, 1, 1, others, 64)
	before, err := s.Keys(1)
	require.NoError(t, err)

	s.Abort(true)
	require.Error(t, s.SetRung(0, 2))
	s.Abort(false)
	require.Equal(t, 1, s.Rung(0), "the old rung")
	_, err = s.Keys(0)
	require.ErrorContains(t, err, "no keys")
	after, err := s.Keys(1)
	require.NoError(t, err)
	assert.Equal(t, before, after, "another sequence")

	got, err := s.Prefill(tokens, 0, 0, 64)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, s.SetRung(0, 2))
	freshKeys(t, m, l, s, 0, 2, tokens, "f32", 1)

	// a shift that is due and fails is not lost: nothing is changed
	require.NoError(t, s.Shift(0, 4, 30, len(tokens)))
	s.Abort(true)
	require.Error(t, s.SetRung(0, 1))
	s.Abort(false)
	require.Equal(t, 2, s.Rung(0))
	tokens = append(tokens[:4:4], tokens[34:]...)
	freshKeys(t, m, l, s, 0, 2, tokens, "f32", 2)
	require.NoError(t, s.SetRung(0, 1))
	freshKeys(t, m, l, s, 0, 1, tokens, "f32", 3)
}

// After a crossing under recompute, logits are those of a plain run on the new rung, while other
// sequences continue in the same batches; so are those of a reused prefix.
func TestRecompute(t *testing.T) {
	m := defaultLlama(t)
	path := writeDefault(t, nil)
	l := rungLadder(t, m.Rope)
	const n, more, sequences = 70, 20, 3
	s := open(t, path, session.Options{Context: 128, Sequences: sequences})
	measure := func(ladder *ropescale.Ladder) span {
		require.NoError(t, s.SetLadder(ladder))
		last := 0
		if ladder != nil {
			last = len(ladder.Rungs)
		}
		tokens := someTokens(n+more, s.Vocab(), 1)
		plain := prefill(t, s, 0, last, tokens, 512)

		prefill(t, s, 0, min(1, last), tokens[:n], 512) // grows past its rung: all again
		prefill(t, s, 1, 0, someTokens(n, s.Vocab(), 2), 512)
		require.NoError(t, s.Remove(0, 0, -1))
		require.NoError(t, s.SetRung(0, last))
		var got [][]float32
		other := someTokens(n, s.Vocab(), 3)
		for p := 0; p < n+more; p += 9 {
			var batch []session.Token
			for q := p; q < min(p+9, n+more); q++ {
				batch = append(batch, session.Token{ID: tokens[q], Pos: q, Logits: true})
			}
			batch = append(batch, session.Token{ID: other[p/9], Pos: n + p/9, Seq: 1},
				session.Token{ID: other[p/9], Pos: p / 9, Seq: 2})
			require.NoError(t, s.Decode(batch...))
			for i := range len(batch) - 2 {
				got = append(got, s.Logits(i))
			}
		}
		return compare(t, plain, got)
	}
	alone := measure(nil)
	d := measure(l)
	t.Logf("crossing: %v; the same batches without a ladder: %v", d, alone)
	assert.LessOrEqual(t, d.worst, sameSums*d.largest)
	assert.Greater(t, d.largest, 1.0)
}

// A copy is on the rung of its source: both continue alike, and one that crosses leaves the other
// as it was. Sequences that share cells cannot be on different rungs, and the engine says so.
func TestCopySequence(t *testing.T) {
	m := defaultLlama(t)
	path := writeDefault(t, nil)
	l := rungLadder(t, m.Rope)
	const n = 60
	for _, unified := range []bool{false, true} {
		t.Run(fmt.Sprintf("unified=%v", unified), func(t *testing.T) {
			s := open(t, path, session.Options{Context: 128, Sequences: 3, Unified: unified})
			require.NoError(t, s.SetLadder(l))
			tokens := someTokens(n+8, s.Vocab(), 1)
			plain := prefill(t, s, 2, 1, tokens, 512)
			require.NoError(t, s.Remove(2, 0, -1))
			prefill(t, s, 0, 1, tokens[:n], 512)
			require.NoError(t, s.SetRung(1, 1))
			s.Copy(0, 1)
			if unified {
				require.Error(t, s.SetRung(1, 2))
				require.Equal(t, 1, s.Rung(1))
			}

			next := tokens[n]
			require.NoError(
				t,
				s.Decode(session.Token{ID: next, Pos: n, Seq: 0, Logits: true},
					session.Token{ID: next, Pos: n, Seq: 1, Logits: true}),
			)
			for i := range 2 {
				d := compare(t, plain[n:n+1], [][]float32{s.Logits(i)})
				assert.LessOrEqual(t, d.worst, sameSums*d.largest, "sequence %d", i)
			}

			before, err := s.Keys(0)
			require.NoError(t, err)
			if unified { // all of its own again
				prefill(t, s, 1, 2, tokens[:n+1], 512)
			} else {
				require.NoError(t, s.SetRung(1, 2))
			}
			freshKeys(t, m, l, s, 1, 2, tokens[:n+1], "f32", 1)
			after, err := s.Keys(0)
			require.NoError(t, err)
			assert.Equal(t, before, after, "the source")
			require.Equal(t, []int{1, 2}, []int{s.Rung(0), s.Rung(1)})
			if unified {
				require.NoError(t, s.Remove(0, -1, -1))
				require.NoError(t, s.Remove(1, -1, -1))
				assert.Error(t, s.Decode(session.Token{ID: 1, Shared: true}),
					"a token on two rungs")
				require.NoError(t, s.SetRung(1, 1))
				assert.NoError(t, s.Decode(session.Token{ID: 1, Shared: true}))
			}
		})
	}
}

// A saved sequence resumes on its rung in another place of another engine (whose cells are packed:
// the sums of attention have another order, of float16 values where keys are quantised); with
// another ladder, or with a ladder on one side only, loading says what is wrong and changes
// nothing.
func TestState(t *testing.T) {
	m := defaultLlama(t)
	path := writeDefault(t, nil)
	l := rungLadder(t, m.Rope)
	other := rungLadder(t, m.Rope)
	other.Rungs[1].StartWindow++
	for _, typ := range []string{"f32", "q8_0"} {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/whole=%v", typ, whole), func(t *testing.T) {
				o := session.Options{Context: 128, Sequences: 2, Keys: typ}
				s, s2 := open(t, path, o), open(t, path, o)
				require.NoError(t, s.SetLadder(l))
				tokens := someTokens(80, s.Vocab(), 1)
				prefill(t, s, 0, 2, tokens[:70], 512)
				prefill(t, s, 1, 1, tokens[:30], 512)
				require.NoError(t, s.Shift(0, 4, 20, 70)) // due, and saved as done
				src, dst := 0, 1
				if whole {
					src, dst = session.All, session.All
				}
				state, err := s.State(src)
				require.NoError(t, err)

				require.ErrorContains(t, s2.SetState(dst, state), "saved with a ladder")
				bare, err := s2.State(src)
				require.NoError(t, err)
				require.NoError(t, s2.SetLadder(other))
				require.ErrorContains(t, s2.SetState(dst, state), "saved with another ladder")
				require.NoError(t, s2.SetLadder(l))
				require.ErrorContains(t, s2.SetState(dst, bare), "saved without a ladder")
				prefill(t, s2, 1, 0, tokens[:40], 512) // to be replaced
				require.NoError(t, s2.SetState(dst, state))

				if whole {
					dst = 0
					require.Equal(t, 1, s2.Rung(1))
				}
				require.Equal(t, 2, s2.Rung(dst))
				want, err := s.Prefill(tokens[70:], 0, 50, 512)
				require.NoError(t, err)
				got, err := s2.Prefill(tokens[70:], dst, 50, 512)
				require.NoError(t, err)
				d := compare(t, want, got)
				t.Log(d)
				assert.LessOrEqual(t, d.worst,
					map[string]float64{"f32": sameSums, "q8_0": 4 * unit16}[typ]*d.largest)
				require.NoError(t, s2.SetRung(dst, 1))
				freshKeys(t, m, l, s2, dst, 1,
					append(append(tokens[:4:4], tokens[24:70]...), tokens[70:]...), typ, 2)
			})
		}
	}
}

// Without a ladder the patched host saves what the unpatched one saves, byte for byte, and resumes
// from that.
func TestStateOfStockHost(t *testing.T) {
	const n = 60
	path := writeDefault(t, nil)
	files := map[string][]byte{}
	for _, host := range []string{"stock", "patched"} {
		file := filepath.Join(t.TempDir(), host)
		var tokens int
		probe(t, host, &tokens, "state", path, fmt.Sprint(n), file)
		var err error
		files[host], err = os.ReadFile(file)
		require.NoError(t, err)
	}
	require.Greater(t, len(files["stock"]), n*5*2*128*4) // keys and values of 5 layers
	assert.True(t, bytes.Equal(files["stock"], files["patched"]), "the states differ")

	s := open(t, path, session.Options{Context: 2 * n})
	tokens := make([]int, n+10)
	for i := range tokens {
		tokens[i] = (i*7919 + 13) % s.Vocab()
	}
	want, err := s.Prefill(tokens, 0, 0, 512)
	require.NoError(t, err)
	require.NoError(t, s.SetState(0, files["stock"]))
	got, err := s.Prefill(tokens[n:], 0, n, 512)
	require.NoError(t, err)
	d := compare(t, want[n:], got)
	t.Log(d)
	assert.LessOrEqual(t, d.worst, sameSums*d.largest)
}

// The runners, the engine and ropescale choose the same rung for every length; choosing allocates
// nothing.
func TestRungsAgree(t *testing.T) {
	m := defaultLlama(t)
	L := m.Rope.OriginalContextLength
	s := open(t, writeDefault(t, nil), session.Options{Context: 16, Batch: 16})
	for _, l := range []*ropescale.Ladder{
		rungLadder(t, m.Rope),
		// a rung for short sequences
		someLadder(t, m.Rope, someRung(m.Rope, L/2, 0, 1), someRung(m.Rope, 4*L, 9, 1.1)),
	} {
		require.NoError(t, s.SetLadder(l))
		_, windows := l.Rows()
		lengths := []int32{int32(L)}
		for _, g := range l.Rungs {
			lengths = append(lengths, int32(g.Length))
		}
		r, err := longrope.New(lengths, windows)
		require.NoError(t, err)
		for n := 1; n < 9*L; n++ {
			if l.RungFor(n) != r.RungFor(n) || l.RungFor(n) != s.RungFor(n) {
				t.Fatalf("%d tokens: ropescale takes rung %d, the runners %d, the engine %d", n,
					l.RungFor(n), r.RungFor(n), s.RungFor(n))
			}
		}
		for _, rung := range []int{0, 1, 2} {
			for pos := range 40 {
				require.Equal(t, l.Row(rung, pos), r.Row(rung, pos))
			}
		}
		assert.Zero(
			t,
			testing.AllocsPerRun(100,
				func() { r.RungFor(340); r.Grow(1, 301); r.Row(1, 30) }),
		)
	}
}

// liver is a session of either engine that has a long life.
type liver interface {
	crosser
	shift(keep, discard, length int) error
	keys() (map[int][]float32, error) // of layer 0
}

func (s llamaCrosser) shift(keep, discard, length int) error {
	return s.Shift(0, keep, discard, length)
}
func (s llamaCrosser) keys() (map[int][]float32, error) { return s.Keys(0) }
func (s goCrosser) shift(keep, discard, _ int) error    { return s.Shift(0, keep, discard) }
func (s goCrosser) keys() (map[int][]float32, error)    { return s.Keys(0, 0) }

// A conversation that crosses every rung, up and down, and shifts its context forty times has the
// keys of a fresh one: they neither grow nor turn. Each event may round a key once. On both
// engines.
func TestLongLife(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	l := rungLadder(t, m.Rope)
	for _, typ := range []string{"f16", "q8_0"} {
		for engine, s := range map[string]liver{
			"llama.cpp": llamaCrosser{open(t, path, session.Options{Context: 128, Keys: typ})},
			"Go":        goCrosser{openGo(t, path, session.Options{Context: 128, Keys: typ, Flash: typ == "q8_0"})},
		} {
			t.Run(engine+"/"+typ, func(t *testing.T) {
				require.NoError(t, s.SetLadder(l))
				const keep, discard, rounds = 6, 2, 40
				tokens := someTokens(60, s.Vocab(), 9)
				_, err := s.Prefill(tokens, 0, 0, 64)
				require.NoError(t, err)
				first, rung := tokens[:keep:keep], 0
				for i := range rounds {
					rung = []int{1, 2, 1, 0}[i%4]
					require.NoError(t, s.SetRung(0, rung))
					require.NoError(t, s.shift(keep, discard, len(tokens)))
					tokens = append(first, tokens[keep+discard:]...)
					next := someTokens(1, s.Vocab(), uint64(i))[0]
					require.NoError(t,
						s.Decode(session.Token{ID: next, Pos: len(tokens), Logits: true}))
					tokens = append(tokens, next)
				}
				keys, err := s.keys()
				require.NoError(t, err)
				require.Len(t, keys, len(tokens))
				// what is oldest was rotated by every event
				ratio, where := keyDeviation(m, l, rung, at(tokens), keys, typ, 2*rounds)
				t.Logf("worst of its bound %.2f at %s", ratio, where)
				assert.LessOrEqual(t, ratio, 1.0, where)

				growth := 0.0
				for p, id := range tokens {
					want := m.Keys(id)
					for h := 0; h < len(want); h += m.HeadDim() {
						l.Rotate(m.Rope, want[h:h+m.HeadDim()], rung, p, ropescale.Normal)
					}
					got := make([]float64, len(want))
					for i, v := range keys[p] {
						got[i] = float64(v)
					}
					growth += norm(got...)/norm(want...) - 1
				}
				growth /= float64(len(tokens))
				t.Logf("keys grew by %.2g on average in %d crossings and shifts", growth, 2*rounds)
				// a rounding moves a norm by 2^-11 (f16), 0.5/127 (q8_0) at most, up or down
				assert.InDelta(t, 0, growth,
					map[string]float64{"f16": unit16, "q8_0": 0.5 / 127}[typ])
			})
		}
	}
}
