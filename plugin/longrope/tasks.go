package longrope

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
	// The tasks of eval are those of package evals and of the packages listed here, which register
	// theirs.
	_ "github.com/longrope/longrope/evals/choice"
	_ "github.com/longrope/longrope/evals/hiddenkeys"
	_ "github.com/longrope/longrope/evals/longppl"
	_ "github.com/longrope/longrope/evals/ruler"
)

// allTasks is the task that runs those with a place in it.
const allTasks = "all"

// taskNames are what eval takes.
func taskNames() []string {
	var some, others []string
	for _, t := range evals.Tasks() {
		if t.All > 0 {
			some = append(some, t.Name)
		} else {
			others = append(others, t.Name)
		}
	}
	return slices.Concat(some, []string{allTasks}, suites(), others)
}

// suites are the names that several tasks go by.
func suites() (names []string) {
	for _, t := range evals.Tasks() {
		if t.Suite != "" && !slices.Contains(names, t.Suite) {
			names = append(names, t.Suite)
		}
	}
	return names
}

// taskHelp is a line for each task.
func taskHelp() string {
	var b strings.Builder
	var all []string
	for _, t := range evals.Tasks() {
		fmt.Fprintf(&b, "  %-15s %s\n", t.Name, t.Help)
		if t.All > 0 {
			all = append(all, t.Name)
		}
	}
	fmt.Fprintf(&b, "  %-15s %s\n", allTasks, strings.Join(all, " and "))
	for _, suite := range suites() {
		fmt.Fprintf(&b, "  %-15s %s\n", suite, "all of these that need no file, and their average")
	}
	return b.String()
}

// tasksNamed are the tasks that a name stands for. Tasks of a suite that need a file of the user's
// are among them where a flag gives it.
func tasksNamed(name string, given *pflag.FlagSet) ([]evals.Task, error) {
	var suite []evals.Task
	for _, t := range evals.Tasks() {
		if t.Suite != "" && t.Suite == name && (t.Example == nil ||
			given.Changed(t.Example[0].Flag) || given.Changed("samples")) {
			suite = append(suite, t)
		}
	}
	if len(suite) > 0 {
		return suite, nil
	}
	if name == allTasks {
		return slices.DeleteFunc(evals.Tasks(), func(t evals.Task) bool { return t.All == 0 }), nil
	}
	t, err := evals.TaskByName(name)
	if err != nil {
		known := taskNames()
		return nil, fmt.Errorf("unknown task %q; known: %s%s", name, strings.Join(known, ", "),
			suggest(name, known))
	}
	return []evals.Task{t}, nil
}
