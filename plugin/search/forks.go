package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// Cheap readings of a window of T tokens score forkStretches stretches of text, T/stretchShare
// tokens each but at least leastStretch, and as many keys as have keyRoom tokens of it, at most
// forkKeys: some hundred tokens in place of T.
const (
	forkStretches, stretchShare, leastStretch = 4, 128, 64
	forkKeys                                  = 8
)

// wholeKeys are the most keys of the fitness in a window that is evaluated in full, each asked for
// by a fork. As many others are hidden in it for finalists: next to the window they cost little.
const wholeKeys = 16

// worthForks is how many times the tokens of its forks a window has at least: for a shorter one,
// cheap readings save little time and say less.
const worthForks = 8

// keptPrefixes are those that are kept at a time: of the windows that a generation is scored on,
// under one base.
const keptPrefixes = study.HandPasses

const asAsked = "as asked"

// cannotFork says why generations are to be scored exactly; "" where they need not be. Memory is
// what the prefixes take, in bytes.
func (o *Options) cannotFork(e evals.Engine, target int) (memory int64, why string) {
	if o.Exact {
		return 0, asAsked
	}
	f, ok := e.(evals.Forker)
	if !ok {
		return 0, evals.ErrNoForks.Error()
	}
	n, err := f.PrefixBytes(target)
	if err != nil {
		return 0, err.Error()
	}
	if memory = (keptPrefixes + 1) * n; o.Memory > 0 && memory > o.Memory {
		return memory, fmt.Sprintf("%d prefixes of %d tokens take %d MB of memory, there are %d",
			keptPrefixes, target, memory/1e6, o.Memory/1e6)
	}
	return memory, ""
}

// forks adds readings of windows whose prefixes are kept: cheap ones for generations, the same in
// full for bases, and in full, with all of the text and keys for finalists too, for the fitness. It
// says why not where it does not; memory is what the prefixes take, in bytes.
func (d *dealer) forks(texts []evals.Text, windows [][]int, needle bool, o *Options) (
	memory int64, why string,
) {
	if memory, why = o.cannotFork(d.engine, d.target); why != "" {
		return memory, why
	}
	keys := func(most int) int {
		if !needle {
			return 0
		}
		return min(max(d.target/keyRoom, 1), most)
	}
	forked, err := d.cheap(d.others(texts, windows), o.Seed, keys(forkKeys))
	var all []evals.Forked
	if err == nil {
		all, err = evals.HideForks(d.engine, windows, evals.ForkOptions{
			Whole: true, Keys: 2 * cmp.Or(o.Keys, keys(wholeKeys)), Seed: o.Seed,
		})
	}
	if err != nil {
		return memory, err.Error()
	}
	if !d.text {
		for _, windows := range [][]evals.Forked{all, forked} {
			for i := range windows {
				windows[i].Text = nil
			}
		}
	}
	d.judge.Whole, d.judge.Forked = all, forked
	d.addForked(all, "")
	d.addForked(forked, study.ForGenerations)
	d.addForked(forked, study.ForBases)
	return memory, ""
}

// cheap lays cheap readings over windows, in each round with other keys.
func (d *dealer) cheap(windows [][]int, seed uint64, keys int) (all []evals.Forked, err error) {
	o := evals.ForkOptions{
		Stretches: forkStretches, StretchTokens: max(leastStretch, d.target/stretchShare),
		Keys: keys, Whole: !d.text, // no stretches then
	}
	for round := range max(dealt/len(windows), 1) {
		o.Seed = seed ^ uint64(round+1)<<32
		forked, err := evals.HideForks(d.engine, windows, o)
		if err != nil {
			return nil, err
		}
		if prefix, forks := forked[0].Computed(); prefix < worthForks*forks {
			return nil, fmt.Errorf("cheap readings would take %d tokens of %d", forks, prefix)
		}
		all = append(all, forked...)
	}
	return all, nil
}

// addForked adds the readings of windows for a use. Half of the keys of those for the fitness are
// for finalists.
func (d *dealer) addForked(windows []evals.Forked, use study.Use) {
	name := map[study.Use]string{
		study.ForGenerations: "cheap ", study.ForBases: "base: ", study.ForFinalists: "further ",
	}
	for i, f := range windows {
		var readings []study.Reading
		add := func(kind, what string, weight float64, use study.Use) {
			if use == study.ForGenerations || use == study.ForBases {
				weight = 1 // is none
			}
			readings = append(readings, study.Reading{
				Name: fmt.Sprintf("%s%s window %d", name[use], what, i+1), Kind: kind,
				Weight: weight, Use: use,
			})
		}
		keys, weight := f.Scores(), d.share
		if d.text {
			keys--
			add("text", "text of", d.share, use)
			weight *= needleWeight
		}
		asked := keys
		if use == "" {
			asked = keys / 2
			weight /= float64(max(asked, 1))
		}
		for k := range asked {
			add("key", fmt.Sprintf("key %d of", k+1), weight, use)
		}
		for k := range keys - asked {
			add("key", fmt.Sprintf("key %d of", k+1), weight, study.ForFinalists)
		}
		prefix, forks := f.Computed()
		readings[0].Tokens = forks
		if use != study.ForGenerations {
			readings[0].Tokens += prefix
		}
		d.judge.Readings = append(d.judge.Readings, readings...)
	}
}

// prefixes are kept prefixes of a judge's forked windows on an engine. The zero value has none.
// Close them.
type prefixes struct {
	kept []keptPrefix // the one used last is the last
}

type keptPrefix struct {
	window int
	base   string // its key
	evals.Prefix
}

// of returns the prefix of a window under a base, evaluated again where it is not kept.
func (p *prefixes) of(
	ctx context.Context, e evals.Engine, tokens []int, window int, base ropescale.Rung,
) (evals.Prefix, error) {
	key := base.Key()
	at := slices.IndexFunc(p.kept, func(k keptPrefix) bool {
		return k.window == window && k.base == key
	})
	if at >= 0 {
		found := p.kept[at]
		p.kept = append(slices.Delete(p.kept, at, at+1), found)
		return found, nil
	}
	for len(p.kept) >= keptPrefixes {
		p.kept[0].Close()
		p.kept = slices.Delete(p.kept, 0, 1)
	}
	f, ok := e.(evals.Forker)
	if !ok {
		return nil, evals.ErrNoForks
	}
	prefix, _, err := f.NewPrefix(ctx, tokens, base, len(tokens))
	if err != nil {
		return nil, err
	}
	p.kept = append(p.kept, keptPrefix{window, key, prefix})
	return prefix, nil
}

func (p *prefixes) close() {
	for _, k := range p.kept {
		k.Close()
	}
	p.kept = nil
}

// fork scores candidate g on a forked window, behind a prefix under base.
func (j *judge) fork(
	ctx context.Context, e evals.Engine, kept *prefixes, window int, g, base ropescale.Rung,
) ([]float64, error) {
	f := j.Forked[window]
	p, err := kept.of(ctx, e, f.Tokens, window, base)
	if err != nil {
		return nil, err
	}
	return f.Score(ctx, p, g)
}

// score is the losses of the readings of pass i for candidate g. base is of cheap readings.
func (j *judge) score(
	ctx context.Context, e evals.Engine, kept *prefixes, i int, g ropescale.Rung,
	base *ropescale.Rung,
) ([]float64, error) {
	if i < len(j.Samples) {
		if err := j.set(e, g); err != nil {
			return nil, err
		}
		return j.Samples[i].Score(ctx, e)
	}
	window := i - len(j.Samples) - len(j.Whole)
	switch {
	case window < 0:
		f, ok := e.(evals.Forker)
		if !ok {
			return nil, evals.ErrNoForks
		}
		return j.Whole[len(j.Whole)+window].Exact(ctx, f, g)
	case window >= len(j.Forked): // for bases
		return j.fork(ctx, e, kept, window-len(j.Forked), g, g)
	case base == nil:
		return nil, errors.New("a cheap reading without a base")
	}
	return j.fork(ctx, e, kept, window, g, *base)
}

// announce says how generations are scored.
func (j *judge) announce(say sayFunc) {
	switch {
	case j.Forked != nil:
		_, forks := j.Forked[0].Computed()
		say("generations are scored by cheap readings, %s tokens each; "+
			"prefixes take %d MB of memory", label.Count(forks), j.Memory/1e6)
	case j.Exact != "" && j.Exact != asAsked:
		say("generations are scored in full: %s", j.Exact)
	}
}
