package checkpoints

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// with is a family with other fields.
func with(name, fields string) *Family {
	f := *Find(name)
	f.Fields = fields
	return &f
}

// TestFields: spellings that few checkpoints have, as transformers computes them.
func TestFields(t *testing.T) {
	yarnRow := func(factor float64, original int) ropescale.Rung {
		r := ropescale.Rope{Dims: 128, FreqBase: 1e6, OriginalContextLength: original}
		g, err := ropescale.YaRN(r, int(factor*float64(original))+1,
			ropescale.MethodOptions{Scale: factor})
		require.NoError(t, err)
		return g
	}
	const head = `"max_position_embeddings": 131072, "rope_theta": 1000000.0, `
	for name, c := range map[string]struct {
		fields string
		want   ropescale.Rung
	}{
		"YaRN's factor of null is the quotient of the lengths": {
			head + `"rope_scaling": {"rope_type": "yarn", "factor": null,
  "original_max_position_embeddings": 32768}`, yarnRow(4, 32768),
		},
		"the original length at the top wins": {
			head + `"original_max_position_embeddings": 16384, "rope_scaling": {
  "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}`,
			yarnRow(4, 16384),
		},
		"factor times original is no whole number": {
			head + `"rope_scaling": {"rope_type": "yarn", "factor": 1.37,
  "original_max_position_embeddings": 1111}`, yarnRow(1.37, 1111),
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := with("Qwen2.5-7B", c.fields)
			dir := write(t, f)
			info, err := convert.Inspect(dir)
			require.NoError(t, err)
			sameRow(t, c.want, base(info), name)
			if python := Python("PYTHON", "python3"); python != "" {
				got, err := Check(python, []Job{{dir, 64, 131072, Tokens(8)}})
				require.NoError(t, err)
				require.Empty(t, got[0].Error)
				r := ropescale.Rope{Dims: 128, FreqBase: 1e6, OriginalContextLength: 1}
				assert.LessOrEqual(t, got[0].Short.Deviation(r, c.want), Tolerance)
			}
		})
	}

	// llama3 with both limits at 1: what turns less than once is divided, the rest is kept
	dir := write(t, with("Llama-3.1-8B", `"max_position_embeddings": 131072,
  "rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0,
  "high_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}`))
	info, err := convert.Inspect(dir)
	require.NoError(t, err)
	for i, wavelength := range info.Rope().Wavelengths() {
		want := 1.0
		if wavelength > 8192 {
			want = 8
		}
		require.Equal(t, want, info.Base.Factors[i], "pair %d", i)
	}
}

// TestWords: an error says what is in the file, in the words of the file.
func TestWords(t *testing.T) {
	for name, c := range map[string]struct{ fields, want string }{
		"a list for a number": {
			`"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": [2]}`,
			"config.json: rope_scaling: factor: array, where a number is wanted",
		},
		"a text for a number": {
			`"max_position_embeddings": "4096"`,
			"config.json: max_position_embeddings: string, where a whole number is wanted",
		},
		"a base of 0, which is not the class's own": {
			`"max_position_embeddings": 4096, "rope_theta": 0`,
			"config.json: rope_theta is 0, want a positive number",
		},
	} {
		_, err := convert.Inspect(write(t, with("Phi-3-mini-128k", c.fields)))
		require.ErrorContains(t, err, c.want, name)
	}

	in := write(t, Find("Phi-3-mini-128k"))
	path := filepath.Join(in, "config.json")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b = []byte(strings.Replace(string(b), `"long_factor": [2.5`, `"long_factor": [NaN`, 1))
	require.NoError(t, os.WriteFile(path, b, 0o644))
	_, err = convert.Inspect(in)
	require.ErrorContains(t, err, "config.json: rope_scaling.long_factor: NaN or Infinity")

	// What the host's converter reads, and this program does not
	f := with("Llama-2-7B", Find("Llama-2-7B").Fields+`, "n_ctx": "4096"`)
	out := filepath.Join(t.TempDir(), "x.gguf")
	_, err = convert.Convert(t.Context(), write(t, f), out, nil, convert.Options{})
	require.ErrorContains(t, err,
		"config.json: the host's converter: n_ctx: string, where a whole number is wanted")

	f = with("Llama-2-7B", `"max_position_embeddings": 4096, "rope_scaling": {
  "rope_type": "default", "mrope_section": [16, 24, 24]}`)
	_, err = convert.Convert(t.Context(), write(t, f), filepath.Join(t.TempDir(), "out"),
		f.Ladder(), convert.Options{})
	require.ErrorContains(t, err, "sections (mrope)")
	assert.NotContains(t, err.Error(), "default")
}

// TestExperts: the number of experts of a token, of which gpt-oss has two names, and without which
// an engine divides by zero.
func TestExperts(t *testing.T) {
	f := *Find("gpt-oss-20b MXFP4")
	f.Fields = strings.Replace(f.Fields, `"experts_per_token": 2, `, "", 1)
	f.Fields = strings.Replace(f.Fields, `"initial_context_length": 4096, `, "", 1)
	out := filepath.Join(t.TempDir(), "x.gguf")
	_, err := convert.Convert(t.Context(), write(t, &f), out, nil, convert.Options{})
	require.NoError(t, err)
	file, err := gguf.Open(out)
	require.NoError(t, err)
	defer file.Close()
	for key, want := range map[string]int{
		"gptoss.expert_used_count": 2, "gptoss.rope.scaling.original_context_length": 4096,
	} {
		n, _, err := file.Int(key)
		require.NoError(t, err)
		assert.Equal(t, want, n, key)
	}
	f.Sizes = strings.Replace(f.Sizes, `, "num_experts_per_tok": 2`, "", 1)
	_, err = convert.Convert(t.Context(), write(t, &f), out, nil, convert.Options{})
	require.ErrorContains(t, err, "num_experts_per_tok")
}

// TestShorter: a ladder that ends below what the model was trained for is refused, by the length
// that model_max_length says.
func TestShorter(t *testing.T) {
	f := Find("c4ai-command-r")
	in, dir := write(t, f), t.TempDir()
	l := f.Ladder()
	l.OriginalContextLength, l.Rungs[0].Length = 8192, 32768
	file := filepath.Join(dir, "plain.gguf")
	_, err := convert.Convert(t.Context(), in, file, nil, convert.Options{})
	require.NoError(t, err)
	for _, from := range []string{in, file} {
		for _, to := range []string{"out", "out.gguf"} {
			if from == file && to == "out" {
				continue
			}
			_, err := convert.Convert(t.Context(), from, filepath.Join(dir, to), l,
				convert.Options{})
			require.ErrorContains(t, err, "context length is 131072 already")
		}
	}
}

// TestLostScale: of a DeepSeek folder that an earlier conversion wrote without mscale_all_dim, the
// report says that transformers has another scale of attention.
func TestLostScale(t *testing.T) {
	f := Find("DeepSeek-V3")
	in, out := write(t, f), filepath.Join(t.TempDir(), "out")
	_, err := convert.Convert(t.Context(), in, out, f.Ladder(), convert.Options{})
	require.NoError(t, err)
	info, err := convert.Inspect(out)
	require.NoError(t, err)
	assert.Empty(t, info.Lost)
	assert.NotNil(t, info.Transformers)

	path := filepath.Join(out, "config.json")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, s := range []string{`"mscale_all_dim": 1.0,`, `"mscale_all_dim": 1,`} {
		b = []byte(strings.ReplaceAll(string(b), s, ""))
	}
	require.NotContains(t, string(b), "mscale_all_dim")
	require.NoError(t, os.WriteFile(path, b, 0o644))
	info, err = convert.Inspect(out)
	require.NoError(t, err)
	assert.Contains(t, info.Lost, "mscale_all_dim")
	assert.Nil(t, info.Transformers)
}

// TestUnlike: where transformers does not run a folder, or where nothing is known of its rotation,
// the report does not say that it runs it as it was trained.
func TestUnlike(t *testing.T) {
	for name, want := range map[string]string{
		"Phi-3 YaRN": "refuses yarn", "unknown rope type": `its rope type "spiral"`,
		"Phi-3-mini-128k": "", "Qwen2.5-7B YaRN": "",
	} {
		info, err := convert.Inspect(write(t, Find(name)))
		require.NoError(t, err)
		if want == "" {
			assert.Empty(t, info.Lost, name)
		}
		assert.Contains(t, info.Lost, want, name)
	}
}
