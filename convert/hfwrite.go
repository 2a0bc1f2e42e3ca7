package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// configKeys are the keys of config.json that a conversion writes, in the order in which new ones are put behind
// max_position_embeddings. rope_theta and partial_rotary_factor are only brought to the top, for transformers 4, when
// version 5 has left them in rope_parameters alone.
var configKeys = []string{"max_position_embeddings", "original_max_position_embeddings", "rope_theta", "partial_rotary_factor", "rope_scaling", "rope_parameters"}

// convertCheckpoint writes a copy of the folder with ladder l.
func convertCheckpoint(ctx context.Context, in, out string, l *ropescale.Ladder, opts Options) (*Report, error) {
	c, err := openCheckpoint(in)
	if err != nil {
		return nil, err
	}
	if !c.rope.known {
		return nil, fmt.Errorf("%s: rope type %q: transformers cannot combine it with longrope; a GGUF file can have the ladder: name the output .gguf", c.config.path, c.rope.kind)
	}
	if l == nil {
		return nil, errors.New("convert: no ladder")
	}
	o := c.own()
	if c.ladder != nil && c.ladder.Base != nil {
		o.base = *c.ladder.Base
	}
	m, notes, err := o.fit(in, l)
	if err != nil {
		return nil, err
	}
	row, err := stockRow(l, m, opts.StockRung)
	if err != nil {
		return nil, err
	}
	if row == 0 {
		return nil, errors.New("a checkpoint without a rung in its config.json is the original; choose a rung")
	}
	config, old, err := c.withLadder(m, row)
	if err != nil {
		return nil, err
	}
	beside := *m
	beside.Extra = map[string]json.RawMessage{}
	for k, v := range m.Extra {
		beside.Extra[k] = v
	}
	if beside.Extra[keyReplaced], err = json.Marshal(old); err != nil {
		return nil, err
	}
	r := &Report{Ladder: m, Changes: c.changes(config), Notes: append(notes, c.lost(m, row)...)}
	return c.save(ctx, out, config, &beside, r, opts)
}

// stripCheckpoint writes a copy of the folder without its ladder.
func stripCheckpoint(ctx context.Context, in, out string, opts Options) (*Report, error) {
	c, err := openCheckpoint(in)
	if err != nil {
		return nil, err
	}
	if c.ladder == nil {
		return nil, fmt.Errorf("%s: %w: no %s", in, ErrNoLadder, fileLadder)
	}
	return c.save(ctx, out, c.plain, nil, &Report{Changes: c.changes(c.plain)}, opts)
}

// withLadder gives config.json with one rung of the ladder, and what it replaces.
//
// What reads which key (looked up in transformers 4.48 to 5.23 and vLLM 0.19): transformers 4 reads rope_scaling and, at
// the top, rope_theta and original_max_position_embeddings; its Phi-3 refuses a rope_scaling of any other keys than
// type, short_factor and long_factor. transformers 5 reads rope_scaling first when it is there, then rope_parameters.
// vLLM reads whichever transformers gives it, and short_mscale and long_mscale in place of attention_factor.
func (c *checkpoint) withLadder(m *ropescale.Ladder, row int) (*jsonDoc, *carried, error) {
	members, err := c.object(c.plain)
	if err != nil {
		return nil, nil, err
	}
	e := &jsonEdit{d: c.plain, members: members, after: "max_position_embeddings"}
	long, short := m.Rungs[row-1], m.At(m.RungFor(m.OriginalContextLength))
	L := m.OriginalContextLength
	formula := ropescale.LongRoPEAttentionFactor(long.Length, L)
	if closeTo([]float64{long.AttentionFactor}, []float64{formula}) {
		long.AttentionFactor = formula
	}

	values := map[string]string{
		"max_position_embeddings":          strconv.Itoa(long.Length),
		"original_max_position_embeddings": strconv.Itoa(L),
	}
	fields := []field{{"rope_type", `"longrope"`}}
	if _, ok := find(members, "rope_theta"); c.rope.theta && !ok {
		values["rope_theta"] = number(c.rope.rope.FreqBase)
	}
	parameters, err := c.plain.sub(members, "rope_parameters")
	if err != nil {
		return nil, nil, err
	}
	nested, err := c.plain.sub(parameters, "full_attention")
	if err != nil {
		return nil, nil, err
	}
	old := parameters
	if nested != nil {
		old = nested
	}
	if raw, ok := find(old, "partial_rotary_factor"); ok {
		if _, top := find(members, "partial_rotary_factor"); !top {
			values["partial_rotary_factor"] = string(c.plain.raw(raw))
		}
		fields = append(fields, field{"partial_rotary_factor", string(c.plain.raw(raw))})
	}
	if c.rope.theta {
		fields = append(fields, field{"rope_theta", number(c.rope.rope.FreqBase)})
	}
	body := []field{
		{"factor", number(float64(long.Length) / float64(L))},
		{"original_max_position_embeddings", strconv.Itoa(L)},
		{"attention_factor", number(long.AttentionFactor)},
	}
	published := short.AttentionFactor == formula && long.AttentionFactor == formula
	if !published && c.arch != "Phi3ForCausalLM" || c.rope.perLength {
		body = append(body, field{"short_mscale", number(short.AttentionFactor)}, field{"long_mscale", number(long.AttentionFactor)})
	}
	factors := []field{{"short_factor", numbers(short.Factors)}, {"long_factor", numbers(long.Factors)}}
	indent, lines := e.indent()

	scaling := append(append([]field{{"type", `"longrope"`}, {"rope_type", `"longrope"`}}, body...), factors...)
	if c.arch == "Phi3ForCausalLM" && long.AttentionFactor == formula {
		scaling = append([]field{{"type", `"longrope"`}}, factors...)
	}
	values["rope_scaling"] = object(scaling, indent, lines)
	all := append(append(fields, body...), factors...)
	if nested == nil {
		values["rope_parameters"] = object(all, indent, lines)
	} else {
		var layers []field
		for _, layer := range parameters {
			raw := string(c.plain.raw(layer))
			if layer.key == "full_attention" {
				raw = object(all, indent+"  ", lines)
			}
			layers = append(layers, field{layer.key, raw})
		}
		values["rope_parameters"] = object(layers, indent, lines)
	}

	replaced := &carried{Keys: make(map[string]*string), Inside: c.inside}
	for _, key := range configKeys {
		value, ok := values[key]
		if !ok {
			continue
		}
		replaced.Keys[key] = nil
		if m, there := find(members, key); there {
			raw := string(c.plain.raw(m))
			replaced.Keys[key] = &raw
		}
		e.set(key, value)
	}
	config, err := e.apply()
	return config, replaced, err
}

type field struct{ key, value string }

// object writes fields as json.dump does with an indent of 2, but lists of numbers on one line.
func object(fields []field, indent string, lines bool) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, f := range fields {
		switch {
		case i > 0 && lines:
			b.WriteByte(',')
		case i > 0:
			b.WriteString(", ")
		}
		if lines {
			b.WriteString("\n" + indent + "  ")
		}
		b.WriteString(strconv.Quote(f.key) + ": " + f.value)
	}
	if lines {
		b.WriteString("\n" + indent)
	}
	b.WriteByte('}')
	return b.String()
}

// number writes a float such that Python reads a float: transformers 4 warns of integers.
func number(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func numbers(xs []float64) string {
	s := make([]string, len(xs))
	for i, x := range xs {
		s[i] = number(x)
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// lost says what the checkpoint cannot express of the ladder.
func (c *checkpoint) lost(m *ropescale.Ladder, row int) []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	g, below := m.Rungs[row-1], m.RungFor(m.OriginalContextLength)
	short := m.At(below)
	if g.StartWindow > 0 {
		note("transformers has no start window: the first %d tokens too get the factors of the rung", g.StartWindow)
	}
	var others []string
	for i, r := range m.Rungs {
		if i+1 != row && i+1 != below {
			others = append(others, strconv.Itoa(r.Length))
		}
	}
	if len(others) > 0 {
		note("it has one set of factors beyond %d tokens, those for %d; the rungs for %s tokens are in %s alone", m.OriginalContextLength, g.Length, strings.Join(others, ", "), fileLadder)
	}
	if short.AttentionFactor != g.AttentionFactor && !c.rope.perLength {
		note("it has one attention factor: texts of up to %d tokens get %.4g too, where the ladder has %.4g", m.OriginalContextLength, g.AttentionFactor, short.AttentionFactor)
	}
	if formula := ropescale.LongRoPEAttentionFactor(g.Length, m.OriginalContextLength); c.arch == "Phi3ForCausalLM" && !closeTo([]float64{g.AttentionFactor}, []float64{formula}) {
		note("transformers 4 refuses an attention factor other than %.6g for this architecture; version 5 reads it", formula)
	}
	return notes
}

// changes compares two states of config.json.
func (c *checkpoint) changes(to *jsonDoc) []Change {
	var cs []Change
	before, err1 := c.object(c.config)
	after, err2 := c.object(to)
	if err1 != nil || err2 != nil {
		return nil
	}
	for _, key := range configKeys {
		var ch Change
		if m, ok := find(before, key); ok {
			ch.Old = compact(c.config.raw(m))
		}
		if m, ok := find(after, key); ok {
			ch.New = compact(to.raw(m))
		}
		if ch.Old != ch.New {
			ch.Key = key
			cs = append(cs, ch)
		}
	}
	return cs
}

// compact puts a value on one line.
func compact(raw []byte) string { return strings.Join(strings.Fields(string(raw)), " ") }

// weightFiles are hard-linked where the file system can: they are large, and programs that change a model write new
// ones. All other files are copied, so that editing one does not change the original.
var weightFiles = []string{".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack"}

// save makes the folder out: everything that is in c's, with another config.json, and ladder as longrope.json (nil: none).
// It appears by rename. Version control and the download tool's records stay behind.
func (c *checkpoint) save(ctx context.Context, out string, config *jsonDoc, ladder *ropescale.Ladder, r *Report, opts Options) (*Report, error) {
	out = filepath.Clean(out)
	if err := c.refuseFolder(out); err != nil {
		return nil, err
	}
	tmp, err := createTempDir(filepath.Dir(out))
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) // nothing is there after the rename
	cp := &copier{from: c.dir, to: tmp, copyWeights: opts.CopyWeights, progress: opts.Progress, skip: []string{fileConfig, fileLadder, ".git", ".cache"}}
	for _, s := range c.shards {
		cp.total += s.size
	}
	if cp.progress == nil {
		cp.progress = func(int64, int64) {}
	}
	cp.progress(0, cp.total)
	if err := cp.folder(ctx, "."); err != nil {
		return nil, hint(err)
	}
	if err := writeSynced(filepath.Join(tmp, fileConfig), func(w io.Writer) error { _, err := w.Write(config.text); return err }); err != nil {
		return nil, hint(err)
	}
	if ladder != nil {
		if err := writeSynced(filepath.Join(tmp, fileLadder), ladder.WriteFactors); err != nil {
			return nil, hint(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	syncDir(tmp)
	if err := os.Rename(tmp, out); err != nil {
		return nil, err
	}
	syncDir(filepath.Dir(out))
	cp.progress(cp.total, cp.total)
	if cp.linked > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d weight files are hard links to those of %s, and take no room; --copy-weights makes copies", cp.linked, c.dir))
	}
	r.Path, r.Size = out, cp.total
	return r, nil
}

// refuseFolder is an error when out cannot become a new folder.
func (c *checkpoint) refuseFolder(out string) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s: exists already; remove it first, or give the output another name", out)
	}
	in, err := filepath.EvalSymlinks(c.dir)
	if err != nil {
		return err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(out))
	if err != nil {
		return err
	}
	for _, p := range []*string{&in, &parent} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if rel, err := filepath.Rel(in, parent); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fmt.Errorf("%s: lies inside of the input folder; give the output a place outside", out)
	}
	return nil
}

// createTempDir is createTemp for a folder.
func createTempDir(dir string) (string, error) {
	f, err := createTemp(dir)
	if err != nil {
		return "", err
	}
	name := f.Name()
	f.Close()
	if err := os.Remove(name); err != nil {
		return "", err
	}
	return name, os.Mkdir(name, 0o777)
}

// writeSynced makes a file and has it on disk.
func writeSynced(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Sync(), f.Close())
}

// copier makes a folder like another.
type copier struct {
	from, to    string
	skip        []string // at the top
	copyWeights bool
	progress    func(done, total int64)
	done, total int64
	linked      int
}

func (cp *copier) folder(ctx context.Context, rel string) error {
	entries, err := os.ReadDir(filepath.Join(cp.from, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if rel == "." && slices.Contains(cp.skip, e.Name()) {
			continue
		}
		name := filepath.Join(rel, e.Name())
		// The download tool's snapshots are links to files elsewhere: what they point to is meant.
		fi, err := os.Stat(filepath.Join(cp.from, name))
		if err != nil {
			return err
		}
		switch {
		case fi.IsDir() && e.Type()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s: a link to a folder; replace it by the folder, or remove it", filepath.Join(cp.from, name))
		case fi.IsDir():
			if err := os.Mkdir(filepath.Join(cp.to, name), 0o777); err != nil {
				return err
			}
			err = cp.folder(ctx, name)
		case fi.Mode().IsRegular():
			err = cp.file(ctx, name, fi)
		default:
			err = fmt.Errorf("%s: neither a file nor a folder", filepath.Join(cp.from, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (cp *copier) file(ctx context.Context, name string, fi fs.FileInfo) error {
	from, to := filepath.Join(cp.from, name), filepath.Join(cp.to, name)
	weights := slices.Contains(weightFiles, strings.ToLower(filepath.Ext(name)))
	if weights && !cp.copyWeights {
		real, err := filepath.EvalSymlinks(from)
		if err != nil {
			return err
		}
		// Another device, or a file system without links: a copy does.
		if os.Link(real, to) == nil {
			cp.linked++
			cp.moved(fi.Size(), weights)
			return nil
		}
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return writeSynced(to, func(w io.Writer) error {
		for {
			n, err := io.CopyN(w, src, chunk)
			cp.moved(n, weights)
			if errors.Is(err, io.EOF) {
				return os.Chmod(to, fi.Mode().Perm()|0o200)
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
		}
	})
}

// moved counts weights, which are what takes time.
func (cp *copier) moved(n int64, weights bool) {
	if weights {
		cp.done = min(cp.done+n, cp.total)
		cp.progress(cp.done, cp.total)
	}
}
