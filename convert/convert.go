package convert

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/hf"
	"github.com/longrope/longrope/ropescale"
)

// StockNone as Options.StockRung gives an unpatched host nothing beyond a raised context length.
const StockNone = -1

// Options of a conversion. The zero value is the default.
type Options struct {
	// StockRung is the row of the rung that an unpatched host gets, and that config.json of a
	// checkpoint says, counted as in the ladder that is given, from 1; 0 is the last, whose length
	// the file's context length says; StockNone is none.
	StockRung int
	// Crossing is what a patched host does with the cached keys of a sequence that goes to another
	// rung, where neither the request nor the environment says: "recompute" or "rerotate"; empty
	// leaves it to the host, which recomputes.
	Crossing string
	// NumCtx is the parameter num_ctx that ConvertToStore gives the model: 0 is the last rung's
	// length.
	NumCtx int
	// CopyWeights copies the weight files of a checkpoint folder instead of linking them.
	CopyWeights bool
	// Progress is called with the bytes written so far and in all, at least at the start and at the
	// end.
	Progress func(done, total int64)
}

// Report says what a conversion did.
type Report struct {
	Path    string            `json:"path"`
	Size    int64             `json:"size"`
	Name    string            `json:"name,omitempty"`    // in the store
	Digest  string            `json:"digest,omitempty"`  // of the store's blob, sha256:…
	NumCtx  int               `json:"num_ctx,omitempty"` // set for the model in the store
	Ladder  *ropescale.Ladder `json:"ladder,omitempty"`  // as it stands in the file, row 0 in Base
	Weights string            `json:"weights,omitempty"` // the blob that a layer shares, sha256:…
	Changes []gguf.Change     `json:"changes"`
	Stock   gguf.Stock        `json:"stock,omitzero"`
	Notes   []string          `json:"notes,omitempty"`
}

// Convert writes the model in with ladder l to the file out. A ladder that in carries is replaced.
// An existing out is replaced at the end, by rename; on any error, or when ctx is done, it is
// untouched and nothing else remains. l.Base may be nil: row 0 is read from the model.
//
// If in is a checkpoint folder, out is a GGUF file when it is called .gguf, for which l may be nil:
// then the file gets the ladder that the folder carries, or none. Else out becomes a new folder, by
// rename too; it must not exist.
func Convert(ctx context.Context, in, out string, l *ropescale.Ladder, opts Options) (*Report,
	error,
) {
	if hf.IsCheckpoint(in) && !isGGUFName(out) {
		return convertCheckpoint(ctx, in, out, l, opts)
	}
	f, c, done, err := openModel(ctx, in, filepath.Dir(out), &opts)
	if err != nil {
		return nil, err
	}
	defer done()
	j, err := prepare(f, c, l, opts)
	if err != nil {
		return nil, err
	}
	return j.save(ctx, out, opts)
}

// Strip writes the model in without its ladder to the file out: the keys, the tensors and the
// context length that the model had before Convert, byte for byte. Of a checkpoint folder it makes
// another folder.
func Strip(ctx context.Context, in, out string, opts Options) (*Report, error) {
	if hf.IsCheckpoint(in) {
		return stripCheckpoint(ctx, in, out, opts)
	}
	f, err := gguf.Open(in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	arch, _, err := f.String("general.architecture")
	if err != nil {
		return nil, err
	}
	l, err := gguf.ReadLadder(f, arch)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, fmt.Errorf("%s: %w: no key %s", in, gguf.ErrNoLadder,
			gguf.LadderKey(arch, "version"))
	}
	e := gguf.NewEdit(f)
	ok, err := e.Undo(arch)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w: the file does not say what it was like before (no key %s)",
			in, gguf.ErrNoLadder, gguf.LadderKey(arch, "replaced"))
	}
	o, err := gguf.ReadOwn(e.View())
	if err != nil {
		return nil, err
	}
	j := &job{f: f, e: e, report: Report{Changes: e.Changes(), Stock: gguf.StockView(e.View(), o,
		nil)}}
	return j.save(ctx, out, opts)
}

const noteNoStrip = "the file does not say what it was like before its ladder, so it cannot be " +
	"stripped"

// job is a conversion that is decided and not yet written.
type job struct {
	f      *gguf.File
	e      *gguf.Edit
	report Report
}

// prepare decides a conversion. c is the checkpoint that f was made of, nil for a model that was a
// GGUF already.
func prepare(f *gguf.File, c *hf.Checkpoint, l *ropescale.Ladder, opts Options) (*job, error) {
	arch, _, err := f.String("general.architecture")
	if err != nil {
		return nil, err
	}
	old, err := gguf.ReadLadder(f, arch)
	if err != nil {
		return nil, err
	}
	e := gguf.NewEdit(f)
	known := true
	if old != nil {
		if known, err = e.Undo(arch); err != nil {
			return nil, err
		}
	}
	var o *gguf.Own
	var notes []string
	if c != nil {
		mend(c, e, arch)
		if err := checkTensors(c, e, arch); err != nil {
			return nil, err
		}
		notes = hostNotes(c, e.View())
		if o, err = sayOwn(c, e); err != nil {
			return nil, err
		}
		if l == nil {
			l = c.Carried()
		}
		if l == nil {
			stock := gguf.StockView(e.View(), o, nil)
			r := Report{Changes: e.Changes(), Stock: stock, Notes: notes}
			return &job{f: f, e: e, report: r}, nil
		}
		override(c, o)
	} else if o, err = gguf.ReadOwn(e.View()); err != nil {
		return nil, err
	}
	if old != nil {
		// Row 0 is written down; where the file does not say what it was like, no more is known.
		o.Base = *old.Base
		if !known {
			o.Context, o.Rope.OriginalContextLength, o.Long = old.OriginalContextLength,
				old.OriginalContextLength, nil
		}
	}
	if err := gguf.CheckLocalRoPE(f, arch); err != nil {
		return nil, err
	}
	m, more, err := o.Fit(f.Path, l)
	if err != nil {
		return nil, err
	}
	notes = slices.Concat(notes, Misspelt(l), more)
	row, err := stockRow(l, m, opts.StockRung)
	if err != nil {
		return nil, err
	}
	if !known {
		notes = append(notes, noteNoStrip)
	}
	if err := put(e, o, m, row, known, opts.Crossing); err != nil {
		return nil, err
	}
	j := &job{f: f, e: e, report: Report{Ladder: m, Changes: e.Changes(), Notes: notes}}
	j.report.Stock = gguf.StockView(e.View(), o, m)
	return j, nil
}

// put writes ladder m over the model's own RoPE o into e. row is the rung that an unpatched host
// gets, 0 for none. record says that the file then says what it was like before.
func put(e *gguf.Edit, o *gguf.Own, m *ropescale.Ladder, row int, record bool,
	crossing string,
) error {
	before := e.Clone()
	last := m.Rungs[len(m.Rungs)-1]
	e.Set(o.Arch+".context_length", uint32(last.Length))
	if row > 0 {
		e.PutStock(o, m.Rungs[row-1])
	}
	key := o.Arch + ".rope.scaling.original_context_length"
	if !gguf.KeepsOriginal(e.View(), o, row > 0, key) {
		e.Set(key, uint32(m.OriginalContextLength))
	}
	if err := e.PutLadder(o.Arch, m); err != nil {
		return err
	}
	switch crossing {
	case "":
	case "recompute", "rerotate":
		e.Set(gguf.LadderKey(o.Arch, "crossing"), crossing)
	default:
		return fmt.Errorf("crossing is %q, want recompute or rerotate", crossing)
	}
	o.Context = last.Length
	if record {
		return e.Record(before, o.Arch)
	}
	return nil
}

// isGGUFName says that an output of this name is a GGUF file, whatever the input.
func isGGUFName(path string) bool { return strings.EqualFold(filepath.Ext(path), ".gguf") }

// stockRow turns Options.StockRung, a row of l, into a row of m, which may have a rung of the
// model's own before them.
func stockRow(l, m *ropescale.Ladder, rung int) (int, error) {
	switch {
	case rung == StockNone:
		return 0, nil
	case rung == 0:
		return len(m.Rungs), nil
	case rung < 0 || rung > len(l.Rungs):
		return 0, fmt.Errorf("stock rung %d: the ladder has rungs 1 to %d", rung, len(l.Rungs))
	}
	return rung + len(m.Rungs) - len(l.Rungs), nil
}

// save writes the file.
func (j *job) save(ctx context.Context, out string, opts Options) (*Report, error) {
	if err := j.f.RefuseOverlap(out); err != nil {
		return nil, err
	}
	p, err := j.e.Lay()
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(out, func(w io.Writer) error {
		return p.Write(ctx, w,
			opts.Progress)
	}); err != nil {
		return nil, err
	}
	j.report.Path, j.report.Size = out, p.Size
	return &j.report, nil
}
