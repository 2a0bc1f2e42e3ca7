package published

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// Every file is a set, every set has its file, and its factors are for its model.
func TestSets(t *testing.T) {
	files, err := data.ReadDir("data")
	require.NoError(t, err)
	sets := allSets()
	require.Len(t, sets, len(files))
	seen := map[string]bool{}
	for _, s := range sets {
		require.False(t, seen[s.Name], s.Name)
		seen[s.Name] = true
		f := s.Factors()
		require.Len(t, f, s.Rope.Pairs(), s.Name)
		assert.GreaterOrEqual(t, slices.Min(f), 1.0, s.Name)
		scale := max(s.Rope.Scale(s.Length), s.Rope.Scale(s.Tuned))
		assert.LessOrEqual(t, slices.Max(f), 1.63*scale, s.Name)
		assert.Contains(t, s.Lengths, s.Rope.OriginalContextLength)
		for _, length := range s.Lengths {
			r := s.Rope
			r.OriginalContextLength = length
			g, err := s.Rung(r, s.Length)
			require.NoError(t, err)
			assert.Equal(t, f, g.Factors)
			assert.Equal(t, ropescale.LongRoPEAttentionFactor(s.Length, length), g.AttentionFactor)
		}
		again, err := ByName(s.Name)
		require.NoError(t, err)
		assert.Equal(t, s, again)
	}
	// As the papers print them.
	s, err := ByName("ft_la2_256k")
	require.NoError(t, err)
	assert.InDelta(t, 1.02, s.Factors()[0], 1e-6)
	assert.InDelta(t, 64.77, s.Factors()[63], 1e-4)
	_, err = ByName("ft_la3_128k")
	assert.ErrorContains(t, err, `no published set "ft_la3_128k"; there are ft_la2_128k, ft_la2_256k`)
}

func TestFitting(t *testing.T) {
	names := func(sets []Set) (names []string) {
		for _, s := range sets {
			names = append(names, s.Name)
		}
		return names
	}
	llama := ropescale.Rope{Dims: 128, FreqBase: 10000, OriginalContextLength: 4096}
	all := names(Fitting(llama, "", 200<<10))
	assert.Equal(t, []string{"ft_la2_256k", "ft_mis_256k", "ft_la2_128k", "ft_mis_128k"}, all)
	assert.Equal(t, []string{"ft_la2_128k", "ft_la2_256k"},
		names(Fitting(llama, "Llama-2-7b-hf? llama2-7b", 64<<10)))
	assert.Equal(t, []string{"longrope2_llama3_8b_128k"},
		names(Fitting(llama3, "Meta-Llama-3-8B-Instruct", 32<<10)))
	assert.Empty(t, Fitting(llama3, "Mistral-7B", 32<<10))
	for _, r := range []ropescale.Rope{{Dims: 64, FreqBase: 1e5, OriginalContextLength: 8192}, {}} {
		assert.Empty(t, Fitting(r, "", 16384))
	}
}

func TestRefusedSets(t *testing.T) {
	s, err := ByName("longrope2_llama3_8b_128k")
	require.NoError(t, err)
	for want, r := range map[string]ropescale.Rope{
		"is for 128 rotary dimensions, the model has 64": {
			Dims: 64, FreqBase: 5e5, OriginalContextLength: 8192,
		},
		"is for a frequency base of 500000, the model has 10000": {
			Dims: 128, FreqBase: 1e4, OriginalContextLength: 8192,
		},
		"is for a model trained for 8192 tokens, this one was for 131072": {
			Dims: 128, FreqBase: 5e5, OriginalContextLength: 131072,
		},
	} {
		_, err := s.Rung(r, 32768)
		assert.ErrorContains(t, err, want)
	}
}
