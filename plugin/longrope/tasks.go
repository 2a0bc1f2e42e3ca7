package longrope

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
	// The tasks of eval are those of package evals and of the packages listed here, which register
	// theirs.
	_ "github.com/longrope/longrope/evals/choice"
	"github.com/longrope/longrope/evals/recall"
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

// taskFlags are a job of every task, which its flags set, and the tasks that each flag is of.
type taskFlags struct {
	jobs   map[string]evals.Job
	owners map[string][]evals.Task
}

// newTaskFlags adds the flags of all tasks. Tasks that have a flag of one name share it.
func newTaskFlags(fl *pflag.FlagSet) taskFlags {
	f := taskFlags{map[string]evals.Job{}, map[string][]evals.Task{}}
	for _, t := range evals.Tasks() {
		f.jobs[t.Name] = t.New()
		own := pflag.NewFlagSet(t.Name, pflag.ContinueOnError)
		f.jobs[t.Name].Flags(own)
		own.VisitAll(func(x *pflag.Flag) {
			if before := fl.Lookup(x.Name); before != nil {
				before.Value = sharedValue{before.Value, x.Value}
			} else {
				fl.AddFlag(x)
			}
			f.owners[x.Name] = append(f.owners[x.Name], t)
		})
	}
	for name, owners := range f.owners {
		x := fl.Lookup(name)
		usage := []rune(x.Usage)
		if len(usage) > 1 && strings.ToLower(string(usage[1])) == string(usage[1]) {
			usage[0] = []rune(strings.ToLower(string(usage[0])))[0]
		}
		groups := strings.Join(groupsOf(owners), ", ")
		x.Usage = strings.ToUpper(groups[:1]) + groups[1:] + ": " + string(usage)
	}
	return f
}

// groupsOf are the names under which help and errors speak of tasks.
func groupsOf(tasks []evals.Task) (groups []string) {
	for _, t := range tasks {
		name := t.Group
		if name == "" {
			name = t.Name
		}
		if !slices.Contains(groups, name) {
			groups = append(groups, name)
		}
	}
	return groups
}

// sharedValue is a flag of two tasks.
type sharedValue struct {
	pflag.Value
	other pflag.Value
}

// String is empty for an empty list, so that help shows no default.
func (v sharedValue) String() string { return strings.TrimPrefix(v.Value.String(), "[]") }

func (v sharedValue) Set(s string) error {
	if err := v.Value.Set(s); err != nil {
		return err
	}
	return v.other.Set(s)
}

// of are the jobs of tasks, with what their flags name. Flags of other tasks are errors.
func (f taskFlags) of(tasks []evals.Task, given *pflag.FlagSet) ([]evals.Job, error) {
	var err error
	given.Visit(func(x *pflag.Flag) {
		owners := f.owners[x.Name]
		if err != nil || owners == nil || slices.ContainsFunc(owners, func(o evals.Task) bool {
			return slices.ContainsFunc(tasks, func(t evals.Task) bool { return t.Name == o.Name })
		}) {
			return
		}
		var has []string
		own := pflag.NewFlagSet("", pflag.ContinueOnError)
		tasks[0].New().Flags(own)
		own.VisitAll(func(x *pflag.Flag) { has = append(has, "--"+x.Name) })
		err = fmt.Errorf("--%s is for %s; %s has %s", x.Name, strings.Join(groupsOf(owners), ", "),
			tasks[0].Name, strings.Join(has, ", "))
	})
	if err != nil {
		return nil, err
	}
	var jobs []evals.Job
	for _, t := range tasks {
		j := f.jobs[t.Name]
		loaded := j.Load()
		if len(tasks) > 1 && errors.Is(loaded, recall.ErrNoSamples) { // of a suite
			err = loaded
			continue
		}
		if loaded != nil {
			return nil, loaded
		}
		jobs = append(jobs, j)
	}
	if len(jobs) == 0 {
		return nil, err
	}
	return jobs, nil
}
