package study

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// A study killed after k trials, with its last line torn or not, ends with the same journal, byte
// for byte, as one that was never stopped.
func TestKilledAndResumedEqualsNeverKilled(t *testing.T) {
	base := tiny.Identity(256)
	base.Factors[9] = 1.5
	for _, algorithm := range []string{"cma", "longrope"} {
		t.Run(algorithm, func(t *testing.T) {
			opts := Options{
				Rope: tiny, Base: &base, Target: 2048, Algorithm: algorithm, Seed: 3,
				Budget: 90, ModelDigest: "sha256:ab",
				Fitness: "bowl", Texts: []string{"a", "b"},
			}
			fitness := func(g ropescale.Rung) float64 {
				if g.Factors[31] > 9.5 { // some evaluations fail
					return math.Inf(1)
				}
				return bowl(g)
			}
			never := filepath.Join(t.TempDir(), "never.jsonl")
			s, err := Open(never, opts)
			require.NoError(t, err)
			run(t, s, fitness, 0, nil)
			require.NoError(t, s.Close())
			want, err := os.ReadFile(never)
			require.NoError(t, err)
			wantLadder, err := s.Ladder()
			require.NoError(t, err)

			for _, killed := range []int{0, 1, 3, 4, 17, 42, 80, 85} {
				path := filepath.Join(t.TempDir(), "killed.jsonl")
				s, err := Open(path, opts)
				require.NoError(t, err)
				if killed > 0 {
					run(t, s, fitness, killed, nil)
				}
				require.NoError(t, s.Close())
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				torn := append(slices.Clone(b), `{"id": 12, "gener`...)
				if killed == 0 {
					torn = b[:len(b)/2] // the header itself is torn
				}
				require.NoError(t, os.WriteFile(path, torn, 0o644))

				s, err = Open(path, opts)
				require.NoError(t, err)
				require.Equal(t, killed, len(s.History()))
				run(t, s, fitness, 0, nil)
				require.NoError(t, s.Close())
				got, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, string(want), string(got), "killed after %d trials", killed)
				ladder, err := s.Ladder()
				require.NoError(t, err)
				require.Equal(t, wantLadder, ladder)
			}
			// A finished study opens as finished.
			s, err = Open(never, opts)
			require.NoError(t, err)
			assert.True(t, s.Done())
			require.NoError(t, s.Close())
			// Candidates are absolute: the model's own scaling is in them.
			assert.Equal(t, 12.0, s.Seeds()["linear"].Rung.Factors[9])
			assert.Equal(t, 8.0, s.Seeds()["linear"].Rung.Factors[8])
		})
	}
}

// The same with candidates that are scored in parts, finalists and a retry, killed after any of the
// trials.
func TestKilledAmongPartialTrials(t *testing.T) {
	opts := Options{
		Rope: tiny, Target: 2048, Seed: 3, Readings: andFurtherKeys(),
		Params: Params{Retries: 1},
	}
	told := func(trial Trial) (losses []float64, tokens int) {
		for _, i := range trial.Readings {
			loss := noisy(trial.Rung, i)
			if opts.Readings[i].Use == ForFinalists &&
				trial.Candidate >= len(ropescale.MethodNames(ropescale.Seed)) {
				loss += 10 // so that a start wins
			}
			losses = append(losses, loss)
			tokens += opts.Readings[i].Tokens
		}
		return losses, tokens
	}
	dir := t.TempDir()
	never := newStudy(t, opts)
	tell(t, never, 0, nil, told)
	want := fmt.Sprint(never.History())
	require.Equal(t, finalStarts+2*finalMeans, strings.Count(want, " final "), "it restarted")
	path := filepath.Join(dir, "killed.jsonl")
	rng := rand.New(rand.NewPCG(4, 4))
	for lives := 1; ; lives++ {
		s, err := Open(path, opts)
		require.NoError(t, err)
		tell(t, s, 1+rng.IntN(6), rng, told)
		done := s.Done()
		require.NoError(t, s.Close())
		if done {
			require.Equal(t, want, fmt.Sprint(s.History()))
			best, _ := s.Best()
			theirs, _ := never.Best()
			require.Equal(t, theirs.Candidate, best.Candidate)
			t.Logf("%d lives", lives)
			break
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(`{"id":7,"cand`)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	// The journal alone gives the same.
	read, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, want, fmt.Sprint(read.History()))
	require.Equal(t, never.Options(), read.Options())
	_, err = Read(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "no such file")
	require.NoError(t, os.WriteFile(path, []byte("precious notes\n"), 0o644))
	_, err = Read(path)
	require.ErrorContains(t, err, "not a study's journal")
}

// A study that is to end early, at any time, scores what it found and has its finals, with no more
// tokens than foreseen. It resumes to its own end afterwards; its journal gives the same.
func TestEndsEarlyAndGoesOn(t *testing.T) {
	opts := Options{
		Rope: tiny, Target: 2048, Seed: 5, Readings: andFurtherKeys(),
		Params: Params{Retries: 1},
	}
	spent := func(s *Study) int { c := s.Curve(); return c[len(c)-1].Tokens }
	rng := rand.New(rand.NewPCG(6, 6))
	for _, told := range []int{1, 4, 5, 12, 13, 14, 60, 120} {
		path := filepath.Join(t.TempDir(), "s.jsonl")
		s, err := Open(path, opts)
		require.NoError(t, err)
		tellNoisy(t, s, told, rng)
		require.False(t, s.Done())
		before, most := spent(s), s.Closing()
		for range 2 {
			require.NoError(t, s.SetEnding(true))
		}
		tellNoisy(t, s, 0, rng)
		require.True(t, s.Ending())
		finals := strings.Count(fmt.Sprint(s.History()), " final ")
		if told < 5 {
			require.Zero(t, finals, "the methods are all there is")
		} else {
			require.GreaterOrEqual(t, finals, finalStarts+1, "after %d", told)
			require.LessOrEqual(t, spent(s)-before, most, "after %d", told)
		}
		require.NoError(t, s.Close())
		s, err = Open(path, opts)
		require.NoError(t, err)
		require.True(t, s.Done())

		require.NoError(t, s.SetEnding(false))
		require.False(t, s.Done())
		tellNoisy(t, s, told, rng)
		require.NoError(t, s.SetEnding(true))
		require.NoError(t, s.SetEnding(false))
		tellNoisy(t, s, 0, rng)
		require.LessOrEqual(t, spent(s), s.Options().Budget)
		require.Greater(t, float64(spent(s)), 0.9*float64(s.Foreseen()))
		best, ok := s.Best()
		require.True(t, ok)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, 4, bytes.Count(b, []byte("{\"ending\":")))
		read, err := Read(path)
		require.NoError(t, err)
		require.True(t, read.Done())
		require.Equal(t, fmt.Sprint(s.History()), fmt.Sprint(read.History()))
		theirs, _ := read.Best()
		require.Equal(t, best.Candidate, theirs.Candidate)
		require.NoError(t, s.SetEnding(false), "nothing is left")
		require.True(t, s.Done())
		require.NoError(t, s.Close())
	}
	s := newStudy(t, Options{Rope: tiny, Target: 2048, Algorithm: "longrope"})
	require.NoError(t, s.SetEnding(true))
	require.False(t, s.Ending())
	require.Zero(t, s.Closing())
}

func TestResumeRefusesOtherSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "study.jsonl")
	opts := Options{
		Rope: tiny, Target: 2048, Seed: 1, ModelDigest: "sha256:aa",
		Texts: []string{"a"},
	}
	s, err := Open(path, opts)
	require.NoError(t, err)
	run(t, s, bowl, 20, nil)
	require.NoError(t, s.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	for want, change := range map[string]func(*Options){
		"started with seed 1, this run has 2": func(o *Options) { o.Seed = 2 },
		`started with algorithm "cma", this run has "longrope"`: func(o *Options) {
			o.Algorithm = "longrope"
		},
		"started with target 2048, this run has 4096": func(o *Options) {
			o.Target = 4096
		},
		"started with budget 153, this run has 50": func(o *Options) { o.Budget = 50 },
		`model_digest "sha256:aa", this run has "sha256:bb"`: func(o *Options) {
			o.ModelDigest = "sha256:bb"
		},
		`texts ["a"], this run has null`: func(o *Options) { o.Texts = nil },
		`fitness "", this run has "nll"`: func(o *Options) {
			o.Fitness = "nll"
		},
		"started with rope": func(o *Options) {
			o.Rope.FreqBase = 5e5
		},
		"started with params": func(o *Options) {
			o.Params.Knots = 4
		},
		"started with base absent": func(o *Options) {
			g := tiny.Identity(256)
			o.Base = &g
		},
	} {
		changed := opts
		change(&changed)
		_, err := Open(path, changed)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
	}
	same := opts
	same.Algorithm, same.Budget, same.Params.Knots = "cma", 153, 8 // the defaults spelled out
	s, err = Open(path, same)
	require.NoError(t, err)
	assert.Len(t, s.History(), 20)
	require.NoError(t, s.Close())

	// The header, a batch of five and its losses, a batch of eight and its losses.
	lines := bytes.SplitAfter(whole, []byte("\n"))
	require.Contains(t, string(lines[7]), `{"batch":1,`)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	started := join(lines[0], lines[1])
	edit := func(i int, old, new string) []byte {
		require.Contains(t, string(lines[i]), old)
		return bytes.Replace(lines[i], []byte(old), []byte(new), 1)
	}
	for want, content := range map[string][]byte{
		"line 1: not a study's journal": []byte("GGUF\x03\n"),
		"not a study's journal":         []byte("precious notes"),
		"line 1: unknown setting": join(edit(0, `{"longrope`, `{"new":1,"longrope`),
			lines[1]),
		"line 1: it is of version 5 of the journal, this program reads 7 to 8": join(
			edit(0, `"longrope_study":8`, `"longrope_study":5`), lines[1]),
		"line 4 is damaged":               join(started, lines[2], []byte("{\n"), lines[3]),
		"line 4: neither a batch":         join(started, lines[2], []byte("{}\n")),
		"line 4: trial 0 was told before": join(started, lines[2], lines[2]),
		"line 3: there is no trial 9":     join(started, edit(2, `"id":0`, `"id":9`)),
		"line 2: batch 0: candidate 0: factor 0 is -8": join(lines[0],
			edit(1, `"factors":[8`, `"factors":[-8`)),
		"line 2: batch 0: candidate 0: 33 factors": join(lines[0],
			edit(1, `"factors":[8`, `"factors":[8,8`)),
		"line 2: batch 0: candidate 0: length is 20": join(lines[0],
			edit(1, `"length":2048`, `"length":20`)),
		"line 2: batch 0: it has 0 candidates": join(lines[0], []byte(`{"batch":0}`+"\n")),
		"line 8: batch 1: candidate 0: there is no reading 7": join(bytes.Join(lines[:7], nil),
			edit(7, `"readings":[0]`, `"readings":[7]`)),
		"line 8: batch 1: candidate 0: there is no candidate 40": join(bytes.Join(lines[:7], nil),
			edit(7, `"readings":[0]`, `"parents":[40]`)),
		"line 4: batch 1: the one before it was not told": join(started, lines[2], lines[7]),
		"line 3: trial 0 has 1 readings, not 0": join(started,
			edit(2, `"losses"`, `"lasses"`)),
		`line 3 is damaged: a loss is "9"`: join(started,
			edit(2, `"losses":[`, `"losses":["9",`)),
		"line 3: tokens of trial 0 are -100": join(started,
			edit(2, `"tokens":100`, `"tokens":-100`)),
	} {
		require.NoError(t, os.WriteFile(path, content, 0o644))
		_, err := Open(path, opts)
		require.ErrorContains(t, err, want)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, after, "a refused file is left as it was")
	}
	_, err = Open(filepath.Join(t.TempDir(), "no", "folder"), opts)
	assert.ErrorContains(t, err, "no such file or directory")
}

// readingsOfVersion7 are those of testdata/v7-cma.study.
func readingsOfVersion7() []Reading {
	var readings []Reading
	for _, use := range []Use{"", ForGenerations} {
		for i := range 4 {
			readings = append(readings,
				Reading{
					Name: fmt.Sprint("window ", i), Kind: "text", Tokens: 2048, Weight: 1. / 4,
					Use: use,
				},
				Reading{Name: fmt.Sprint("key ", i), Kind: "key", Weight: 0.5 / 4, Use: use})
		}
	}
	readings = append(readings, Reading{Kind: "text", Tokens: 1000, Weight: 1, Use: ForGenerations})
	for range 5 {
		readings = append(readings, Reading{
			Kind: "key", Tokens: 2000, Weight: 0.5 / 4,
			Use: ForFinalists,
		})
	}
	return readings
}

// A journal of version 7 (testdata, written by that version) is resumed: what it holds is the
// history, the study runs to its end, and can be opened again.
func TestJournalOfVersion7(t *testing.T) {
	small := ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: 256}
	base := small.Identity(256)
	base.Factors[3] = 1.5
	for name, opts := range map[string]Options{
		"cma": {
			Readings: readingsOfVersion7(), Params: Params{Retries: 1}, Fitness: "perplexity",
			Texts: []string{"a text"},
		}, // ended early, resumed, and killed in a generation
		// killed in one
		"longrope": {Algorithm: "longrope", Budget: 90, Fitness: "bowl", Base: &base},
		"dim-mono": {Algorithm: "dim-mono", Budget: 120, Fitness: "bowl"},
	} {
		t.Run(name, func(t *testing.T) {
			opts.Rope, opts.Target, opts.Seed, opts.ModelDigest = small, 2048, 5, "sha256:ab"
			old, err := os.ReadFile("testdata/v7-" + name + ".study")
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "s.study")
			require.NoError(t, os.WriteFile(path, old, 0o644))
			var told []Trial
			for _, l := range bytes.Split(bytes.TrimSpace(old), []byte("\n"))[1:] {
				var trial Trial
				require.NoError(t, json.Unmarshal(l, &trial))
				if trial.Readings != nil {
					told = append(told, trial)
				}
			}
			holds := func(s *Study) {
				history := map[int]Trial{}
				for _, trial := range s.History() {
					history[trial.ID] = trial
				}
				for _, want := range told {
					got := history[want.ID]
					got.Told, got.Fitness = false, 0
					require.Equal(t, want, got)
				}
				// Since then cma begins at more methods.
				at, diverged := s.Diverged()
				require.Equal(t, name == "cma", diverged)
				if diverged {
					require.Zero(t, at)
				}
			}
			read, err := Read(path)
			require.NoError(t, err)
			holds(read)
			require.Len(t, read.History(), len(told))

			other := opts
			other.Seed = 6
			_, err = Open(path, other)
			require.ErrorContains(t, err, "started with seed 5, this run has 6")
			for range 3 { // the rest in three lives
				s, err := Open(path, opts)
				require.NoError(t, err)
				holds(s)
				if !s.Done() {
					run(t, s, bowl, 11, nil)
				}
				require.NoError(t, s.Close())
			}
			s, err := Open(path, opts)
			require.NoError(t, err)
			if !s.Done() {
				run(t, s, bowl, 0, nil)
			}
			holds(s)
			require.NoError(t, s.Close())
			again, err := Read(path)
			require.NoError(t, err)
			require.True(t, again.Done())
			require.Equal(t, fmt.Sprint(s.History()), fmt.Sprint(again.History()))
		})
	}
}

// Where a journal of version 7 has other candidates than this version proposes, the trials that
// were told are taken, also those of a generation that was not told to its end.
func TestOtherProposalsOfVersion7(t *testing.T) {
	opts := Options{
		Rope:   ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: 256},
		Target: 2048, Seed: 5,
		ModelDigest: "sha256:ab", Fitness: "perplexity", Texts: []string{"a text"},
		Readings: readingsOfVersion7(), Params: Params{Retries: 1},
	}
	old, err := os.ReadFile("testdata/v7-cma.study")
	require.NoError(t, err)
	lines := bytes.SplitAfter(old, []byte("\n"))
	changed := map[string]bool{}
	for i, l := range lines {
		var trial Trial
		if json.Unmarshal(l, &trial) != nil || trial.Generation < 10 {
			continue
		}
		trial.Rung.AttentionFactor += 0.25
		changed[trial.Rung.Key()] = true
		lines[i], err = json.Marshal(trial)
		require.NoError(t, err)
		lines[i] = append(lines[i], '\n')
	}
	require.Len(t, changed, 5, "of a generation of eight")
	path := filepath.Join(t.TempDir(), "s.study")
	require.NoError(t, os.WriteFile(path, bytes.Join(lines, nil), 0o644))
	for life := range 3 {
		s, err := Open(path, opts)
		require.NoError(t, err)
		at, ok := s.Diverged()
		require.True(t, ok)
		history := s.History()
		taken := 0
		for _, trial := range history {
			if changed[trial.Rung.Key()] {
				require.GreaterOrEqual(t, trial.ID, at)
				require.False(t, math.IsNaN(trial.Losses[0]))
				taken++
			}
		}
		require.Equal(t, 5, taken)
		run(t, s, bowl, 20, nil)
		require.NoError(t, s.Close())
		require.Len(t, s.History(), len(history)+20, "life %d", life)
	}
}

// A study resumes from what another version of the program proposed: the first batch that differs
// is named, its candidates are the history, and the algorithm continues from there, the same each
// time.
func TestResumesFromOtherProposals(t *testing.T) {
	// other makes the algorithm another version of itself.
	other := func(s *Study) {
		switch a := s.algorithm.(type) {
		case *sampledSearch:
			a.maxFactor *= 3 // candidates need not lie in this version's space
			a.sigma *= 1.5
			if a.cma != nil {
				a.cma.Sigma *= 1.5
			}
		case *evolution:
			a.mutationProbability, a.top = 0.6, 3*a.top
		case *released:
			a.mutationProbability, a.stretch = 0.6, 3*a.stretch
		}
	}
	const limit = 150
	for _, algorithm := range algorithmNames() {
		for _, from := range []int{0, 1, 3, 70, 90} { // trials that this version proposes
			t.Run(fmt.Sprint(algorithm, from), func(t *testing.T) {
				opts := Options{
					Rope: tiny, Target: 2048, Algorithm: algorithm, Seed: 5,
					Budget:   1 << 23,
					Readings: andFurtherKeys(), Params: Params{Retries: 1},
				}
				path := filepath.Join(t.TempDir(), "s.study")
				s, err := Open(path, opts)
				require.NoError(t, err)
				if from > 0 {
					tellNoisy(t, s, from, nil)
				}
				other(s)
				tellNoisy(t, s, limit-from, nil)
				want := s.History()
				require.NoError(t, s.Close())
				if from == 0 { // the other version has a seed of its own
					b, err := os.ReadFile(path)
					require.NoError(t, err)
					b = bytes.Replace(b, []byte(`"factors":[1,`), []byte(`"factors":[1.5,`), 1)
					require.NoError(t, os.WriteFile(path, b, 0o644))
					want[1].Rung.Factors[0] = 1.5
				}
				first := -1
				for life := range 4 {
					s, err := Open(path, opts)
					require.NoError(t, err)
					at, ok := s.Diverged()
					require.True(t, ok)
					if life == 0 {
						first = at
						require.GreaterOrEqual(t, at, from-from%3, "up to there they agree")
					}
					require.Equal(t, first, at)
					history := s.History()
					require.Len(t, history, limit+10*life)
					require.Equal(t, fmt.Sprint(want), fmt.Sprint(history[:len(want)]),
						"it is as stored")
					require.False(t, s.Done())
					tellNoisy(t, s, 10, nil)
					want = s.History()
					require.NoError(t, s.Close())
				}
				s, err = Open(path, opts)
				require.NoError(t, err)
				tellNoisy(t, s, 60, nil)
				best, ok := s.Best()
				require.True(t, ok)
				require.False(t, math.IsNaN(best.Fitness))
				require.NoError(t, s.Close())
			})
		}
	}
}

// A setting that was left to its default stays as it was when the study was started, whatever the
// default is now.
func TestResumeKeepsTheDefaultsOfItsStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.study")
	opts := Options{Rope: tiny, Target: 2048, Seed: 1}
	s, err := Open(path, opts)
	require.NoError(t, err)
	run(t, s, bowl, 3, nil)
	require.NoError(t, s.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	other := bytes.Replace(b, []byte(`"knots":8}`), []byte(`"knots":5}`), 1)
	require.NotEqual(t, string(b), string(other))
	require.NoError(t, os.WriteFile(path, other, 0o644))
	s, err = Open(path, opts)
	require.NoError(t, err)
	assert.Equal(t, 5, s.Options().Params.Knots)
	assert.Len(t, s.algorithm.(*sampledSearch).knots, 5)
	run(t, s, bowl, 20, nil)
	require.NoError(t, s.Close())
	s, err = Open(path, opts)
	require.NoError(t, err)
	assert.Len(t, s.History(), 23)
	require.NoError(t, s.Close())
	opts.Params.Knots = 8
	_, err = Open(path, opts)
	assert.ErrorContains(t, err, "started with params")
}

func TestTwoSearchesOnOneJournal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no lock on this system")
	}
	path := filepath.Join(t.TempDir(), "s.jsonl")
	opts := Options{Rope: tiny, Target: 2048, Seed: 1}
	s, err := Open(path, opts)
	require.NoError(t, err)
	_, err = Open(path, opts)
	assert.ErrorContains(t, err, path+": another search is writing it")
	require.NoError(t, s.Close())
	s, err = Open(path, opts)
	require.NoError(t, err, "the lock goes with the one who had it")
	s.Close()
}

func FuzzJournal(f *testing.F) {
	opts := Options{
		Rope: ropescale.Rope{Dims: 4, FreqBase: 100, OriginalContextLength: 8}, Target: 16,
		Budget: 60, Params: Params{Population: 2},
		Readings: []Reading{
			{Kind: "text", Tokens: 1, Weight: 0.5},
			{Kind: "text", Tokens: 1, Weight: 0.5},
			{Kind: "key", Tokens: 2, Weight: 0.1},
		},
	}
	path := filepath.Join(f.TempDir(), "s.jsonl")
	s, err := Open(path, opts)
	require.NoError(f, err)
	run(f, s, bowl, 8, nil) // the seeds and candidates that were scored in parts
	require.NoError(f, s.Close())
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(whole, 0, byte(0))
	f.Add(whole[:len(whole)-5], 200, byte('9'))
	f.Add([]byte("{}\n"), 0, byte('['))
	f.Add(append(slices.Clone(whole), "{\"ending\":true}\n"...), 0, byte('{'))
	f.Fuzz(func(t *testing.T, b []byte, at int, v byte) {
		b = slices.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] = v
		}
		s := newStudy(t, opts)
		h, rest, err := parseHeader(b)
		if err != nil || h == nil {
			return
		}
		if s, err = s.startedAs(h); err != nil || s.Options().Budget > 100 {
			return // a larger budget takes long
		}
		n, err := s.replay(rest)
		if err != nil {
			return
		}
		require.LessOrEqual(t, n, len(rest))
		told := s.History()
		run(t, s, bowl, 0, nil) // what was accepted can be continued
		require.GreaterOrEqual(t, len(s.History()), len(told))
		again := newStudy(t, opts)
		again, err = again.startedAs(h)
		require.NoError(t, err)
		m, err := again.replay(rest[:n])
		require.NoError(t, err)
		require.Equal(t, n, m)
		// as text: NaN is not equal to NaN
		require.Equal(t, fmt.Sprint(told), fmt.Sprint(again.History()))
	})
}
