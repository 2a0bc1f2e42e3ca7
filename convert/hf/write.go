package hf

import (
	"context"
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

// Written is what a folder that is written says in place of the original.
type Written struct {
	config *jsonDoc
	ladder *ropescale.Ladder // longrope.json; nil: none
}

// Original is the folder as it was before its ladder.
func (c *Checkpoint) Original() *Written { return &Written{config: c.plain} }

// weightFiles are hard-linked where the file system can: they are large, and programs that change a
// model write new ones. All other files are copied, so that editing one does not change the
// original.
var weightFiles = []string{
	".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5",
	".msgpack",
}

// Save makes the folder out: everything that is in c's, with what w says. It appears by rename.
// Version control and the download tool's records stay behind. It returns how many files of weights
// are hard links.
func (c *Checkpoint) Save(ctx context.Context, out string, w *Written, copyWeights bool,
	progress func(done, total int64),
) (int, error) {
	out = filepath.Clean(out)
	if err := c.refuseFolder(out); err != nil {
		return 0, err
	}
	dir, err := atomicfile.CreateDir(out)
	if err != nil {
		return 0, err
	}
	defer dir.Discard()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	cp := &copier{
		from: c.Dir, to: dir.Temp, copyWeights: copyWeights, progress: progress,
		total: c.Size(),
		skip:  []string{ConfigFile, LadderFile, ".git", ".cache"},
	}
	cp.progress(0, cp.total)
	if err := cp.folder(ctx, "."); err != nil {
		return 0, atomicfile.Hint(err)
	}
	text := func(to io.Writer) error { _, err := to.Write(w.config.text); return err }
	if err := atomicfile.WriteIn(filepath.Join(dir.Temp, ConfigFile), text); err != nil {
		return 0, atomicfile.Hint(err)
	}
	if w.ladder != nil {
		if err := atomicfile.WriteIn(filepath.Join(dir.Temp, LadderFile),
			w.ladder.WriteFactors); err != nil {
			return 0, atomicfile.Hint(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := dir.Commit(); err != nil {
		return 0, err
	}
	cp.progress(cp.total, cp.total)
	return cp.linked, nil
}

// refuseFolder is an error when out cannot become a new folder.
func (c *Checkpoint) refuseFolder(out string) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s: exists already; remove it first, or give the output another name",
			out)
	}
	in, err := filepath.EvalSymlinks(c.Dir)
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
	if rel, err := filepath.Rel(in, parent); err == nil && rel != ".." &&
		!strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fmt.Errorf("%s: lies inside of the input folder; give the output a place outside",
			out)
	}
	return nil
}

// copyChunk bytes are copied between two looks at the context.
const copyChunk = 1 << 20

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
			return fmt.Errorf("%s: a link to a folder; replace it by the folder, or remove it",
				filepath.Join(cp.from, name))
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
			n, err := io.CopyN(w, src, copyChunk)
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
