package tests

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// published are the parameters of RoPE that transformers wrote for the model with the golden
// logits.
func published(t *testing.T, arch string) (map[string]any, *ropescale.Ladder) {
	t.Helper()
	b, err := os.ReadFile("testdata/golden-" + arch + "/published.json")
	require.NoError(t, err, goldenRerun)
	var config struct {
		Parameters map[string]any `json:"rope_parameters"`
		Length     int            `json:"max_position_embeddings"`
	}
	require.NoError(t, json.Unmarshal(b, &config))
	var p struct {
		L         int       `json:"original_max_position_embeddings"`
		Short     []float64 `json:"short_factor"`
		Long      []float64 `json:"long_factor"`
		Attention float64   `json:"attention_factor"`
	}
	b, err = json.Marshal(config.Parameters)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &p))
	l, err := ropescale.NewLadder(ropescale.Rope{
		Dims: 2 * len(p.Long), FreqBase: 10000,
		OriginalContextLength: p.L,
	}, nil,
		ropescale.Rung{Length: p.L, AttentionFactor: p.Attention, Factors: p.Short},
		ropescale.Rung{Length: config.Length, AttentionFactor: p.Attention, Factors: p.Long})
	require.NoError(t, err)
	return config.Parameters, l
}

// assertConfig holds config.json to the keys that transformers 5 reads, in both places, and to what
// transformers 4 refuses.
func assertConfig(t *testing.T, arch, folder string, want map[string]any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "config.json"))
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(b, &config))
	for key, value := range want {
		if key != "partial_rotary_factor" { // of 1, which phi3's own configuration adds
			assert.Equal(t, value, config["rope_parameters"].(map[string]any)[key], key)
		}
	}
	scaling := config["rope_scaling"].(map[string]any)
	assert.Equal(t, want["long_factor"], scaling["long_factor"])
	if arch == "phi3" {
		assert.Equal(t, []string{"long_factor", "short_factor", "type"},
			slices.Sorted(maps.Keys(scaling)), "transformers 4 refuses others")
	}
	assert.EqualValues(t, 10000, config["rope_theta"])
	assert.EqualValues(t, 64, config["original_max_position_embeddings"])
}

// A ladder goes into a checkpoint such that config.json says to transformers what transformers says
// itself; and the checkpoint goes to the engine, in one step, such that the logits at lengths of L
// and 32 L are transformers'.
//
// The host's converter writes matrices in float16, and the engine then rounds what it multiplies
// them with to float16 too: 2^-11 for each of some ten products in a row, of sums of 64 terms in
// which the roundings average out. So the files are held to 1e-2 of the largest logit, and the
// factors alone, on the same weights in float32, to TestGolden's bounds.
func TestCheckpoint(t *testing.T) {
	golden := readGolden(t)
	exact := map[string]float64{"short": 3e-5, "long": 1e-3}
	const half = 1e-2
	logits := func(t *testing.T, s *session.Session, c goldenCase, rung int) span {
		t.Helper()
		s.Clear()
		s.SetRung(0, rung)
		all, err := s.Prefill(c.Tokens, 0, 0, 512)
		require.NoError(t, err)
		got := make([][]float32, len(c.At))
		for i, at := range c.At {
			got[i] = all[at]
		}
		return compare(t, c.Logits, got)
	}
	for _, arch := range []string{"llama", "phi3"} {
		t.Run(arch, func(t *testing.T) {
			want, l := published(t, arch)
			in, dir := "testdata/golden-"+arch, t.TempDir()
			folder := filepath.Join(dir, "folder")
			_, err := convert.Convert(t.Context(), in, folder, l, convert.Options{})
			require.NoError(t, err)

			assertConfig(t, arch, folder, want)

			// The same as its authors would publish it: transformers' own file.
			theirs := filepath.Join(dir, "theirs")
			require.NoError(t, os.CopyFS(theirs, os.DirFS(in)))
			require.NoError(t, os.Rename(filepath.Join(theirs, "published.json"),
				filepath.Join(theirs, "config.json")))

			for name, from := range map[string]string{"ours": folder, "published": theirs} {
				info, err := convert.Inspect(from)
				require.NoError(t, err)
				carried := info.Ladder
				if carried == nil { // the short factors are the model's own RoPE
					carried, err = ropescale.NewLadder(info.Rope(), info.Base, *info.Own)
					require.NoError(t, err)
				}
				file := filepath.Join(dir, name+".gguf")
				_, err = convert.Convert(t.Context(), from, file, nil, convert.Options{})
				require.NoError(t, err)
				s := open(t, file, session.Options{Context: 2048})
				reference := open(t, "testdata/golden-"+arch+".gguf",
					session.Options{Context: 2048})
				require.NoError(t, reference.SetLadder(carried))
				for _, c := range golden {
					// the same rung, as seen below
					if c.Model != "golden-"+arch+".gguf" || c.Name == "long" &&
						name == "published" {
						continue
					}
					d := logits(t, reference, c, reference.RungFor(len(c.Tokens)))
					t.Log(name, c.Name, "in float32:", d)
					assert.LessOrEqual(t, d.worst, exact[c.Name]*d.largest, "%s, %s: %v", name,
						c.Name, d)
					d = logits(t, s, c, s.RungFor(len(c.Tokens)))
					t.Log(name, c.Name, "in float16:", d)
					assert.LessOrEqual(t, d.worst, half*d.largest, "%s, %s: %v", name, c.Name, d)
					if c.Name == "short" && name == "ours" {
						assert.Greater(t, logits(t, s, c, 0).worst, 3*half*d.largest,
							"the case cannot tell rungs apart")
					}
				}
				got, err := convert.Inspect(file)
				require.NoError(t, err)
				assert.InDeltaSlice(t, l.Rungs[1].Factors,
					got.Ladder.Rungs[len(got.Ladder.Rungs)-1].Factors, 1e-6)
				assert.InDelta(t, l.Rungs[1].AttentionFactor,
					got.Ladder.Rungs[len(got.Ladder.Rungs)-1].AttentionFactor, 1e-6)
			}
			t.Run("transformers", func(t *testing.T) { withTransformers(t, folder) })
		})
	}
}

// withTransformers lets transformers load a checkpoint and compare its logits with the golden ones.
func withTransformers(t *testing.T, folder string) {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	if b, err := exec.Command(python, "-c", "import torch, transformers").
		CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no transformers to load the checkpoint with (make venv TORCH=1; PYTHON "+
			"is %s): %v: %.200s", python, err, b)
	}
	cmd := exec.Command(python, "testdata/golden.py", "check", folder)
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1")
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", b)
	t.Logf("%s", b)
}
