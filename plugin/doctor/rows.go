//go:build cgo

package doctor

import (
	"errors"
	"math"

	"github.com/longrope/longrope/plugin/kernel"
	"github.com/longrope/longrope/ropescale"
)

// Of the ops that devices are given: values are up to 2 and angles up to a few thousand, of which
// float32 keeps less than a thousandth of a radian; float16 keeps a value of 2 to a thousandth. The
// factors of another row turn by whole radians.
const (
	tolerance32 = 5e-3
	tolerance16 = 1e-2
)

// rope is the RoPE of the ops: a pair turns some thousand radians at most.
var rope = ropescale.Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 128}

// ladder has rungs that differ in every pair, with start windows that the positions cross.
var ladder = func() *ropescale.Ladder {
	rung := func(length, window int, attention, stretch float64) ropescale.Rung {
		g := ropescale.Rung{Length: length, StartWindow: window, AttentionFactor: attention}
		for i := range rope.Pairs() {
			g.Factors = append(g.Factors, float64(float32(1+stretch*float64(i+1))))
		}
		return g
	}
	base := rope.Identity(rope.OriginalContextLength)
	return &ropescale.Ladder{
		RopeDimensionCount: rope.Dims, OriginalContextLength: rope.OriginalContextLength,
		Base:  &base,
		Rungs: []ropescale.Rung{rung(512, 8, 1.0625, 0.125), rung(2048, 0, 1.25, 0.25)},
	}
}()

// cases are the ops: both layouts and types, plain and stored in a cache, as models have them.
func cases() []kernel.Case {
	c := kernel.Case{
		Dims: rope.Dims, HeadDim: rope.Dims, Heads: 4, Batch: 1, Tokens: 48, Rows: true, Threads: 2,
		FreqBase: float32(rope.FreqBase), FreqScale: 1, AttnFactor: 1,
		Where: "of two sequences", Kind: "rows",
	}
	rows := make([]int32, c.Tokens)
	c.Positions = make([]int32, c.Tokens)
	for t := range c.Tokens { // three sequences, on each rung and on none, in one batch
		rung := t % 3
		p := t / 3 * 127
		c.Positions[t], rows[t] = int32(p), int32(ladder.Row(rung, p))
	}
	c.Positions = append(c.Positions, rows...)
	for r := range len(ladder.Rungs) + 1 {
		g := ladder.At(r)
		var row []float32
		for _, f := range g.Factors {
			row = append(row, float32(f))
		}
		c.Factors = append(c.Factors, append(row, float32(g.AttentionFactor)))
	}
	var all []kernel.Case
	for _, mode := range []kernel.Mode{kernel.Normal, kernel.NeoX} {
		for i := range 4 {
			c := c
			c.Mode, c.F16 = mode, i == 1
			c.Cache, c.CacheF16 = i > 1, i == 3
			all = append(all, c)
		}
	}
	return all
}

// exact is the result of a case by ropescale, in float64, as the case has its output.
func exact(c kernel.Case, x []float32) []float64 {
	y := make([]float64, c.OutputLen())
	layout := ropescale.Normal
	if c.Mode == kernel.NeoX {
		layout = ropescale.NeoX
	}
	head := make([]float64, c.HeadDim)
	for t := range c.Tokens {
		for h := range c.Heads {
			for i := range head {
				head[i] = float64(x[c.Index(0, t, h)+i])
			}
			rope.Rotate(head, int(c.Positions[t]), ladder.At(c.Row(t)), layout)
			copy(y[c.OutputIndex(0, t, h):], head)
		}
	}
	return y
}

// examineBackends is the backend of this process.
func examineBackends() backend {
	devices := kernel.Devices() // which loads the library
	b := backend{Library: kernel.CPULibrary()}
	var cpu *kernel.Device
	for _, d := range devices {
		if d.CPU() {
			cpu = d
		}
	}
	for _, d := range devices {
		b.Devices = append(b.Devices, examineDevice(d, cpu))
	}
	return b
}

func examineDevice(d, cpu *kernel.Device) device {
	r := device{Name: d.Name(), Description: d.Description(), CPU: d.CPU()}
	r.Free, r.Total = d.Memory()
	for _, c := range cases() {
		r.Cases++
		x := c.Input()
		y, err := d.Run(c, x)
		if errors.Is(err, kernel.ErrUnsupported) && !r.CPU {
			r.Refused++
			continue
		}
		want := exact(c, x)
		if err == nil && !r.CPU && cpu != nil {
			var z []float32
			if z, err = cpu.Run(c, x); err == nil {
				want = widen(z)
			}
		}
		if err != nil {
			r.Error = err.Error()
			return r
		}
		off := deviation(c, y, want)
		if r.Deviation = math.Max(r.Deviation, off); math.IsNaN(off) || off > tolerance(c) {
			r.Wrong++
		}
	}
	return r
}

func tolerance(c kernel.Case) float64 {
	if c.F16 || c.CacheF16 {
		return tolerance16
	}
	return tolerance32
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// deviation is the largest over the elements that the op writes.
func deviation(c kernel.Case, y []float32, want []float64) float64 {
	worst := 0.0
	for t := range c.Tokens {
		for h := range c.Heads {
			at := c.OutputIndex(0, t, h)
			for i := at; i < at+c.HeadDim; i++ {
				worst = math.Max(worst, math.Abs(float64(y[i])-want[i]))
			}
		}
	}
	return worst
}
