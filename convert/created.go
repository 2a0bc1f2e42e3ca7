package convert

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/hf"
	"github.com/longrope/longrope/ropescale"
)

// CarriedLayer is the layer of what the model file at path, which the host's converter made of the
// checkpoint folder dir, does not say of the folder's RoPE: the ladder that it carries, or the own
// scaling of its model. It is nil where there is nothing to say.
func CarriedLayer(dir, path string) ([]byte, error) {
	if !hf.IsCheckpoint(dir) {
		return nil, nil
	}
	layer, err := carried(dir, path)
	if err != nil { // the server's folder is a temporary one
		text := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
		return nil, errors.New(strings.NewReplacer(dir, "the folder", path,
			"the model's file").Replace(text))
	}
	return layer, nil
}

func carried(dir, path string) ([]byte, error) {
	c, err := hf.Open(dir)
	if err != nil {
		if hf.SaysLadder(dir) {
			return nil, err
		}
		return nil, nil // not one of the models whose RoPE is known here; the host may know it
	}
	if err := c.RefuseUnknown(); err != nil {
		return nil, err
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if c.Carried() == nil {
		return ownLayer(c, f)
	}
	j, err := prepare(f, c, nil, Options{})
	if err != nil {
		return nil, err
	}
	return encodeLadder(j.report.Ladder, "", nil)
}

// ownLayer is a layer that says the own RoPE of checkpoint c, where file f says another: with one
// rung, for as many tokens as the model was trained for, that is row 0 again, since a ladder has
// one.
func ownLayer(c *hf.Checkpoint, f *gguf.File) ([]byte, error) {
	arch, _, err := f.String("general.architecture")
	if err != nil {
		return nil, err
	}
	r := c.Rope
	base, _, err := f.Float(arch + ".rope.freq_base")
	o, errOwn := gguf.ReadOwn(f)
	switch {
	case err != nil:
		return nil, err
	case errors.Is(errOwn, gguf.ErrNoRoPE), !r.Known, r.Local,
		gguf.CheckLocalRoPE(f, arch) != nil:
		return nil, nil // as the host has it: its engine has numbers of its own
	case base == 0 && r.Rope.FreqBase != 10000: // which the engines differ in
		return nil, fmt.Errorf("%s: the host's converter finds no rope_theta at the top, and the "+
			"model's is %g", hf.ConfigFile, r.Rope.FreqBase)
	case errOwn != nil:
		return nil, errOwn
	case r.Rope.Dims != o.Rope.Dims:
		return nil, fmt.Errorf("%s: %d dimensions of a head rotate, in the file that the host's "+
			"converter makes of it %d", hf.ConfigFile, r.Rope.Dims, o.Rope.Dims)
	case gguf.RowsClose(o.Host, r.Base) && math.Abs(r.Rope.FreqBase/o.Rope.FreqBase-1) < 1e-6:
		return nil, nil
	case math.Abs(r.Rope.FreqBase/o.Rope.FreqBase-1) > 1e-6:
		return nil, fmt.Errorf("%s: rope_theta is %g, in the file that the host's converter makes "+
			"of it %g", hf.ConfigFile, r.Rope.FreqBase, o.Rope.FreqBase)
	}
	rung := r.Base
	rung.Length = r.Context
	return encodeLadder(&ropescale.Ladder{
		Version:               ropescale.LadderVersion,
		OriginalContextLength: r.Context, RopeDimensionCount: o.Rope.Dims, Base: &r.Base,
		Rungs: []ropescale.Rung{rung}, Source: &ropescale.Source{Method: r.Kind},
	}, "", nil)
}
