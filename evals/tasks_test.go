package evals_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/tasktest"
)

// Tasks of eval all come first, and no two have a name.
func TestTasks(t *testing.T) {
	var names []string
	all := 0
	for _, task := range Tasks() {
		require.NotContains(t, names, task.Name)
		names = append(names, task.Name)
		if task.All > 0 {
			all++
			require.Equal(t, all, task.All, "places in eval all are 1, 2, …")
			require.Len(t, names, all, "and come first")
		}
		if task.Name == "perplexity" || task.Name == "passkey" { // others: in their packages
			t.Run(task.Name, func(t *testing.T) { tasktest.Check(t, task) })
		}
	}
	require.Equal(t, []string{"perplexity", "passkey"}, names[:2])
	_, err := TaskByName("riddles")
	require.ErrorContains(t, err,
		`no task "riddles": want one of perplexity, passkey, arc_challenge`)
}
