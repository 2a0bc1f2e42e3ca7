package study

// ender is an algorithm that can end early.
type ender interface {
	// setEnding has it end with what its next batches need to score what it found; false takes that
	// back, and what it ended because of it.
	setEnding(early bool)
	isEnding() bool
	// closing is how many tokens one more batch takes, and what comes after the last.
	closing() int
	// foreseen is how many tokens it takes if it does not restart but as often as it did.
	foreseen() int
}

// SetEnding has the study end early: once its batch is told, the mean and finalists are scored, and
// that is all. With false, a study that is to end so, or has, resumes where it was. It is written
// to the journal. It has no effect on algorithms whose candidates are scored in full as they come.
func (s *Study) SetEnding(early bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.algorithm.(ender); !ok || a.isEnding() == early {
		return nil
	}
	if err := s.append(line{Ending: &early}); err != nil {
		return err
	}
	s.setEnding(early)
	return nil
}

func (s *Study) setEnding(early bool) {
	a, ok := s.algorithm.(ender)
	if !ok {
		return
	}
	a.setEnding(early)
	if !early && s.done && !s.truncated {
		s.done = false
		s.advance()
	}
}

// Ending says whether the study is to end early, or has.
func (s *Study) Ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.algorithm.(ender)
	return ok && a.isEnding()
}

// Closing is how many tokens a study that is to end early evaluates from now on, after one more
// batch than the one at hand; 0 where SetEnding has no effect.
func (s *Study) Closing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.algorithm.(ender)
	if !ok {
		return 0
	}
	n := a.closing()
	for _, t := range s.trials[s.opened:] {
		for _, i := range t.Readings {
			if !t.Told {
				n += s.opts.Readings[i].Tokens
			}
		}
	}
	return n
}

// Foreseen is how many tokens are evaluated if the search restarts (Params.Retries) no more often
// than it did; Options().Budget is the most.
func (s *Study) Foreseen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.algorithm.(ender); ok {
		return a.foreseen()
	}
	return s.opts.Budget
}
