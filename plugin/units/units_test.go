package units

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSizes(t *testing.T) {
	assert.Equal(t, "8k,4k,100", Sizes([]int{8192, 4096, 100}))
	assert.Empty(t, Sizes(nil))
}

func TestDuration(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0:                                     "0 s",
		59*time.Second + 400*time.Millisecond: "59 s",
		90 * time.Second:                      "1 min 30 s",
		3599600 * time.Millisecond:            "1 h 00 min",
		26 * time.Hour:                        "26 h 00 min",
	} {
		assert.Equal(t, want, Duration(in))
	}
	_, ok := Remaining(time.Millisecond, 0.5)
	assert.False(t, ok, "too early")
	left, ok := Remaining(10*time.Second, 0.25)
	assert.True(t, ok)
	assert.Equal(t, 30*time.Second, left)
}
