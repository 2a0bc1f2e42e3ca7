package tail

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLastLine(t *testing.T) {
	var b Buffer
	assert.Empty(t, b.LastLine())
	for i := range 10_000 {
		fmt.Fprintf(&b, "line %d of many\n", i)
	}
	assert.Equal(t, "line 9999 of many", b.LastLine())
	assert.LessOrEqual(t, len(b.b), 2*kept)
	fmt.Fprint(&b, "an end without a line's\n \n")
	assert.Equal(t, "an end without a line's", b.LastLine())
}
