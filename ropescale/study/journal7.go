package study

import (
	"cmp"
	"fmt"
	"slices"
)

// Version 7 of the journal stored told trials whole, each with its candidate, but not their
// batches: what a batch had that was never told is not known.

// oldBatch makes the batch of the old trial in the first of lines the current one, of which nothing
// was told. It returns the ids of its trials by those in the journal, where they are others.
func (s *Study) oldBatch(lines []line) (ids map[int]int, err error) {
	number := lines[0].Generation
	var old []toldLine
	whole := false // all of it was told, since another batch follows
	for _, l := range lines {
		switch {
		// this version took the study up in the middle of it
		case l.batchLine != nil && *l.Batch == number:
			return nil, s.rebatch(number, l.Candidates)
		case l.toldLine != nil && l.Rung != nil && l.Generation == number:
			old = append(old, *l.toldLine)
		case l.batchLine != nil, l.toldLine != nil && l.Rung != nil && l.Generation > number:
			whole = true
		}
	}
	others := slices.ContainsFunc(old, func(l toldLine) bool { return !s.proposes(l) })
	if !others && (!whole || len(old) == s.pending) {
		return nil, nil
	}
	slices.SortFunc(old, func(a, b toldLine) int { return cmp.Compare(*a.ID, *b.ID) })
	var batch []Candidate
	for _, l := range old {
		if err := l.Rung.Check(s.opts.Rope.Pairs()); err != nil {
			return nil, fmt.Errorf("trial %d: %w", *l.ID, err)
		}
		batch = append(batch, Candidate{
			Rung: l.Rung.Relative(s.opts.Base), Origin: l.Origin,
			Parents: l.Parents, Readings: l.Readings,
		})
	}
	if err := s.checkBatch(batch); err != nil {
		return nil, fmt.Errorf("batch %d: %w", number, err)
	}
	s.replace(batch)
	ids = map[int]int{}
	for i, l := range old {
		if id := s.opened + i; id < len(s.trials) && slices.Equal(s.trials[id].Readings,
			l.Readings) {
			ids[*l.ID] = id
		}
	}
	if len(ids) != len(old) {
		return nil, fmt.Errorf("batch %d cannot be put together from its trials; "+
			"choose another file", number)
	}
	return ids, nil
}

// proposes says whether an old trial is one of the current batch.
func (s *Study) proposes(l toldLine) bool {
	if *l.ID < s.opened || *l.ID >= len(s.trials) {
		return false
	}
	t := s.trials[*l.ID]
	return t.Candidate == l.Candidate && t.Rung.Key() == l.Rung.Key() && t.Origin == l.Origin &&
		slices.Equal(t.Readings, l.Readings)
}

// untouched says whether nothing of the current batch was told, or there is none.
func (s *Study) untouched() bool {
	return s.pending == 0 || s.pending == len(s.trials)-s.opened
}
