package draw

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// Every method has a colour of its own in figures and on the page, a label and a class.
func TestEveryMethodHasItsColour(t *testing.T) {
	methods := ropescale.Methods()
	require.GreaterOrEqual(t, len(methodShades), len(methods),
		"a shade for each of ropescale.Methods, in order")
	seen := map[uint32]string{}
	css := string(methodStyles())
	for i, m := range methods {
		for _, color := range []uint32{methodShades[i].figure, methodShades[i].light} {
			assert.Empty(t, seen[color], "%s has the colour of another method", m.Name)
			seen[color] = m.Name
		}
		assert.Equal(t, rgb(methodShades[i].figure), styleOf(m.Name, 7).color)
		assert.Equal(t, styleOf(m.Name, 1).color, styleOf(m.Label, 2).color, "by its label, too")
		assert.Equal(t, m.Name, pageClass(m.Name, 0))
		assert.Contains(t, css, "."+m.Name+" { color: var(--"+m.Name+") }")
		assert.Equal(t, m.Label, ropescale.MethodLabel(m.Name))
	}
	assert.Equal(t, styleOf("own", 0).color, styleOf("stock", 3).color)
	assert.Equal(t, "own", pageClass("stock", 0))
	assert.NotEqual(t, styleOf("ntk.json", 0).color, styleOf("ntk.json", 1).color)
}
