package tests

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/kernel"
)

// A token's result depends on its own row alone: it is the one that a vector of that row's factors
// gives, bit for bit, with the row's attention factor multiplied to the op's. No oracle and no
// tolerance comes into it, so it also holds devices to rows whose sine is coarser than what a wrong
// row does at small angles.
func TestTokensTakeTheirRow(t *testing.T) {
	onDevices(t, func(t *testing.T, d *kernel.Device, cases []kernel.Case) {
		refused, all := 0, 0
		for _, c := range cases {
			if !c.Rows || len(c.Factors) != 5 || c.Cache || c.InPlace != (c.View == kernel.Fused) {
				continue
			}
			all++
			x := c.Input()
			got, err := d.Run(c, x)
			if errors.Is(err, kernel.ErrUnsupported) {
				refused++
				continue
			}
			require.NoError(t, err)
			for r, row := range c.Factors {
				v := c
				v.Rows, v.Kind = false, "a row as vector"
				v.Factors = [][]float32{row[:c.Pairs()]}
				v.Positions = c.Positions[:len(c.Positions)-c.Tokens]
				v.AttnFactor *= row[c.Pairs()]
				want, err := d.Run(v, x)
				require.NoError(t, err)
				for token := range c.Tokens {
					if c.Row(token) != r {
						continue
					}
					for b := range c.Batch {
						for h := range c.Heads {
							at := c.OutputIndex(b, token, h)
							require.Equal(t, want[at:at+c.HeadDim], got[at:at+c.HeadDim],
								"%v: token %d of batch %d, head %d, row %d", c, token, b, h, r)
						}
					}
				}
			}
		}
		if all == 0 {
			return
		}
		skipUnsupported(t, d, refused, all)
		t.Logf("%d cases: each token is what a vector of its row gives", all-refused)
	})
}

// Vulkan computes RMS norm, its weight and RoPE as one op, with the store into the cache if that
// follows: rows there are right too. A device with less than 220 bytes of push constants, such as
// lavapipe by its own account, computes them apart; TestVulkan has it do otherwise.
func TestNormedRope(t *testing.T) {
	onDevices(t, func(t *testing.T, d *kernel.Device, cases []kernel.Case) {
		refused, all, fused := 0, 0, 0
		var worst deviation
		for _, c := range cases {
			if c.Mode.Multi() || c.F16 || c.View != kernel.Contiguous || c.InPlace ||
				c.Dims != c.HeadDim ||
				c.FreqScale != 1 ||
				c.Where != "window" {
				continue
			}
			all++
			c.Norm = true
			x := c.Input()
			g, err := d.NewGraph(c, x)
			if errors.Is(err, kernel.ErrUnsupported) {
				refused++
				continue
			}
			require.NoError(t, err)
			require.NoError(t, g.Compute(1))
			dev := measure(d, c, c.Normed(x), g.Output(), -1)
			if g.Fused() {
				fused++
			}
			g.Free()
			require.LessOrEqual(t, dev.ratio, 1.0, "%v\n%s", c, dev.where)
			if dev.ratio > worst.ratio {
				worst = dev
			}
		}
		if all == 0 {
			return
		}
		skipUnsupported(t, d, refused, all)
		t.Logf("%d cases, %d of them one op, worst of its bound %.3f at %s", all-refused, fused,
			worst.ratio, worst.where)
		if os.Getenv(vulkanFuses) != "" {
			require.Equal(t, all, fused, "cases that are one op")
		}
	})
}
