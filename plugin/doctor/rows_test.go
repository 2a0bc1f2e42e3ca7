//go:build cgo

package doctor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/kernel"
)

// TestRows: the CPU takes rows, and a result that belongs to other rows is far from right.
func TestRows(t *testing.T) {
	b := examineBackends()
	require.NotEmpty(t, b.Devices)
	for _, d := range b.Devices {
		if d.CPU {
			grade, text := d.rows()
			assert.Equal(t, OK, grade, text)
		}
	}
	for _, c := range cases() {
		x := c.Input()
		right := exact(c, x)
		for name, edit := range map[string]func(row int32) int32{
			"the first row":    func(int32) int32 { return 0 },
			"the next row":     func(r int32) int32 { return (r + 1) % 3 },
			"no start windows": func(r int32) int32 { return max(r, 1) },
		} {
			wrong := c
			wrong.Positions = append([]int32(nil), c.Positions...)
			for i := c.Tokens; i < 2*c.Tokens; i++ {
				wrong.Positions[i] = edit(wrong.Positions[i])
			}
			y, err := kernel.Devices()[0].Run(wrong, x)
			require.NoError(t, err)
			assert.Greater(t, deviation(c, y, right), 10*tolerance(c), "%s: %v", name, c)
		}
	}
}
