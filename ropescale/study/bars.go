package study

import (
	"cmp"
	"math"
	"slices"
)

// The result of a search is to be ahead of every start in each kind of reading: text and keys. The
// fitness alone cannot ask for that, because the exchange rate of text and keys differs between
// models: a weight that buys keys with text on one model buys text with keys on another
// (evals/RESULTS.md). So each kind has a bar, the lowest loss that a start has. Losses above a bar
// count five times where starts, means and finalists are compared, and generations are steered by
// the kinds in which their mean is behind.

const (
	// behindWeight is how many times what losses are above the bars is added to an estimate.
	behindWeight = 4
	// emphasisStep is what steer multiplies by, mostEmphasis bounds the product.
	emphasisStep, mostEmphasis = 4, 16
)

// kindLoss is the mean loss of the readings of a kind.
type kindLoss struct {
	kind   string
	weight float64 // in the fitness
	loss   float64
}

// byKind are the mean losses of the readings in places, in the order of their kinds.
func byKind(losses []float64, readings []Reading, places []int) (all []kindLoss) {
	at := func(kind string) int {
		return slices.IndexFunc(all, func(k kindLoss) bool { return k.kind == kind })
	}
	count := map[string]float64{}
	for _, i := range places {
		kind := readings[i].Kind
		k := at(kind)
		if k < 0 {
			k, all = len(all), append(all, kindLoss{kind: kind})
		}
		all[k].loss += losses[i]
		count[kind]++
	}
	for k := range all {
		all[k].loss /= count[all[k].kind]
	}
	for _, r := range readings {
		if k := at(r.Kind); k >= 0 && r.Use == "" {
			all[k].weight += r.Weight
		}
	}
	return all
}

// estimate is what the log of the fitness would be if the losses in places were all there are.
func estimate(losses []float64, readings []Reading, places []int) float64 {
	return emphasis(nil).sum(byKind(losses, readings, places))
}

// bars are the lowest losses that starts have of each kind.
type bars map[string]float64

func newBars(starts []result, readings []Reading, places []int) bars {
	b := bars{}
	for _, s := range starts {
		for _, k := range byKind(s.Losses, readings, places) {
			if lowest, ok := b[k.kind]; !ok || k.loss < lowest {
				b[k.kind] = k.loss
			}
		}
	}
	return b
}

// behind are the kinds in which losses are above the bars.
func (b bars) behind(kinds []kindLoss) (behind []kindLoss) {
	for _, k := range kinds {
		if bar, ok := b[k.kind]; ok && !(k.loss <= bar) {
			behind = append(behind, k)
		}
	}
	return behind
}

// score is estimate, and behindWeight times what the losses are above the bars.
func (b bars) score(losses []float64, readings []Reading, places []int) (v float64) {
	kinds := byKind(losses, readings, places)
	v = emphasis(nil).sum(kinds)
	for _, k := range b.behind(kinds) {
		if above := k.weight * (k.loss - b[k.kind]); !math.IsNaN(above) {
			v += behindWeight * above
		}
	}
	return v
}

// best returns at most n results with the lowest score on what the fitness is made of, and on what
// finalists are scored on where all results have it; the earliest of equals first.
func (b bars) best(results []result, readings []Reading, n int) []result {
	all := slices.DeleteFunc(deciding(readings), func(i int) bool {
		missing := func(r result) bool { return math.IsNaN(r.Losses[i]) }
		return slices.ContainsFunc(results, missing)
	})
	sorted := slices.Clone(results)
	slices.SortStableFunc(sorted, func(x, y result) int {
		return cmp.Compare(b.score(x.Losses, readings, all), b.score(y.Losses, readings, all))
	})
	return sorted[:min(n, len(sorted))]
}

// emphasis is how many times its weight a kind has for generations.
type emphasis map[string]float64

func (e emphasis) of(kind string) float64 { return cmp.Or(e[kind], 1) }

// steer raises the emphasis of each kind in which a mean is behind the bars, where it is not behind
// in all. It reports whether anything changed.
func (e emphasis) steer(b bars, kinds []kindLoss) (changed bool) {
	behind := b.behind(kinds)
	if len(behind) == len(kinds) {
		return false
	}
	for _, k := range behind {
		next := min(emphasisStep*e.of(k.kind), mostEmphasis)
		changed = changed || next != e.of(k.kind)
		e[k.kind] = next
	}
	return changed
}

// sum is that of the losses, each with its weight and the emphasis of its kind.
func (e emphasis) sum(kinds []kindLoss) (v float64) {
	for _, k := range kinds {
		v += e.of(k.kind) * k.weight * k.loss
	}
	return v
}
