package hf

import (
	_ "embed"
	"encoding/json"
	"sync"
)

// hfDefaults is what a configuration class of transformers takes where config.json leaves a field
// out.
type classDefaults struct {
	Context  int `json:"max_position_embeddings"`
	Hidden   int `json:"hidden_size"`
	Heads    int `json:"num_attention_heads"`
	HeadDim  int `json:"head_dim"` // 0: computed from hidden_size and num_attention_heads
	QKRope   int `json:"qk_rope_head_dim"`
	Rotating int `json:"rotary_dim"` // of a class that rotates without rope_parameters
	// ByLayerType says that transformers 5 keeps rope_parameters by type of layer.
	ByLayerType bool `json:"by_layer_type"`
	// Rope is nil for a class without rope_parameters: config.json describes no RoPE of it.
	Rope *params `json:"rope_parameters"`
	// Text is the model_type of the language model, for a class that has more than one part.
	Text string `json:"text"`
}

//go:embed defaults.json
var defaultsJSON []byte

var allDefaults = sync.OnceValue(func() map[string]*classDefaults {
	var table struct {
		Models map[string]*classDefaults `json:"models"`
	}
	if err := json.Unmarshal(defaultsJSON, &table); err != nil {
		panic("defaults.json: " + err.Error()) // a test reads it
	}
	return table.Models
})

// defaultsOf is the entry of a model_type; nil when the table has none.
func defaultsOf(kind string) *classDefaults { return allDefaults()[kind] }
