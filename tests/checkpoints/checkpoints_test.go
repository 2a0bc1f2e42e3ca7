package checkpoints

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// id is the name of a family as a subtest.
func (f *Family) id() string { return strings.ReplaceAll(f.Name, " ", "-") + "/" + f.Spelling }

// ladder is a rung at twice the family's length with factors that no method gives.
func (f *Family) ladder(t testing.TB) *ropescale.Ladder {
	t.Helper()
	top := f.L
	if f.Long != nil {
		top = f.Long.Length
	}
	g := ropescale.Rung{Length: 2 * top, AttentionFactor: 1.0625}
	if f.Model == "phi3" { // of which transformers 4 takes this one only
		g.AttentionFactor = ropescale.LongRoPEAttentionFactor(g.Length, f.L)
	}
	for i := range f.Dims / 2 {
		g.Factors = append(g.Factors, 1+float64(i%7)/4+float64(i)/16)
	}
	l, err := ropescale.NewLadder(f.Rope(), nil, g)
	require.NoError(t, err)
	return l
}

func write(t testing.TB, f *Family) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	require.NoError(t, f.Write(dir))
	return dir
}

// sameRow holds a row to the one worked out, to what float32 leaves of it.
func sameRow(t testing.TB, want, got ropescale.Rung, what string) {
	t.Helper()
	require.Len(t, got.Factors, len(want.Factors), what)
	for i, x := range want.Factors {
		require.InEpsilon(t, x, got.Factors[i], 2e-6, "%s: factor of pair %d", what, i)
	}
	require.InEpsilon(t, want.AttentionFactor, got.AttentionFactor, 1e-6, "%s: attention factor",
		what)
}

// base is row 0 of a model as Inspect reports it.
func base(m *convert.ModelInfo) ropescale.Rung {
	if m.Base != nil {
		return *m.Base
	}
	return m.Rope().Identity(m.OriginalContextLength)
}

// TestFamilies: what a folder says, from folder to folder and back, from folder to GGUF with a
// ladder and without, and back by strip.
func TestFamilies(t *testing.T) {
	ctx := t.Context()
	for _, f := range Families {
		t.Run(f.id(), func(t *testing.T) {
			in, dir := write(t, &f), t.TempDir()
			folder, file := filepath.Join(dir, "folder"), filepath.Join(dir, "file.gguf")
			if f.Refused != "" {
				_, err := convert.Convert(ctx, in, file, nil, convert.Options{})
				require.ErrorContains(t, err, f.Refused)
				require.NoFileExists(t, file)
				other := Families[0] // its ladder does, since the model is not looked at further
				_, err = convert.Convert(ctx, in, folder, other.ladder(t), convert.Options{})
				require.ErrorContains(t, err, f.Refused)
				require.NoDirExists(t, folder)
				return
			}
			want, err := f.Base()
			require.NoError(t, err)
			info, err := convert.Inspect(in)
			require.NoError(t, err)
			assert.Equal(t, f.Rope(), info.Rope())
			sameRow(t, want, base(info), "the folder")

			l := f.ladder(t)
			_, err = convert.Convert(ctx, in, folder, l, convert.Options{})
			require.NoError(t, err)
			info, err = convert.Inspect(folder)
			require.NoError(t, err)
			last := info.Ladder.Rungs[len(info.Ladder.Rungs)-1]
			sameRow(t, l.Rungs[0], last, "the folder that was written")
			sameRow(t, want, base(info), "row 0 of the folder that was written")
			back := filepath.Join(dir, "back")
			_, err = convert.Strip(ctx, folder, back, convert.Options{})
			require.NoError(t, err)
			sameFile(t, filepath.Join(in, "config.json"), filepath.Join(back, "config.json"))

			_, err = convert.Convert(ctx, in, file, nil, convert.Options{})
			if f.GGUF != "" {
				require.ErrorContains(t, err, f.GGUF)
				require.NoFileExists(t, file)
				return
			}
			require.NoError(t, err)
			f.checkGGUF(t, in, file)
		})
	}
}

// checkGGUF looks at the file that was made of a folder without factors, and takes a ladder in and
// out.
func (f *Family) checkGGUF(t *testing.T, in, file string) {
	want, err := f.Base()
	require.NoError(t, err)
	info, err := convert.Inspect(file)
	require.NoError(t, err)
	assert.Equal(t, f.Rope(), info.Rope())
	sameRow(t, want, base(info), "the GGUF")
	if f.Long != nil {
		sameRow(t, *f.Long, info.Ladder.Rungs[0], "the long factors of the GGUF")
		assert.Equal(t, f.Long.Length, info.ContextLength)
	} else {
		assert.Nil(t, info.Ladder)
		assert.Equal(t, f.L, info.ContextLength)
	}
	dir := t.TempDir()
	l := f.ladder(t)
	for name, from := range map[string]string{"from the folder": in, "from the file": file} {
		long, back := filepath.Join(dir, name+".gguf"), filepath.Join(dir, name+" back.gguf")
		_, err := convert.Convert(t.Context(), from, long, l, convert.Options{})
		require.NoError(t, err)
		info, err := convert.Inspect(long)
		require.NoError(t, err)
		sameRow(t, want, base(info), "row 0 "+name)
		sameRow(t, l.Rungs[0], info.Ladder.Rungs[len(info.Ladder.Rungs)-1], "the rung "+name)
		_, err = convert.Strip(t.Context(), long, back, convert.Options{})
		require.NoError(t, err)
		if f.Long == nil { // else the file has a ladder, and strip takes that out too
			sameFile(t, file, back)
		}
	}
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	require.NoError(t, err)
	y, err := os.ReadFile(b)
	require.NoError(t, err)
	require.True(t, bytes.Equal(x, y), "%s and %s differ", a, b)
}

// rotation is what check.py reports of one length.
type rotation struct {
	InvFreq   []float64 `json:"inv_freq"`
	Attention []float64 `json:"attention"`
}

type checked struct {
	Version string      `json:"transformers"`
	Error   string      `json:"error"`
	Short   rotation    `json:"short"`
	Long    rotation    `json:"long"`
	Softmax []float64   `json:"softmax"`
	Logits  [][]float64 `json:"logits"`
}

// deviation is the largest distance of a rotation from what a row makes of r, as a share.
func (r rotation) deviation(t *testing.T, rope ropescale.Rope, row ropescale.Rung,
	what string,
) float64 {
	t.Helper()
	require.Len(t, r.InvFreq, rope.Pairs(), what)
	worst := 0.0
	for i, omega := range rope.InverseFrequencies() {
		want := omega / row.Factors[i]
		worst = max(worst, math.Abs(r.InvFreq[i]/want-1),
			math.Abs(r.Attention[i]/row.AttentionFactor-1))
	}
	return worst
}

// TestTransformers: transformers rotates as the row says before a conversion, and as the ladder
// says after it; with the same scale of attention.
//
// It computes inverse frequencies in float32, to some 1e-6 of them, and check.py reads them from
// cos and sin in float32, where the angle of 1 rad has 1e-7.
func TestTransformers(t *testing.T) {
	for _, v := range []struct{ env, fallback string }{{"PYTHON", "python3"}, {"PYTHON4", ""}} {
		python := os.Getenv(v.env)
		if python == "" {
			python = v.fallback
		}
		t.Run(v.env, func(t *testing.T) {
			if python == "" || exec.Command(python, "-c",
				"import torch, transformers").Run() != nil {
				t.Skipf("SKIPPED: no transformers to load the checkpoints with; %s names an "+
					"interpreter that has it", v.env)
			}
			testTransformers(t, python, v.env == "PYTHON4")
		})
	}
}

const tolerance = 3e-6

func testTransformers(t *testing.T, python string, old bool) {
	type job struct {
		Dir    string `json:"dir"`
		Pairs  int    `json:"pairs"`
		Length int    `json:"length"`
		Tokens []int  `json:"tokens"`
	}
	var jobs []job
	var families []Family
	for _, f := range Families {
		if f.Refused != "" {
			continue
		}
		in := write(t, &f)
		out := filepath.Join(t.TempDir(), "out")
		_, err := convert.Convert(t.Context(), in, out, f.ladder(t), convert.Options{})
		require.NoError(t, err, f.id())
		for _, dir := range []string{in, out} {
			jobs = append(jobs, job{dir, f.Dims / 2, f.L, Tokens(32)})
		}
		families = append(families, f)
	}
	input, err := json.Marshal(jobs)
	require.NoError(t, err)
	cmd := exec.Command(python, "check.py")
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	output, err := cmd.Output()
	require.NoError(t, err)
	var results []checked
	require.NoError(t, json.Unmarshal(output, &results), "%s", output)
	require.Len(t, results, len(jobs))
	for i, f := range families {
		t.Run(f.id(), func(t *testing.T) { f.compare(t, old, results[2*i], results[2*i+1]) })
	}
}

// compare holds what transformers does before and after a conversion to the row.
func (f *Family) compare(t *testing.T, old bool, before, after checked) {
	want, err := f.Base()
	require.NoError(t, err)
	runs := f.Unrun == "" && (!old || f.Old == "")
	if runs {
		require.Empty(t, before.Error)
		d := before.Short.deviation(t, f.Rope(), want, "before")
		assert.LessOrEqual(t, d, tolerance, "the row of %s is not what transformers %s does",
			f.Name, before.Version)
		t.Logf("transformers %s, before: %.2g", before.Version, d)
	}
	require.Empty(t, after.Error)
	l := f.ladder(t)
	want.AttentionFactor = l.Rungs[0].AttentionFactor // of which transformers has one
	short := after.Short.deviation(t, f.Rope(), want, "short")
	long := after.Long.deviation(t, f.Rope(), l.Rungs[0], "long")
	t.Logf("transformers %s, short texts: %.2g, long ones: %.2g", after.Version, short, long)
	assert.LessOrEqual(t, short, tolerance, "transformers %s, short texts", after.Version)
	assert.LessOrEqual(t, long, tolerance, "transformers %s, long texts", after.Version)
	if runs {
		assert.InDeltaSlice(t, before.Softmax, after.Softmax, 1e-9, "the scale of attention")
	}
}

// TestNotes: a conversion says where transformers makes another model of the folder than a ladder.
func TestNotes(t *testing.T) {
	for _, f := range Families {
		if f.Refused != "" {
			continue
		}
		in := write(t, &f)
		r, err := convert.Convert(t.Context(), in, filepath.Join(t.TempDir(), "out"), f.ladder(t),
			convert.Options{})
		require.NoError(t, err)
		notes := strings.Join(r.Notes, "\n")
		one := f.Model == "gemma2" || f.Model == "gpt_oss"
		assert.Equal(t, one, strings.Contains(notes, "one rotation for all layers"), f.id())
		assert.Contains(t, notes, "ollama create FROM this folder loses the factors", f.id())
	}
}

// TestWeights: files that are no weights are called what they are.
func TestWeights(t *testing.T) {
	f := Families[0]
	pointer := "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
	in := write(t, &f)
	path := filepath.Join(in, "model.safetensors")
	require.NoError(t, os.WriteFile(path, []byte(pointer), 0o644))
	_, err := convert.Inspect(in)
	require.ErrorContains(t, err, "git lfs pull")

	in = write(t, &f)
	before, err := convert.Inspect(in)
	require.NoError(t, err)
	weights := filepath.Join(in, "model.safetensors")
	require.NoError(t, os.Rename(weights, filepath.Join(in, "other.safetensors")))
	require.NoError(t, os.Link(filepath.Join(in, "other.safetensors"),
		filepath.Join(in, "consolidated.safetensors")))
	after, err := convert.Inspect(in)
	require.NoError(t, err)
	assert.Equal(t, before.ParameterCount, after.ParameterCount)
}
