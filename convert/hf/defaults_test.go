package hf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDefaults holds the table to values that are looked up in transformers' configuration classes.
func TestDefaults(t *testing.T) {
	require.Greater(t, len(allDefaults()), 500)
	for kind, theta := range map[string]float64{
		"mixtral": 1e6, "gemma3_text": 1e6, "gpt_oss": 150000, "smollm3": 2e6, "olmo3": 5e5,
		"llama": 1e4, "cohere": 5e5,
	} {
		d := defaultsOf(kind)
		require.NotNil(t, d, kind)
		assert.Equal(t, theta, *d.Rope.Theta, kind)
	}
	for kind, partial := range map[string]float64{
		"stablelm": 0.25, "glm4": 0.5, "gpt_neox": 0.25, "phi": 0.5,
	} {
		assert.Equal(t, partial, *defaultsOf(kind).Rope.Partial, kind)
	}
	assert.Equal(t, 256, defaultsOf("gemma3_text").HeadDim)
	assert.Equal(t, 131072, defaultsOf("gemma3_text").Context)
	assert.Zero(t, defaultsOf("llama").HeadDim, "computed")
	assert.Equal(t, "gemma3_text", defaultsOf("gemma3").Text)
	assert.True(t, defaultsOf("olmo3").ByLayerType)
	for _, kind := range []string{"opt", "gpt2", "bloom", "mpt", "mamba", "bert", "nemotron_h"} {
		assert.Nil(t, defaultsOf(kind).Rope, kind)
	}
	assert.Nil(t, defaultsOf("no such model"))
}
