package tests

import (
	"cmp"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/checkpoints"
	"github.com/longrope/longrope/tests/session"
)

// goAlone are the architectures of the families that the host runs on its Go engine alone.
var goAlone = []string{"deepseek2", "gemma3", "gptoss", "olmo3", "qwen3", "qwen3moe"}

// prefiller is a session of either engine.
type prefiller interface {
	Prefill(tokens []int, seq, pos, chunk int) ([][]float32, error)
	SetLadder(l *ropescale.Ladder) error
	Clear()
}

// openEither opens a file on the engine that the host runs it on.
func openEither(t *testing.T, file, arch string) prefiller {
	t.Helper()
	if slices.Contains(goAlone, arch) {
		return openGo(t, file, session.Options{Context: 64})
	}
	return open(t, file, session.Options{Context: 64})
}

const familyTokens = 48

// TestFamilies: the GGUF of each published shape runs on the host's engine, without a ladder, with
// the logits of the row 0 that is worked out from the shape. With transformers (PYTHON) these are
// also its logits, to what float16 leaves of them, see TestCheckpoint.
func TestFamilies(t *testing.T) {
	var families []checkpoints.Family
	var jobs []checkpoints.Job
	for _, f := range checkpoints.Families {
		if f.Refused != "" || f.GGUF != "" {
			continue
		}
		dir := filepath.Join(t.TempDir(), "in")
		require.NoError(t, f.Write(dir))
		families = append(families, f)
		jobs = append(jobs, checkpoints.Job{
			Dir: dir, Pairs: f.Dims / 2, Length: f.L, Tokens: checkpoints.Tokens(familyTokens),
		})
	}
	var theirs []checkpoints.Checked
	if python := checkpoints.Python("PYTHON", "python3"); python != "" {
		var err error
		theirs, err = checkpoints.Check(python, jobs)
		require.NoError(t, err)
	}
	for i, f := range families {
		t.Run(f.ID(), func(t *testing.T) {
			logits := runFamily(t, &f, jobs[i].Dir)
			if theirs == nil || f.Unrun != "" || theirs[i].Lacks() {
				return
			}
			require.Empty(t, theirs[i].Error)
			d := compare(t, theirs[i].Logits, logits)
			t.Log("from transformers: ", d)
			assert.LessOrEqual(t, d.worst, cmp.Or(f.Within, 1e-2)*d.largest, "transformers")
		})
	}
}

// runFamily gives the logits of the family's GGUF, and compares them with those of the row 0 that
// is worked out from it.
func runFamily(t *testing.T, f *checkpoints.Family, dir string) [][]float32 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.gguf")
	_, err := convert.Convert(t.Context(), dir, file, nil, convert.Options{})
	require.NoError(t, err)
	info, err := convert.Inspect(file)
	require.NoError(t, err)
	s := openEither(t, file, info.Architecture)
	tokens := checkpoints.Tokens(familyTokens)
	carried, err := s.Prefill(tokens, 0, 0, familyTokens)
	require.NoError(t, err)

	base, err := f.Base()
	require.NoError(t, err)
	rung := base
	rung.Length = 2 * f.L
	l, err := ropescale.NewLadder(f.Rope(), &base, rung)
	require.NoError(t, err)
	s.Clear()
	require.NoError(t, s.SetLadder(l))
	worked, err := s.Prefill(tokens, 0, 0, familyTokens)
	require.NoError(t, err)
	d := compare(t, worked, carried)
	t.Log("from the row: ", d)
	assert.LessOrEqual(t, d.worst, 1e-3*d.largest)
	return carried
}
