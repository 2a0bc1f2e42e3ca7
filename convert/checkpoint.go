package convert

import (
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

	"github.com/longrope/longrope/ropescale"
)

// The files of a checkpoint folder that this package reads or writes.
const (
	fileConfig = "config.json"
	fileLadder = "longrope.json"
	fileIndex  = "model.safetensors.index.json"
	fileSingle = "model.safetensors"
)

// ErrNoWeights: a checkpoint folder without safetensors.
var ErrNoWeights = errors.New("no safetensors in the folder")

// checkpoint is a Hugging Face checkpoint folder, opened and found whole.
type checkpoint struct {
	dir    string
	config *jsonDoc // as it stands
	plain  *jsonDoc // as it was before a conversion by this package; the same as config without one
	arch   string   // architectures[0]
	inside string   // key of the object with the language model's parameters; "": the top
	shards []*shard
	rope   *hfRope // what plain says
	now    *hfRope // what config says
	ladder *ropescale.Ladder
}

// isCheckpoint says that a folder holds a config.json.
func isCheckpoint(dir string) bool {
	fi, err := os.Stat(dir)
	if err != nil || !fi.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, fileConfig))
	return err == nil
}

func openCheckpoint(dir string) (*checkpoint, error) {
	c := &checkpoint{dir: dir}
	var err error
	if c.config, err = readDoc(filepath.Join(dir, fileConfig)); err != nil {
		return nil, err
	}
	var archs []string
	if _, err := c.config.decode(c.config.top, "architectures", &archs); err != nil {
		return nil, err
	}
	if len(archs) == 0 {
		return nil, fmt.Errorf("%s: no architectures: not the configuration of a model", c.config.path)
	}
	c.arch = archs[0]
	if c.inside, err = textObject(c.config); err != nil {
		return nil, err
	}
	if members, err := c.object(c.config); err != nil {
		return nil, err
	} else if len(members) == 0 {
		return nil, fmt.Errorf("%s: %s is empty", c.config.path, c.inside)
	}
	if c.now, err = readHFRope(c.config, c.inside); err != nil {
		return nil, err
	}
	c.plain, c.rope = c.config, c.now
	if err := c.readLadder(); err != nil {
		return nil, err
	}
	if c.shards, err = openShards(dir); err != nil {
		return nil, err
	}
	return c, nil
}

// readDoc reads a JSON file of a checkpoint.
func readDoc(path string) (*jsonDoc, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, maxConfig)
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
func (c *checkpoint) object(d *jsonDoc) ([]member, error) {
	if c.inside == "" {
		return d.top, nil
	}
	return d.sub(d.top, c.inside)
}

// carried is what longrope.json holds beside the ladder: what Strip needs to give config.json back.
type carried struct {
	// Keys of config.json as they were, in the file's own bytes; null: the key was not there.
	Keys map[string]*string `json:"config"`
	// Inside is the object that has them; empty for the top.
	Inside string `json:"inside,omitempty"`
}

const keyReplaced = "replaced"

// readLadder reads longrope.json, with which a conversion by this package leaves what config.json cannot say.
func (c *checkpoint) readLadder() error {
	path := filepath.Join(c.dir, fileLadder)
	f, err := os.Open(path)
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
		return fmt.Errorf("%s does not belong to %s: %s; remove it, or convert the original checkpoint again", path, fileConfig, fmt.Sprintf(format, args...))
	}
	raw, ok := l.Extra[keyReplaced]
	if !ok {
		return stale("it does not say what was replaced there (no key %s)", keyReplaced)
	}
	var old carried
	if err := json.Unmarshal(raw, &old); err != nil {
		return stale("%s: %v", keyReplaced, err)
	}
	if old.Inside != c.inside {
		return stale("it is for the object %q", old.Inside)
	}
	if c.now.kind != "longrope" || c.now.long == nil {
		return stale("there the rope type is %q", c.now.kind)
	}
	if !slices.ContainsFunc(l.Rungs, func(g ropescale.Rung) bool {
		return g.Length == c.now.context && closeTo(g.Factors, c.now.long.Factors)
	}) {
		return stale("none of its rungs has the long_factor for %d tokens", c.now.context)
	}
	if c.plain, err = c.undo(old); err != nil {
		return stale("%v", err)
	}
	if c.rope, err = readHFRope(c.plain, c.inside); err != nil {
		return stale("%v", err)
	}
	if c.rope.rope.OriginalContextLength < l.OriginalContextLength {
		return stale("the model was trained for %d tokens, the ladder is for %d", c.rope.rope.OriginalContextLength, l.OriginalContextLength)
	}
	delete(l.Extra, keyReplaced)
	c.ladder = l
	return nil
}

// closeTo compares factors up to what float32 leaves.
func closeTo(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return float32(x) == float32(y) })
}

// undo gives config.json as it was.
func (c *checkpoint) undo(old carried) (*jsonDoc, error) {
	members, err := c.object(c.config)
	if err != nil {
		return nil, err
	}
	e := &jsonEdit{d: c.config, members: members}
	for key, value := range old.Keys {
		_, there := find(members, key)
		switch {
		case !slices.Contains(configKeys, key):
			return nil, fmt.Errorf("it names the key %q", clip(key))
		case !there:
			return nil, fmt.Errorf("%s has no key %s", fileConfig, key)
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

// openShards finds the weights and checks that they are all there: those of the index if there is one, else
// model.safetensors, else every safetensors file.
func openShards(dir string) ([]*shard, error) {
	index, err := readDoc(filepath.Join(dir, fileIndex))
	if errors.Is(err, fs.ErrNotExist) {
		paths := []string{filepath.Join(dir, fileSingle)}
		if _, err := os.Stat(paths[0]); err != nil {
			if paths, err = filepath.Glob(filepath.Join(globEscape(dir), "*.safetensors")); err != nil {
				return nil, err
			}
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("%s: %w; save the model again with transformers' save_pretrained, which writes them", dir, ErrNoWeights)
		}
		return openAll(paths)
	}
	if err != nil {
		return nil, err
	}
	weights := make(map[string]string)
	if ok, err := index.decode(index.top, "weight_map", &weights); err != nil || !ok || len(weights) == 0 {
		if err == nil {
			err = fmt.Errorf("%s: weight_map is missing or empty", index.path)
		}
		return nil, err
	}
	files := make(map[string]bool)
	for tensor, file := range weights {
		if filepath.Base(file) != file || !strings.HasSuffix(file, ".safetensors") {
			return nil, fmt.Errorf("%s: %q: %q is no name of a safetensors file in the folder", index.path, clip(tensor), clip(file))
		}
		files[file] = true
	}
	if len(files) > maxParts {
		return nil, fmt.Errorf("%s: %w: %d files, %d is the most", index.path, ErrTooLarge, len(files), maxParts)
	}
	var paths []string
	for file := range files {
		paths = append(paths, filepath.Join(dir, file))
	}
	sort.Strings(paths)
	shards, err := openAll(paths)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; %s names it: the checkpoint was not downloaded completely", err, fileIndex)
	}
	if err != nil {
		return nil, err
	}
	where := make(map[string]string)
	for _, s := range shards {
		for _, t := range s.tensors {
			if other, twice := where[t.name]; twice {
				return nil, &FormatError{Path: s.path, Key: t.name, Detail: "and in " + other, Err: ErrDuplicate}
			}
			where[t.name] = filepath.Base(s.path)
		}
	}
	for tensor, file := range weights {
		if where[tensor] != file {
			return nil, fmt.Errorf("%s: tensor %q is not in %s", index.path, clip(tensor), file)
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

// globEscape takes the meaning from the characters that filepath.Glob gives one.
func globEscape(dir string) string {
	return strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(dir)
}

// configPath is the path of config.json.
func (c *checkpoint) configPath() string { return c.config.path }

// intOf is an integer of config.json; 0 when it is missing or cannot be read, for what is shown and no more.
func (c *checkpoint) intOf(key string) int {
	n := 0
	if members, err := c.object(c.config); err == nil {
		_, _ = c.config.decode(members, key, &n)
	}
	return n
}

// size is that of the weights, in bytes.
func (c *checkpoint) size() (n int64) {
	for _, s := range c.shards {
		n += s.size
	}
	return n
}

// asRun is what transformers makes of a longrope config, see hfRope.asRun; nil for other models.
func (c *checkpoint) asRun() *ropescale.Ladder {
	// Another scale of attention, of a folder that lost mscale_all_dim, is no matter of factors.
	if math.Abs(c.now.softmax-c.rope.softmax) > 1e-9 {
		return nil
	}
	return c.now.asRun()
}

// carried is the ladder that the checkpoint comes with: this package's, or the one that its authors trained; nil for none.
func (c *checkpoint) carried() *ropescale.Ladder {
	switch {
	case c.ladder != nil:
		return c.ladder
	case c.rope.long != nil:
		return &ropescale.Ladder{
			Version: ropescale.LadderVersion, OriginalContextLength: c.rope.rope.OriginalContextLength,
			RopeDimensionCount: c.rope.rope.Dims, Rungs: []ropescale.Rung{*c.rope.long},
		}
	}
	return nil
}
