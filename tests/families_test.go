package tests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/checkpoints"
	"github.com/longrope/longrope/tests/session"
)

// goAlone are the architectures of the families that the host runs on its Go engine alone.
var goAlone = []string{"deepseek2", "gemma3", "gptoss", "olmo3"}

// prefiller is a session of either engine.
type prefiller interface {
	Prefill(tokens []int, seq, pos, chunk int) ([][]float32, error)
	SetLadder(l *ropescale.Ladder) error
	Clear()
}

// TestFamilies: the GGUF of each published shape runs on the host's engine, without a ladder, with
// the logits of the row 0 that is worked out from the shape. With transformers (PYTHON) these are
// also its logits, to what float16 leaves of them, see TestCheckpoint.
func TestFamilies(t *testing.T) {
	for _, f := range checkpoints.Families {
		if f.Refused != "" || f.GGUF != "" || f.Engine != "" {
			continue
		}
		t.Run(strings.ReplaceAll(f.Name, " ", "-")+"/"+f.Spelling, func(t *testing.T) {
			dir, file := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "file.gguf")
			require.NoError(t, f.Write(dir))
			_, err := convert.Convert(t.Context(), dir, file, nil, convert.Options{})
			require.NoError(t, err)
			info, err := convert.Inspect(file)
			require.NoError(t, err)
			var s prefiller
			if slices.Contains(goAlone, info.Architecture) {
				s = openGo(t, file, session.Options{Context: 64})
			} else {
				s = open(t, file, session.Options{Context: 64})
			}
			tokens := checkpoints.Tokens(48)
			carried, err := s.Prefill(tokens, 0, 0, 48)
			require.NoError(t, err)

			base, err := f.Base()
			require.NoError(t, err)
			rung := base
			rung.Length = 2 * f.L
			l, err := ropescale.NewLadder(f.Rope(), &base, rung)
			require.NoError(t, err)
			s.Clear()
			require.NoError(t, s.SetLadder(l))
			worked, err := s.Prefill(tokens, 0, 0, 48)
			require.NoError(t, err)
			d := compare(t, worked, carried)
			t.Log(d)
			assert.LessOrEqual(t, d.worst, 1e-3*d.largest)
		})
	}
}
