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
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/ropescale"
)

// convertCheckpoint writes a copy of the folder with ladder l.
func convertCheckpoint(ctx context.Context, in, out string, l *ropescale.Ladder, opts Options) (*Report, error) {
	c, err := openCheckpoint(in)
	if err != nil {
		return nil, err
	}
	if err := c.refuseUnknown(); err != nil {
		return nil, err
	}
	if !c.rope.known {
		return nil, fmt.Errorf("%s: rope type %q: transformers cannot combine it with longrope; a GGUF file can have the ladder: name the output .gguf", c.config.path, c.rope.kind)
	}
	if l == nil {
		return nil, errors.New("convert: no ladder")
	}
	if c.rope.local {
		return nil, fmt.Errorf("%s: %w", c.config.path, ErrLocalRoPE)
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
	if g := m.Rungs[row-1]; g.Length <= m.OriginalContextLength {
		return nil, fmt.Errorf("the rung for %d tokens is for short texts; config.json needs one beyond %d: choose a longer one", g.Length, m.OriginalContextLength)
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
	dir, err := atomicfile.CreateDir(out)
	if err != nil {
		return nil, err
	}
	defer dir.Discard()
	tmp := dir.Temp
	cp := &copier{from: c.dir, to: tmp, copyWeights: opts.CopyWeights, progress: opts.Progress, skip: []string{fileConfig, fileLadder, ".git", ".cache"}}
	for _, s := range c.shards {
		cp.total += s.size
	}
	if cp.progress == nil {
		cp.progress = func(int64, int64) {}
	}
	cp.progress(0, cp.total)
	if err := cp.folder(ctx, "."); err != nil {
		return nil, atomicfile.Hint(err)
	}
	if err := atomicfile.WriteIn(filepath.Join(tmp, fileConfig), func(w io.Writer) error { _, err := w.Write(config.text); return err }); err != nil {
		return nil, atomicfile.Hint(err)
	}
	if ladder != nil {
		if err := atomicfile.WriteIn(filepath.Join(tmp, fileLadder), ladder.WriteFactors); err != nil {
			return nil, atomicfile.Hint(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := dir.Commit(); err != nil {
		return nil, err
	}
	cp.progress(cp.total, cp.total)
	if cp.linked > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("the weights are hard links to those of %s (%d files) and take no room; --copy-weights makes copies", c.dir, cp.linked))
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
	return atomicfile.WriteIn(to, func(w io.Writer) error {
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
