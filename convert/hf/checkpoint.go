package hf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/jsontext"
)

// The files of a checkpoint folder that this package reads or writes.
const (
	ConfigFile = "config.json"
	LadderFile = "longrope.json"
	IndexFile  = "model.safetensors.index.json"
	fileSingle = "model.safetensors"
)

// ErrNoWeights: a checkpoint folder without safetensors.
var ErrNoWeights = errors.New("no safetensors in the folder")

// Checkpoint is a Hugging Face checkpoint folder, opened and found whole.
type Checkpoint struct {
	Dir    string
	config *jsonDoc // as it stands
	plain  *jsonDoc // as it was before a conversion by this package; the same as config without one
	Arch   string   // architectures[0]
	inside string   // key of the object with the language model's parameters; "": the top
	Shards []*shard
	Rope   *Rope // what plain says
	Now    *Rope // what config says
	Ladder *ropescale.Ladder
}

// IsCheckpoint says that a folder holds a config.json.
func IsCheckpoint(dir string) bool {
	fi, err := os.Stat(dir)
	if err != nil || !fi.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, ConfigFile))
	return err == nil
}

func Open(dir string) (*Checkpoint, error) {
	c := &Checkpoint{Dir: dir}
	var err error
	if c.config, err = readDoc(filepath.Join(dir, ConfigFile)); err != nil {
		return nil, err
	}
	var archs []string
	if _, err := c.config.decode(c.config.top, "architectures", &archs); err != nil {
		return nil, err
	}
	if len(archs) == 0 {
		return nil, fmt.Errorf("%s: no architectures: not the configuration of a model",
			c.config.path)
	}
	c.Arch = archs[0]
	if c.inside, err = textObject(c.config); err != nil {
		return nil, err
	}
	if members, err := c.object(c.config); err != nil {
		return nil, err
	} else if len(members) == 0 {
		return nil, fmt.Errorf("%s: %s is empty", c.config.path, c.inside)
	}
	if c.Now, err = readRope(c.config, c.inside); err != nil {
		return nil, err
	}
	c.plain, c.Rope = c.config, c.Now
	if err := c.readLadder(); err != nil {
		return nil, err
	}
	if c.Shards, err = openShards(dir); err != nil {
		return nil, err
	}
	return c, nil
}

// readDoc reads a JSON file of a checkpoint.
func readDoc(path string) (*jsonDoc, error) {
	f, err := atomicfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, gguf.ErrTooLarge, maxConfig)
	}
	return parseJSON(path, b)
}

// textObject names the object that describes the language model: multimodal models keep it apart.
func textObject(d *jsonDoc) (string, error) {
	if _, ok := find(d.top, "max_position_embeddings"); ok {
		return "", nil
	}
	text, err := d.sub(d.top, "text_config")
	if err != nil || text == nil {
		return "", err
	}
	return "text_config", nil
}

// object gives the members of that object.
func (c *Checkpoint) object(d *jsonDoc) ([]member, error) {
	if c.inside == "" {
		return d.top, nil
	}
	return d.sub(d.top, c.inside)
}

// carried is what longrope.json holds in addition to the ladder: what Strip needs to give
// config.json back.
type carried struct {
	// Keys of config.json as they were, in the file's own bytes; null: the key was not there.
	Keys map[string]*string `json:"config"`
	// Inside is the object that has them; empty for the top.
	Inside string `json:"inside,omitempty"`
}

const keyReplaced = "replaced"

// readLadder reads longrope.json, with which a conversion by this package leaves what config.json
// cannot say.
func (c *Checkpoint) readLadder() error {
	path := filepath.Join(c.Dir, LadderFile)
	f, err := atomicfile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := ropescale.ReadFactors(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	stale := func(format string, args ...any) error {
		return fmt.Errorf("%s does not belong to %s: %s; remove it, or convert the original "+
			"checkpoint again", path, ConfigFile, fmt.Sprintf(format, args...))
	}
	raw, ok := l.Extra[keyReplaced]
	if !ok {
		return stale("it does not say what was replaced there (no key %s)", keyReplaced)
	}
	var old carried
	if err := json.Unmarshal(raw, &old); err != nil {
		return stale("%s: %v", keyReplaced, jsontext.Plain(err))
	}
	if old.Inside != c.inside {
		return stale("it is for the object %q", old.Inside)
	}
	if c.Now.Kind != "longrope" || c.Now.Long == nil {
		return stale("there the rope type is %q", c.Now.Kind)
	}
	if !slices.ContainsFunc(l.Rungs, func(g ropescale.Rung) bool {
		return g.Length == c.Now.Context && closeTo(g.Factors, c.Now.Long.Factors)
	}) {
		return stale("none of its rungs has the long_factor for %d tokens", c.Now.Context)
	}
	if c.plain, err = c.undo(old); err != nil {
		return stale("%v", err)
	}
	if c.Rope, err = readRope(c.plain, c.inside); err != nil {
		return stale("%v", err)
	}
	if c.Rope.Rope.OriginalContextLength < l.OriginalContextLength {
		return stale("the model was trained for %d tokens, the ladder is for %d",
			c.Rope.Rope.OriginalContextLength, l.OriginalContextLength)
	}
	delete(l.Extra, keyReplaced)
	c.Ladder = l
	return nil
}

// closeTo compares factors up to what float32 leaves.
func closeTo(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return float32(x) == float32(y) })
}

// undo gives config.json as it was.
func (c *Checkpoint) undo(old carried) (*jsonDoc, error) {
	members, err := c.object(c.config)
	if err != nil {
		return nil, err
	}
	e := &jsonEdit{d: c.config, members: members}
	for key, value := range old.Keys {
		_, there := find(members, key)
		switch {
		case !slices.Contains(configKeys, key):
			return nil, fmt.Errorf("it names the key %q", gguf.Clip(key))
		case !there:
			return nil, fmt.Errorf("%s has no key %s", ConfigFile, key)
		case value == nil:
			e.remove(key)
		case !json.Valid([]byte(*value)):
			return nil, fmt.Errorf("the old value of %s is no json", key)
		default:
			e.set(key, *value)
		}
	}
	return e.apply()
}

// openShards finds the weights and checks that they are all there: those of the index if there is
// one, else model.safetensors, else every safetensors file.
func openShards(dir string) ([]*shard, error) {
	index, err := readDoc(filepath.Join(dir, IndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		paths := []string{filepath.Join(dir, fileSingle)}
		if _, err := os.Stat(paths[0]); err != nil {
			if paths, err = filepath.Glob(filepath.Join(globEscape(dir),
				"*.safetensors")); err != nil {
				return nil, err
			}
			paths = withoutConsolidated(paths)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("%s: %w; save the model again with transformers' "+
				"save_pretrained, which writes them", dir, ErrNoWeights)
		}
		return openAll(paths)
	}
	if err != nil {
		return nil, err
	}
	weights := make(map[string]string)
	if ok, err := index.decode(index.top, "weight_map", &weights); err != nil || !ok ||
		len(weights) == 0 {
		if err == nil {
			err = fmt.Errorf("%s: weight_map is missing or empty", index.path)
		}
		return nil, err
	}
	files := make(map[string]bool)
	for tensor, file := range weights {
		if filepath.Base(file) != file || !strings.HasSuffix(file, ".safetensors") {
			return nil, fmt.Errorf("%s: %q: %q is no name of a safetensors file in the folder",
				index.path, gguf.Clip(tensor), gguf.Clip(file))
		}
		files[file] = true
	}
	if len(files) > gguf.MaxParts {
		return nil, fmt.Errorf("%s: %w: %d files, %d is the most", index.path, gguf.ErrTooLarge,
			len(files), gguf.MaxParts)
	}
	var paths []string
	for file := range files {
		paths = append(paths, filepath.Join(dir, file))
	}
	sort.Strings(paths)
	shards, err := openAll(paths)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; %s names it: the checkpoint was not downloaded completely", err,
			IndexFile)
	}
	if err != nil {
		return nil, err
	}
	where := make(map[string]string)
	for _, s := range shards {
		for _, t := range s.Tensors {
			if other, twice := where[t.name]; twice {
				return nil, &gguf.FormatError{
					Path: s.Path, Key: t.name, Detail: "and in " + other,
					Err: gguf.ErrDuplicate,
				}
			}
			where[t.name] = filepath.Base(s.Path)
		}
	}
	for tensor, file := range weights {
		if where[tensor] != file {
			return nil, fmt.Errorf("%s: tensor %q is not in %s", index.path, gguf.Clip(tensor),
				file)
		}
	}
	return shards, nil
}

func openAll(paths []string) ([]*shard, error) {
	var shards []*shard
	for _, path := range paths {
		s, err := openShard(path)
		if err != nil {
			return nil, err
		}
		shards = append(shards, s)
	}
	return shards, nil
}

// withoutConsolidated leaves out a second copy of the weights in the form of the authors' own code,
// unless it is all that there is.
func withoutConsolidated(paths []string) []string {
	rest := slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		return strings.HasPrefix(filepath.Base(path), "consolidated")
	})
	if len(rest) == 0 {
		return paths
	}
	return rest
}

// globEscape takes the meaning from the characters that filepath.Glob gives one.
func globEscape(dir string) string {
	return strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(dir)
}

// ConfigPath is the path of config.json.
func (c *Checkpoint) ConfigPath() string { return c.config.path }

// IntOf is an integer of config.json; 0 when it is missing or cannot be read, for what is shown and
// no more.
func (c *Checkpoint) IntOf(key string) int {
	n := 0
	if members, err := c.object(c.config); err == nil {
		_, _ = c.config.decode(members, key, &n)
	}
	return n
}

// Size is that of the weights, in bytes.
func (c *Checkpoint) Size() (n int64) {
	for _, s := range c.Shards {
		n += s.Size
	}
	return n
}

// AsRun is what transformers makes of a longrope config, see Rope.asRun; nil for other models.
func (c *Checkpoint) AsRun() *ropescale.Ladder {
	if c.lostScale() {
		return nil
	}
	return c.Now.asRun()
}

// lostScale says that transformers computes another scale of attention than the model was trained
// with: a conversion before this program kept mscale_all_dim lost it. Factors cannot say that.
func (c *Checkpoint) lostScale() bool { return math.Abs(c.Now.softmax-c.Rope.softmax) > 1e-9 }

// Unlike is why no row says what transformers makes of the checkpoint; "" where one does.
func (c *Checkpoint) Unlike() string {
	switch now := c.Now; {
	case c.lostScale():
		return "its " + ConfigFile + " was written without mscale_all_dim, so transformers " +
			"has another scale of attention than the model was trained with; convert the " +
			"original folder again"
	case now.unknown:
		return fmt.Sprintf("its rope type %q is not known to this program", now.Kind)
	case now.Kind == "yarn" && (now.model == "phi3" || now.model == "phimoe"):
		return "refuses yarn for this architecture (seen in 4.57 and 5.23); a folder with a " +
			"ladder and a GGUF run"
	}
	return ""
}

// SaysLadder says that a folder has a ladder, or longrope in its config.json, whether or not the
// rest of it can be read.
func SaysLadder(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, LadderFile)); err == nil {
		return true
	}
	b, err := atomicfile.Read(filepath.Join(dir, ConfigFile))
	return err == nil && bytes.Contains(b, []byte(`"longrope"`))
}

// Carried is the ladder that the checkpoint comes with: this package's, or the one that its authors
// trained; nil for none.
func (c *Checkpoint) Carried() *ropescale.Ladder {
	switch {
	case c.Ladder != nil:
		return c.Ladder
	case c.Rope.Long != nil:
		return &ropescale.Ladder{
			Version:               ropescale.LadderVersion,
			OriginalContextLength: c.Rope.Rope.OriginalContextLength,
			RopeDimensionCount:    c.Rope.Rope.Dims, Rungs: []ropescale.Rung{*c.Rope.Long},
		}
	}
	return nil
}
