package hf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
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

// CheckWhole is an error for a checkpoint that lacks tensors, which transformers then fills with
// random numbers: all of them, some of a layer, the embeddings, the last norm or the output matrix.
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
	if err := c.checkEnds(); err != nil {
		return err
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

// ends are what a model has before and behind its layers, by what names of tensors contain.
var ends = []struct {
	what  string
	names []string
	want  func(c *Checkpoint) bool
}{
	{"embeddings", []string{"embed", "wte."}, func(*Checkpoint) bool { return true }},
	{"norm behind the layers", []string{"norm", "ln_f"}, func(*Checkpoint) bool { return true }},
	{"output matrix, and tie_word_embeddings is false", []string{
		"lm_head.", "embed_out.", "output.", "output_layer.",
	}, func(c *Checkpoint) bool {
		return c.Untied() && strings.HasSuffix(c.Arch, "ForCausalLM")
	}},
}

// inLayer is the number of a layer in a tensor's name.
var inLayer = regexp.MustCompile(`\.\d+\.`)

func (c *Checkpoint) checkEnds() error {
	var outside []string
	for _, s := range c.Shards {
		for _, t := range s.Tensors {
			if !inLayer.MatchString(t.name) {
				outside = append(outside, t.name)
			}
		}
	}
	for _, end := range ends {
		there := slices.ContainsFunc(outside, func(name string) bool {
			return slices.ContainsFunc(end.names, func(part string) bool {
				return strings.Contains(name, part)
			})
		})
		if end.want(c) && !there {
			return fmt.Errorf("%s: no tensor is the %s; download the checkpoint again", c.Dir,
				end.what)
		}
	}
	return nil
}

// CheckVocabulary is an error for a tokenizer.json of which the host's converter, which takes the
// tokens in the order of their numbers, would make another vocabulary.
func (c *Checkpoint) CheckVocabulary() error {
	if _, err := os.Stat(filepath.Join(c.Dir, "tokenizer.model")); err == nil {
		return nil // which the converter takes first
	}
	path := filepath.Join(c.Dir, "tokenizer.json")
	b, err := atomicfile.Read(path)
	if err != nil {
		return nil // the converter says so
	}
	var t struct {
		Added []struct{ ID int } `json:"added_tokens"`
		Model struct {
			Vocab map[string]int
		}
	}
	if json.Unmarshal(b, &t) != nil {
		return nil // likewise
	}
	ids := slices.Collect(maps.Values(t.Model.Vocab))
	for _, added := range t.Added {
		ids = append(ids, added.ID)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return fmt.Errorf("%s: the vocabulary has no tokens", path)
	}
	for i, id := range ids {
		if id != i {
			return fmt.Errorf("%s: no token has the number %d, and the host's converter would "+
				"give it to the next one; make a GGUF with llama.cpp's convert_hf_to_gguf.py and "+
				"name that", path, i)
		}
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
