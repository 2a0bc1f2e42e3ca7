package hf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
)

// textLayers are what names of tensors in a language model's layers begin with, up to the number.
var textLayers = []string{
	"model.layers", "language_model.model.layers", "model.language_model.layers",
	"model.decoder.layers", "gpt_neox.layers", "transformer.h", "transformer.blocks",
	"transformer.layers", "transformer.encoder.layers", "backbone.layers", "layers",
}

// layerName is the name of a tensor in a layer that all layers of its sort have: not the scales of
// quantised ones, which some layers go without.
var layerName = regexp.MustCompile(
	`^(.*?)\.(\d+)\.(.+\.(?:weight|bias|qweight)|self_attn\.sinks|mlp\.experts\.\w+)$`)

// CheckWhole is an error for a checkpoint without tensors, or with a layer that lacks some, which
// transformers then fills with random numbers.
func (c *Checkpoint) CheckWhole() error {
	n := 0
	for _, s := range c.Shards {
		n += len(s.Tensors)
	}
	if n == 0 {
		return fmt.Errorf("%s: %w: the files have no tensors", c.Dir, ErrNoWeights)
	}
	if name := c.halfMXFP4(); name != "" {
		return fmt.Errorf("%s: the tensor %s is missing, the other half of one in MXFP4; download "+
			"the checkpoint again", c.Dir, name)
	}
	count := cmp.Or(c.IntOf("num_hidden_layers"), c.IntOf("n_layers"), c.IntOf("n_layer"),
		c.IntOf("num_layers"))
	// layers may share keys and values
	if count <= 0 || count > gguf.MaxTensors || c.IntOf("num_kv_shared_layers") > 0 {
		return nil
	}
	prefix, kinds := c.layers(count)
	if i, kind := gguf.Uneven(kinds); i >= 0 {
		return fmt.Errorf("%s: the tensor %s.%d.%s is missing, which others of the %d layers that "+
			"%s counts have; download the checkpoint again, or correct the count", c.Dir, prefix,
			i, kind, count, ConfigFile)
	}
	return nil
}

// layers are the names of tensors in the first n layers of the language model, and what the names
// of its tensors begin with; none where that is not known.
func (c *Checkpoint) layers(n int) (prefix string, kinds []map[string]bool) {
	found, tensors := make(map[string][]map[string]bool), make(map[string]int)
	for _, s := range c.Shards {
		for _, t := range s.Tensors {
			name := layerName.FindStringSubmatch(t.name)
			if name == nil || !slices.Contains(textLayers, name[1]) {
				continue
			}
			i, err := strconv.Atoi(name[2])
			if err != nil || i >= n {
				continue
			}
			layers := found[name[1]]
			if layers == nil {
				layers = make([]map[string]bool, n)
				found[name[1]] = layers
			}
			if layers[i] == nil {
				layers[i] = make(map[string]bool)
			}
			layers[i][strings.Replace(name[3], ".qweight", ".weight", 1)] = true
			tensors[name[1]]++
			if tensors[name[1]] > tensors[prefix] {
				prefix = name[1]
			}
		}
	}
	return prefix, found[prefix]
}

// halfMXFP4 is the missing one of blocks and scales, "" for none; the host's converter ends the
// process at one without the other.
func (c *Checkpoint) halfMXFP4() string {
	names := make(map[string]bool)
	for _, s := range c.Shards {
		for _, t := range s.Tensors {
			names[t.name] = true
		}
	}
	for name := range names {
		for _, ends := range [][2]string{{"_blocks", "_scales"}, {"_scales", "_blocks"}} {
			start, ok := strings.CutSuffix(name, ends[0])
			if ok && !names[start+ends[1]] {
				return start + ends[1]
			}
		}
	}
	return ""
}

// Untied says that config.json denies that the output's matrix is that of the embeddings.
func (c *Checkpoint) Untied() bool {
	tied := true
	if c.inside == "" {
		_, _ = c.plain.decode(c.plain.top, "tie_word_embeddings", &tied)
	}
	return !tied
}

// Has says that the checkpoint has a tensor of this name.
func (c *Checkpoint) Has(name string) bool {
	return slices.ContainsFunc(c.Shards, func(s *shard) bool {
		return slices.ContainsFunc(s.Tensors, func(t shardTensor) bool { return t.name == name })
	})
}

// SplitsText says that tokenizer.json has a rule of its own for where text is split before merges.
func (c *Checkpoint) SplitsText() bool {
	b, err := atomicfile.Read(filepath.Join(c.Dir, "tokenizer.json"))
	if err != nil {
		return false
	}
	var t struct {
		Pre *struct{} `json:"pre_tokenizer"`
	}
	return json.Unmarshal(b, &t) == nil && t.Pre != nil
}
