package ropescale

// SetEnding has the study end early: once its batch is told, what was found is scored, and read by finalists, and that is all. With
// false, a study that is to end so, or has, goes on where it was. It is written to the journal. It has no effect on algorithms but
// cma, whose candidates are scored in full as they come.
func (s *Study) SetEnding(early bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.sampled(); a == nil || a.ending == early {
		return nil
	}
	if err := s.append(ending{&early}); err != nil {
		return err
	}
	s.setEnding(early)
	return nil
}

func (s *Study) setEnding(early bool) {
	a := s.sampled()
	if a == nil {
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
	a := s.sampled()
	return a != nil && a.ending
}

// Closing is how many tokens are read from now on by a study that is to end early after one more batch than the one at hand; 0 where
// SetEnding has no effect.
func (s *Study) Closing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.sampled()
	if a == nil {
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
