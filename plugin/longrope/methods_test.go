package longrope

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// Every method that needs no search is offered: the help of convert and eval and the error about an
// unknown one list it, and both make its ladder.
func TestEveryMethodIsOffered(t *testing.T) {
	help := func(args ...string) string {
		var out strings.Builder
		cmd := newCommand(openFake)
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append(args, "--help"))
		require.NoError(t, cmd.Execute())
		return out.String()
	}
	m := tinyModel(t)
	_, unknown := ladderBy(m.info, "yran", []int{1024}, factorsOptions{})
	require.ErrorContains(t, unknown, "did you mean")
	names := ropescale.MethodNames(ropescale.ClosedForm)
	require.GreaterOrEqual(t, len(names), 4)
	for _, name := range names {
		for _, text := range []string{help("convert"), help("eval"), unknown.Error()} {
			assert.Contains(t, text, name)
		}
		l, err := ladderBy(m.info, name, []int{256, 1024}, factorsOptions{})
		require.NoError(t, err)
		require.Len(t, l.Rungs, 2)
		assert.Equal(t, name, l.Source.Method)
		methods, err := methodsFor(m, []string{name}, 1024, []int{256, 1024})
		require.NoError(t, err)
		assert.Equal(t, l.Rungs[1], methods[0].Ladder.Rungs[len(methods[0].Ladder.Rungs)-1])
		assert.Equal(t, name == "dynamic", eachLength(name))
	}
	whole, err := ladderBy(m.info, "yarn"+resonance, []int{1024}, factorsOptions{})
	require.NoError(t, err)
	assert.Equal(t, "yarn+resonance", whole.Source.Method)
	for i, w := range m.info.Rope().Wavelengths() {
		w *= whole.Rungs[0].Factors[i]
		assert.InDelta(t, math.Round(w), w, 1e-9, "whole tokens")
	}
	for _, name := range names { // a ladder in one command
		l, err := ladderFor(m, name, []int{256, 512, 1024}, factorsOptions{startWindow: 4})
		require.NoError(t, err)
		require.Len(t, l.Rungs, 3)
		for i, n := range []int{256, 512, 1024} {
			one, err := ladderBy(m.info, name, []int{n}, factorsOptions{startWindow: 4})
			require.NoError(t, err)
			assert.Equal(t, one.Rungs[0], l.Rungs[i])
		}
	}
	doubled, err := ladderFor(m, "dynamic", []int{700}, factorsOptions{})
	require.NoError(t, err)
	assert.Equal(t, []int{256, 512, 700}, []int{
		doubled.Rungs[0].Length, doubled.Rungs[1].Length, doubled.Rungs[2].Length,
	})
	_, err = ladderFor(m, "yarn", []int{128, 1024}, factorsOptions{})
	assert.ErrorContains(t, err, "--target 128: ")
	for _, name := range []string{"longrope", "own"} {
		_, err := ladderBy(m.info, name, []int{1024}, factorsOptions{})
		assert.ErrorContains(t, err, "unknown method")
	}
}
