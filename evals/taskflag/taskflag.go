// Package taskflag puts the settings of all tasks of package evals on one command line.
package taskflag

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
)

// Set is a job of every task, which its flags set, and the tasks that each flag is of.
type Set struct {
	jobs   map[string]evals.Job
	owners map[string][]evals.Task
	flags  *pflag.FlagSet
}

// Chat reports whether prompts go into a chat template.
func (f Set) Chat() bool {
	chat, _ := f.flags.GetBool("chat")
	return chat
}

// FromFile reports whether samples are read from a file.
func (f Set) FromFile() bool { return f.flags.Changed("samples") }

// New adds the flags of all tasks. Tasks that have a flag of one name share it.
func New(fl *pflag.FlagSet) Set {
	f := Set{map[string]evals.Job{}, map[string][]evals.Task{}, fl}
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
		groups := strings.Join(GroupsOf(owners), ", ")
		x.Usage = strings.ToUpper(groups[:1]) + groups[1:] + ": " + string(usage)
	}
	return f
}

// GroupsOf are the names under which help and errors speak of tasks.
func GroupsOf(tasks []evals.Task) (groups []string) {
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

// Jobs are the jobs of tasks, with what their flags name. Flags of other tasks are errors.
func (f Set) Jobs(tasks []evals.Task, given *pflag.FlagSet) ([]evals.Job, error) {
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
		err = fmt.Errorf("--%s is for %s; %s has %s", x.Name, strings.Join(GroupsOf(owners), ", "),
			tasks[0].Name, strings.Join(has, ", "))
	})
	if err != nil {
		return nil, err
	}
	var jobs []evals.Job
	for _, t := range tasks {
		j := f.jobs[t.Name]
		loaded := j.Load()
		if len(tasks) > 1 && errors.Is(loaded, evals.ErrNoSamples) { // of a suite
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

// Job is the job of a task.
func (f Set) Job(name string) evals.Job { return f.jobs[name] }
