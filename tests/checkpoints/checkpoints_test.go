package checkpoints

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

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
		t.Run(f.ID(), func(t *testing.T) {
			in, dir := write(t, &f), t.TempDir()
			folder, file := filepath.Join(dir, "folder"), filepath.Join(dir, "file.gguf")
			if f.Refused != "" {
				_, err := convert.Convert(ctx, in, file, nil, convert.Options{})
				require.ErrorContains(t, err, f.Refused)
				require.NoFileExists(t, file)
				other := Families[0] // its ladder does, since the model is not looked at further
				_, err = convert.Convert(ctx, in, folder, other.Ladder(), convert.Options{})
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

			l := f.Ladder()
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
	l := f.Ladder()
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

// TestTransformers: transformers rotates as the row says before a conversion, and as the ladder
// says after it; with the same scale of attention.
//
// It computes inverse frequencies in float32, to some 1e-6 of them, and check.py reads them from
// cos and sin in float32, where the angle of 1 rad has 1e-7.
func TestTransformers(t *testing.T) {
	for _, v := range []struct{ env, fallback string }{{"PYTHON", "python3"}, {"PYTHON4", ""}} {
		t.Run(v.env, func(t *testing.T) {
			python := Python(v.env, v.fallback)
			if python == "" {
				t.Skipf("SKIPPED: no transformers to load the checkpoints with; %s names an "+
					"interpreter that has it", v.env)
			}
			testTransformers(t, python, v.env == "PYTHON4")
		})
	}
}

func testTransformers(t *testing.T, python string, old bool) {
	var jobs []Job
	var families []Family
	for _, f := range Families {
		if f.Refused != "" {
			continue
		}
		in := write(t, &f)
		out := filepath.Join(t.TempDir(), "out")
		_, err := convert.Convert(t.Context(), in, out, f.Ladder(), convert.Options{})
		require.NoError(t, err, f.ID())
		for _, dir := range []string{in, out} {
			jobs = append(jobs, Job{dir, f.Dims / 2, f.L, Tokens(32)})
		}
		families = append(families, f)
	}
	results, err := Check(python, jobs)
	require.NoError(t, err)
	for i, f := range families {
		t.Run(f.ID(), func(t *testing.T) { f.compare(t, old, results[2*i], results[2*i+1]) })
	}
}

// compare holds what transformers does before and after a conversion to the row.
func (f *Family) compare(t *testing.T, old bool, before, after Checked) {
	if before.Lacks() {
		t.Skip("SKIPPED: ", before.Error)
	}
	want, err := f.Base()
	require.NoError(t, err)
	runs := f.Unrun == "" && (!old || f.Old == "")
	if runs {
		require.Empty(t, before.Error)
		d := before.Short.Deviation(f.Rope(), want)
		assert.LessOrEqual(t, d, Tolerance, "the row of %s is not what transformers %s does",
			f.Name, before.Version)
		t.Logf("transformers %s, before: %.2g", before.Version, d)
	}
	if old && f.OldFolder == Ignored {
		require.LessOrEqual(t, after.Long.Deviation(f.Rope(), want), Tolerance)
		return
	}
	if old && f.OldFolder != "" {
		require.Contains(t, after.Error, f.OldFolder)
		return
	}
	require.Empty(t, after.Error)
	l := f.Ladder()
	want.AttentionFactor = l.Rungs[0].AttentionFactor // of which transformers has one
	short := after.Short.Deviation(f.Rope(), want)
	long := after.Long.Deviation(f.Rope(), l.Rungs[0])
	t.Logf("transformers %s, short texts: %.2g, long ones: %.2g", after.Version, short, long)
	assert.LessOrEqual(t, short, Tolerance, "transformers %s, short texts", after.Version)
	assert.LessOrEqual(t, long, Tolerance, "transformers %s, long texts", after.Version)
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
		r, err := convert.Convert(t.Context(), in, filepath.Join(t.TempDir(), "out"), f.Ladder(),
			convert.Options{})
		require.NoError(t, err)
		notes := strings.Join(r.Notes, "\n")
		one := f.Model == "gemma2" || f.Model == "gpt_oss"
		assert.Equal(t, one, strings.Contains(notes, "one rotation for all layers"), f.ID())
		assert.Equal(t, f.OldFolder != "",
			strings.Contains(notes, "transformers 4 (seen in 4.57)"), f.ID())
		assert.Contains(t, notes, "an unpatched ollama create FROM this folder loses the factors; "+
			"this one keeps them", f.ID())
	}
}

// TestHostNotes: a conversion says what the host's converter leaves out.
func TestHostNotes(t *testing.T) {
	f := *Find("Mixtral-8x7B")
	notes := func() string {
		t.Helper()
		r, err := convert.Convert(t.Context(), write(t, &f), filepath.Join(t.TempDir(), "x.gguf"),
			nil, convert.Options{})
		require.NoError(t, err)
		return strings.Join(r.Notes, "\n")
	}
	assert.Empty(t, notes())
	f.Fields = strings.Replace(f.Fields, `"sliding_window": null`, `"sliding_window": 4096`, 1)
	assert.Contains(t, notes(), "a window of 4096 tokens in every layer")

	f = *Find("Qwen2.5-7B")
	f.Sizes = strings.Replace(f.Sizes, `"rms_norm_eps": 1e-05, `, "", 1)
	_, err := convert.Convert(t.Context(), write(t, &f), filepath.Join(t.TempDir(), "x.gguf"),
		nil, convert.Options{})
	require.ErrorContains(t, err, "rms_norm_eps")

	in := write(t, Find("Llama-2-7B"))
	path := filepath.Join(in, "tokenizer.json")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b = append([]byte(`{"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
  {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel"}]},`), b[1:]...)
	require.NoError(t, os.WriteFile(path, b, 0o644))
	r, err := convert.Convert(t.Context(), in, filepath.Join(t.TempDir(), "x.gguf"), nil,
		convert.Options{})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(r.Notes, "\n"), "does not know the pre_tokenizer")
}
