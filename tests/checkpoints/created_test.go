package checkpoints

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	hostconvert "github.com/ollama/ollama/convert"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// create is what the host's "ollama create" makes of a folder: a file, and the layer for it.
func create(t *testing.T, dir string) (file string, layer []byte, err error) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "created.gguf")
	out, err := os.Create(file)
	require.NoError(t, err)
	defer out.Close()
	defer func() {
		if p := recover(); p != nil {
			if p == "unknown rope scaling type" {
				t.Skip("SKIPPED: the host's tree is older than patch 0052: make host")
			}
			err = fmt.Errorf("the host's converter: %v", p)
		}
	}()
	if err := hostconvert.ConvertModel(os.DirFS(dir), out); err != nil {
		if strings.Contains(err.Error(), "convert.ropeFactor") {
			t.Skip("SKIPPED: the host's tree is older than patch 0052: make host")
		}
		return "", nil, fmt.Errorf("the host's converter: %w", err)
	}
	layer, err = convert.CarriedLayer(dir, file)
	return file, layer, err
}

// frequencies are those of a model with a row, from the base that its file has.
func frequencies(r ropescale.Rope, row ropescale.Rung) []float64 {
	x := r.InverseFrequencies()
	for i := range x {
		x[i] *= row.AttentionFactor / row.Factors[i]
	}
	return x
}

// TestCreated: a model that "ollama create" makes of a published folder, or of one that a
// conversion wrote, rotates as the row says, or is refused: by the host's converter, or since its
// file would be another model.
func TestCreated(t *testing.T) {
	refused := map[string]string{
		"unknown rope type": `config.json: rope type "spiral"`,
		"Phi-3 YaRN":        "bad dimensions",
		"Phi-3-mini-4k":     "bad dimensions", // of factors that it does not have
	}
	said := 0
	for _, f := range Families {
		if f.Refused != "" && f.Name != "unknown rope type" {
			continue
		}
		t.Run(f.ID(), func(t *testing.T) {
			in := write(t, &f)
			file, layer, err := create(t, in)
			if err != nil && strings.HasPrefix(err.Error(), "the host's converter") {
				t.Log(err)
				return
			}
			if want := refused[f.Name]; want != "" {
				require.ErrorContains(t, err, want)
				require.NotContains(t, err.Error(), filepath.Dir(in))
				return
			}
			if err != nil { // a base that the host's converter does not find, or no name for it
				require.ErrorContains(t, err, "no rope_theta at the top, and the model's is")
				require.True(t, f.Spelling == "5" || strings.Contains(f.Name, "class default"))
				return
			}
			info, err := convert.Inspect(file)
			if strings.HasPrefix(f.Model, "gemma") && err != nil {
				require.ErrorIs(t, err, gguf.ErrNoRoPE) // its engine has the numbers
				require.Nil(t, layer)
				return
			}
			if f.Name == "Phi-4-mini" { // whose layer the server refuses, see TestLayer
				return
			}
			require.NoError(t, err)
			want, err := f.Base()
			require.NoError(t, err)
			got := base(info)
			if f.Long != nil {
				return // a published ladder, see below
			}
			if layer != nil {
				said++
				l, err := ropescale.ReadFactors(bytes.NewReader(layer))
				require.NoError(t, err)
				require.NoError(t, l.Validate())
				got = *l.Base
				assert.Equal(t, l.Base.Factors, l.Rungs[0].Factors)
				assert.Equal(t, f.L, l.Rungs[0].Length)
			}
			same(t, frequencies(f.Rope(), want), frequencies(info.Rope(), got))

			out := filepath.Join(t.TempDir(), "out")
			l := f.Ladder()
			_, err = convert.Convert(t.Context(), in, out, l, convert.Options{})
			require.NoError(t, err)
			file, layer, err = create(t, out)
			if f.Name == "gpt-oss-20b" {
				require.ErrorContains(t, err, "takes the experts of gpt-oss in MXFP4")
				return
			}
			require.NoError(t, err)
			info, err = convert.Inspect(file)
			require.NoError(t, err)
			m, err := ropescale.ReadFactors(bytes.NewReader(layer))
			require.NoError(t, err)
			same(t, frequencies(f.Rope(), want), frequencies(info.Rope(), *m.Base))
			same(t, frequencies(f.Rope(), l.Rungs[0]), frequencies(info.Rope(),
				m.Rungs[len(m.Rungs)-1]))
		})
	}
	assert.GreaterOrEqual(t, said, 4, "own scalings that the host's converter loses")
}

func same(t *testing.T, want, got []float64) {
	t.Helper()
	require.Len(t, got, len(want))
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(got[i]/want[i]-1))
	}
	require.LessOrEqual(t, worst, 3e-6)
}

// TestCreatedPlain: a folder of a model without RoPE, or of a kind that is not known here, is the
// host's to make.
func TestCreatedPlain(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "no.gguf")
	for _, config := range []string{
		`{"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512}`,
		`{"architectures": ["NewModel"], "model_type": "new"}`, `{}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644))
		layer, err := convert.CarriedLayer(dir, file)
		require.NoError(t, err, config)
		assert.Nil(t, layer)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "longrope.json"), []byte("{}"), 0o644))
	_, err := convert.CarriedLayer(dir, file)
	require.Error(t, err)
}
